"""Bundles over HTTP: for people a page, for programs an API. No torch in the process.

In: one or several bundle folders and Settings (limits, threads, log folder).
Out: ``create_app(bundles, settings)``, an ASGI application, and ``serve(bundles, host, port)``, which runs it.
The one function: ``serve("bundles/NAME/VERSION")``.
"""

from medrail.serve.app import create_app
from medrail.serve.schemas import DISCLAIMER
from medrail.serve.server import serve
from medrail.serve.settings import Settings

__all__ = ["DISCLAIMER", "Settings", "create_app", "serve"]
