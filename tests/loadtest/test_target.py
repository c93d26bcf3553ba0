"""What is said of a service that cannot be tested, and what is sent to one that can."""

from __future__ import annotations

import io
import shutil
import socket
import ssl
import subprocess
import time

import numpy as np
import pytest
from PIL import Image as Picture

from medrail.errors import ConfigError, LoadTestError
from medrail.loadtest.attack import Step, sending
from medrail.loadtest.invented import grey_jpeg, hostile, jpeg, nifti, roi
from medrail.loadtest.material import find_files, gather, upload
from medrail.loadtest.target import Target
from medrail.loadtest.watch import Watch, listening
from medrail.read import read


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8000", "ftp://host", "http://", "http://h:no", "http://h/?a=1", "http://user:word@host"]
)
def test_what_is_no_url_of_a_service_is_wrong_usage(url):
    with pytest.raises(ConfigError):
        Target.of(url)


def test_a_closed_port_another_service_and_a_missing_key_are_told_apart(pretended):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(LoadTestError, match="nothing answers there"):
            Target.of(f"http://127.0.0.1:{free.getsockname()[1]}").models()
    pretended.key = "secret-key"
    with pytest.raises(LoadTestError, match="wants a key"):
        Target.of(pretended.url).models()
    with pytest.raises(LoadTestError, match="does not let this key in") as caught:
        Target.of(pretended.url, "another").models()
    assert "another" not in str(caught.value)
    assert Target.of(pretended.url, "secret-key").models()[0]["name"] == "chest"
    assert "secret-key" not in repr(Target.of(pretended.url, "secret-key"))
    pretended.models = None  # type: ignore[assignment]
    with pytest.raises(LoadTestError, match="not by a list of models"):
        Target.of(pretended.url, "secret-key").models()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate with")
def test_https_needs_a_trusted_certificate_from_both_processes(pretended, tmp_path):
    made = [
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    files = ["-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(["openssl", "req", "-x509", *made, *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    pretended.server.socket = context.wrap_socket(pretended.server.socket, server_side=True)
    url = pretended.url.replace("http:", "https:")
    with pytest.raises(LoadTestError, match="certificate is not trusted"):
        Target.of(url).models()
    trusting = Target.of(url, ca_file=str(tmp_path / "cert.pem"))
    for target, wrong in ((trusting, {""}), (Target.of(url, verify=False), {""}), (Target.of(url), {"TLS failed"})):
        requests = {"image": (upload("image", "/v1/predict/image", b"content"),)}
        with sending(target, requests, {"image": 1}, 10.0) as sender:
            assert set(sender.run(Step(1, seconds=0.05, least=1, most_seconds=5.0)).error) == wrong


def test_given_files_are_proved_before_the_load_and_their_names_are_not_sent(pretended, tmp_path):
    image = tmp_path / "Doe^Jane.png"
    Picture.fromarray(np.zeros((8, 8), np.uint8)).save(image)
    material = gather(Target.of(pretended.url), ["image", "list"], "", find_files([str(tmp_path)]))
    assert material.notes == ("image: 1 given files, in random order",)
    assert b"Doe" not in material.requests["image"][0].body
    assert pretended.seen[1] == "/v1/predict/image?model=chest"
    pretended.status, pretended.body = 415, b'{"title": "Unsupported"}'
    with pytest.raises(LoadTestError, match="refuses every given file \\(415 Unsupported\\)"):
        gather(Target.of(pretended.url), ["image"], "", [image])
    with pytest.raises(LoadTestError, match="none of the invented"):
        gather(Target.of(pretended.url), ["image"], "", [])
    with pytest.raises(ConfigError, match="no model 'other'"):
        gather(Target.of(pretended.url), ["image"], "other", [])


def test_inputs_that_are_not_there_or_no_images_are_wrong_usage(tmp_path, pretended):
    with pytest.raises(ConfigError):
        find_files([str(tmp_path / "none")])
    with pytest.raises(ConfigError, match="empty"):
        find_files([str(tmp_path)])
    (tmp_path / "notes.txt").write_text("no image", encoding="utf-8")
    with pytest.raises(ConfigError, match="no image"):
        gather(Target.of(pretended.url), ["image"], "", find_files([str(tmp_path)]))


def test_without_a_model_for_volumes_the_scenario_of_volumes_says_so(pretended):
    with pytest.raises(LoadTestError, match="no served model takes volumes"):
        gather(Target.of(pretended.url), ["volume"], "", [])
    mixed = gather(Target.of(pretended.url), ["image", "volume"], "", [])
    assert set(mixed.requests) == {"image"}
    pretended.models = [*pretended.models, {"name": "ct", "version": "2", "dims": 3}]
    both = gather(Target.of(pretended.url), ["image", "volume"], "", [])
    assert {request.path for request in both.requests["volume"]} == {"/v1/predict/volume?model=ct"}


def test_the_name_alone_is_asked_for_unless_another_version_was_chosen(pretended):
    pretended.models = [{"name": "chest", "version": version, "dims": 2, "needs_roi": False} for version in "21"]

    def asked(model: str) -> set[str]:
        return {one.path for one in gather(Target.of(pretended.url), ["image"], model, []).requests["image"]}

    for model in ("", "chest", "chest/2"):
        assert asked(model) == {"/v1/predict/image?model=chest"}
    assert asked("chest/1") == {"/v1/predict/image?model=chest%2F1"}


def test_invented_files_are_read_as_what_they_are(tmp_path):
    rng = np.random.default_rng(0)
    for make, channels, flat in ((jpeg, 3, True), (grey_jpeg, 1, True), (nifti, 1, False)):
        path = tmp_path / "file"
        path.write_bytes(make(rng))
        image = read(path)
        assert (image.channels, image.grid[0] == 1) == (channels, flat)
    content = jpeg(rng)
    with Picture.open(io.BytesIO(content)) as picture, Picture.open(io.BytesIO(roi(content))) as mask:
        assert picture.size == mask.size
        assert np.asarray(mask).any()
    assert len({upload("bad", "/", content).body for content in hostile()}) == len(list(hostile()))


def test_the_server_is_watched_by_its_process_or_by_its_metrics(pretended, monkeypatch):
    target = Target.of(pretended.url)
    assert listening(target.port)
    by_process = Watch(target)
    assert by_process.here
    with by_process.watching():
        deadline = time.monotonic() + 20
        while len(by_process.samples) < 2 and time.monotonic() < deadline:
            sum(range(10_000))
    first, last = by_process.samples[0], by_process.samples[-1]
    used = by_process.between(first.unix_s, last.unix_s)
    assert used.cores >= 0
    assert used.rss_mb > 10
    assert by_process.between(0, 1).cores is None

    monkeypatch.setattr("medrail.loadtest.watch.listening", lambda port: [])
    assert Watch(target).how == ""
    pretended.metrics = (
        b"# HELP process_cpu_seconds_total x\nprocess_cpu_seconds_total 12.5\n"
        b'process_resident_memory_bytes{pid="1"} 1.048576e+06\nprocess_resident_memory_bytes{pid="2"} 1048576\n'
    )
    by_metrics = Watch(target)
    assert by_metrics.how == "the service's /metrics"
    sample = by_metrics._measured()
    assert (sample.cpu_s, sample.rss_mb) == (12.5, 2.0)
    pretended.metrics = b"medrail_process_cpu_seconds_total 3\nmedrail_process_resident_bytes 2097152\n"
    sample = Watch(target)._measured()
    assert (sample.cpu_s, sample.rss_mb) == (3.0, 2.0)
    with pytest.raises(ConfigError, match="no such process"):
        Watch(target, 2**22 + 1)
