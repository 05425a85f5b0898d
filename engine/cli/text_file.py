"""Text files that a person names on a command line: regular, bounded, UTF-8."""

from __future__ import annotations

from pathlib import Path

from engine.cli.render import clean
from engine.errors import UsageProblem
from engine.executors.untrusted import read_at_most

ORIGIN_CHARS = 200


def origin_of(path: str | Path) -> str:
    """How to call a file in a sentence."""
    return clean(str(path)[:ORIGIN_CHARS])


def text_of(path: str | Path, bytes_max: int, what: str) -> str:
    """The text of a file of at most ``bytes_max`` bytes; ``what`` it should be, such as a policy.

    Raises UsageProblem for anything but a regular file of UTF-8 text of that size.
    """
    origin = origin_of(path)
    try:
        # A link is the user's own here, so it may be followed; a pipe is still not waited for.
        data = read_at_most(Path(path).resolve(), bytes_max + 1)
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageProblem(
            f"{origin} is not UTF-8 (byte {error.start}).", remedy="save it as UTF-8."
        ) from None
    except (OSError, RuntimeError, ValueError) as error:
        raise unreadable(origin, error) from None
    if len(data) > bytes_max:
        raise UsageProblem(
            f"{origin} has more than {bytes_max} bytes.",
            remedy=f"name a file of {what}; it holds a few lines.",
        )
    return text


def unreadable(origin: str, error: OSError | RuntimeError | ValueError) -> UsageProblem:
    """What to say of a file that cannot be opened or read."""
    if isinstance(error, FileNotFoundError):
        return UsageProblem(
            f"there is no file {origin}.", remedy="check its path; it is looked for from here."
        )
    # RuntimeError and ValueError come from paths: links in a circle, or a NUL.
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return UsageProblem(
        f"{origin} cannot be read: {clean(reason)}.",
        remedy="name a regular file that you may read.",
    )
