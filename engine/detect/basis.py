"""The basis of a fingerprint: the few lines of a failure that say what failed.

Text is first cleaned of terminal codes and of what loggers put in front of a line; then the
last exception is looked for, in the shapes that Python, Node, the JVM, Go and Rust print.
"""

from __future__ import annotations

import re

BASIS_CHARS_MAX = 4096
TEXT_CHARS_MAX = 64 * 1024
_LINE_CHARS_MAX = 4096
_PREFIXES_MAX = 6
_CONTINUATIONS_MAX = 3

ANSI = re.compile(r"\x1b(?:\[[0-9;:?]{0,40}[ -/]{0,4}[@-~]|\][^\x07\x1b\n]{0,400}(?:\x07|\x1b\\))")

_STAMP = r"""
    \d{4}[-/.]\d\d[-/.]\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:[ ]?(?:Z|[+-]\d\d:?\d\d))?
  | \d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d(?:[ ][+-]\d{4})?
  | [A-Z][a-z]{2}[ ]{1,2}\d{1,2}[ ]\d\d:\d\d:\d\d
  | \d\d:\d\d:\d\d(?:[.,]\d{1,9})?
  | \d{10}(?:\.\d{1,9})?
"""
_PREFIX = re.compile(
    rf"""(?: \[(?:{_STAMP})\] | (?:{_STAMP})(?![\w:.,-])
      | \[?(?:ERROR|WARN|WARNING|INFO|DEBUG|CRITICAL|FATAL|TRACE|NOTICE)\]?(?:[ ]?[-:|]|(?=[ ]))
      | (?i:error|fatal|err!):
      | npm[ ](?:ERR!|error)
      | \[(?:worker|thread|pid)[^\]\n]{{0,40}}\]
      | [\w.-]{{1,40}}\[\d{{1,8}}\]:
      | -(?=[ ])
      )[ ]?""",
    re.VERBOSE,
)
_LEADING = re.compile(r"[ ]{0,4}")

_FRAME = re.compile(r"\s+at \S|\s+\.\.\. \d+ more")
_GO_PANIC = re.compile(r"panic: |fatal error: ")
_RUST_PANIC = re.compile(r"thread '[^'\n]{0,200}'(?: \(\d+\))? panicked at ")
_LOOKS_WRONG = re.compile(
    r"\b(?:error|fatal|fail(?:ed|ure)?|exception|panic|critical|abort(?:ed)?|cannot|can't"
    r"|denied|refused|unable|not found)\b|error:|exception:",
    re.IGNORECASE,
)
_NAMED_EXCEPTION = re.compile(r"[\w.$]{0,200}(?:Error|Exception)\b")


def lines_of(text: str) -> list[str]:
    """The last 64 KiB of ``text`` as lines of at most 4 KiB, without terminal codes."""
    text = ANSI.sub("", text[-TEXT_CHARS_MAX:].strip())
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [line[:_LINE_CHARS_MAX].rstrip() for line in lines]


def cleaned(lines: list[str]) -> list[str]:
    """``lines`` without what loggers put in front of them: times, levels, threads, processes."""
    return [_without_prefixes(line) for line in lines]


def _without_prefixes(line: str) -> str:
    start = 0
    for _ in range(_PREFIXES_MAX):
        blanks = _LEADING.match(line, start)
        found = _PREFIX.match(line, blanks.end() if blanks else start)
        if found is None:
            break
        start = found.end()
    return line[start:]


def of_reason(reason: str) -> str:
    """What a stated reason says: its last exception if it quotes a traceback, else all of it."""
    lines = cleaned(lines_of(reason))
    return (_last_exception(lines) or "\n".join(lines))[:BASIS_CHARS_MAX].strip()


def of_output(stdout: str, stderr: str) -> str:
    """What the output says: the last exception, the last line that looks wrong, the last line.

    Standard error is asked first.  Empty when nothing was printed.
    """
    streams = [lines_of(stderr), lines_of(stdout)]
    for lines in streams:
        if found := _last_exception(cleaned(lines)):
            return found[:BASIS_CHARS_MAX].strip()
    for lines in streams:
        # A level says that a line is an error, so this looks before levels are cut off.
        wrong = (line for line in reversed(lines) if _LOOKS_WRONG.search(line))
        for line in [*wrong, *reversed(lines)]:
            if said := _without_prefixes(line).strip():
                return said[:BASIS_CHARS_MAX]
    return ""


def _last_exception(lines: list[str]) -> str | None:
    """The last exception's line, with the indented lines that go on with its message."""
    found: int | None = None
    in_python = False
    for number, line in enumerate(lines):
        if line.startswith("Traceback (most recent call last)"):
            in_python = True
        elif in_python and line and not line[0].isspace():
            in_python, found = False, number
        elif _FRAME.match(line):
            found = _head_of_frames(lines, number, found)
        elif _GO_PANIC.match(line):
            found = number
        elif _RUST_PANIC.match(line):
            found = number + 1 if line.endswith(":") and number + 1 < len(lines) else number
    return None if found is None else _with_continuation(lines, found)


def _head_of_frames(lines: list[str], number: int, found: int | None) -> int | None:
    """The line that ``at …`` frames stand under, when it names an exception."""
    head = lines[number - 1] if number else ""
    if _FRAME.match(head) or not _NAMED_EXCEPTION.search(head):
        return found
    return number - 1


def _with_continuation(lines: list[str], start: int) -> str:
    kept = [lines[start]]
    for line in lines[start + 1 : start + 1 + _CONTINUATIONS_MAX]:
        if not line or not line[0].isspace() or _FRAME.match(line):
            break
        kept.append(line)
    return "\n".join(kept)
