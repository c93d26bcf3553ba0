"""Material: what a training is made from, checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medrail.bundle import InputKind, NetworkSpec
from medrail.cases import class_names, target_index, targets_of
from medrail.config import Config
from medrail.data import Needs, check_augment
from medrail.errors import CaseError
from medrail.models import MODELS, check_model
from medrail.prepare import Pipeline, Store, store_of
from medrail.train.hub import fetched, is_remote
from medrail.train.weights import check_weights
from medrail.types import SPLITS, Case
from medrail.workspace import Workspace


@dataclass(frozen=True)
class Material:
    """The configuration, the classes in the order of the outputs, the prepared cases, sorted by id, and the file of
    weights to start from.
    """

    config: Config
    workspace: Workspace
    store: Store
    classes: tuple[str, ...]
    training: tuple[Case, ...]
    validation: tuple[Case, ...]
    weights: Path | None = None

    @property
    def cases(self) -> tuple[Case, ...]:
        return self.training + self.validation

    @property
    def needs(self) -> Needs:
        """What the network needs of its samples."""
        model, architecture = self.config.model, MODELS[self.config.model.name]
        return Needs(
            task=self.config.task,
            classes=self.classes,
            network=model.name,
            dims=model.dims,
            channels=model.channels,
            patch=_patch(self.config),
            size_factor=architecture.size_factor,
            smallest=architecture.smallest,
            multi_label=self.config.data.multi_label,
        )

    def spec(self, size: tuple[int, ...]) -> NetworkSpec:
        """How to feed the network in training; ``size``: of the samples, ([D,] H, W)."""
        return network_spec(self.config, self.store.pipeline, self.classes, size, InputKind(None, 0, ""))


def network_spec(
    config: Config, pipeline: Pipeline, classes: tuple[str, ...], size: tuple[int, ...], input_kind: InputKind
) -> NetworkSpec:
    """How to feed a network that was trained on samples of ``size``, ([D,] H, W), and how to read its answer."""
    patch = _patch(config)
    return NetworkSpec(
        task=config.task,
        classes=classes,
        dims=config.model.dims,
        channels=config.model.channels,
        pipeline=tuple(pipeline.to_dict()),
        input_kind=input_kind,
        patch=patch,
        grid=() if patch else size,
        read_options=config.read_options,
        slide=config.data.slide if config.data.kind == "slides" else None,
        multi_label=config.data.multi_label,
    )


def gather(config: Config, workspace: Workspace, cases: Sequence[Case]) -> Material:
    """Choose the cases of the training and validation splits.

    Raises
    ------
    ConfigError
        If network, augmentation or starting weights do not go together with the task.
    CaseError
        If no case is in the training split, a case has an unknown class, or all have the same one.
    """
    check_model(config.model, config.task)
    check_augment(config.train.augment, config.model.dims)
    in_order = sorted(cases, key=lambda case: case.id)
    material = Material(
        config,
        workspace,
        store_of(config, workspace),
        class_names(config, cases),
        tuple(case for case in in_order if case.split == "train"),
        tuple(case for case in in_order if case.split == "val"),
        start_weights(config.model.weights, workspace),
    )
    if not material.training:
        sizes = ", ".join(f"{name} {sum(case.split == name for case in cases)}" for name in SPLITS)
        raise CaseError(
            f"no case to train on ({sizes})",
            where=str(workspace.case_table),
            remedy="Lower split.val and split.test, or correct the split column of the data.",
        )
    if config.task == "classification":
        _check_labels(material)
    return material


def start_weights(name: str, workspace: Workspace) -> Path | None:
    """The file that ``model.weights`` names, fetched if it is an address."""
    if not name:
        return None
    if is_remote(name):
        return fetched(name, workspace.root / "weights")
    check_weights(workspace.source(name))
    return workspace.source(name)


def _patch(config: Config) -> tuple[int, ...]:
    return config.model.patch if config.task == "segmentation" else ()


def _check_labels(material: Material) -> None:
    if material.config.data.multi_label:
        _check_several(material)
        return
    found = {target_index(case, material.classes) for case in material.cases}
    trained = {target_index(case, material.classes) for case in material.training}
    if len(trained) < 2:
        only = material.classes[trained.pop()]
        raise CaseError(
            f"all {len(material.training)} training cases are {only!r}",
            needed="cases of at least two classes",
            where=str(material.workspace.case_table),
            remedy="Add cases of the other classes to the training split."
            if len(found) > 1
            else "Label the data with at least two classes.",
        )


def _check_several(material: Material) -> None:
    """Of several labels: one at least that some training cases have and others have not."""
    found = np.stack([targets_of(case, material.classes) for case in material.cases])[: len(material.training)]
    if not (found.any(axis=0) & ~found.all(axis=0)).any():
        raise CaseError(
            f"no label tells the {len(material.training)} training cases apart: each is in all of them or in none",
            needed="a label that some of them have and others have not",
            where=str(material.workspace.case_table),
            remedy="Add cases with and without each label to the training split.",
        )
