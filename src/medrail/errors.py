"""Every error that medrail raises on purpose.

::

    MedrailError                 what was found, what was needed, where, what to do
    ├── ConfigError              wrong usage or configuration (the CLI exits with 2); carries all problems at once
    ├── DataError                something is wrong with the user's files
    │   ├── ReadError            one file or series cannot be read
    │   │   ├── UnsupportedFormat    the content is of no kind that medrail reads
    │   │   └── CorruptFile          the kind is known, the content is broken or truncated
    │   ├── GeometryError        grids, orientations or spacings do not fit
    │   ├── CaseError            a case lacks its image, its label, its patient or its split
    │   │   └── UnknownLayout        the files lie in no layout that is known
    │   └── LeakError            a patient or an image stands in more than one split
    ├── PrepareError             a preprocessing step cannot be applied to this image
    ├── InputError               an image of the wrong kind for this model
    ├── RunError                 a run folder is incomplete or belongs to another configuration
    │   └── OtherRunError            the run of that name was made from something else
    ├── ExportError              the exported network does not answer as the trained one
    ├── BundleError              a bundle is missing, tampered with, truncated or from another version
    ├── ServeError               the service cannot start
    ├── LoadTestError            the service under test does not answer, or cannot be asked
    └── ServiceError             a service that was asked refuses, or answers with an error
        ├── ServiceBusy              it has no time now, and had none until the end of our patience
        └── ServiceUnreachable       it does not answer

The library raises these; only the command line turns them into exit codes.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass


class MedrailError(Exception):
    """What was found, what was needed, where, and what to do.

    Parameters
    ----------
    found:
        What is wrong, as a sentence without a full stop. Never contains patient identifiers.
    needed:
        What would have been right.
    where:
        The file, the case, the config key.
    remedy:
        What the reader can do now.
    """

    def __init__(self, found: str, *, needed: str = "", where: str = "", remedy: str = "") -> None:
        self.found = found
        self.needed = needed
        self.where = where
        self.remedy = remedy
        super().__init__(found, needed, where, remedy)

    def __str__(self) -> str:
        text = f"{self.where}: {self.found}" if self.where else self.found
        if self.needed:
            text += f"; needed: {self.needed}"
        if self.remedy:
            text += f". {self.remedy}"
        return text

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process borders in parallel preparation, and keyword-only fields do not pickle by themselves.
        return (_rebuild, (type(self), self.__dict__.copy()))


def _rebuild(kind: type[MedrailError], fields: dict[str, object]) -> MedrailError:
    error = kind.__new__(kind)
    error.__dict__.update(fields)
    error.args = (fields.get("found", ""),)
    return error


@dataclass(frozen=True)
class Problem:
    """One mistake in a configuration: the key it stands at, what is wrong, and a suggestion."""

    key: str
    message: str
    suggestion: str = ""

    def __str__(self) -> str:
        text = f"{self.key}: {self.message}" if self.key else self.message
        return f"{text}. {self.suggestion}" if self.suggestion else text


def did_you_mean(given: str, choices: Sequence[str], *, or_else: bool = True) -> str:
    """A suggestion for a mistyped name; without a near one, the list of names (or nothing, with ``or_else=False``)."""
    near = difflib.get_close_matches(given.lower(), choices, n=1, cutoff=0.6)
    if near:
        return f"Did you mean {near[0]!r}?"
    return f"Known: {', '.join(choices)}" if or_else and choices else ""


class ConfigError(MedrailError):
    """Wrong usage or configuration; ``problems`` holds every mistake found, not only the first."""

    def __init__(
        self,
        found: str,
        *,
        problems: tuple[Problem, ...] = (),
        needed: str = "",
        where: str = "",
        remedy: str = "",
    ) -> None:
        super().__init__(found, needed=needed, where=where, remedy=remedy)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join([super().__str__(), *(f"  - {problem}" for problem in self.problems)])


class DataError(MedrailError):
    """Something is wrong with the user's files."""


class ReadError(DataError):
    """One file or series cannot be read."""


class UnsupportedFormat(ReadError):
    """The content is of no kind that medrail reads."""


class CorruptFile(ReadError):
    """The kind of file is known, but its content is broken or truncated."""


class GeometryError(DataError):
    """Grids, orientations or spacings do not fit together."""


class CaseError(DataError):
    """A case lacks its image, its label, its patient or its split."""


class UnknownLayout(CaseError):
    """There are images, or none, but no layout of a data set that medrail knows."""


class LeakError(DataError):
    """A patient or an image stands in more than one split, so a test would be on what was learned."""


class PrepareError(MedrailError):
    """A preprocessing step cannot be applied to this image."""


class InputError(MedrailError):
    """An image of the wrong kind for this model."""


class RunError(MedrailError):
    """A run folder is incomplete or belongs to another configuration."""


class OtherRunError(RunError):
    """The run of that name is there, and was made from something else."""


class ExportError(MedrailError):
    """The exported network does not answer as the trained one."""


class BundleError(MedrailError):
    """A bundle is missing, tampered with, truncated or from another version."""


class ServeError(MedrailError):
    """The service cannot start."""


class LoadTestError(MedrailError):
    """The service under test does not answer, or cannot be asked."""


class ServiceError(MedrailError):
    """A service that was asked refuses, or answers with an error.

    Parameters
    ----------
    kind:
        What the service calls it: "unsuitable-image", "too-large"; "" where it has no name for it.
    status:
        Of HTTP; 0 where there was no answer.
    request_id:
        What to quote to whoever runs the service.
    """

    def __init__(
        self,
        found: str,
        *,
        needed: str = "",
        where: str = "",
        remedy: str = "",
        kind: str = "",
        status: int = 0,
        request_id: str = "",
    ) -> None:
        super().__init__(found, needed=needed, where=where, remedy=remedy)
        self.kind = kind
        self.status = status
        self.request_id = request_id


class ServiceBusy(ServiceError):
    """The service has no time now, and had none until the end of our patience."""


class ServiceUnreachable(ServiceError):
    """The service does not answer."""
