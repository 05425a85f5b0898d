"""What a daemon goes by, as the log keeps it: whether a person paused it, and its settings."""

from __future__ import annotations

from engine.daemon.resting import Pause
from engine.daemon.settings import Plan
from engine.daemon.telling import Teller
from engine.events import (
    AnyEvent,
    DaemonConfigured,
    DaemonPaused,
    DaemonResumed,
    encode,
    event_of,
)
from engine.ids import IdMaker
from engine.store.command import Command, just
from engine.store.protocol import Query
from engine.store.recorder import Recorder

STREAM = "daemon"


class Orders:
    """``pause``: what a person said last, None when it is not to rest."""

    def __init__(self, recorder: Recorder, ids: IdMaker, teller: Teller) -> None:
        self.pause: Pause | None = None
        self._recorder, self._ids, self._teller = recorder, ids, teller

    async def recall(self) -> None:
        """What a person said last, to whichever life of the daemon: a pause outlives it.

        In a shared log there may be many, and a pause is of one process.
        """
        if self._recorder.store.is_shared:
            return
        store = self._recorder.store
        records = await store.records(Query(stream=STREAM, newest_first=True), limit=1)
        event = event_of(records[0]) if records else None
        if isinstance(event, DaemonConfigured) and event.paused:
            types = Query(stream=STREAM, types=("daemon.paused",), newest_first=True)
            event = event_of((await store.records(types, limit=1))[0])
        self.pause = Pause(event.by, event.why) if isinstance(event, DaemonPaused) else None

    async def to_pause(self, by: str, why: str) -> None:
        """Record that it is to rest."""
        self.pause = Pause(by, why)
        await self._record(DaemonPaused(by=by, why=why), f"Paused by {by}: {why}")

    async def to_resume(self, by: str, why: str) -> None:
        """Record that it is to go on."""
        self.pause = None
        await self._record(DaemonResumed(by=by, why=why), f"Resumed by {by}: {why}")

    async def configured(self, plan: Plan, *, anew: bool) -> None:
        """Record by what it goes, from its start on or ``anew``."""
        settings, policy = plan.settings, plan.policy
        configured = DaemonConfigured(
            because="reloaded" if anew else "started",
            settings_sha256=settings.sha256,
            settings_json=settings.json,
            policy=policy.label,
            policy_sha256=policy.sha256,
            paused=self.pause is not None,
        )
        under = f"{policy.label} {policy.sha256[:12]}: {settings.json}"
        await self._record(configured, f"{configured.because} under {under}")

    async def _record(self, event: AnyEvent, text: str) -> None:
        command = Command(self._ids("cmd"), STREAM, encode(event).encode(), just(event), STREAM)
        (record,) = (await self._recorder.submit(command)).records
        self._teller.noted(record, text)
