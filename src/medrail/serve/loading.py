"""From a bundle's folder to a model that is ready to answer: verified, proved, measured, warm, and behind the gate."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medrail.bundle import FileEntry, Manifest, Predictor, load_bundle
from medrail.bundle.backend import Backend, Batch
from medrail.errors import BundleError, InputError, MedrailError, ServeError
from medrail.machine import give_back_memory
from medrail.serve.batching import Batcher, largest_batch
from medrail.serve.gate import Gate, share_of
from medrail.serve.registry import ServedModel
from medrail.serve.settings import Settings

CARD_FILE = "card.md"
QUICK_S = 0.1
"""A network that answers in this time on one thread is run on one thread, as many at a time as there are cores: that
gives the most answers a second, and no thread waits for another. A slower one, mostly of volumes, gets all cores."""
CLEARLY = 1.2
"""How many times as quick all cores must be, then."""
BatchTold = Callable[[str, str, int, int], None]
"""(name, version, inputs in the batch, inputs that still wait)."""


@dataclass
class Loader:
    """Loads bundles for one process; ``told`` hears of each batch that any of them computes."""

    settings: Settings
    gate: Gate
    told: BatchTold = lambda name, version, size, waiting: None

    def load(self, folder: Path) -> ServedModel:
        """Verify, let it prove its answers, measure and warm it.

        Raises
        ------
        ServeError
            If the network does not run.
        BundleError
            If the bundle is missing, damaged, or does not answer as its reference.
        """
        manifest = Manifest.read(folder)
        predictor, threads = self._quickest(folder)
        card = _card(folder, manifest)
        if predictor.bundle_id != manifest.bundle_id:
            raise BundleError("the bundle was changed while it was loaded", where=str(folder))
        inputs = inputs_like(predictor)
        _warm(predictor.backend, inputs, folder)
        choice = predictor.taken.choice if predictor.taken else None
        settings = self.settings
        largest = largest_batch(predictor.backend, choice, inputs, settings.batching, settings.largest_batch)

        def behind(backend: Backend) -> Backend:
            def told(size: int, waiting: int) -> None:
                self.told(manifest.name, manifest.version, size, waiting)

            most = settings.queue + share_of(settings) + settings.workers + largest
            return Batcher(self.gate, backend, largest, most, threads, told).engine()

        give_back_memory()  # what the engine took while it read the network
        return ServedModel(manifest, card, predictor.behind(behind), largest)

    def _quickest(self, folder: Path) -> tuple[Predictor, int]:
        """The predictor, and the threads of one inference: what the settings say, else as measured (``QUICK_S``)."""
        cores, engine = share_of(self.settings), self.settings.engine
        if self.settings.threads or cores == 1:
            threads = self.settings.threads or 1
            return load_bundle(folder, threads, engine), threads
        one = load_bundle(folder, 1, engine)
        inputs = inputs_like(one)
        if inputs is not None and (one_s := _seconds(one.backend, inputs)) > QUICK_S:
            every = load_bundle(folder, cores, engine)
            if _seconds(every.backend, inputs) * CLEARLY < one_s:
                return every, cores
        return one, 1


def _card(folder: Path, manifest: Manifest) -> str:
    path = folder / CARD_FILE
    if not path.is_file():
        return ""
    if CARD_FILE in manifest.files and FileEntry.of(path) != manifest.files[CARD_FILE]:
        raise BundleError("the card was changed while the bundle was loaded", where=str(path))
    return path.read_text(encoding="utf-8")


def inputs_like(predictor: Predictor) -> Batch | None:
    """(1, C, [D,] H, W) that the network takes, always the same numbers; None where its size is not known."""
    size = predictor.spec.patch or predictor.spec.grid
    if not size:
        return None
    shape = (1, predictor.spec.channels, *size)
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def _warm(backend: Backend, inputs: Batch | None, folder: Path) -> None:
    """One inference: the first request is as quick as the rest, and a network that cannot run is found now."""
    if inputs is None:
        return
    try:
        backend(inputs)
    except InputError as error:
        raise ServeError(
            f"the network does not run ({error.found})", where=str(folder), remedy="Export the run again."
        ) from None


def _seconds(backend: Backend, inputs: Batch) -> float:
    """The quicker of two answers; 0 where there is none, which ``_warm`` will find."""
    passes = []
    for _ in range(2):
        begin = time.perf_counter()
        try:
            backend(inputs)
        except MedrailError:
            return 0.0
        passes.append(time.perf_counter() - begin)
    return min(passes)
