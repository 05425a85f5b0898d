"""A client that asks twice: every intent must happen once, whoever repeats it and when."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable

from engine.errors import AppendRefused
from engine.store.batch import Pending
from engine.store.command import Command
from engine.store.recorder import Recorder

REPEATED = (".finished", ".spawned")
"""What a command id of an attempt ends in, which is made once however often it is submitted."""


class Retries:
    """Submits some commands of one life again: the very same, or under another id."""

    def __init__(self, random_: random.Random, report: Callable[[str, int | None], None]) -> None:
        self._random = random_
        self._report = report
        self._later: list[tuple[Pending, Command]] = []
        self._same: list[tuple[Pending, Pending]] = []
        self._other: list[tuple[Pending, Pending]] = []

    def watch(self, recorder: Recorder) -> None:
        """Repeat some of what this recorder is asked for."""
        plain = recorder.enqueue

        def enqueue(command: Command) -> Pending:
            for first, again in self._later:
                self._same.append((first, plain(again)))
            self._later.clear()
            pending = plain(command)
            if command.command_id.endswith(REPEATED):
                self._repeat(pending, command, plain)
            return pending

        vars(recorder)["enqueue"] = enqueue

    def _repeat(
        self, pending: Pending, command: Command, plain: Callable[[Command], Pending]
    ) -> None:
        lot = self._random.random()
        command = dataclasses.replace(command, is_fresh=False)  # it was submitted before
        if lot < 0.2:
            self._same.append((pending, plain(command)))
        elif lot < 0.5:
            self._later.append((pending, command))
        elif lot < 0.7 and command.command_id.endswith(".finished"):
            other = dataclasses.replace(command, command_id=f"{command.command_id}.again")
            self._other.append((pending, plain(other)))

    def settle(self, *, died: bool) -> None:
        """Compare the answers at the end of a life; of one that ``died`` some are missing."""
        for first, again in self._same:
            if first.receipt is None or (died and again.receipt is None):
                continue
            if again.receipt is None or again.receipt.records != first.receipt.records:
                self._report(f"D1: a repeated {first.command.command_id} was answered anew", None)
        for first, again in self._other:
            if first.receipt is None or (died and again.receipt is None):
                continue
            if not isinstance(again.error, AppendRefused):
                self._report(f"S6: {first.command.command_id} was accepted twice", None)
        self._later.clear()
        self._same.clear()
        self._other.clear()
