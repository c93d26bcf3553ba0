"""A study on a real PostgreSQL, shared by processes that have no folder in common, as machines have none."""

from __future__ import annotations

import shutil
import signal
import sys
import time
from urllib.parse import quote

import pytest

from medrail.errors import RunError
from medrail.tune.storage import VARIABLE, open_storage
from medrail.workspace import read_json
from tuning_project import make_project, only_study, rows_of, start

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the test starts the server as another user")
if sys.platform != "win32":
    from postgres_server import PASSWORD, USER, server

SECRETS = ("ge@heim", quote("ge@heim/50%{x}", safe=""), "ge%40heim")
SPACE = "tune.space.train.lr={low: 1e-4, high: 1e-2, log: true}"


@pytest.fixture(scope="module")
def postgres():
    with server() as running:
        if running is None:
            pytest.skip("no PostgreSQL here")
        yield running


def said_nowhere(*texts: str, folders=()) -> None:
    for text in texts:
        assert not [secret for secret in SECRETS if secret in text], text
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file():
                assert not [secret for secret in SECRETS if secret.encode() in path.read_bytes()], path


@pytest.mark.slow
def test_two_machines_do_each_trial_once(postgres, tmp_path):
    first = make_project(tmp_path / "a")
    shutil.copytree(first, tmp_path / "b")
    folders = (first, tmp_path / "b")
    sets = ("tune.trials=9", SPACE, "train.epochs=3")
    processes = [start(folder, *sets, **{VARIABLE: postgres.url()}) for folder in folders]
    outputs = [process.communicate(timeout=400) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs

    trained = [sorted(path.name for path in only_study(folder).glob("trial-*")) for folder in folders]
    assert all(trained), "both took part"
    assert sorted(trained[0] + trained[1]) == [f"trial-{number:04d}" for number in range(9)], "none twice"
    tables = [rows_of(only_study(folder)) for folder in folders]
    whole = max(tables, key=lambda table: sum(row["state"] in ("complete", "pruned") for row in table))
    assert [int(row["trial"]) for row in whole] == list(range(9))
    assert all(row["state"] in ("complete", "pruned") for row in whole)
    assert len({row["train.lr"] for row in whole}) == 9
    said_nowhere(*(text for output in outputs for text in output), folders=folders)
    assert not list(tmp_path.rglob("study.db"))
    assert read_json(only_study(first) / "study.json")["storage"] == f"postgresql://127.0.0.1:{postgres.port}/postgres"


@pytest.mark.slow
def test_what_a_dead_machine_began_another_one_ends(postgres, tmp_path):
    first = make_project(tmp_path / "a")
    shutil.copytree(first, tmp_path / "b")
    sets = ("tune.trials=2", "tune.study=of-the-dead", "train.epochs=8", "train.patience=0")
    dying = start(first, *sets, **{VARIABLE: postgres.url()})
    last = time.monotonic() + 200
    while time.monotonic() < last and not list(first.glob("tune/*/trial-0000/metrics.jsonl")):
        time.sleep(0.005)
    dying.send_signal(signal.SIGKILL)
    dying.communicate(timeout=60)
    assert dying.returncode == -9

    living = start(tmp_path / "b", *sets, **{VARIABLE: postgres.url()})
    out, error = living.communicate(timeout=300)
    assert living.returncode == 0, out + error
    rows = rows_of(tmp_path / "b" / "tune" / "of-the-dead")
    assert [(row["trial"], row["state"]) for row in rows] == [("0", "complete"), ("1", "complete")]
    assert {path.name for path in (tmp_path / "b" / "tune" / "of-the-dead").glob("trial-*")} == {
        "trial-0000",
        "trial-0001",
    }


def test_a_claim_is_one_process_s_and_ends_with_its_connection(postgres, tmp_path):
    with open_storage(postgres.url(), "claims", tmp_path / "a") as here:
        held = here.claims.claim(3)
        with open_storage(postgres.url(), "claims", tmp_path / "b") as there:
            assert there.claims.claim(3) is None
            held.close()
            again = there.claims.claim(3)
            assert again is not None
            assert here.claims.claim(3) is None
        last = time.monotonic() + 20
        while (after := here.claims.claim(3)) is None and time.monotonic() < last:
            time.sleep(0.01)  # the server takes a moment to see it
        assert after is not None, "the other connection is gone, and its claims with it"
        after.close()
        with here.claims.alone():
            pass


def test_a_connection_that_the_server_ended_is_made_anew(postgres, tmp_path):
    from sqlalchemy import text

    with open_storage(postgres.url(), "claims", tmp_path) as place:
        with place.storage.engine.begin() as connection:
            others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            assert connection.execute(text(f"{others} AND usename IS NOT NULL")).rowcount >= 1
        with place.claims.alone():
            claim = place.claims.claim(1)
            assert claim is not None
            claim.close()
        assert place.storage.get_all_studies() is not None


def test_a_wrong_password_is_told_and_not_shown(postgres, tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, postgres.url("ge@heim-wrong"))
    with pytest.raises(RunError) as error, open_storage("", "s", tmp_path):
        pass
    assert "password authentication failed" in str(error.value)
    assert f"127.0.0.1:{postgres.port}" in str(error.value)
    said_nowhere(str(error.value), repr(error.value.__dict__))


def test_the_password_may_come_the_usual_way(postgres, tmp_path, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    with open_storage(f"postgresql://{USER}@127.0.0.1:{postgres.port}/postgres", "s", tmp_path) as place:
        assert place.storage.get_all_studies() is not None
