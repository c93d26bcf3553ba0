"""serve: the application behind uvicorn, until it is told to stop; in this process or in several."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import uvicorn

from medrail.errors import ServeError
from medrail.serve.access import check_start
from medrail.serve.app import create_app
from medrail.serve.connection import uvicorn_options
from medrail.serve.registry import Registry
from medrail.serve.settings import Settings

_KEEP_ALIVE_S = 20
_BACKLOG = 2048
# The service's own log tells every request and error, without what exceptions quote; uvicorn's would tell them again.
_SILENT = {
    "version": 1,
    "disable_existing_loggers": False,
    "loggers": {"uvicorn": {"level": "CRITICAL", "handlers": [], "propagate": False}},
}


def serve(
    bundles: str | Path | Sequence[str | Path],
    host: str = "127.0.0.1",
    port: int = 8000,
    settings: Settings | None = None,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve bundles over HTTP until SIGINT or SIGTERM; requests in work are finished first.

    Parameters
    ----------
    bundles:
        One bundle's folder, or several (the first is the default model), or a models folder, which is watched.
    host, port:
        Where to listen; port 0 takes a free one.
    settings:
        Limits and places. With more than one of ``processes``, each of them loads the models and answers at the same
        address; one that crashes is started again.
    on_ready:
        Called once with the service's URL as soon as it answers.

    Raises
    ------
    ServeError
        If the address cannot be listened on, other machines could ask and there is no key, the certificate cannot be
        used, or a network does not run.
    BundleError
        If a bundle cannot be loaded.
    """
    from medrail.serve.supervisor import supervise

    settings = settings or Settings()
    folders = [Path(each) for each in ([bundles] if isinstance(bundles, str | Path) else bundles)]
    listener = _listen(host, port)
    settings = settings.model_copy(update={"host": listener.getsockname()[0]})
    try:
        check_start(settings)
        if settings.processes > 1:
            supervise(folders, listener, settings, lambda: on_ready(_url(listener, settings)) if on_ready else None)
        else:
            answer_at(listener, Registry.load(folders, settings), settings, on_ready)
    finally:
        listener.close()


def answer_at(
    listener: socket.socket,
    registry: Registry,
    settings: Settings,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Answer at a bound socket, until a signal says to stop.

    Raises
    ------
    ServeError
        If the service does not start, or the certificate cannot be used.
    """
    app = create_app(registry, settings)
    config = uvicorn.Config(
        app,
        log_config=_SILENT,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        lifespan="on",
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=int(settings.drain_s),
        # With this number asyncio accepts connections at a time; several processes should each get some of them.
        backlog=1 if settings.processes > 1 else _BACKLOG,
        **uvicorn_options(settings),
    )
    try:
        _Server(config, _url(listener, settings), on_ready).run(sockets=[listener])
    except SystemExit:  # uvicorn's way to say that the application did not start
        raise app.state.failure or ServeError("the service did not start", where=_url(listener, settings)) from None
    except KeyboardInterrupt:
        pass  # uvicorn has drained and shut down; Ctrl-C is how a person ends the service


class _Server(uvicorn.Server):
    """uvicorn that says when it answers."""

    def __init__(self, config: uvicorn.Config, url: str, on_ready: Callable[[str], None] | None) -> None:
        super().__init__(config)
        self._url = url
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if not self.started:
            return
        for listener in sockets or []:
            listener.listen(_BACKLOG)  # how many may wait in the kernel, whatever asyncio takes at a time
        if self._on_ready:
            self._on_ready(self._url)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise ServeError(
            f"cannot listen there ({error.strerror or error})",
            where=f"{host}:{port}",
            remedy="Another program may use the port: choose one with --port, or 0 for any free one.",
        ) from None
    return listener


def _url(listener: socket.socket, settings: Settings) -> str:
    scheme = "https" if settings.tls_cert else "http"
    host, port = listener.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"{scheme}://{shown}:{port}/"
