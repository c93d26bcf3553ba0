"""The pages: / for people, /docs and /redoc for programmers. All files come from here, none from a CDN."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from fastapi import APIRouter, FastAPI
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.staticfiles import StaticFiles

STATIC = Path(__file__).parent / "static"
_DOCS_PACKAGE = "fastapi_offline"  # ships Swagger UI's and ReDoc's files; only these are used, its code is not

router = APIRouter(include_in_schema=False)

_HEAD = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>medrail API</title>'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    '<link rel="icon" href="/static/icon.svg" type="image/svg+xml">'
)
_SWAGGER = (
    f'{_HEAD}<link rel="stylesheet" href="/static/api/swagger-ui.css"></head><body><div id="swagger-ui"></div>'
    '<script src="/static/api/swagger-ui-bundle.js"></script><script src="/static/swagger.js"></script></body></html>'
)
_REDOC = (
    f'{_HEAD}<link rel="stylesheet" href="/static/redoc.css"></head>'
    '<body><redoc spec-url="/openapi.json" disable-google-font="true"></redoc>'
    '<script src="/static/api/redoc.standalone.js"></script></body></html>'
)


@router.get("/")
async def page() -> Response:
    """The page for people."""
    return FileResponse(STATIC / "index.html", media_type="text/html")


@router.get("/docs")
async def swagger() -> Response:
    """Swagger UI."""
    return HTMLResponse(_SWAGGER)


@router.get("/redoc")
async def redoc() -> Response:
    """ReDoc."""
    return HTMLResponse(_REDOC)


@router.get("/favicon.ico")
async def icon() -> Response:
    """For browsers that look for it by this name."""
    return FileResponse(STATIC / "icon.svg", media_type="image/svg+xml")


def mount(app: FastAPI) -> None:
    """Put the pages and their files into the application."""
    app.include_router(router)
    docs = _docs_files()
    if docs is not None:
        app.mount("/static/api", StaticFiles(directory=docs))
    app.mount("/static", StaticFiles(directory=STATIC))


def _docs_files() -> Path | None:
    found = find_spec(_DOCS_PACKAGE)
    places = found.submodule_search_locations if found else None
    return Path(places[0]) / "static" if places else None
