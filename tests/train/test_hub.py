"""Weights by address: named in full, checked, fetched once; without a network a clear error."""

from __future__ import annotations

import hashlib
import io
import logging
import sys
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from medrail.config import parse
from medrail.errors import ConfigError
from medrail.train import hub, train
from medrail.train.checkpoint import load
from medrail.train.hub import fetched, is_remote
from medrail.workspace import read_json

CONTENT = b"weights"
COMMIT = "0123456789abcdef" * 2 + "01234567"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
ADDRESS = f"https://example.org/models/resnet.pt#sha256={SHA256}"


@pytest.fixture(autouse=True)
def nothing_told_before() -> None:
    hub._warn_once.cache_clear()


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every address has the content; gives the addresses that were asked for."""
    asked: list[str] = []

    def urlopen(address: str, timeout: float) -> io.BytesIO:
        asked.append(address)
        return io.BytesIO(CONTENT)

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    return asked


def test_an_address_is_fetched_once(tmp_path: Path, served: list[str]) -> None:
    first = fetched(ADDRESS, tmp_path)
    assert first.read_bytes() == CONTENT
    assert fetched(ADDRESS, tmp_path) == first
    assert served == ["https://example.org/models/resnet.pt"]
    first.write_bytes(b"changed since")
    assert fetched(ADDRESS, tmp_path).read_bytes() == CONTENT


def test_another_content_is_refused_and_not_kept(tmp_path: Path, served: list[str]) -> None:
    with pytest.raises(ConfigError, match=SHA256):
        fetched(f"https://example.org/resnet.pt#sha256={'0' * 64}", tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    "name",
    [
        "https://example.org/resnet.pt",
        f"http://example.org/resnet.pt#sha256={SHA256}",
        f"https://example.org/..#sha256={SHA256}",
        "hf://owner/file",
        "s3://bucket/file",
    ],
)
def test_incomplete_addresses_say_how_they_must_be(tmp_path: Path, served: list[str], name: str) -> None:
    with pytest.raises(ConfigError, match="hf://OWNER/REPOSITORY/FILE"):
        fetched(name, tmp_path)
    assert is_remote(name)
    assert not served


def test_without_a_network_a_local_file_is_proposed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def urlopen(address: str, timeout: float) -> Any:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    with pytest.raises(ConfigError, match="A local file needs none"):
        fetched(ADDRESS, tmp_path)


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str | None]]:
    """A hub that has every file, and what it was asked for; what was asked for is in its cache."""
    found: list[tuple[str, str, str | None]] = []

    def download(repository: str, file: str, revision: str | None = None) -> str:
        found.append((repository, file, revision))
        return str(tmp_path / "cached.pt")

    def from_cache(repository: str, file: str, revision: str | None = None) -> str | None:
        return str(tmp_path / "cached.pt") if (repository, file, revision) in found else None

    client = SimpleNamespace(hf_hub_download=download, try_to_load_from_cache=from_cache)
    monkeypatch.setitem(sys.modules, "huggingface_hub", client)
    return found


@pytest.mark.parametrize(
    ("suffix", "revision"),
    [("", None), ("@v1.2", "v1.2"), ("@refs/pr/3", "refs/pr/3"), (f"#revision={COMMIT}", COMMIT)],
)
def test_a_revision_pins_what_the_hub_gives(tmp_path: Path, asked: list[Any], suffix: str, revision: str) -> None:
    assert fetched(f"hf://owner/some-model/weights/model.pt{suffix}", tmp_path) == tmp_path / "cached.pt"
    assert asked == [("owner/some-model", "weights/model.pt", revision)]


def test_nothing_is_fetched_without_a_word(
    tmp_path: Path, served: list[str], asked: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A warning, since the command line shows no other line of a log."""

    def told(name: str) -> list[str]:
        caplog.clear()
        fetched(name, tmp_path)
        return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]

    assert told(ADDRESS) == ["fetching resnet.pt from https://example.org/models/resnet.pt"]
    assert told(ADDRESS) == [], "it is there"
    pinned = f"hf://owner/some-model/model.pt@{COMMIT}"
    assert told(pinned) == [f"fetching model.pt from hf://owner/some-model at {COMMIT}"]
    assert told(pinned) == []
    newest = "hf://owner/some-model/model.pt"
    assert told(newest) == ["fetching model.pt from hf://owner/some-model"]
    (again,) = told(newest)
    assert "newer model.pt" in again
    assert told(newest) == [], "once a process, however many trainings it makes"


@pytest.mark.parametrize(
    "name",
    [
        f"https://anna:geheim@example.org/best.pt#sha256={SHA256}",
        f"https://geheim@example.org/best.pt#sha256={SHA256}",
        f"https://anna:gehe/geheim@example.org/best.pt#sha256={SHA256}",
        "https://anna:geheim@example.org/best.pt",
        "hf://geheim@owner/some-model/model.pt",
    ],
)
def test_a_password_in_an_address_is_refused_and_not_shown(tmp_path: Path, served: list[str], name: str) -> None:
    with pytest.raises(ConfigError, match="user name or password") as error:
        fetched(name, tmp_path)
    values = {
        "task": "classification",
        "data": {"kind": "class_folders", "path": "x"},
        "model": {"name": "tiny_cnn", "dims": 2, "weights": name},
    }
    with pytest.raises(ConfigError, match=r"model\.weights: .*user name or password") as in_file:
        parse(values)
    assert "geheim" not in f"{error.value} {in_file.value}"
    assert not served


def test_a_port_and_an_at_in_the_path_are_no_password(tmp_path: Path, served: list[str]) -> None:
    fetched(f"https://example.org:8443/pack@1.2/best.pt#sha256={SHA256}", tmp_path)
    assert served == ["https://example.org:8443/pack@1.2/best.pt"]


def test_a_key_in_a_query_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        fetched(f"https://example.org/best.pt?key=geheim#sha256={SHA256}", tmp_path)
    assert "geheim" not in str(error.value)


def test_without_its_client_the_hub_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ConfigError, match="huggingface_hub is not installed"):
        fetched("hf://owner/some-model/model.pt", tmp_path)


def test_a_run_records_whose_weights_it_started_from(pictures: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first = train(pictures.config, pictures.workspace, pictures.cases)
    content = first.best.read_bytes()
    monkeypatch.setattr(urllib.request, "urlopen", lambda address, timeout: io.BytesIO(content))
    name = f"https://example.org/best.pt#sha256={hashlib.sha256(content).hexdigest()}"
    values = pictures.config.to_dict()
    values["model"]["weights"] = name
    values["train"] |= {"epochs": 1, "lr": 1e-12}
    run = train(parse(values), pictures.workspace, pictures.cases)
    passport = read_json(run.passport)
    assert passport["weights"] == {"name": name, "sha256": hashlib.sha256(content).hexdigest()}
    assert name in passport["result"]["notes"][0]
    old, new = load(first.best)["weights"], load(run.best)["weights"]
    torch.testing.assert_close(old["head.weight"], new["head.weight"], atol=1e-6, rtol=0)
