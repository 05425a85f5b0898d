"""The three pages that the daemon shows over HTTP."""

from __future__ import annotations

import resource
import sys
import time
from functools import cache
from http import HTTPStatus
from pathlib import Path

from engine.daemon.http import METRICS, Page, Pages
from engine.daemon.service import Service
from engine.metrics import Engine, exposition


def pages_of(service: Service) -> Pages:
    """Pages by their paths."""

    async def healthz() -> Page:
        return Page(HTTPStatus.OK, "ok\n")

    async def readyz() -> Page:
        fit = HTTPStatus.OK if service.is_ready else HTTPStatus.SERVICE_UNAVAILABLE
        return Page(fit, f"{service.state}\n")

    async def metrics() -> Page:
        if not await service.settle():
            return Page(HTTPStatus.SERVICE_UNAVAILABLE, "a commit is under way for long\n")
        return Page(HTTPStatus.OK, exposition(service.recorder.board, engine_of(service)), METRICS)

    return {"/healthz": healthz, "/readyz": readyz, "/metrics": metrics}


def engine_of(service: Service) -> Engine:
    """What the metrics say of the daemon itself."""
    pulse = service.pulse()
    limits = [b.limit for b in service.plan.limits.budgets if (b.scope, b.measure) == _DAY_TOKENS]
    return Engine(
        version=pulse.version,
        policy=service.plan.policy.label,
        state=service.state,
        epoch=pulse.epoch,
        now_us=pulse.now_us,
        day_tokens_limit=min(limits, default=None),
        cpu_s=time.process_time(),
        resident_bytes=resident_bytes(),
        started_us=pulse.started_us,
        lines_lost=service.teller.lines_lost,
    )


_DAY_TOKENS = ("day", "tokens")


def resident_bytes() -> int:
    """Memory of this process: now on Linux, at its highest elsewhere."""
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * _page_bytes()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@cache
def _page_bytes() -> int:
    return resource.getpagesize()
