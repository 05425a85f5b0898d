"""Where a database is; what is shown of it holds no password, however it was written."""

from __future__ import annotations

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
        "mysql://DOM/user:secret@db/x",
        "sqlite://user:secret@db",
    ],
)
def test_a_url_that_is_refused_shows_no_password(url: str) -> None:
    with pytest.raises((UsageProblem, WrongDatabase)) as refused:
        locate(url)
    assert "secret" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_a_path_where_a_url_should_be_is_named() -> None:
    with pytest.raises(UsageProblem, match=r"'\./backlog\.db' is not a database URL"):
        locate("./backlog.db")


def test_a_path_is_shown_as_it_is() -> None:
    assert locate("sqlite:////data/a:b@c.db").url == "sqlite:////data/a:b@c.db"
