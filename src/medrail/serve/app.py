"""create_app: bundles and settings in, the FastAPI application out."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from medrail import __version__
from medrail.errors import MedrailError
from medrail.serve.access import needs
from medrail.serve.admin import router as admin
from medrail.serve.log import ServiceLog
from medrail.serve.metrics import Telemetry
from medrail.serve.monitoring import router as monitoring
from medrail.serve.openapi import describe
from medrail.serve.pages import mount
from medrail.serve.problems import Refusal, refusal_of, refusal_of_status, respond
from medrail.serve.registry import Registry
from medrail.serve.routes import router
from medrail.serve.security import protect
from medrail.serve.service import Service
from medrail.serve.settings import Settings
from medrail.serve.v2 import add_protocol

_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
_FULL_RETRY_S = 60


def create_app(bundles: str | Path | Sequence[str | Path] | Registry, settings: Settings | None = None) -> FastAPI:
    """The service as an ASGI application.

    Parameters
    ----------
    bundles:
        A bundle's folder, several (the first is the default), a models folder (``bundles/`` with NAME/VERSION), which
        is watched, or a registry of loaded ones. Folders are loaded, verified and warmed when the application starts.
    settings:
        Limits and places.

    Raises
    ------
    ServeError
        If the log cannot be written. On start also if a bundle cannot be served (or BundleError).
    """
    settings = settings or Settings()
    telemetry = Telemetry(settings)
    log = ServiceLog(settings, telemetry.log_failed)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            service = Service.open(settings, _registry(bundles, settings), log, telemetry)
        except MedrailError as error:
            app.state.failure = error  # the server only learns that the start failed, and its caller wants to know why
            raise
        app.state.service = service
        service.begin()
        log.event("start", medrail=__version__)
        try:
            yield
        finally:
            app.state.service = None
            await service.close()
            if app.state.pacs is not None:
                app.state.pacs.pacs.close()
            log.event("stop")
            log.close()

    app = FastAPI(title="medrail", docs_url=None, redoc_url=None, lifespan=lifespan)
    app.state.service = app.state.failure = app.state.pacs = None
    app.state.telemetry = telemetry
    protect(app, settings, log)
    for kind in (Refusal, MedrailError, RequestValidationError, HTTPException, OSError):
        app.add_exception_handler(kind, _problem)
    app.include_router(router)
    app.include_router(admin)
    app.include_router(monitoring)
    if settings.pacs.url:
        from medrail.serve.pacs import attach as attach_pacs  # most services have none, and start the sooner

        attach_pacs(app, settings.pacs, [Depends(needs("pacs"))])
    mount(app)
    app.openapi = describe(app)  # type: ignore[method-assign]
    add_protocol(app)
    return app


def _registry(bundles: str | Path | Sequence[str | Path] | Registry, settings: Settings) -> Registry:
    if isinstance(bundles, Registry):
        return bundles
    return Registry.load([bundles] if isinstance(bundles, str | Path) else bundles, settings)


async def _problem(request: Request, error: Exception) -> Response:
    if isinstance(error, Refusal):
        refusal = error
    elif isinstance(error, MedrailError):
        refusal = refusal_of(error)
    elif isinstance(error, OSError):
        if error.errno not in _NO_SPACE:
            raise error  # as any other error that nobody expected
        refusal = Refusal("no-space", retry_after_s=_FULL_RETRY_S)
    elif isinstance(error, RequestValidationError):
        wrong = "; ".join(f"{detail['loc'][-1]}: {detail['msg']}" for detail in error.errors())
        refusal = Refusal("bad-parameter", f"{wrong}.")
    else:
        refusal = refusal_of_status(error.status_code if isinstance(error, HTTPException) else 500)
    request.state.record["problem"] = refusal.kind
    response = respond(refusal, request.state.request_id)
    if isinstance(error, HTTPException):
        response.headers.update(error.headers or {})  # of a 405, Allow
    return response
