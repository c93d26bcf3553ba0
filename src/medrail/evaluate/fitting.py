"""Fits what an answer is calibrated with, before anything of the test is judged.

On the validation cases: temperature, thresholds, conformal quantile, and from which out-of-distribution score on an
image is unlike the training data; on the training cases: what their features are like. The network is the exported one;
prepared cases are taken from the store, others from their raw files. The result lies in the run as calibration.json and
is served with the network.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medrail.bundle import Predictor, load_network
from medrail.bundle.backend import FEATURES, LOGITS, fetch, outputs_of
from medrail.bundle.calibration import CALIBRATION_FILE, LARGEST_FEATURES, Calibration, Conformal, Ood
from medrail.bundle.load import NETWORK_SPEC_FILE
from medrail.bundle.manifest import FileEntry
from medrail.bundle.probability import as_probabilities
from medrail.bundle.usual import input_statistics
from medrail.cases import FileHashes, read_roi, target_index, targets_of
from medrail.cases.listing import counted
from medrail.config import Config
from medrail.errors import BundleError, InputError, MedrailError
from medrail.evaluate.calibration import COLDEST, HOTTEST, fit_temperature, softmax
from medrail.evaluate.coverage import conformal_quantile
from medrail.evaluate.evaluation import content_of
from medrail.evaluate.fitting_labels import FEWEST_OF_CLASS, enough_of_class, label_thresholds
from medrail.evaluate.ood import fit_ood, threshold_at
from medrail.evaluate.operating import class_thresholds
from medrail.evaluate.usual import usual_of
from medrail.prepare import Store, store_of
from medrail.read import read
from medrail.types import Case, Image, Progress
from medrail.workspace import Run, Workspace, read_json, source_sha256

FloatArray = npt.NDArray[np.float32]

FEWEST_PATIENTS = 10
"""Validation patients below which nothing is fitted; what a threshold needs besides is in ``fitting_labels``."""
FEWEST_TRAINING = 20
MOST_CASES = {"classification": 2000, "segmentation": 200}
"""Of one split are looked at; more make no better fit."""
TOGETHER = 64
DECIDES = "the most probable class decides"


@dataclass(frozen=True)
class Material:
    """What was found of the cases of one split: (n, K) logits, (n, F) features, truth, patients.

    truth:
        (n,) class indices, -1 where there is none; of several labels (n, K) 0 and 1.
    inputs:
        ``input_statistics`` of each.
    """

    logits: FloatArray
    features: FloatArray
    truth: npt.NDArray[np.int64]
    patients: tuple[str, ...]
    inputs: tuple[Mapping[str, float], ...] = ()


def fit_calibration(
    run: Run, config: Config, workspace: Workspace, cases: Sequence[Case], progress: Progress | None = None
) -> tuple[Calibration, bool]:
    """Fit the calibration of a run's exported network, unless the one that lies there is just that.

    Where there are no validation cases, or too few, nothing is fitted (temperature 1, the most probable class, no sets,
    no score), and ``made_from["said"]`` says so.

    Parameters
    ----------
    cases:
        With the splits that the run was trained with.

    Returns
    -------
    What run/calibration.json holds, and whether it was fitted now.

    Raises
    ------
    BundleError, RunError
        If the run's network is missing or unusable.
    """
    path = run.folder / CALIBRATION_FILE
    store = store_of(config, workspace)
    chosen = {split: _evenly(cases, split, MOST_CASES[config.task]) for split in ("train", "val")}
    fingerprint = _fingerprint(run, config, store, chosen)
    known = _known(path)
    if known is not None and known.made_from.get("fingerprint") == fingerprint:
        return known, False
    path.unlink(missing_ok=True)
    predictor = load_network(run.folder, threads=config.serve.threads, calibrated=False, engine=config.serve.engine)
    calibration = _fitted(predictor, config, store, chosen, progress)
    made_from = {**calibration.made_from, "fingerprint": fingerprint}
    calibration = replace(calibration, network_sha256=FileEntry.of(run.network).sha256, made_from=made_from)
    calibration.write(path)
    return calibration, True


def _fitted(
    predictor: Predictor,
    config: Config,
    store: Store,
    chosen: dict[str, Sequence[Case]],
    progress: Progress | None,
) -> Calibration:
    collecting = _Collecting(predictor, config, store, progress, sum(map(len, chosen.values())))
    held_out = collecting.of(chosen["val"])
    patients = len(set(held_out.patients))
    made_from: dict[str, Any] = {"val_cases": len(held_out.patients), "val_patients": patients}
    if patients < FEWEST_PATIENTS:
        said = f"nothing was calibrated: {_too_few(patients)}. Probabilities are the network's own"
        return Calibration("0" * 64, made_from={**made_from, "fitted": [], "said": [said]})
    calibration, said_first = _of_task(held_out, predictor, config)
    ood, said_last = _ood(predictor, collecting, chosen["train"], held_out, config.evaluate.ood_alpha)
    fitted = [
        name
        for name, there in (
            ("temperature", _has_one_class(predictor) and len(set(held_out.truth.tolist())) > 1),
            ("thresholds", bool(calibration.thresholds)),
            ("conformal", calibration.conformal is not None),
            ("ood", ood is not None),
        )
        if there
    ]
    made_from |= {"fitted": fitted, "said": [*said_first, *said_last]}
    calibration = replace(calibration, ood=ood, made_from=made_from)
    usual = usual_of(predictor.spec, calibration, held_out.logits, held_out.features, held_out.inputs)
    return replace(calibration, usual=usual)


def _too_few(patients: int) -> str:
    if not patients:
        return "there are no validation cases"
    return f"there are validation cases of {counted(patients, 'patient')} only, at least {FEWEST_PATIENTS} are needed"


def _has_one_class(predictor: Predictor) -> bool:
    return predictor.spec.task == "classification" and not predictor.spec.multi_label


def _of_task(held_out: Material, predictor: Predictor, config: Config) -> tuple[Calibration, list[str]]:
    if _has_one_class(predictor):
        return _of_answers(held_out, predictor, config)
    if not predictor.spec.multi_label:
        return Calibration("0" * 64), []
    rule, classes = config.evaluate.operating_point, predictor.spec.classes
    probabilities = as_probabilities(held_out.logits, multi_label=True).astype(np.float64)
    thresholds, said = label_thresholds(held_out.truth > 0, probabilities, held_out.patients, classes, rule)
    return Calibration("0" * 64, thresholds=thresholds, threshold_rule=rule if thresholds else ""), said


def _of_answers(held_out: Material, predictor: Predictor, config: Config) -> tuple[Calibration, list[str]]:
    """Temperature, thresholds and conformal quantile from the validation cases' logits, and what is to be said."""
    classes, settings = predictor.spec.classes, config.evaluate
    on = f"{counted(len(held_out.truth), 'validation case')} of {counted(len(set(held_out.patients)), 'patient')}"
    if len(set(held_out.truth.tolist())) < 2:
        return Calibration("0" * 64), [f"nothing was calibrated: {on}, all of one class"]
    temperature = fit_temperature(held_out.logits, held_out.truth)
    probabilities = softmax(held_out.logits, temperature)
    rule, _, target = settings.operating_point.partition("=")
    found = class_thresholds(
        held_out.truth, probabilities, classes, sensitivity=float(target) if rule == "sensitivity" else None
    )
    asked = classes[1:] if len(classes) == 2 else classes
    few = [name for name in asked if not enough_of_class(held_out.truth == classes.index(name), held_out.patients)]
    thresholds = {
        name: float(np.clip(found[name], 0, 1)) for name in asked if name not in few and np.isfinite(found[name])
    }
    quantile = conformal_quantile(probabilities, held_out.truth, settings.conformal_alpha, held_out.patients)
    said = [
        f"temperature {temperature:.3g}, fitted on {on}"
        + (" (above 1: the network was too sure)" if temperature > 1.05 else "")
        + (" (below 1: the network was not sure enough)" if temperature < 0.95 else "")
        + _at_bound(temperature),
        f"thresholds by the rule {settings.operating_point} on {on}: "
        + (
            ", ".join(f"{name} {value:.3g}" for name, value in thresholds.items())
            or ("none" if few else "none that is better than guessing")
        ),
    ]
    if few:
        named = ", ".join(few)
        said.append(f"no threshold for {named}: fewer than {FEWEST_OF_CLASS} patients with or without it; {DECIDES}")
    conformal = None
    if quantile < 1:
        conformal = Conformal(settings.conformal_alpha, float(quantile))
        said.append(f"conformal sets at {1 - settings.conformal_alpha:.0%}: classes of at least {1 - quantile:.3g}")
    else:
        said.append(f"no conformal sets: {on} are too few to promise {1 - settings.conformal_alpha:.0%}")
    calibration = Calibration(
        "0" * 64,
        temperature=float(temperature),
        thresholds=thresholds,
        threshold_rule=settings.operating_point if thresholds else "",
        conformal=conformal,
    )
    return calibration, said


def _at_bound(temperature: float) -> str:
    """What is to be said of a temperature that the search could not leave."""
    bound = next((bound for bound in (COLDEST, HOTTEST) if np.isclose(temperature, bound, rtol=1e-3)), None)
    return (
        "" if bound is None else f"; it is at the search's bound of {bound:g}: the probabilities are not to be believed"
    )


def _ood(
    predictor: Predictor, collecting: _Collecting, training: Sequence[Case], held_out: Material, alpha: float
) -> tuple[Ood | None, list[str]]:
    """The out-of-distribution score, and what is to be said of it."""
    if FEATURES not in outputs_of(predictor.backend):
        return None, ["images unlike the training data are not told: the network has no features"]
    learned = collecting.of(training)
    count, size = learned.features.shape
    if count < FEWEST_TRAINING or size > LARGEST_FEATURES:
        why = f"{count} training cases, {size} features"
        return None, [f"images unlike the training data are not told: {why}"]
    try:
        model = fit_ood(learned.features)
    except InputError as error:
        return None, [f"images unlike the training data are not told: {error.found}"]
    untold = Ood(model.mean.astype(np.float32), model.whitening.astype(np.float32), threshold=1.0, quantile=1 - alpha)
    threshold, reached = threshold_at([untold.score(features) for features in held_out.features], 1 - alpha)
    said = (
        f"unlike the training data: distance of {size} features, fitted on {counted(count, 'training case')}; above "
        f"{threshold:.3g}, which {reached:.0%} of images like the {counted(len(held_out.features), 'validation case')} "
        "do not exceed"
    )
    return replace(untold, threshold=float(threshold), quantile=float(reached)), [said]


class _Collecting:
    """Asks the network about cases, pictures of one size together; cases that cannot be read are passed over."""

    def __init__(
        self, predictor: Predictor, config: Config, store: Store, progress: Progress | None, total: int
    ) -> None:
        self.predictor, self.config, self.store = predictor, config, store
        self.progress, self.total, self.done = progress, total, 0
        self.prepared = set(store.ids())
        self.inputs: dict[str, Mapping[str, float]] = {}
        names = (LOGITS, FEATURES) if predictor.spec.task == "classification" else (FEATURES,)
        self.names = tuple(name for name in names if name in outputs_of(predictor.backend))

    def of(self, cases: Sequence[Case]) -> Material:
        logits, features, kept = [], [], []
        for case, answer in self._answers(cases):
            kept.append(case)
            logits.append(answer.get(LOGITS, np.empty(0, np.float32)))
            features.append(answer.get(FEATURES, np.empty(0, np.float32)))
        truth = [self._truth(case) for case in kept]
        patients = tuple(case.patient for case in kept)
        inputs = tuple(self.inputs.pop(case.id, {}) for case in kept)
        return Material(_stacked(logits), _stacked(features), np.array(truth, dtype=np.int64), patients, inputs)

    def _truth(self, case: Case) -> int | list[int]:
        spec = self.predictor.spec
        if spec.multi_label:
            return [int(has) for has in targets_of(case, spec.classes)]
        return target_index(case, spec.classes) if spec.task == "classification" else -1

    def _answers(self, cases: Sequence[Case]) -> Iterator[tuple[Case, dict[str, FloatArray]]]:
        waiting: list[tuple[Case, FloatArray]] = []
        for case in cases:
            image = self._image(case) if self.names else None
            self.done += 1
            if self.progress:
                self.progress(self.done, self.total, case.id)
            if not self.names:  # nothing to ask: an ensemble for segmentation has no features
                yield case, {}
            if image is None:
                continue
            self.inputs[case.id] = input_statistics(image.voxels)
            if not self._is_picture(image):
                answers = self.predictor.answers(image, self.names)
                found = {LOGITS: answers.logits, FEATURES: answers.features}
                yield case, {name: array for name in self.names if (array := found[name]) is not None}
                continue
            voxels = np.asarray(image.voxels[:, 0], dtype=np.float32)
            if waiting and (len(waiting) == TOGETHER or waiting[0][1].shape != voxels.shape):
                yield from self._together(waiting)
                waiting = []
            waiting.append((case, voxels))
        yield from self._together(waiting)

    def _together(self, waiting: Sequence[tuple[Case, FloatArray]]) -> Iterator[tuple[Case, dict[str, FloatArray]]]:
        if not waiting:
            return
        found = fetch(self.predictor.backend, np.stack([voxels for _, voxels in waiting]), self.names)
        for place, (case, _) in enumerate(waiting):
            yield case, {name: array[place] for name, array in found.items()}

    def _is_picture(self, image: Image) -> bool:
        spec = self.predictor.spec
        return spec.task == "classification" and spec.dims == 2 and image.grid[0] == 1

    def _image(self, case: Case) -> Image | None:
        """As the network sees it; None for a case that cannot be read, or has no target."""
        if case.target is None:
            return None
        try:
            if case.id in self.prepared:
                return self.store.load(case.id)[0]
            image = read(case.paths[0], case.item, self.config.read_options)
            return self.predictor.prepare(image, read_roi(case, image) if self.predictor.spec.needs_roi else None)
        except (MedrailError, OSError):
            return None


def _stacked(arrays: Sequence[FloatArray]) -> FloatArray:
    return np.stack(arrays) if arrays else np.empty((0, 0), np.float32)


def _evenly(cases: Sequence[Case], split: str, most: int) -> Sequence[Case]:
    """At most so many cases of a split, evenly taken in the order of their ids."""
    labelled = (case for case in cases if case.split == split and case.target is not None)
    members = sorted(labelled, key=lambda case: case.id)
    if len(members) <= most:
        return members
    return [members[place * len(members) // most] for place in range(most)]


def _fingerprint(run: Run, config: Config, store: Store, chosen: dict[str, Sequence[Case]]) -> str:
    """SHA-256 (hex) over everything that the fit depends on."""
    sources = store.sources()
    with FileHashes.of(run.workspace) as hashes:
        contents = {
            case.id: sources.get(case.id) or content_of(case, config, hashes)
            for members in chosen.values()
            for case in members
        }
    settings = config.evaluate
    made_from = {
        "medrail": source_sha256(),
        "network": FileEntry.of(run.network).sha256,
        **_engine(run, config),
        "operating_point": settings.operating_point,
        "alphas": [settings.conformal_alpha, settings.ood_alpha],
        "cases": {
            split: [[case.id, case.patient, _target(case, config), contents[case.id]] for case in cases]
            for split, cases in chosen.items()
        },
    }
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()


def _target(case: Case, config: Config) -> str:
    return (case.target or "") if config.task == "classification" else ""


def _known(path: Path) -> Calibration | None:
    try:
        return Calibration.read(path) if path.is_file() else None
    except BundleError:
        return None


def _engine(run: Run, config: Config) -> dict[str, str]:
    """What runs the network, where it is not ONNX Runtime as in every run that nobody chose another one for."""
    description = run.network.with_name(NETWORK_SPEC_FILE)
    chosen = read_json(description).get("engine") if description.is_file() else None
    told = {"chosen": json.dumps(chosen, sort_keys=True)} if chosen else {}
    return told if config.serve.engine == "auto" else {**told, "engine": config.serve.engine}
