"""Opening a log for an audit of all of it, or of what there was of it at some moment."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import click

from engine.audit.as_of import local_as_of
from engine.cli.moment import Moment
from engine.cli.peeking import announced_at
from engine.store.location import Location


@contextmanager
def as_it_stood(url: str | None, at: Moment | None) -> Generator[Location]:
    """The log as a file for an audit while the block runs, whole or as it stood at ``at``.

    Says which database it is, and where the file ends if a command goes on beyond ``at``.
    """
    location, until = announced_at(url, allow_empty=True, at=at)
    with local_as_of(location, None if at is None else until) as (place, end):
        if end not in (None, until):
            click.echo(f"up to position {end}, where the last whole command ends", err=True)
        yield place
