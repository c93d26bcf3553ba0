"""Where the PACS is, who the service is there, and by which certificates it is known; checked before the start."""

from __future__ import annotations

import ipaddress
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from medrail.config import PacsConfig
from medrail.errors import ConfigError

USER, PASSWORD, TOKEN = "MEDRAIL_PACS_USER", "MEDRAIL_PACS_PASSWORD", "MEDRAIL_PACS_TOKEN"
_WHERE = "serve.pacs"
_BEARER = "bearer "


@dataclass(frozen=True)
class Address:
    """Checked: the root without a slash at its end, and the Authorization header, "" where there is none."""

    root: str
    authorization: str = field(repr=False)
    tls: ssl.SSLContext = field(repr=False, compare=False)

    @staticmethod
    def of(config: PacsConfig, environment: Mapping[str, str] = os.environ) -> Address:
        """Raises ConfigError, which never quotes a credential."""
        root = _root(config)
        authorization = _authorization(config, environment)
        return Address(root, authorization, _tls(config))


def _root(config: PacsConfig) -> str:
    try:
        url = httpx.URL(config.url)
    except httpx.InvalidURL:
        raise _wrong("the PACS's address is no URL") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise _wrong("the PACS's address is no http(s) URL")
    if url.userinfo:
        raise _wrong(
            "the PACS's address has a user or a password in it, where other users of this machine can read them",
            f"Put them into {USER} and {PASSWORD}, or into a file: serve.pacs.credentials_file.",
        )
    if url.query or url.fragment or "?" in config.url or "#" in config.url:
        raise _wrong("the PACS's address has a query or a fragment in it")
    if url.scheme == "http" and not config.plain_http and not _is_here(url.host):
        raise _wrong(
            "the PACS is on another machine, and http:// lets everybody in between read the images",
            "Take its https:// address; or, where the network itself is closed, say --set serve.pacs.plain_http=true.",
        )
    return str(url).rstrip("/")


def _wrong(found: str, remedy: str = "") -> ConfigError:
    needed = "its DICOMweb root, as https://pacs.example.org/dicom-web"
    return ConfigError(found, needed=needed, where=f"{_WHERE}.url", remedy=remedy)


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _authorization(config: PacsConfig, environment: Mapping[str, str]) -> str:
    user, password, token = (environment.get(name, "") for name in (USER, PASSWORD, TOKEN))
    ways = [bool(config.credentials_file), bool(user or password), bool(token)]
    if sum(ways) > 1:
        raise ConfigError(
            f"several of {USER} with {PASSWORD}, {TOKEN} and serve.pacs.credentials_file are set",
            needed="one way to say who the service is",
            where=_WHERE,
        )
    if config.credentials_file:
        return _header(_line(Path(config.credentials_file)), "serve.pacs.credentials_file")
    if bool(user) != bool(password):
        raise ConfigError(f"only one of {USER} and {PASSWORD} is set", needed="both", where=_WHERE)
    if user:
        return _header(f"{user}:{password}", USER)
    return _header(f"Bearer {token}", TOKEN) if token else ""


def _line(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise ConfigError(
            f"the file with the credentials cannot be read ({reason})", where=f"{_WHERE}.credentials_file"
        ) from None


def _header(said: str, where: str) -> str:
    """USER:PASSWORD or ``Bearer TOKEN`` as the value of Authorization (RFC 7617, RFC 6750)."""
    wrong = ConfigError("the credentials are none", needed="one line, USER:PASSWORD or `Bearer TOKEN`", where=where)
    if not said.isprintable():
        raise wrong
    if said.lower().startswith(_BEARER):
        token = said[len(_BEARER) :].strip()
        if not token.isascii() or not token or " " in token:
            raise wrong
        return f"Bearer {token}"
    user, colon, password = said.partition(":")
    if not colon or not user or not password:
        raise wrong
    request = httpx.Request("GET", "http://localhost")
    return str(next(httpx.BasicAuth(user, password).auth_flow(request)).headers["Authorization"])


def _tls(config: PacsConfig) -> ssl.SSLContext:
    """Always with verification: against the system's authorities, or only against those of ``ca_file``."""
    try:
        context = ssl.create_default_context(cafile=config.ca_file or None)
    except OSError as error:
        raise _no_certificates("ca_file", error) from None
    if config.client_certificate:
        try:
            context.load_cert_chain(config.client_certificate, password=lambda: "")
        except OSError as error:
            raise _no_certificates("client_certificate", error) from None
    return context


def _no_certificates(key: str, error: OSError) -> ConfigError:
    reason = "it holds none" if isinstance(error, ssl.SSLError) else error.strerror
    return ConfigError(f"no certificates can be read ({reason})", needed="a PEM file", where=f"{_WHERE}.{key}")
