"""The sample backlog: fourteen invented runs that a demonstration can drain.

It is shipped as SQL and built as a small legacy database, so that a demonstration goes through the
very import that a user's own backlog takes.  Run names say what part each has to play; the agent
that plays them is chosen elsewhere, by run id:

    webshop-search-v1       succeeds, with usage
    webshop-checkout-v1     succeeds, with usage (its last phase waits at a gate)
    docs-refresh-v2         succeeds, with usage
    nightly-import-*        six runs, all failing at once by the same fault, without usage
    media-transcode-v1      hangs until its deadline
    contract-summary-v1     hits the context window
    legacy-port-v3          fails, by a different error each time
    search-ranking-v1       fails, but yields usage
    config-tidy-v1          succeeds without calling a model
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing, suppress
from importlib.resources import files
from pathlib import Path
from typing import Literal

from engine.errors import StorageFailed, UsageProblem

Part = Literal[
    "succeeds",
    "systemic_fault",
    "hangs",
    "context_window",
    "diverse_errors",
    "fails_with_usage",
    "succeeds_without_calls",
]

SAMPLE_PARTS: Mapping[str, Part] = {
    "webshop-search-v1": "succeeds",
    "webshop-checkout-v1": "succeeds",
    "docs-refresh-v2": "succeeds",
    "nightly-import-orders": "systemic_fault",
    "nightly-import-customers": "systemic_fault",
    "nightly-import-invoices": "systemic_fault",
    "nightly-import-stock": "systemic_fault",
    "nightly-import-prices": "systemic_fault",
    "nightly-import-returns": "systemic_fault",
    "media-transcode-v1": "hangs",
    "contract-summary-v1": "context_window",
    "legacy-port-v3": "diverse_errors",
    "search-ranking-v1": "fails_with_usage",
    "config-tidy-v1": "succeeds_without_calls",
}
"""Run id → the part it plays."""


def write_sample(path: Path) -> None:
    """Build the sample as a new legacy database at ``path``.

    Raises UsageProblem when something is there already, StorageFailed when it cannot be written.
    """
    script = (files("engine.backlog") / "plans" / "sample.sql").read_text(encoding="utf-8")
    try:
        path.touch(exist_ok=False)
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(f"BEGIN;\n{script}\nCOMMIT;")
    except FileExistsError:
        raise UsageProblem(
            f"{path} exists already.", remedy="name a file that does not exist yet."
        ) from None
    except (OSError, sqlite3.Error) as error:
        with suppress(OSError):
            path.unlink()
        raise StorageFailed(
            f"the sample cannot be written to {path}: {error}.",
            remedy="name a file in an existing directory with a few free megabytes.",
        ) from error
