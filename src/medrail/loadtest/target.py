"""The service under test, asked one request at a time: what it serves, whether it lives, what it says of itself."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medrail.errors import ConfigError, LoadTestError

_ALIVE_S = 5.0


@dataclass(frozen=True)
class Answered:
    """An answer of any status."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def problem(self) -> str:
        """What a problem+json says, without what it quotes."""
        try:
            told = json.loads(self.body)
            return f"{self.status} {told['title']}"
        except (ValueError, KeyError, TypeError):
            return str(self.status)


@dataclass(frozen=True)
class Target:
    """Where the service is and how to be let in.

    key:
        Goes into the header ``X-API-Key`` and as bearer token; never shown.
    ca_file:
        Certificates to trust instead of the system's; ``verify`` False: trust any.
    """

    url: str
    key: str = field(default="", repr=False)
    ca_file: str | None = None
    verify: bool = True

    @staticmethod
    def of(url: str, key: str = "", ca_file: str | None = None, *, verify: bool = True) -> Target:
        """Check the URL.

        Raises
        ------
        ConfigError
            If it is none of http or https, or carries a user, a query or a fragment.
        """
        try:
            parts = urllib.parse.urlsplit(url)
            _ = parts.port  # raises where it is no number
        except ValueError as error:
            raise ConfigError(f"{url!r} is no URL ({error})", needed="as http://127.0.0.1:8000") from None
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ConfigError(f"{url!r} is no URL of a service", needed="as http://127.0.0.1:8000")
        if parts.username or parts.password:
            raise ConfigError("the URL holds a user or password", needed="the key by --key-file or MEDRAIL_API_KEY")
        if ca_file is not None and not Path(ca_file).is_file():
            raise ConfigError("there is no such file", where=f"--ca-file {ca_file}", needed="certificates, PEM")
        return Target(url.rstrip("/"), key, ca_file, verify)

    @property
    def host(self) -> str:
        return urllib.parse.urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        parts = urllib.parse.urlsplit(self.url)
        return parts.port or (443 if parts.scheme == "https" else 80)

    @property
    def headers(self) -> dict[str, str]:
        """What lets a request in."""
        return {"X-API-Key": self.key, "Authorization": f"Bearer {self.key}"} if self.key else {}

    def ask(
        self,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 60.0,
        method: str | None = None,
    ) -> Answered:
        """One request.

        Raises
        ------
        LoadTestError
            If there is no answer.
        """
        request = urllib.request.Request(  # noqa: S310 - http or https, see `of`
            self.url + path, body, {**self.headers, **(headers or {})}, method=method
        )
        try:
            with self._opener().open(request, timeout=timeout_s) as answer:
                return Answered(answer.status, dict(answer.headers), answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answered(error.code, dict(error.headers), error.read())
        except urllib.error.URLError as error:
            raise self._silent(error.reason) from None
        except (
            OSError,
            ValueError,
        ) as error:  # ValueError: http.client's errors of malformed answers are none of OSError
            raise self._silent(error) from None

    def alive(self) -> bool:
        """Whether anything answers there."""
        try:
            self.ask("/healthz", timeout_s=_ALIVE_S)
        except LoadTestError:
            return False
        return True

    def models(self) -> list[dict[str, Any]]:
        """What /v1/models says; the default first.

        Raises
        ------
        LoadTestError
            If nothing answers, the key is missing or wrong, or it is another kind of service.
        """
        answered = self.ask("/v1/models")
        if answered.status in (401, 403):
            raise LoadTestError(
                f"the service does not let this key in ({answered.problem()})" if self.key else "it wants a key",
                where=self.url,
                remedy="Give one by --key-file FILE or in MEDRAIL_API_KEY (`medrail key add` on the server's side).",
            )
        try:
            if answered.status != 200:
                raise ValueError
            models = json.loads(answered.body)["models"]
            return [dict(model) for model in models]
        except (ValueError, KeyError, TypeError):
            raise LoadTestError(
                f"GET /v1/models was answered by {answered.status}, not by a list of models",
                where=self.url,
                needed="a medrail service",
                remedy="Start one with `medrail serve`.",
            ) from None

    def _opener(self) -> urllib.request.OpenerDirector:
        context = ssl.create_default_context(cafile=self.ca_file)
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        handlers = (urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
        return urllib.request.build_opener(*handlers)

    def _silent(self, reason: object) -> LoadTestError:
        if isinstance(reason, ssl.SSLCertVerificationError):
            return LoadTestError(
                f"its certificate is not trusted ({reason.verify_message})",
                where=self.url,
                remedy="Name the certificates to trust by --ca-file, or test with --insecure.",
            )
        told = getattr(reason, "strerror", None) or type(reason).__name__
        return LoadTestError(
            f"nothing answers there ({told})", where=self.url, remedy="Is `medrail serve` running, and on that port?"
        )
