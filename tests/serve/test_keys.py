"""Keys at rest and in use: hashes only, one reader, known at once."""

from __future__ import annotations

import json
import os
import shutil
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from medrail.cli import main
from medrail.config import SERVE_FILES, ServeConfig
from medrail.errors import ConfigError, ServeError
from medrail.serve import Settings
from medrail.serve.keys import Keyring, add_key, default_file, read_keys, revoke_key


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "sub" / "keys.json"


def test_the_secret_is_nowhere_in_the_file(file: Path) -> None:
    made, text = add_key(file, "Ward 3", "predict")
    prefix, number, secret = text.split("_", 2)
    assert (prefix, number, len(secret)) == ("medrail", made.id, 43)
    content = file.read_text(encoding="utf-8")
    assert secret not in content
    assert made.sha256 in content
    assert not any(path != file for path in file.parent.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_only_the_owner_may_read_it_and_others_never_write(file: Path) -> None:
    add_key(file, "a", "predict")
    revoke_key(file, "a")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(0o666)
    with pytest.raises(ServeError, match="others may write"):
        read_keys(file)
    assert Keyring(file).valid() == {}


def test_only_the_very_key_is_found(file: Path) -> None:
    _, first = add_key(file, "first", "predict")
    _, second = add_key(file, "second", "admin")
    keyring = Keyring(file)
    assert keyring.find(first).name == "first"
    assert keyring.find(second).scope == "admin"
    crossed = first[:17] + second[17:]
    flipped = first[:-1] + ("A" if first[-1] != "A" else "B")
    for wrong in (
        "",
        "x",
        first[:-1],
        first + "A",
        f" {first}",
        first.upper(),
        crossed,
        flipped,
        "medrail__",
        "é" * 60,
    ):
        assert keyring.find(wrong) is None, wrong
    assert Keyring(None).find(first) is None


def test_a_running_service_knows_of_changes_at_once(file: Path) -> None:
    keyring = Keyring(file)
    assert keyring.valid() == {}
    _, text = add_key(file, "a", "predict")
    assert keyring.find(text) is not None
    revoke_key(file, "a")
    assert keyring.find(text) is None
    _, again = add_key(file, "a", "predict")
    assert keyring.find(again) is not None
    assert keyring.find(text) is None
    content = file.read_text(encoding="utf-8")
    file.write_text("{", encoding="utf-8")
    assert keyring.find(again) is None
    file.unlink()
    assert keyring.find(again) is None
    file.write_text(content, encoding="utf-8")
    assert keyring.find(again) is not None


def test_keys_made_at_the_same_time_are_all_kept(file: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda number: add_key(file, f"key {number}", "predict")[1], range(8)))
    assert all(Keyring(file).find(text) for text in made)


def test_names_are_given_once_and_are_plain(file: Path) -> None:
    add_key(file, "a", "predict")
    with pytest.raises(ConfigError, match="there is a key"):
        add_key(file, "a", "admin")
    for name in ("", "\n", "a" * 65, "<b>", "é"):
        with pytest.raises(ConfigError, match="no name"):
            add_key(file, name, "predict")
    with pytest.raises(ConfigError, match="no valid key"):
        revoke_key(file, "b")
    assert len(read_keys(file)) == 1


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": 2, "keys": []}', '{"format": 1, "keys": [{}]}', "[" * 100_000, "\xff"]
)
def test_files_that_hold_no_keys(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ServeError):
        read_keys(path)
    with pytest.raises(ServeError):
        add_key(path, "a", "predict")
    assert Keyring(path).valid() == {}


def test_scopes_that_are_none(file: Path) -> None:
    add_key(file, "a", "predict")
    file.write_text(file.read_text(encoding="utf-8").replace('"predict"', '"root"'), encoding="utf-8")
    with pytest.raises(ServeError, match="no file of keys"):
        read_keys(file)


def test_the_command(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["key", "add", "PACS", "--keys", str(file), "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert set(made) == {"id", "name", "scope", "key", "file"}
    assert Keyring(file).find(made["key"]).scope == "predict"
    assert main(["key", "add", "Radiology", "--scope", "pacs", "--keys", str(file)]) == 0
    assert next(each for each in read_keys(file) if each.name == "Radiology").scope == "pacs"
    capsys.readouterr()
    assert main(["key", "list", "--keys", str(file)]) == 0
    listed = capsys.readouterr().out
    assert made["id"] in listed
    assert made["key"][17:] not in listed
    assert main(["key", "list", "--keys", str(file), "--json"]) == 0
    entry = json.loads(capsys.readouterr().out)["keys"][0]
    assert set(entry) == {"id", "name", "scope", "created", "revoked"}
    assert main(["key", "revoke", made["id"], "--keys", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["id"] == made["id"]
    assert main(["key", "revoke", made["id"], "--keys", str(file)]) == 2
    assert Keyring(file).find(made["key"]) is None


def test_where_the_file_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MEDRAIL_KEYS", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert default_file() == tmp_path / "medrail" / "keys.json"
    monkeypatch.setenv("MEDRAIL_KEYS", str(tmp_path / "x.json"))
    assert default_file() == tmp_path / "x.json"


def test_serve_is_closed_to_others_without_keys(classifier, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "keys.json"
    assert main(["serve", str(classifier), "--host", "0.0.0.0", "--port", "0", "--keys", str(file)]) == 1
    assert "medrail key add" in capsys.readouterr().err


def test_what_serve_is_told_reaches_the_service(classifier, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("medrail.serve.serve", lambda *arguments: asked.append(arguments))
    monkeypatch.setenv("MEDRAIL_KEYS", str(tmp_path / "keys.json"))
    assert main(["serve", str(classifier)]) == 0
    sets = ["serve.rate_per_s=7", "serve.cors_origins=[https://a.example]", "serve.request_timeout_s=5"]
    options = ["--open", "--host", "0.0.0.0", "--tls-cert", "c.pem", "--tls-key", "k.pem", "--keys", "x.json"]
    assert main(["serve", str(classifier), *options, *(f"--set={each}" for each in sets)]) == 0
    (_, host, _, plain, _), (_, other, _, told, _) = asked
    assert (host, plain.open, plain.key_file, plain.tls_cert) == ("127.0.0.1", None, tmp_path / "keys.json", None)
    assert (other, told.open, told.rate_per_s, told.request_timeout_s) == ("0.0.0.0", True, 7, 5)
    assert (told.tls_cert, told.tls_key, told.key_file) == (Path("c.pem"), Path("k.pem"), Path("x.json"))
    assert told.cors_origins == ("https://a.example",)


def test_settings_of_the_configuration_are_those_of_the_service() -> None:
    """Two classes, because the configuration is below the service; a default that differs would mislead."""
    mine, its = (model.model_json_schema()["properties"] for model in (ServeConfig, Settings))
    for name in set(mine) & set(its) - {"host", *SERVE_FILES}:
        assert {**mine[name], "description": ""} == {**its[name], "description": ""}, name


NO_KEYS = {
    "log_dir": "the option --log-dir, because a bundle alone has no folder for logs",
    "log_to_stderr": "decided by whether a person looks at it",
    "jobs_dir": "the processes of one service find it out among themselves",
}
"""Settings that an operator does not write into medrail.yaml, and why."""


def test_every_setting_of_the_service_is_a_key_of_serve() -> None:
    assert set(Settings.model_fields) - set(ServeConfig.model_fields) == set(NO_KEYS)
    assert set(SERVE_FILES) | {"log_dir", "jobs_dir"} == {
        name for name, field in Settings.model_fields.items() if field.annotation == Path | None
    }


def test_each_key_of_serve_reaches_the_service(classifier, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("medrail.serve.serve", lambda *arguments: asked.append(arguments[3]))
    monkeypatch.setenv("MEDRAIL_KEYS", str(tmp_path / "keys.json"))
    special = {"engine": "onnxruntime", "batching": "off", "log_level": "debug", "default_model": "x", "pacs": None}
    special |= {"host": None, "cors_origins": None, "allowed_hosts": None}  # tested above, and not by one plain value
    given: dict[str, Any] = {}
    for name in set(Settings.model_fields) & set(ServeConfig.model_fields):
        value = special.get(name, Path("there") if name in SERVE_FILES else 11)
        given[name] = (name != "metrics") if name in ("open", "metrics") else value
    given = {name: value for name, value in given.items() if value is not None}
    assert main(["serve", str(classifier), *(f"--set=serve.{name}={value}" for name, value in given.items())]) == 0
    assert {name: getattr(asked[0], name) for name in given} == given


def test_paths_are_relative_to_the_project(classifier, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("medrail.serve.serve", lambda *arguments: asked.append(arguments[3]))
    data = {"kind": "csv", "path": "table.csv", "classes": ["a", "b"]}
    values = {"task": "classification", "data": data, "model": {"name": "resnet18", "dims": 2}}
    serve = {name: f"own/{name}" for name in SERVE_FILES}
    (tmp_path / "medrail.yaml").write_text(json.dumps({**values, "serve": serve}), encoding="utf-8")
    shutil.copytree(classifier, tmp_path / "bundles" / "model" / "1")
    assert main(["serve", str(tmp_path)]) == 0
    assert {name: getattr(asked[0], name) for name in SERVE_FILES} == {
        name: tmp_path / "own" / name for name in SERVE_FILES
    }


def test_where_no_key_is_valid_that_is_what_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        revoke_key(tmp_path / "keys.json", "anybody")
    assert "there is none" in caught.value.needed
