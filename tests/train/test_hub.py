"""Weights by address: named in full, checked, fetched once; without a network a clear error."""

from __future__ import annotations

import hashlib
import io
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
from medrail.train import train
from medrail.train.checkpoint import load
from medrail.train.hub import fetched, is_remote
from medrail.workspace import read_json

CONTENT = b"weights"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
ADDRESS = f"https://example.org/models/resnet.pt#sha256={SHA256}"


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


def test_the_hub_is_asked_through_its_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def download(repository: str, file: str) -> str:
        asked.append((repository, file))
        return str(tmp_path / "cached.pt")

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(hf_hub_download=download))
    assert fetched("hf://owner/some-model/weights/model.pt", tmp_path) == tmp_path / "cached.pt"
    assert asked == [("owner/some-model", "weights/model.pt")]
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
