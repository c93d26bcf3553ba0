"""Request: what is to be made of which run, and by which fingerprint the result is known again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from medrail.config import Config, SlimConfig
from medrail.errors import RunError
from medrail.slim.prune import resolved
from medrail.train.checkpoint import load
from medrail.train.schedule import fixed
from medrail.train.weights import tensors_sha256
from medrail.workspace import Run, read_json

Method = Literal["structured", "unstructured"]
SETTINGS = ("by", "importance", "round_to", "rounds", "epochs", "patience", "lr", "distil", "temperature")
"""Keys of ``slim`` that say how a run is pruned."""


@dataclass(frozen=True)
class Request:
    """One slimmed run that is asked for.

    about:
        What the parent's checkpoint says of its network: task, classes, model, grid.
    parent_says:
        For the passport: the parent's name, fingerprint and SHA-256 of its weights.
    fine_tuning:
        The parent's configuration with the settings of fine-tuning in ``train``.
    """

    parent: Run
    config: Config
    method: Method
    ratio: float
    about: Mapping[str, Any]
    parent_says: Mapping[str, str]
    fine_tuning: Config

    @staticmethod
    def of(parent: Run, config: Config, method: Method, ratio: float) -> Request:
        """Read what is known of the parent.

        Raises
        ------
        RunError
            If it is not a finished run.
        """
        passport = read_json(parent.passport)
        if not passport.get("finished"):
            remedy = "`medrail train` goes on with it."
            raise RunError("the training is not finished", where=str(parent.folder), remedy=remedy)
        content = load(parent.best)
        says = {
            "run": parent.name,
            "fingerprint": str(passport.get("fingerprint", "")),
            "weights_sha256": tensors_sha256(content["weights"]),
        }
        about = {key: content[key] for key in ("task", "classes", "model", "grid")}
        return Request(parent, config, method, ratio, about, says, _fine_tuning(config, passport))

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, [D,] H, W) of an image."""
        return (int(self.about["model"]["channels"]), *map(int, self.about["grid"]))

    @property
    def settings(self) -> dict[str, Any]:
        """For the passport: method, ratio and, where they matter, the settings of pruning and fine-tuning."""
        asked: dict[str, Any] = {"method": self.method, "ratio": self.ratio}
        if self.method == "structured":
            asked |= {key: self.slim.model_dump(mode="json")[key] for key in SETTINGS}
        return asked

    @property
    def slim(self) -> SlimConfig:
        """The settings, with what is "auto" chosen for the task."""
        return resolved(self.config.slim, self.config.task)

    def fingerprint(self, training: str) -> str:
        """SHA-256 (hex) of the parent's weights, the settings, and the fingerprint of a training as fine-tuning is."""
        made_of = {"parent": dict(self.parent_says), "asked": self.settings, "training": training}
        return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()

    def name(self) -> str:
        """What its run is called: PARENT-pruned50, or PARENT-sparse50."""
        percent = f"{100 * self.ratio:.4g}".replace(".", "_")
        return f"{self.parent.name}-{'pruned' if self.method == 'structured' else 'sparse'}{percent}"


def _fine_tuning(config: Config, passport: Mapping[str, Any]) -> Config:
    """A training with time for ``slim.epochs``; what an epoch is stays as it was, whatever a time budget made of it."""
    as_trained = fixed(config, passport["schedule"]) if passport.get("schedule") else config
    slim, train = config.slim, as_trained.train
    changed = {
        "epochs": max(1, slim.epochs),
        "patience": slim.patience,
        "lr": slim.lr or train.lr / 2,
        "minutes": 0.0,
        "track": False,
    }
    model = config.model.model_copy(update={"weights": ""})
    return config.model_copy(update={"train": train.model_copy(update=changed), "model": model})
