"""What is handed to a daemon for its log: backlog, an operator's words, a rule set's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engine.amounts import counted
from engine.backlog.batch import Registration
from engine.daemon.telling import Teller
from engine.detect.reclassification import Changed
from engine.drain.intake import operating, reclassify, register
from engine.events import AnyEvent, event_of
from engine.ids import IdMaker
from engine.store.recorder import Recorder
from engine.triage.operating import Operation, words_of


@dataclass
class Intake:
    """``heed`` is shown each event as it is decided; ``stir`` says that something has changed."""

    recorder: Recorder
    ids: IdMaker
    teller: Teller
    heed: Callable[[AnyEvent], None]
    stir: Callable[[], None]

    async def register(self, group: Registration) -> int:
        """Take in a group of the backlog; the position of its last event."""
        receipt = await register(self.recorder, group, self.heed)
        self.stir()
        if not receipt.repeated:
            self.teller.noted(receipt.records[-1], f"Took in {len(group.events)} of {group.key}.")
        return receipt.records[-1].pos

    async def operate(self, operation: Operation) -> AnyEvent:
        """Record what is asked for; the event.  Raises UsageProblem where it is senseless."""
        command = operating(self.ids("cmd"), operation, self.heed)
        (record,) = (await self.recorder.submit(command)).records
        self.stir()
        self.teller.noted(record, words_of(operation))
        return event_of(record)

    async def reclassify(self, changes: Sequence[Changed]) -> int:
        """Take in what a rule set says of attempts; a position at or behind its last event."""
        await reclassify(self.recorder, changes)
        text = f"Took in what a rule set says of {counted(len(changes), 'attempt')}."
        self.teller.say("daemon.reclassified", text)
        return self.recorder.head.pos
