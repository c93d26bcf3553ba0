"""Client: the service's routes as methods."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias, overload
from urllib.parse import quote

import httpx

from medrail.client.answers import Answer, Comparison, Model, answer_of, comparison_of, mask_of, model_of
from medrail.client.connection import Connection, Fields, error_of
from medrail.client.jobs import Progress, finished
from medrail.client.sources import Source
from medrail.errors import ConfigError, ServiceError
from medrail.types import Image
from medrail.workspace import write_bytes

FilePath: TypeAlias = str | os.PathLike[str]
FORMS = {".nii.gz": "application/x-nifti", ".png": "image/png", ".dcm": "application/dicom"}
_JSON = {"Accept": "application/json"}
_NIFTI = FORMS[".nii.gz"]


class Client:
    """A service of `medrail serve`. Keeps its connections between calls; close it, or use it as a context.

    Every method raises ``ServiceError`` where the service refuses, ``ServiceBusy`` where it stays busy and
    ``ServiceUnreachable`` where there is no answer, and ``InputError`` or ``ReadError`` where the source cannot be
    sent. Names of files are not sent.

    Parameters
    ----------
    url, api_key, timeout_s, retries, max_wait_s, ca_file, transport:
        As ``Connection`` takes them.
    """

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        *,
        timeout_s: float = 120.0,
        retries: int = 5,
        max_wait_s: float = 60.0,
        ca_file: str | Path | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._connection = Connection(url, api_key, timeout_s, retries, max_wait_s, ca_file, transport)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._connection.close()

    def models(self) -> tuple[Model, ...]:
        """The served models; the first is the one that answers where none is named."""
        listed = _json(self._connection.send("GET", "/v1/models")).get("models")
        return tuple(model_of(each) for each in (listed if isinstance(listed, list) else ()))

    def card(self, model: str) -> str:
        """A model's card in Markdown: what it is for, what it was made of, and how good it is."""
        return self._connection.send("GET", f"/v1/models/{quote(model, safe='')}/card").text

    def predict(
        self,
        source: Source,
        model: str = "",
        version: str = "",
        *,
        roi: Source | None = None,
        evidence: bool = False,
        evidence_map: bool = False,
        mask: bool = True,
        preview: bool = False,
    ) -> Answer:
        """One image's answer, at once.

        Parameters
        ----------
        source:
            A file's path, a folder with a DICOM series, a file's bytes, an array (H, W[, 3]), or an ``Image``.
        model, version:
            Who answers; "": the default, and its version.
        roi:
            The region of interest, for models that need one.
        evidence, evidence_map:
            Where a classifier sees what it decided by: as a PNG; as numbers.
        mask:
            Whether a segmentation's mask itself is wanted, or only its volumes.
        preview:
            A PNG of the image with the mask.
        """
        wishes = _wishes(evidence=evidence, evidence_map=evidence_map, mask=mask, preview=preview)
        response = self._connection.send(
            "POST", "/v1/predict/image", _asked(model, version) | wishes, _fields(source, roi), _JSON
        )
        return answer_of(_json(response))

    @overload
    def mask(
        self, source: Source, to: None = None, model: str = "", version: str = "", *, roi: Source | None = None
    ) -> Image: ...

    @overload
    def mask(
        self, source: Source, to: FilePath, model: str = "", version: str = "", *, roi: Source | None = None
    ) -> Path: ...

    def mask(
        self,
        source: Source,
        to: FilePath | None = None,
        model: str = "",
        version: str = "",
        *,
        roi: Source | None = None,
    ) -> Image | Path:
        """One image's mask: written to ``to`` (`.nii.gz`, `.png`, `.dcm`: DICOM-SEG), else as an ``Image``.

        Its grid is that of the source; without ``to``, ``mask.voxels[0]`` is the array (D, H, W) of class indices.
        """
        form = _NIFTI if to is None else _form(to)
        response = self._connection.send(
            "POST", "/v1/predict/image", _asked(model, version), _fields(source, roi), {"Accept": form}
        )
        return mask_of(response.content, ".nii.gz") if to is None else _written(response, to)

    @overload
    def volume(
        self,
        source: Source,
        to: None = None,
        model: str = "",
        version: str = "",
        *,
        roi: Source | None = None,
        mask: bool = True,
        on_progress: Progress | None = None,
        wait_s: float | None = None,
    ) -> Answer: ...

    @overload
    def volume(
        self,
        source: Source,
        to: FilePath,
        model: str = "",
        version: str = "",
        *,
        roi: Source | None = None,
        mask: bool = True,
        on_progress: Progress | None = None,
        wait_s: float | None = None,
    ) -> Path: ...

    def volume(
        self,
        source: Source,
        to: FilePath | None = None,
        model: str = "",
        version: str = "",
        *,
        roi: Source | None = None,
        mask: bool = True,
        on_progress: Progress | None = None,
        wait_s: float | None = None,
    ) -> Answer | Path:
        """One volume's answer, however long it takes: the service makes a job of it, and this waits for its end.

        Parameters
        ----------
        to:
            Where to write the mask, as for ``mask``; None: the answer is returned.
        on_progress:
            Called with the part that is done and the job's status each time it was looked at.
        wait_s:
            How long to wait; None: until it is done. Whatever ends the waiting cancels the job.
        """
        headers = _JSON if to is None else {"Accept": _form(to)}
        query = _asked(model, version) | ({} if to is not None else _wishes(mask=mask))
        asked = headers | _as_job(on_progress, wait_s)
        begun = self._connection.send("POST", "/v1/predict/volume", query, _fields(source, roi), asked, makes_job=True)
        response = finished(self._connection, begun, headers, on_progress, wait_s)
        return answer_of(_json(response)) if to is None else _written(response, to)

    def batch(
        self, sources: Sequence[Source], model: str = "", version: str = "", *, mask: bool = True
    ) -> tuple[Answer | ServiceError, ...]:
        """Several images in one request: for each its answer, or the error that it would have had alone."""
        if not sources:
            return ()
        files = tuple(("file", source) for source in sources)
        query = _asked(model, version) | _wishes(mask=mask)
        items = _json(self._connection.send("POST", "/v1/predict/batch", query, files, _JSON)).get("items")
        if not isinstance(items, list) or len(items) != len(sources):
            raise ServiceError(
                "the service did not answer each image", where="POST /v1/predict/batch", remedy="Send them one by one."
            )
        return tuple(_item(item) for item in items)

    def compare(
        self,
        first: str,
        second: str,
        source: Source,
        *,
        roi: Source | None = None,
        on_progress: Progress | None = None,
        wait_s: float | None = None,
    ) -> Comparison:
        """Two models' answers to one image, and what differs; models are `NAME` or `NAME/VERSION`."""
        query = {"first": first, "second": second} | _wishes()
        asked = _JSON | _as_job(on_progress, wait_s)
        begun = self._connection.send("POST", "/v1/compare", query, _fields(source, roi), asked, makes_job=True)
        return comparison_of(_json(finished(self._connection, begun, _JSON, on_progress, wait_s)))


def _asked(model: str, version: str) -> dict[str, str]:
    if version and not model:
        raise ConfigError("a version without a model", needed="both", remedy="Name the model, too.")
    wanted = f"{model}/{version}" if version else model
    return {"model": wanted} if wanted else {}


def _wishes(*, mask: bool = True, **others: bool) -> dict[str, str]:
    return {"mask": "file" if mask else "none", **{name: "true" for name, wanted in others.items() if wanted}}


def _as_job(on_progress: Progress | None, wait_s: float | None) -> dict[str, str]:
    """Who wants to see how far it is, or to give up, wants a job at once; else the service waits a little itself."""
    return {} if on_progress is None and wait_s is None else {"Prefer": "respond-async"}


def _fields(source: Source, roi: Source | None) -> Fields:
    return (("file", source),) if roi is None else (("file", source), ("roi", roi))


def _form(to: FilePath) -> str:
    """The media type for a file's ending; what is wrong with the place is told before anything is sent."""
    name = Path(to).name.lower()
    for suffix, form in FORMS.items():
        if name.endswith(suffix):
            _make_folder(Path(to).parent)
            return form
    raise ConfigError(
        "no kind of mask has such an ending", needed=" or ".join(FORMS), where=str(to), remedy="Name the file so."
    )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"the folder cannot be made ({error.strerror})", where=str(folder), remedy="Choose another one."
        ) from None


def _written(response: httpx.Response, to: FilePath) -> Path:
    path = Path(to)
    write_bytes(path, response.content)
    return path


def _item(item: Any) -> Answer | ServiceError:
    values = item if isinstance(item, dict) else {}
    if values.get("answer") is not None:
        return answer_of(values["answer"])
    status = values.get("status")
    return error_of(values.get("problem"), status if isinstance(status, int) else 500, "POST /v1/predict/batch")


def _json(response: httpx.Response) -> dict[str, Any]:
    try:
        values = response.json()
    except ValueError:
        values = None
    return values if isinstance(values, dict) else {}
