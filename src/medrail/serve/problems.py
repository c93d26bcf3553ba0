"""What the service answers when it does not answer: one table of problems, and which error is which of them.

The form is application/problem+json (RFC 9457) with two members more: ``remedy``, what the sender can do, and
``request_id``, what to quote to whoever runs the service. No answer holds a stack trace, a server path or a file name.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.responses import Response

from medrail.errors import (
    BundleError,
    CorruptFile,
    DataError,
    GeometryError,
    InputError,
    MedrailError,
    PrepareError,
    ReadError,
    UnsupportedFormat,
)
from medrail.wording import SERVE, in_words

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True)
class Kind:
    """One kind of problem: its HTTP status, its title, and what helps unless the error itself knows better."""

    status: int
    title: str
    remedy: str = ""


_FORMATS = "PNG, JPEG, TIFF, BMP, DICOM, NIfTI (.nii, .nii.gz), NRRD or MetaImage (.mha)"
_FORM = "Send multipart/form-data with the image in the field `file`."

PROBLEMS: Mapping[str, Kind] = {
    "bad-inference-request": Kind(
        400,
        "The inference request is not as the protocol or the model wants it",
        "GET /v2/models/NAME says what the model takes.",
    ),
    "bad-form": Kind(400, "The request cannot be read as a form", _FORM),
    "missing-file": Kind(400, "No image was sent", _FORM),
    "empty-file": Kind(400, "The file is empty", "Send the file again; the copy at hand may be incomplete."),
    "unknown-field": Kind(400, "The form has a field that is not known", _FORM),
    "wrong-host": Kind(400, "The request is for another host", "Use the address that the service was started with."),
    "unauthorised": Kind(
        401, "A key is needed", "Send `Authorization: Bearer KEY`; `medrail key add` makes one where the service runs."
    ),
    "forbidden": Kind(
        403,
        "This key may not do that",
        "Use a key with the scope that it needs: /v1/admin admin, /v1/pacs pacs or admin.",
    ),
    "cross-site": Kind(403, "Requests from other web sites are refused", "Use the service's own page or a program."),
    "not-found": Kind(404, "There is nothing at this address", "The routes are listed at /docs."),
    "unknown-model": Kind(404, "There is no such model", "GET /v1/models lists the models."),
    "unknown-job": Kind(
        404, "There is no such job", "It may have been kept long enough and be gone; send the image again."
    ),
    "version-conflict": Kind(409, "The versions do not stand so", "GET /v1/admin/models says how they stand."),
    "method-not-allowed": Kind(405, "This address does not take that method", "The routes are listed at /docs."),
    "not-acceptable": Kind(
        406, "The answer does not exist in the form asked for", "Ask for application/json, which always works."
    ),
    "job-not-done": Kind(409, "The job is not done", "Ask again after the seconds in Retry-After."),
    "job-cancelled": Kind(410, "The job was cancelled", "Send the image again."),
    "upload-timeout": Kind(408, "The upload took too long", "Send the file again over a faster connection."),
    "too-large": Kind(413, "The upload is too large", "Send a smaller file, or have the limit raised."),
    "too-many-voxels": Kind(413, "The image is too large", "Send a smaller image, or have the limit raised."),
    "archive-too-large": Kind(413, "The archive is too large", "Send one series an archive, or have the limit raised."),
    "too-many-files": Kind(413, "There are too many files", "Send them in several requests."),
    "not-a-form": Kind(415, "The request is not a form", _FORM),
    "unsupported-encoding": Kind(
        415, "The body's Content-Encoding is not known here", "Send the body as it is, or with gzip or deflate."
    ),
    "unsupported-format": Kind(415, "The file is of no kind that is read here", f"Send {_FORMATS}."),
    "corrupt-file": Kind(422, "The file is damaged", "Export or copy the file again; it may be incomplete."),
    "unsafe-archive": Kind(
        422, "The archive is not taken apart", "Pack the DICOM files of one series again, as a plain zip."
    ),
    "unreadable-file": Kind(422, "The file cannot be read", f"Send it as {_FORMATS}."),
    "unfitting-geometry": Kind(422, "Grids or geometry do not fit", "Send images whose geometry is complete."),
    "unsuitable-image": Kind(422, "The image is of another kind than the model was trained on"),
    "preparation-failed": Kind(422, "The image cannot be prepared for the model"),
    "not-comparable": Kind(
        422, "The two answers cannot be compared", "Compare versions that answer the same question."
    ),
    "bad-parameter": Kind(422, "A parameter is wrong", "The parameters are described at /docs."),
    "busy": Kind(429, "The service is busy", "Send the request again after the seconds in Retry-After."),
    "too-many-requests": Kind(429, "Too many requests", "Send the request again after the seconds in Retry-After."),
    "too-many-jobs": Kind(429, "Too many jobs", "Wait for one of your jobs to end, or cancel it."),
    "large-headers": Kind(431, "The headers of the request are too large", "Send fewer and shorter headers."),
    "internal": Kind(
        500,
        "The service failed on this request",
        "Report the request id to whoever runs the service; the log has more.",
    ),
    "model-failed": Kind(500, "The model could not answer", "Report the request id to whoever runs the service."),
    "too-late": Kind(
        503, "The network was not free in time", "Send the request again after the seconds in Retry-After."
    ),
    "no-space": Kind(507, "The service has no space left for the upload", "Tell whoever runs the service; try later."),
    "timed-out": Kind(503, "The request took too long", "Send a smaller image, or send it as a job."),
    "pacs-not-found": Kind(
        404, "The PACS has no such study or series", "GET /v1/pacs/studies lists the studies that it has."
    ),
    "pacs-too-large": Kind(
        413, "The series is too large", "Have serve.pacs.max_series_mb or serve.pacs.max_series_files raised."
    ),
    "pacs-unreachable": Kind(
        502,
        "The PACS cannot be reached",
        "Try again; if it stays so, whoever runs the service looks at serve.pacs.url.",
    ),
    "pacs-denied": Kind(
        502, "The PACS refuses this service", "Whoever runs the service looks at its credentials for the PACS."
    ),
    "pacs-answer": Kind(
        502, "The PACS's answer cannot be used", "Report the request id to whoever runs the service and the PACS."
    ),
    "pacs-incomplete": Kind(502, "The series did not arrive whole", "Try again when the PACS has all of it."),
    "pacs-slow": Kind(504, "The PACS did not answer in time", "Try again later, or ask for less."),
    "not-ready": Kind(503, "The service is not ready", "Try again in a moment."),
}

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Errors of a full disk."""

ERRORS: Mapping[type[MedrailError], str] = {
    UnsupportedFormat: "unsupported-format",
    CorruptFile: "corrupt-file",
    ReadError: "unreadable-file",
    GeometryError: "unfitting-geometry",
    InputError: "unsuitable-image",
    PrepareError: "preparation-failed",
    DataError: "unreadable-file",
    BundleError: "model-failed",
    MedrailError: "internal",
}

_SUBJECTS = {"file": "the file", "roi": "the file of the region of interest"}
_VERBS = frozenset(
    ["cannot", "contains", "declares", "does", "ends", "has", "holds", "is", "lacks", "looks", "may", "refers", "says"]
)
_BY_STATUS = {404: "not-found", 405: "method-not-allowed", 422: "bad-parameter"}


class Refusal(Exception):
    """A request that is answered with a problem.

    Parameters
    ----------
    kind:
        A key of ``PROBLEMS``.
    detail:
        What was found and what was needed, in a sentence.
    remedy:
        What to do; empty: the kind's own remedy.
    retry_after_s:
        When to come back.
    """

    def __init__(self, kind: str, detail: str = "", remedy: str = "", retry_after_s: int = 0) -> None:
        super().__init__(kind)
        self.kind = kind
        self.detail = detail
        self.remedy = remedy
        self.retry_after_s = retry_after_s


def refusal_of(error: MedrailError, folder: Path | None = None) -> Refusal:
    """The refusal that stands for one of medrail's errors; the upload's own path never leaves the service."""
    kind = next(ERRORS[base] for base in type(error).__mro__ if base in ERRORS)
    if PROBLEMS[kind].status >= 500:
        return Refusal(kind)
    detail = _with_subject(error) + (f"; needed: {error.needed}" if error.needed else "")
    detail, remedy = in_words(detail, SERVE), in_words(error.remedy, SERVE)
    return Refusal(kind, _sentence(_without_paths(detail, folder)), _without_paths(remedy, folder))


def refusal_of_status(status: int) -> Refusal:
    """The refusal for a status that the web framework itself came to."""
    return Refusal(_BY_STATUS.get(status, "bad-form" if status < 500 else "internal"))


def document(refusal: Refusal, request_id: str) -> dict[str, Any]:
    """The members of the problem document."""
    kind = PROBLEMS[refusal.kind]
    return {
        "type": f"urn:medrail:problem:{refusal.kind}",
        "title": kind.title,
        "status": kind.status,
        "detail": refusal.detail or f"{kind.title}.",
        "remedy": refusal.remedy or kind.remedy,
        "request_id": request_id,
    }


def respond(refusal: Refusal, request_id: str) -> Response:
    """The HTTP answer."""
    body = document(refusal, request_id)
    headers = {"Retry-After": str(refusal.retry_after_s)} if refusal.retry_after_s else {}
    if body["status"] == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="medrail"'
    return Response(json.dumps(body, ensure_ascii=False), body["status"], headers, MEDIA_TYPE)


def _with_subject(error: MedrailError) -> str:
    """Readers say "is empty" of the file that ``where`` names; its path stays here, so the sentence needs a subject."""
    subject = _SUBJECTS.get(Path(error.where).name, "") if isinstance(error, ReadError) else ""
    if not subject:
        return error.found
    return f"{subject}{' ' if error.found.split(' ')[0] in _VERBS else ': '}{error.found}"


def _sentence(text: str) -> str:
    text = text.strip()
    return f"{text[:1].upper()}{text[1:]}" + ("" if text.endswith((".", "!", "?")) else ".") if text else ""


def _without_paths(text: str, folder: Path | None) -> str:
    if folder is None:
        return text
    for path in {str(folder), str(folder.resolve())}:
        for name in ("/file", "/roi", ""):
            text = text.replace(f"{path}{name}", "the upload")
    return text
