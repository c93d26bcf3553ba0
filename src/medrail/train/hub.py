"""Weights from the network, named in full: which file, and for a plain address what it must hash to.

``model.weights: hf://OWNER/REPOSITORY/FILE@REVISION`` is asked of the Hugging Face Hub by its own client, where that is
installed (without ``@REVISION``: the newest); ``https://.../FILE#sha256=HEX`` is fetched as it is. Nothing else is ever
downloaded, nothing twice, and nothing without a word.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import re
import shutil
import urllib.error
import urllib.request
from pathlib import Path

from medrail.config import address_problem
from medrail.errors import ConfigError
from medrail.train.processes import is_follower

log = logging.getLogger("medrail.train")

_HUB = re.compile(
    r"hf://(?P<owner>[\w.-]+)/(?P<repository>[\w.-]+)/(?P<file>[\w./-]+)(?:(?:@|#revision=)(?P<revision>[\w./-]+))?"
)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_PLAIN = re.compile(r"(?P<address>https://[^#\s]+/(?P<file>\w[\w.-]*))#sha256=(?P<sha256>[0-9a-f]{64})")
_TIMEOUT_S = 60


def is_remote(name: str) -> bool:
    """Whether ``model.weights`` names something that is not a local file."""
    return "://" in name


def fetched(name: str, folder: Path) -> Path:
    """The file, which lies in ``folder`` (plain address) or the hub's own cache from the first time on.

    Raises
    ------
    ConfigError
        If the name is incomplete or holds a password, the hub's client is missing, there is no network, or the content
        is another one. What may be secret in an address is in no message.
    """
    if problem := address_problem(name):
        raise ConfigError(problem, where="model.weights")
    where = f"model.weights: {_shown(name)}"
    hub, plain = _HUB.fullmatch(name), _PLAIN.fullmatch(name)
    if hub:
        return _from_hub(f"{hub['owner']}/{hub['repository']}", hub["file"], hub["revision"], where)
    if plain:
        return _from_address(plain["address"], plain["sha256"], folder / plain["sha256"] / plain["file"], where)
    raise ConfigError(
        "neither a file nor a complete address",
        needed="hf://OWNER/REPOSITORY/FILE, to pin it with @REVISION, or https://.../FILE#sha256=HEX with the "
        "hash of its content",
        where=where,
    )


def _from_hub(repository: str, file: str, revision: str | None, where: str) -> Path:
    try:
        from huggingface_hub import hf_hub_download, try_to_load_from_cache
    except ImportError:
        raise ConfigError(
            "huggingface_hub is not installed", where=where, remedy="pip install huggingface_hub, or give a local file."
        ) from None
    try:
        cached = isinstance(try_to_load_from_cache(repository, file, revision=revision), str)
        if not cached:
            _tell(f"fetching {file} from hf://{repository}" + (f" at {revision}" if revision else ""))
        elif not (revision and _COMMIT.fullmatch(revision)):
            _tell(f"looking whether hf://{repository} has a newer {file}, and fetching it then; @COMMIT pins one")
        return Path(hf_hub_download(repository, file, revision=revision))
    except Exception as error:  # noqa: BLE001 - the client has dozens of errors, which all mean the same here
        raise _unreachable(error, where) from None


def _from_address(address: str, sha256: str, target: Path, where: str) -> Path:
    if target.is_file() and _sha256(target) == sha256:
        return target
    _tell(f"fetching {target.name} from {_shown(address)}")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with urllib.request.urlopen(address, timeout=_TIMEOUT_S) as answer, temporary.open("wb") as file:  # noqa: S310 - https only
            shutil.copyfileobj(answer, file)
        found = _sha256(temporary)
        if found != sha256:
            raise ConfigError(f"its content has the SHA-256 {found}", needed=sha256, where=where)
        temporary.replace(target)
    except (OSError, urllib.error.URLError) as error:
        raise _unreachable(error, where) from None
    finally:
        temporary.unlink(missing_ok=True)
    return target


def _shown(name: str) -> str:
    """Without a query, which may hold a key."""
    before, query, _ = name.partition("?")
    return f"{before}?..." if query else before


def _tell(sentence: str) -> None:
    if not is_follower():  # of several processes the first one talks
        _warn_once(sentence)


@functools.cache
def _warn_once(sentence: str) -> None:
    """A warning, since that is what is seen without any set-up; a study asks for the same file in each trial."""
    log.warning("%s", sentence)


def _unreachable(error: Exception, where: str) -> ConfigError:
    return ConfigError(
        f"could not be fetched ({type(error).__name__})",
        where=where,
        remedy="Is there a network here, and does the name exist? A local file needs none: model.weights: PATH.",
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
