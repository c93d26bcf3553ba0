"""What is sent: requests made of files, given or invented, and of files that must be refused."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from medrail.errors import ConfigError, LoadTestError
from medrail.loadtest.invented import grey_jpeg, hostile, jpeg, nifti, roi
from medrail.loadtest.scenario import HOSTILE, IMAGE, LIST, VOLUME
from medrail.loadtest.target import Target

_PICTURES = frozenset({"png", "jpeg", "tiff", "bmp", "dicom"})
_MADE = 12
_MADE_VOLUMES = 3
_MOST_FILES = 500
_ONE_ROUTE, _VOLUME_ROUTE = "/v1/predict/image", "/v1/predict/volume"
_NOT_THERE = (404, 405)
_FORMS: dict[str, tuple[Callable[[np.random.Generator], bytes], str, int]] = {
    "jpeg": (jpeg, "JPEGs of 224 to 500 px", _MADE),
    "grey_jpeg": (grey_jpeg, "grey JPEGs of 224 to 500 px", _MADE),
    "nifti": (nifti, "volumes (NIfTI)", _MADE_VOLUMES),
}
_PICTURE_FORMS = ("jpeg", "grey_jpeg")


@dataclass(frozen=True)
class Request:
    """One request, ready to be sent; ``expected``: the first and the last status that is right."""

    kind: str
    method: str
    path: str
    headers: dict[str, str]
    body: bytes | None = None
    expected: tuple[int, int] = (200, 299)


@dataclass(frozen=True)
class Material:
    """The requests by kind, and what a reader must know of them."""

    requests: dict[str, tuple[Request, ...]]
    notes: tuple[str, ...]


def upload(kind: str, path: str, file: bytes, roi: bytes | None = None, *, refused: bool = False) -> Request:
    """A multipart form; the names of files are ours, since those of the user's may name a patient."""
    boundary = uuid.uuid4().hex
    fields = {"file": file} | ({"roi": roi} if roi is not None else {})
    body = b"".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n".encode()
        + content
        + b"\r\n"
        for name, content in fields.items()
    )
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    return Request(
        kind, "POST", path, headers, body + f"--{boundary}--\r\n".encode(), (400, 499) if refused else (200, 299)
    )


def find_files(inputs: Sequence[str]) -> list[Path]:
    """Files, and those in folders, in the order of their names.

    Raises
    ------
    ConfigError
        If one is not there, or a folder is empty.
    """
    found: list[Path] = []
    for name in inputs:
        path = Path(name)
        if not path.exists():
            raise ConfigError("there is no such file or folder", where=f"--input {name}")
        inside = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
        if not inside:
            raise ConfigError("the folder is empty", where=f"--input {name}")
        found += inside
    return found[:_MOST_FILES]


def gather(target: Target, kinds: Sequence[str], model: str, files: Sequence[Path], seed: int = 0) -> Material:
    """The requests of each kind, each proved by one request before the load begins.

    Raises
    ------
    LoadTestError
        If the service refuses them, or nothing of a wanted kind can be made.
    ConfigError
        If the model is not served.
    """
    models = _as_asked(target.models())
    chosen = _chosen(models, model)
    requests: dict[str, tuple[Request, ...]] = {}
    notes: list[str] = []
    volumes, pictures = _divided(files)
    rng = np.random.default_rng(seed)
    for kind in kinds:
        if kind == LIST:
            requests[kind] = (Request(LIST, "GET", "/v1/models", {}),)
        elif kind == HOSTILE:
            requests[kind] = tuple(_to_be_refused(chosen))
        elif kind == IMAGE:
            given = pictures or (volumes if VOLUME not in kinds else [])
            requests[kind] = _given(target, kind, given, chosen, notes) if given else _made(target, chosen, rng, notes)
        else:
            found = _volumes(target, models, chosen if model else None, volumes, rng, notes)
            if found:
                requests[kind] = found
    if not requests:
        raise LoadTestError(
            "no served model takes volumes", where=target.url, remedy="Choose another --scenario, or give --input."
        )
    return Material(requests, tuple(notes))


def _as_asked(models: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """With what a request asks for. Of each model the first is the version that answers: by the name alone, as most
    clients ask, so that pins, canaries and shadows are part of what is measured."""
    names: set[str] = set()
    found = []
    for model in models:
        name = model["name"]
        found.append({**model, "asked_as": f"{name}/{model['version']}" if name in names else name})
        names.add(name)
    return found


def _chosen(models: Sequence[dict[str, Any]], wanted: str) -> dict[str, Any]:
    for model in models:
        if not wanted or wanted in (model["name"], f"{model['name']}/{model['version']}"):
            return model
    served = ", ".join(f"{model['name']}/{model['version']}" for model in models)
    raise ConfigError(f"the service has no model {wanted!r}", needed=f"one of {served}", where="--model")


def _divided(files: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Volumes and pictures, by content; what is no image at all is refused.

    A DICOM file of its own is an image; DICOM in a zip is a volume.
    """
    from medrail.errors import ReadError
    from medrail.read.sniff import sniff

    volumes: list[Path] = []
    pictures: list[Path] = []
    for path in files:
        try:
            kind = sniff(path)
        except ReadError as error:
            raise ConfigError("no image that medrail reads", where=f"--input {path}", needed=error.needed) from None
        (pictures if kind in _PICTURES else volumes).append(path)
    return volumes, pictures


def _route(model: dict[str, Any], path: str = _ONE_ROUTE) -> str:
    return f"{path}?model={quote(model['asked_as'], safe='')}"


def _given(
    target: Target, kind: str, files: Sequence[Path], model: dict[str, Any], notes: list[str], path: str = _ONE_ROUTE
) -> tuple[Request, ...]:
    if model.get("needs_roi"):
        raise LoadTestError("the model wants a region of interest with each image", remedy="Test without --input.")
    requests = [upload(kind, _route(model, path), file.read_bytes()) for file in files]
    fit, why = [], ""
    for request in requests:
        answered = target.ask(request.path, request.body, request.headers)
        if 200 <= answered.status < 300:
            fit.append(request)
        else:
            why = why or answered.problem()
    if not fit:
        raise LoadTestError(f"the service refuses every given file ({why})", where=target.url)
    if len(fit) < len(requests):
        notes.append(f"{len(requests) - len(fit)} of {len(requests)} given files were refused ({why}) and left out")
    notes.append(f"{kind}: {len(fit)} given files, in random order")
    return tuple(fit)


def _made(target: Target, model: dict[str, Any], rng: np.random.Generator, notes: list[str]) -> tuple[Request, ...]:
    """Pictures, or whatever else the model takes: the first form that it does not refuse."""
    volumes_first = model.get("dims") == 3
    needs_roi = bool(model.get("needs_roi"))
    why = ""
    for name in ("nifti", *_PICTURE_FORMS) if volumes_first else _PICTURE_FORMS if needs_roi else tuple(_FORMS):
        form, said, count = _FORMS[name]
        files = [form(rng) for _ in range(count)]
        requests = tuple(upload(IMAGE, _route(model), file, roi(file) if needs_roi else None) for file in files)
        answered = target.ask(requests[0].path, requests[0].body, requests[0].headers)
        if 200 <= answered.status < 300:
            notes.append(f"{IMAGE}: {count} invented {said}; real images may be slower or quicker")
            return requests
        why = why or answered.problem()
    raise LoadTestError(
        f"the model takes none of the invented images ({why})", where=target.url, remedy="Give real ones by --input."
    )


def _volumes(
    target: Target,
    models: Sequence[dict[str, Any]],
    chosen: dict[str, Any] | None,
    files: Sequence[Path],
    rng: np.random.Generator,
    notes: list[str],
) -> tuple[Request, ...]:
    model = chosen or next((one for one in models if one.get("dims") == 3), None)
    if model is None:
        notes.append("no served model takes volumes: they are left out")
        return ()
    probe = target.ask(_VOLUME_ROUTE, b"", method="POST")
    path = _ONE_ROUTE if probe.status in _NOT_THERE else _VOLUME_ROUTE
    if files:
        return _given(target, VOLUME, files, model, notes, path)
    request = upload(VOLUME, _route(model, path), nifti(rng))
    answered = target.ask(request.path, request.body, request.headers)
    if not 200 <= answered.status < 300:
        notes.append(f"{model['name']} takes no invented volumes ({answered.problem()}): they are left out")
        return ()
    notes.append(f"{VOLUME}: {_MADE_VOLUMES} invented volumes (NIfTI); real ones are larger")
    return request, *(upload(VOLUME, _route(model, path), nifti(rng)) for _ in range(_MADE_VOLUMES - 1))


def _to_be_refused(model: dict[str, Any]) -> Iterator[Request]:
    for content in hostile():
        yield upload(HOSTILE, _route(model), content, refused=True)
    yield Request(HOSTILE, "POST", _ONE_ROUTE, {"Content-Type": "application/json"}, b"{}", (400, 499))
    whole = jpeg(np.random.default_rng(0))
    yield upload(HOSTILE, _ONE_ROUTE + "?model=no-such-model", whole, refused=True)
