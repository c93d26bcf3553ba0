"""Where a study is kept, and that no message shows a password."""

from __future__ import annotations

import pytest

from medrail.errors import ConfigError, MedrailError
from medrail.tune.storage import VARIABLE, open_storage


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://anna:geheim@127.0.0.1:1/x",  # nobody listens there
        "postgresql://anna:geheim@127.0.0.1:port/x",
        "postgresql://anna:geheim@[::1/x",
        "postgresql://anna@127.0.0.1:1/x?password=geheim",
        "postgresql://anna:geheim@127.0.0.1:1/x?nonsense=geheim",
        "mysql://anna:geheim@127.0.0.1/x",
        "geheim",
    ],
)
def test_a_url_that_does_not_work_is_told_without_its_password(url, tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, url)
    with pytest.raises(MedrailError) as error, open_storage("", "s", tmp_path):
        pass
    assert "geheim" not in str(error.value)
    assert error.value.__cause__ is None
    hidden = error.value.__suppress_context__ or error.value.__context__ is None
    assert hidden, "a traceback would show what was caught"


def test_the_variable_goes_before_the_configuration(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, "mysql://x")
    with pytest.raises(ConfigError, match=VARIABLE), open_storage("postgresql://anna@db/x", "s", tmp_path):
        pass
    monkeypatch.setenv(VARIABLE, "")
    with open_storage("", "s", tmp_path) as place:
        assert place.shown == str(tmp_path / "study.db")
