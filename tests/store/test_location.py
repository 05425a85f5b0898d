"""Where a database is; what is shown of it holds no password, however it was written."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from engine.errors import UsageProblem, WrongDatabase
from engine.store.location import locate


@pytest.mark.parametrize(
    "url",
    [
        "runoff:secret@db/x",
        "postgresql:u:secret@db/x",
        "postgresql:/u:secret@db/x",
        "host=db password=secret",
        "password = secret host=db",
        "postgresql://DOM/user:secret@db/x",
        "postgresql:///user:secret@db/x",
        "postgresql://u:sec/ret:secret@db/x/y",
        "postgresql://u@db/x/y?host=a password=secret",
        "postgresql://u:secret@db/a%00b",
        "postgresql://u%00:secret@db/a",
        "mysql://DOM/user:secret@db/x",
        "sqlite://user:secret@db",
    ],
)
def test_a_url_that_is_refused_shows_no_password(url: str) -> None:
    with pytest.raises((UsageProblem, WrongDatabase)) as refused:
        locate(url)
    assert "secret" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_a_user_without_a_home_is_told_how_to_name_a_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", unknown)
    monkeypatch.delenv("RUNOFF_FILES", raising=False)
    with pytest.raises(UsageProblem, match="no home directory") as refused:
        locate("postgresql://u@db/a")
    assert "RUNOFF_FILES" in refused.value.remedy
    monkeypatch.setenv("RUNOFF_FILES", str(tmp_path))
    assert locate("postgresql://u@db/a").path == tmp_path / "db-5432-a"


def test_a_path_where_a_url_should_be_is_named() -> None:
    with pytest.raises(UsageProblem, match=r"'\./backlog\.db' is not a database URL"):
        locate("./backlog.db")


def test_a_path_is_shown_as_it_is() -> None:
    assert locate("sqlite:////data/a:b@c.db").url == "sqlite:////data/a:b@c.db"


@pytest.mark.parametrize("name", ["caf\udce9.db", "caf%E9.db", "caf\udce9/b.db"])
def test_a_path_that_is_no_text_is_refused_since_a_log_writes_paths_down(name: str) -> None:
    with pytest.raises(UsageProblem, match="is not UTF-8") as refused:
        locate(f"sqlite:////data/{name}")
    assert str(refused.value).isascii()


def test_a_path_may_hold_any_text(tmp_path: Path) -> None:
    assert (
        locate(f"sqlite:///{tmp_path}/a%3Fb%25 #\n\u00e4.db").path == tmp_path / "a?b% #\n\u00e4.db"
    )


def test_a_log_that_is_named_by_a_link_is_the_one_that_the_link_leads_to(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    (tmp_path / "first.db").symlink_to("second.db")
    (tmp_path / "second.db").symlink_to(there / "b.db")
    found = locate(f"sqlite:///{tmp_path}/first.db")
    assert found.path == there / "b.db", "also where the file is still to be made"
    assert found.link == tmp_path / "first.db"
    assert found.url == f"sqlite:///{tmp_path}/first.db"
    assert found.shown == f"{tmp_path}/first.db -> {there}/b.db"
    assert [found.beside(what).parent for what in ("lock", "anchors", "files")] == [there] * 3
    assert locate(f"sqlite:///{there}/b.db").link is None


def test_a_link_that_leads_to_itself_is_left_for_whoever_opens_it(tmp_path: Path) -> None:
    (tmp_path / "a.db").symlink_to("a.db")
    assert locate(f"sqlite:///{tmp_path}/a.db").path == tmp_path / "a.db"


def test_a_link_to_a_path_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.db").symlink_to(os.fsdecode(b"caf\xe9.db"))
    with pytest.raises(UsageProblem, match="is not UTF-8"):
        locate(f"sqlite:///{tmp_path}/a.db")


def test_nothing_is_found_from_a_folder_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(UsageProblem, match="the current folder is gone"):
        locate("sqlite:///b.db")
    assert locate("sqlite:////data/b.db").path == Path("/data/b.db")


@pytest.mark.parametrize(
    ("hosts", "stem"),
    [
        ("a,b", ("a,b", "5432")),
        ("a:5432,b", ("a,b", "5432")),
        ("u:s,e:c@A:1,b:2", ("a,b", "1,2")),
        ("[::1]:7,b:7", ("::1,b", "7")),
    ],
)
def test_a_log_whose_server_may_be_at_several_addresses_has_one_place(
    hosts: str, stem: tuple[str, str]
) -> None:
    """As a primary and its replica have: whichever takes writes is the server."""
    url = f"postgresql://{hosts}/name?target_session_attrs=primary"
    found = locate(url)
    assert "s,e:c" not in found.url
    assert found.address is not None
    assert found.address.reveal() == url
    digest = hashlib.sha256(repr((*stem, "name")).encode()).hexdigest()[:12]
    assert found.path.name.endswith(digest)


def test_each_of_several_addresses_can_be_asked_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGPORT", raising=False)

    def each(url: str) -> list[str]:
        address = locate(url).address
        assert address is not None
        return [one.reveal() for one in address.each()]

    assert each("postgresql://u:p%40,w@a:1,[::1]:2/x?k=v") == [
        "postgresql://u:p%40,w@a:1/x?k=v",
        "postgresql://u:p%40,w@[::1]:2/x?k=v",
    ]
    for whole in ("postgresql://a/x", "postgresql://a,b/x?target_session_attrs=prefer-standby"):
        assert each(whole) == [whole]
    monkeypatch.setenv("PGPORT", "1,2")
    assert each("postgresql://a,b/x") == ["postgresql://a,b/x"]


@pytest.mark.parametrize(
    "hosts", ["a:1,b:0", "a:x,b", "a:1,b:65536", "u:sec,secret@a:-1,b", "a,", ",b:1"]
)
def test_each_of_several_addresses_has_to_be_one(hosts: str) -> None:
    with pytest.raises(UsageProblem, match=r"is not a database URL|which is none") as refused:
        locate(f"postgresql://{hosts}/name")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("port", ["0", "65536", "99999", "-1"])
@pytest.mark.parametrize("host", ["db", "u:secret@db", "[::1]"])
def test_a_port_that_is_none_is_named(host: str, port: str) -> None:
    with pytest.raises(UsageProblem, match=f"names the port {port}, which is none") as refused:
        locate(f"postgresql://{host}:{port}/x?a=b")
    assert "secret" not in str(refused.value)


def test_what_may_be_a_part_of_a_password_is_named_as_no_port() -> None:
    with pytest.raises(UsageProblem, match="is not a database URL") as refused:
        locate("postgresql://u:99999/x@db/x")
    assert "99999" not in str(refused.value)


@pytest.mark.parametrize("host", ["[::1", "[", "[::1:5432", "u@[fe80::1"])
def test_an_address_whose_bracket_is_left_open_names_no_port(host: str) -> None:
    with pytest.raises(UsageProblem, match="is not a database URL"):
        locate(f"postgresql://{host}/x")


@pytest.mark.parametrize("settings", ["&&", "sslmode", "password=a&secret", "=x", "a=b&"])
def test_a_setting_without_a_value_is_refused_and_not_shown(settings: str) -> None:
    with pytest.raises(UsageProblem, match="is not NAME=VALUE") as refused:
        locate(f"postgresql://u@db/x?{settings}")
    assert "secret" not in str(refused.value)
    locate("postgresql://u@db/x?sslmode=&a=b%26c=d#fragment")
