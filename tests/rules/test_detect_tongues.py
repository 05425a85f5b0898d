"""One failure in many languages is one failure; and the released rule sets are proved."""

from __future__ import annotations

import re

import pytest

from engine.detect import Outcome, detectors, fingerprint_rules
from engine.detect.released import proved
from engine.detect.tongues import in_english, plain_quotes
from engine.errors import LogUnreadable

plain = detectors("standard-1")


def print_of(text: str) -> str:
    made = plain.fingerprint(
        Outcome(ended="exited", succeeded=False, final_state="FAILED", exit_code=1, reason=text)
    )
    assert made is not None
    return made.fingerprint


TEXTS = {
    "a file that is missing": (
        "FileNotFoundError: [Errno 2] No such file or directory: '/srv/a.toml'",
        "FileNotFoundError: [Errno 2] Datei oder Verzeichnis nicht gefunden: '/opt/a.toml'",
        "FileNotFoundError: [Errno 2] Aucun fichier ou dossier de ce type: '/x/a.toml'",
        "FileNotFoundError: [Errno 2] Нет такого файла или каталога: '/x/a.toml'",
        "FileNotFoundError: [Errno 2] 没有那个文件或目录: 'C:\\x\\a.toml'",
    ),
    "a socket that nobody listens on": (
        (
            "[WinError 10061] No connection could be made because the target machine actively"
            " refused it"
        ),
        (
            "[WinError 10061] Es konnte keine Verbindung hergestellt werden, da der Zielcomputer"
            " die Verbindung verweigerte"
        ),
        (
            "[WinError 10061] Aucune connexion n’a pu être établie car l’ordinateur cible l’a"
            " expressément refusée"
        ),
        "[WinError 10061] 由于目标计算机积极拒绝，无法连接。",
    ),
    "a command that is missing": (
        "bash: line 12: uv: command not found",
        "bash: Zeile 3: uv: Kommando nicht gefunden.",
        "bash: uv : commande introuvable",
        "bash: uv: orden no encontrada",
        "bash: uv：未找到命令",
        "bash: uv: команда не найдена",
    ),
    "a command that cmd.exe does not know": (
        (
            "'uv' is not recognized as an internal or external command,\n"
            "operable program or batch file."
        ),
        'Der Befehl "uv" ist entweder falsch geschrieben oder\nkonnte nicht gefunden werden.',
        (
            "'uv' n'est pas reconnu en tant que commande interne\n"
            "ou externe, un programme exécutable ou un fichier de commandes."
        ),
        (
            "'uv' は、内部コマンドまたは外部コマンド、\n"
            "操作可能なプログラムまたはバッチ ファイルとして認識されていません。"
        ),
    ),
    "no repository": (
        "fatal: not a git repository (or any of the parent directories): .git",
        "Schwerwiegend: Kein Git-Repository (oder irgendeines der Elternverzeichnisse): .git",
        "fatal : ni ceci ni aucun de ses répertoires parents n'est un dépôt git : .git",
        "致命错误：不是 git 仓库（或者任何父目录）：.git",
    ),
    "a database that is missing": (
        'FATAL:  database "app" does not exist',
        "FATAL:  Datenbank »app« existiert nicht",
        "FATAL:  la base de données « app » n'existe pas",
        'FATAL:  データベース"app"は存在しません',
    ),
    "a folder that may not be made": (
        "mkdir: cannot create directory ‘/x’: Permission denied",
        "mkdir: das Verzeichnis »/y« kann nicht angelegt werden: Keine Berechtigung",
        "mkdir: impossible de créer le répertoire « /x »: Permission non accordée",
        "mkdir: 无法创建目录'/x': 权限不够",
    ),
}


@pytest.mark.parametrize("texts", TEXTS.values(), ids=TEXTS.keys())
def test_a_failure_is_the_same_in_every_language(texts: tuple[str, ...]) -> None:
    assert len({print_of(text) for text in texts}) == 1


def test_different_failures_stay_apart_in_every_language() -> None:
    found = [{print_of(text) for text in texts} for texts in TEXTS.values()]
    assert len({print_ for prints in found for print_ in prints}) == len(found)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("bash: uv: Kommando nicht gefunden.", "bash: node: Kommando nicht gefunden."),
        ("FATAL:  Datenbank »a« existiert nicht", "FATAL:  Datenbank »b« existiert nicht"),
        ("cat: /x/a.toml: Keine Berechtigung", "cat: /x/a.toml: Ist ein Verzeichnis"),
    ],
)
def test_near_misses_stay_apart_in_other_languages(one: str, other: str) -> None:
    assert print_of(one) != print_of(other)


def test_nearly_every_translation_reads_as_its_english() -> None:
    """Two messages that a language says alike cannot both be kept: 8 of the released set."""
    pairs = [
        (message.english.replace("%s", "foo"), other.replace("%s", "foo"))
        for message in fingerprint_rules.tongues().message
        for other in message.others
        if message.english
    ]
    lost = [pair for pair in pairs if in_english(plain_quotes(pair[1])).split() != pair[0].split()]
    assert len(pairs) > 1500
    assert len(lost) == 8


NOT_READ = "kann nicht zum Lesen geöffnet werden"


@pytest.mark.parametrize(
    ("text", "english"),
    [
        # a name in quotes ends with its quote
        ("Datenbank 'a' existiert nicht", "database 'a' does not exist"),
        ("Datenbank 'a' und 'b' existiert nicht", None),
        (f"Datenbank '{'a' * 300}' existiert nicht", f"database '{'a' * 300}' does not exist"),
        (f"Datenbank '{'a' * 301}' existiert nicht", None),
        # a name that stands first begins behind a colon, or is all of a string
        (f"mv: a b.py {NOT_READ}", "mv: cannot open a b.py for reading"),
        (f"mv: 'x: y' {NOT_READ}", "mv: cannot open 'x: y' for reading"),
        (f"mv:\nx {NOT_READ}", "mv:\ncannot open x for reading"),
        (f"'{'x' * 300}' {NOT_READ}", f"cannot open '{'x' * 300}' for reading"),
        (f"{'x' * 201} {NOT_READ}", f"cannot open {'x' * 201} for reading"),
        (f"{'x' * 202} {NOT_READ}", f"xcannot open {'x' * 201} for reading"),
        (f"don't x {NOT_READ}", "don'cannot open t x for reading"),
        # one in the middle is bounded, too
        (f"Zugriff auf {'x' * 300} nicht möglich", f"cannot access {'x' * 300}"),
        (f"Zugriff auf {'x' * 301} nicht möglich", None),
        # what stands first or last in both stays where it is, whatever it is
        ("x': y: Defekter Interpreter", "x': y: bad interpreter"),
        ("Syntaxfehler beim unerwarteten Symbol 'a'. b",
         "syntax error near unexpected token 'a'. b"),
        # what stands last in one only ends with its line
        ("无法以读模式打开 a b c\nd", "cannot open a b c for reading\nd"),
        (f"无法以读模式打开 {'x' * 300}.", f"cannot open {'x' * 300} for reading."),
        (f"无法以读模式打开 {'x' * 301}", f"cannot open {'x' * 300} for readingx"),
        # a full stop is part of a message, and white space of any kind
        ("a: Keine Berechtigung. Weiter", "a: Permission denied Weiter"),
        ("a: Keine Berechtigung.. Weiter", "a: Permission denied. Weiter"),
        ("a: Keine Berechtigung, weiter", "a: Permission denied, weiter"),
        ("uv: Kommando\t \n nicht gefunden", "uv: command not found"),
        ("uv: Kommando     nicht gefunden", None),
        ("bash: 未找 到命令", None),
        *(
            (f"{mark}Keine Berechtigung{mark}", f"{mark}Permission denied{mark}")
            for mark in "'()[]{}<>,;:=!?|/-_0123456789"
        ),
        # numbers decide, up to a name, a quote, an angle or the end of the line
        *(
            (f"[Errno 13] faul{end}", f"[Errno 13] Permission denied{end}")
            for end in (
                ": 'x'", ": (x", ": [x", ": C:/x", ": d:\\x", ": /x", "'), x", "', x", "' x", "'}",
                "']", "'", "')", "> x", "\nx", "",
            )
        ),
        ("[Errno 13] faul: 'x': 'y'", "[Errno 13] Permission denied: 'x': 'y'"),
        ("[Errno 13] faul: x y", "[Errno 13] Permission denied"),
        ("[Errno 13] faul's: 'x'", "[Errno 13] Permission denied: 'x'"),
        ("[Errno -2] faul", "[Errno -2] Name or service not known"),
        ("[WinError 5] faul", "[WinError 5] Access is denied"),
        (f"[Errno 13] {'x' * 300}: 'a'", "[Errno 13] Permission denied: 'a'"),
        (f"[Errno 13] {'x' * 301}: 'a'", None),
        ("x: faul (os error 13) x", "x: Permission denied (os error 13) x"),
        ("x (faul (os error 13) x", "x ( Permission denied (os error 13) x"),
        ("'faul (os error 5)", "' Input/output error (os error 5)"),
        (f"x:{'y' * 200} (os error 13)", "x: Permission denied (os error 13)"),
        (f"x:{'y' * 201} (os error 13)", "x:y Permission denied (os error 13)"),
        ("faul (os error 740)", "The requested operation requires elevation (os error 740)"),
    ],
)  # fmt: skip
def test_a_message_is_read_word_by_word(text: str, english: str | None) -> None:
    assert in_english(text).lstrip() == (text if english is None else english)


@pytest.mark.parametrize(
    ("text", "plain_text"),
    [
        ("\"a\" `b` 'c'", "'a' 'b' 'c'"),
        ("«a» b", "'a' b"),
        ("«  a  » b", "'a' b"),
        ("«   a   » b", "' a ' b"),
        ("« a\u00a0» b", "'a' b"),
        ("» a « b", "' a ' b"),
        ("« a", "' a"),
        ("a »", "a '"),
        *((f"{quote}a", "'a") for quote in '"`´‘’‚‛“”„‟«»‹›「」『』'),
        *((f'"é {quote}a', "'é 'a") for quote in '"`´‘’‚‛“”„‟«»‹›「」『』'),
        ("a：（b），\u00a0c\u202fd", "a:(b), c d"),
    ],
)
def test_quotes_and_marks_of_every_language_are_one_kind(text: str, plain_text: str) -> None:
    assert plain_quotes(text) == plain_text


def test_english_is_written_as_it_is_put_in() -> None:
    for message in fingerprint_rules.tongues().message:
        assert plain_quotes(message.english) == message.english
        assert "\\" not in message.english


def test_english_is_left_alone() -> None:
    for message in fingerprint_rules.tongues().message:
        text = plain_quotes(message.english.replace("%s", "foo"))
        assert in_english(text) == text


def test_a_rule_set_that_was_changed_is_refused() -> None:
    with pytest.raises(LogUnreadable, match="fp-1 is not the one that was released"):
        proved("fp-1", b"name = 'fp-1'\n")
    with pytest.raises(LogUnreadable, match="fp-9"):
        proved("fp-9", b"")


def test_every_pattern_has_a_source_and_a_date() -> None:
    rules = fingerprint_rules.rules()
    patterns = [*rules.header, *rules.wrapper, *rules.noise, *rules.exception, *rules.shape]
    assert all(each.source and each.date for each in patterns)
    assert all((rules.semantic.source, rules.semantic.date, rules.words.source, rules.words.date))
    assert all(each.source and each.date for each in fingerprint_rules.tongues().message)
    assert (rules.name, fingerprint_rules.tongues().name) == ("fp-1", "fp-1-tongues")
    assert all("*" not in _outside_classes(each.pattern) for each in patterns)
    assert all("+" not in _outside_classes(each.pattern) for each in patterns)


def _outside_classes(pattern: str) -> str:
    """A pattern without escapes and character classes: what is left of ``*`` and ``+`` repeats."""
    return re.sub(r"\\.|\[\^?\]?(?:\\.|[^\]])*\]", "", pattern)
