"""The served models: loaded, verified and warmed once, when the service starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medrail.bundle import Manifest, Predictor, load_bundle
from medrail.errors import InputError, ServeError
from medrail.serve.problems import Refusal
from medrail.serve.settings import Settings
from medrail.serve.workers import Gate

CARD_FILE = "card.md"


@dataclass(frozen=True)
class ServedModel:
    """One bundle in service: its manifest, its card in Markdown, and its predictor behind the gate."""

    manifest: Manifest
    card: str
    predictor: Predictor

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def version(self) -> str:
        return self.manifest.version


@dataclass(frozen=True)
class Registry:
    """All served models; the first is the default."""

    models: tuple[ServedModel, ...]
    gate: Gate

    @staticmethod
    def load(bundles: Sequence[str | Path], settings: Settings) -> Registry:
        """Verify, load and warm every bundle.

        Raises
        ------
        ServeError
            If there is no bundle, two are the same, or a network does not run.
        BundleError
            If a bundle is missing, damaged or of another version.
        """
        if not bundles:
            raise ServeError(
                "no bundle to serve", remedy="Name the folder of one: `medrail serve bundles/NAME/VERSION`."
            )
        gate = Gate.of(settings)
        models = tuple(_load(Path(folder), settings, gate) for folder in bundles)
        twice = {(model.name, model.version) for model in models}
        if len(twice) < len(models):
            raise ServeError("the same name and version twice", needed="a name and version for each bundle")
        return Registry(models, gate)

    @property
    def default(self) -> ServedModel:
        return self.models[0]

    def find(self, wanted: str) -> ServedModel:
        """The model called ``NAME`` (the first given with it) or ``NAME/VERSION``; "" is the default.

        Raises
        ------
        Refusal
            "unknown-model".
        """
        if not wanted:
            return self.default
        for model in self.models:
            if wanted in (model.name, f"{model.name}/{model.version}"):
                return model
        known = ", ".join(f"{model.name}/{model.version}" for model in self.models)
        raise Refusal("unknown-model", f"Served here: {known}.")


def _load(folder: Path, settings: Settings, gate: Gate) -> ServedModel:
    loaded = load_bundle(folder, settings.threads, settings.engine)
    manifest = Manifest.read(folder)
    card = folder / CARD_FILE
    predictor = loaded.behind(gate.around)
    _warm(predictor, folder)
    return ServedModel(manifest, card.read_text(encoding="utf-8") if card.is_file() else "", predictor)


def _warm(predictor: Predictor, folder: Path) -> None:
    """One inference on zeros: the first request is as quick as the rest, and a network that cannot run is found now."""
    size = predictor.spec.patch or predictor.spec.grid
    if not size:
        return
    try:
        predictor.backend(np.zeros((1, predictor.spec.channels, *size), np.float32))
    except InputError as error:
        raise ServeError(
            f"the network does not run ({error.found})", where=str(folder), remedy="Export the run again."
        ) from None
