"""What lives as long as the service: settings, models, workers, log, and the private folder for uploads."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from medrail.errors import ServeError
from medrail.serve.jobs import Jobs
from medrail.serve.log import ServiceLog
from medrail.serve.registry import Registry
from medrail.serve.settings import Settings
from medrail.serve.workers import Workers

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Service:
    """The running service's parts; ``open`` makes the folder and the threads, ``close`` ends and removes them."""

    settings: Settings
    registry: Registry
    workers: Workers
    log: ServiceLog
    uploads: Path
    jobs: Jobs

    @staticmethod
    def open(settings: Settings, registry: Registry, log: ServiceLog) -> Service:
        """Raises ServeError where the folder for uploads cannot be made."""
        try:
            uploads = Path(tempfile.mkdtemp(prefix="medrail-", dir=settings.temp_dir))
        except OSError as error:
            raise ServeError(
                f"no folder for uploads can be made ({error.strerror})",
                where=str(settings.temp_dir or tempfile.gettempdir()),
                remedy="Choose a folder that the service may write to.",
            ) from None
        jobs = Jobs(settings, settings.jobs_dir or uploads / "jobs", log)
        return Service(settings, registry, Workers(settings), log, uploads, jobs)

    async def close(self) -> None:
        """Finish the work at hand, then remove every upload."""
        await asyncio.to_thread(self.jobs.close, self.settings.drain_s)
        await self.workers.close()
        shutil.rmtree(self.uploads, ignore_errors=True)

    async def work(self, request: Request, folder: Path, task: Callable[[], Answer]) -> Answer:
        """Run ``task`` on a worker; if the client goes away, forget the task, and remove the folder when it may go.

        Raises
        ------
        ClientDisconnect
            If the client went away before the answer.
        """
        future = self.workers.submit(task)
        answering = asyncio.wrap_future(future)
        leaving = asyncio.ensure_future(_client_leaves(request))
        either: set[asyncio.Future[Any]] = {answering, leaving}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                raise ClientDisconnect
            return answering.result()
        finally:
            leaving.cancel()
            answering.cancel()
            future.cancel()
            _remove_after(future, folder)


def _remove_after(future: Future[Answer], folder: Path) -> None:
    """A task that already runs cannot be stopped, and its files must stay until it ends."""
    future.add_done_callback(lambda _: shutil.rmtree(folder, ignore_errors=True))


async def _client_leaves(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
