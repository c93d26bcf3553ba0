"""What lives as long as the service: settings, models, workers, log, and the private folder for uploads."""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from medrail.errors import ServeError
from medrail.serve.jobs import Jobs
from medrail.serve.log import ServiceLog
from medrail.serve.metrics import Telemetry
from medrail.serve.registry import Registry
from medrail.serve.settings import Settings
from medrail.serve.shadow import Shadows
from medrail.serve.workers import Ticket, Workers

_MOST_TO_REMOVE = 64
_WARNINGS = frozenset({"refused", "state", "watch-failed", "models-folder"})

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
    telemetry: Telemetry
    shadows: Shadows | None = None
    janitor: Janitor = field(default_factory=lambda: Janitor())

    @staticmethod
    def open(settings: Settings, registry: Registry, log: ServiceLog, telemetry: Telemetry) -> Service:
        """Raises ServeError where the folder for uploads cannot be made."""
        try:
            uploads = Path(tempfile.mkdtemp(prefix="medrail-", dir=settings.temp_dir))
        except OSError as error:
            raise ServeError(
                f"no folder for uploads can be made ({error.strerror})",
                where=str(settings.temp_dir or tempfile.gettempdir()),
                remedy="Choose a folder that the service may write to.",
            ) from None
        workers = Workers(settings, registry.gate, lambda: registry.largest_batch)
        jobs = Jobs(settings, settings.jobs_dir or uploads / "jobs", log, telemetry)
        shadows = Shadows(registry.gate, log, telemetry, settings.max_values)
        telemetry.follow(registry)
        registry.on_batch = telemetry.observe_batch
        return Service(settings, registry, workers, log, uploads, jobs, telemetry, shadows)

    def begin(self) -> None:
        """Tell what is served, and keep it as the models folder and serving.json are."""
        for model in self.registry.models:
            self.log.event(
                "model",
                model=model.name,
                version=model.version,
                bundle_id=model.predictor.bundle_id,
                engine=str(model.predictor.taken),
                largest_batch=model.largest_batch,
            )
        for refused in self.registry.refused:
            self._tell("refused", model=refused.name, version=refused.version, reason=refused.reason)
        self.registry.tell = self._tell
        self.registry.state.tell = lambda problem: self._tell("state", problem=problem)
        if self.registry.watcher:
            self.registry.watcher.start()

    def _tell(self, event: str, **values: Any) -> None:
        level = logging.WARNING if event in _WARNINGS else logging.INFO
        self.log.event(event, level=level, **values)
        if event == "refused":
            self.telemetry.bundle_refused("BundleError")

    async def close(self) -> None:
        """Finish the work at hand, then remove every upload."""
        if self.registry.watcher:
            await asyncio.to_thread(self.registry.watcher.stop)
        await asyncio.to_thread(self.jobs.close, self.settings.drain_s)
        await self.workers.close()
        if self.shadows:
            await asyncio.to_thread(self.shadows.close)
        await asyncio.to_thread(self.janitor.close)
        shutil.rmtree(self.uploads, ignore_errors=True)

    async def work(self, request: Request, folder: Path, task: Callable[[], Answer]) -> Answer:
        """Run ``task`` on a worker; if the client goes away, forget the task, and remove the folder when it may go:
        a task that already runs goes on to its next inference, and its files must stay until it ends.

        Raises
        ------
        ClientDisconnect
            If the client went away before the answer.
        """
        ticket = Ticket(self.settings.wait_s)
        future = self.workers.submit(task, ticket)
        future.add_done_callback(lambda _: self.janitor.remove(folder))
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
            ticket.cancel()
            answering.cancel()


class Janitor:
    """Removes folders in a thread of its own: a file system may take milliseconds for one, and computes nothing."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="medrail-janitor")
        self._waiting: set[Path] = set()

    def remove(self, folder: Path) -> None:
        """Soon; at once where many wait already, so that uploads never pile up."""
        if len(self._waiting) >= _MOST_TO_REMOVE:
            shutil.rmtree(folder, ignore_errors=True)
            return
        self._waiting.add(folder)
        try:
            self._pool.submit(self._remove, folder)
        except RuntimeError:  # the service ends, and removes all of them
            self._waiting.discard(folder)

    def _remove(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self._waiting.discard(folder)

    def close(self) -> None:
        """Remove what waits."""
        self._pool.shutdown(wait=True)


async def _client_leaves(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
