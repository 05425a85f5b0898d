"""The basis of a fingerprint: the few lines of a failure that say what failed.

Text is first cleaned of terminal codes and of what loggers put in front of a line.  Then, in this
order: a structured error record, the last exception, the lines that look wrong, the head.
"""

from __future__ import annotations

import re

from engine.detect import traces
from engine.detect.fingerprint_rules import line_start, noise
from engine.detect.words import looks_wrong, shapes

BASIS_CHARS_MAX = 4096
TEXT_CHARS_MAX = 64 * 1024
_LINE_CHARS_MAX = 4096
_LINES_READ_MAX = 2000
_PREFIXES_MAX = 8
_LINES_MAX = 8
_PARAGRAPHS_MAX = 2
_FIRST_GLYPH = "\u2e80"
"""Where scripts begin that have no small letters: Chinese, Japanese, Korean."""

_FRAME_BEGINS = ("at ", 'File "', "... ")
_SENTENCE_ENDS = (".", "!", "?", "。", ")", "]", "'", '"')

ANSI = re.compile(
    r"\x1b(?:\[[0-9;:?]{0,40}[ -/]{0,4}[@-~]|\][^\x07\x1b\n]{0,400}(?:\x07|\x1b\\)|[()][0-9A-Z])"
)

_LESSER = re.compile(r"[\[ ]?(?:INFO|DEBUG|TRACE|Info|info|debug|notice)\b")


def lines_of(text: str) -> list[str]:
    """The end of ``text`` without terminal codes: 64 KiB, 2000 lines of at most 4 KiB."""
    text = text[-TEXT_CHARS_MAX:].strip()
    if "\x1b" in text:
        text = ANSI.sub("", text)
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return [line[:_LINE_CHARS_MAX].rstrip() for line in text.split("\n")[-_LINES_READ_MAX:]]


def cleaned(lines: list[str]) -> list[str]:
    """``lines`` without what loggers put in front of them: times, levels, threads, processes."""
    return [_without_prefixes(line) for line in lines]


def _without_prefixes(line: str) -> str:
    if line.startswith(("    ", '  File "')):
        return line
    match = line_start().match
    start = _blanks(line, 0)
    begun = start
    for _ in range(_PREFIXES_MAX):
        found = match(line, start)
        # A wrapper is cut off only while something stands behind it.
        if found is None or found.end() == start:
            break
        start = found.end()
    if start == begun:
        return line
    rest = line[start:]
    # Frames are known by their indent, which must not go with the blanks behind a header.
    return f"    {rest}" if rest.startswith(_FRAME_BEGINS) and line[start - 1] == " " else rest


def _blanks(line: str, start: int) -> int:
    for place in range(start, min(start + 4, len(line))):
        if line[place] != " ":
            return place
    return start


def of_reason(reason: str) -> str:
    """What a stated reason says: its last exception, or the lines from where it looks wrong."""
    raw = lines_of(reason)
    lines = cleaned(raw)
    found = traces.record(lines) or traces.last_exception(raw, lines) or _head(raw, lines)
    return found[:BASIS_CHARS_MAX].strip()


def of_output(stdout: str, stderr: str) -> str:
    """What the output says: the last exception, the last line that looks wrong, the last line.

    Standard error is asked first.  Empty when nothing was printed.
    """
    streams = [(raw, cleaned(raw)) for raw in (lines_of(stderr), lines_of(stdout))]
    for raw, lines in streams:
        if found := traces.last_exception(raw, lines):
            return found[:BASIS_CHARS_MAX].strip()
    for raw, lines in streams:
        if said := _last_wrong(raw, lines) or _last_said(lines):
            return said[:BASIS_CHARS_MAX]
    return ""


def _last_wrong(raw: list[str], lines: list[str]) -> str:
    """The last line that looks wrong; its logger's level says so too, so ``raw`` is asked."""
    for number in range(len(raw) - 1, -1, -1):
        said = lines[number].strip()
        if said and looks_wrong(raw[number]) and not _is_noise(raw[number], said):
            return traces.record([said]) or said
    return ""


def _last_said(lines: list[str]) -> str:
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _head(raw: list[str], lines: list[str]) -> str:
    """From the first line that looks wrong to the first that names what failed.

    At most eight lines of two paragraphs: what follows is advice, and differs from copy to copy.
    """
    told = [
        number
        for number, line in enumerate(lines)
        if not line or not (_is_noise(raw[number], line) or _is_lesser(raw[number], line))
    ]
    start = next((n for n in told if lines[n] and looks_wrong(raw[n])), -1)
    kept: list[str] = []
    paragraphs = 1
    for number in told:
        line = lines[number]
        if number < start or (not line and not kept):
            continue
        paragraphs += not line
        if paragraphs > _PARAGRAPHS_MAX or len(kept) == _LINES_MAX:
            break
        if kept and not _goes_on(kept[-1], raw[number], line) and _is_telling(kept):
            break
        kept.append(line)
    return "\n".join(kept) if any(kept) else "\n".join(lines[:_LINES_MAX])


def _goes_on(last: str, raw: str, line: str) -> bool:
    """Whether ``line`` belongs to the sentence before it: indented, or cut by a terminal."""
    begins = line[:1]
    if begins.isspace():
        return True
    cut = raw == line and (begins.islower() or begins >= _FIRST_GLYPH)
    return cut and not last.endswith(_SENTENCE_ENDS)


def _is_telling(kept: list[str]) -> bool:
    """Whether these lines name what failed, and are whole."""
    if kept[-1].rstrip().endswith((":", ",", "(", "\\")):
        return False
    return any(shapes().telling.search(line) for line in kept)


def _is_noise(raw: str, line: str) -> bool:
    match = noise().match
    return match(line.lstrip()) is not None or match(raw.lstrip()) is not None


def _is_lesser(raw: str, line: str) -> bool:
    """Whether a logger itself calls this line no failure."""
    cut = len(raw) - len(line)
    return cut > 0 and _LESSER.search(raw, 0, cut) is not None and not looks_wrong(line)
