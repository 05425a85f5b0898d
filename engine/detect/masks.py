"""Masking: what is incidental in a failure's text becomes a placeholder, the rest stays.

One pass over one pattern, whose alternatives are tried in order at each place: first the numbers
that mean something (a status, an errno, an error code), which stay, then typed classes.  Every
repetition is bounded, so the time is linear in the text.
"""

from __future__ import annotations

import re

_CLASSES = {
    "keep": r"""
        (?:\b(?i:HTTP(?:/\d(?:\.\d)?)?|status(?:[ ]code)?|errno|WinError|
            (?:npm|os|http)[ ]error|(?:error|exit|return)[ _]?(?:code|status)|
            exited[ ]with(?:[ ]code)?|code|signal)['"]?[ :=]{0,3}['"(]?-?\d{1,9}\b
         | \b[A-Z]{1,8}-?\d{3,6}\b
         | (?<![\w.,/])\(?[45]\d\d\)?(?=[ ][A-Z][a-z])
         | (?<=Error:[ ])[45]\d\d\b
         | [=<>~!]=[ ]?[\w.]{1,40})""",
    "url": r"\b[a-zA-Z][a-zA-Z0-9+]{1,15}://(?:[^\s'\"<>)\]]|<known>){1,2000}",
    "id": r"""
        (?:\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b
         | \b0x[0-9a-fA-F]{1,64}\b
         | \bsha(?:1|256|512):[0-9a-fA-F]{6,128}\b
         | \b(?:req|org|proj|resp|msg|run|call|chatcmpl|session|batch|drain)[_-]\w{0,60}\d\w{0,60}
           (?:-\d{6})?\b
         | \b(?=[a-f]{0,40}[0-9])(?=[0-9]{0,40}[a-f])[0-9a-f]{7,128}\b
         | \b(?=\w{0,64}\d)(?=\w{0,64}[a-z])(?=\w{0,64}[A-Z])[A-Za-z0-9]{16,128}\b)""",
    "time": r"""
        (?:\b\d{4}[-/.]\d\d[-/.]\d\d(?:[T_ ]\d\d[:.-]\d\d[:.-]\d\d(?:[.,]\d{1,9})?)?
           (?:[ ]?(?:Z|[+-]\d\d:?\d\d))?
         | \b\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d(?:[ ][+-]\d{4})?
         | \b(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[ ]{1,2}\d{1,2}[ ]\d\d:\d\d:\d\d
         | \b\d{1,2}:\d\d(?::\d\d(?:[.,]\d{1,9})?)?(?:[ ]?[AP]M)?\b)""",
    "place": r"""
        (?:\b[\w@.-]{1,80}\.(?:py|m?js|tsx?|jsx|json|toml|ya?ml|md|go|rs|java|kt|c|h|cc|cpp|rb|sh|sql
           |html|css|txt|lock|cfg|ini):\d{1,7}(?::\d{1,7})?\b)""",
    "hunk": r"@@[ ][+-]\d[^\n]{0,200}",
    "host": r"""
        (?:\b(?:\d{1,3}\.){3}\d{1,3}(?::\d{1,5})?\b
         | (?:\b[\w-]{1,60}(?:\.[\w-]{1,60}){0,5}|\*):\d{2,5}\b(?![:.\w]))""",
    "path": r"""
        (?:(?<![\w])[A-Za-z]:[\\/]{1,2}[^\s'":*?<>|(),;]{1,500}
         | (?<![\w.)>])(?:~|\.{1,2})?/[\w.@+~<>-]{1,200}(?:/[\w.@+~<>-]{1,200}){0,40}/?
         | \b[\w.@-]{1,80}[\\/](?:[\w.@<>-]{1,80}[\\/]){0,40}[\w@-]{1,80}\.\w{1,8}\b
         | (?<![\w])<workspace>(?:[\\/][\w.@+~<>-]{1,200}){0,40})(?::\d{1,7}){0,2}""",
    "duration": r"""
        (?:(?<![\w.])(?:\d{1,6}h[ ]?)?(?:\d{1,6}m[ ]?)?\d{1,9}(?:[.,]\d{1,12})?[ ]?
           (?:ns|us|µs|ms|s|sec|secs|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?)\b)""",
    "size": r"(?<![\w.])\d{1,15}(?:[.,]\d{1,6})?[ ]?(?:[KMGTkmgt]i?B|[Bb]ytes?|B)\b",
    "n": r"(?<![\w.])(?<![A-Za-z]-)[+-]?\d{1,20}(?:[.,]\d{1,20}){0,8}%?(?!\w)",
}
_MASKS = re.compile(
    "|".join(f"(?P<{name}>{pattern})" for name, pattern in _CLASSES.items()), re.VERBOSE
)
_ABSENT = re.compile(
    r"no such file|cannot find|can't (?:open|find)|not found|ENOENT|FileNotFound|missing",
    re.IGNORECASE,
)
_BASENAME = re.compile(r"([\w@.+-]{1,120}\.\w{1,8})(?::\d{1,7}){0,2}$")
_SHOWN_AS = {"place": "path", "duration": "time"}
_SPACE = re.compile(r"\s+")
_LETTER = re.compile(r"[^\W\d_]")
_KNOWN_CHARS_MIN = 2


def masked(text: str) -> str:
    """``text`` with times, paths, ids, hosts, durations, sizes and numbers as ``<class>``.

    The base name of a file stays when the text says that it is missing.
    """
    keeps_names = _ABSENT.search(text) is not None

    def put(found: re.Match[str]) -> str:
        if found.lastgroup == "keep":
            return found[0]
        shown = _SHOWN_AS.get(found.lastgroup or "", found.lastgroup)
        if shown == "path" and keeps_names:
            name = _BASENAME.search(found[0][-140:])
            return f"<path>/{name[1]}" if name else "<path>"
        return f"<{shown}>"

    return _SPACE.sub(" ", _MASKS.sub(put, text)).strip()


def without_known(text: str, ids: tuple[str, ...], workspace: str | None) -> str:
    """``text`` with the ids and the directory that the engine itself handed out as placeholders.

    Only whole words are replaced, longest first, so that ``p1`` leaves ``p12`` alone.  An id
    without letters is left to the masks, for it could be part of a time.
    """
    if workspace and len(workspace) > _KNOWN_CHARS_MIN:
        text = re.sub(rf"{re.escape(workspace.rstrip('/'))}(?![\w-])", "<workspace>", text)
    named = {known for known in ids if len(known) >= _KNOWN_CHARS_MIN and _LETTER.search(known)}
    for known in sorted(named, key=len, reverse=True):
        if known in text:
            word = rf"(?<![\w-]){re.escape(known)}(?![\w-])"
            text = re.sub(word, "<known>", text)
    return text
