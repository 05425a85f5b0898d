"""The daemon: what it goes by, and when a person made it rest."""

from __future__ import annotations

from typing import Literal

from engine.events.base import Event


class DaemonConfigured(Event, frozen=True, kw_only=True, tag="daemon.configured"):
    """The settings that a daemon goes by from here on; ``settings_json`` is all of them.

    ``because``: it started, or was told to read its files again.  ``paused``: whether a person had
    made it rest before, which outlives a restart.
    """

    because: Literal["started", "reloaded"]
    settings_sha256: str
    settings_json: str
    policy: str
    policy_sha256: str
    paused: bool = False


class DaemonPaused(Event, frozen=True, kw_only=True, tag="daemon.paused"):
    """A person made the daemon rest: it starts no attempt until it is resumed."""

    by: str
    why: str


class DaemonResumed(Event, frozen=True, kw_only=True, tag="daemon.resumed"):
    """A person let the daemon go on."""

    by: str
    why: str
