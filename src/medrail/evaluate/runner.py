"""evaluate(): the exported network on the raw files of one split, a case at a time."""

from __future__ import annotations

import csv
import io
import math
import shutil
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from medrail.bundle import Predictor, load_network, overlay_png, write_mask
from medrail.cases import Leaked, leak_sentence, read_roi, read_target_mask, target_index, targets_of
from medrail.cases.labels import joined_labels
from medrail.config import Config
from medrail.errors import BundleError, CaseError, MedrailError
from medrail.evaluate.bootstrap import Measured
from medrail.evaluate.evaluation import (
    CASE_FILE,
    EVALUATION_FILE,
    NOTHING_LEAKED,
    Evaluation,
    evaluation_fingerprint,
)
from medrail.evaluate.metrics import IntArray, dice, hd95, iou, slice_confusion, volume_error_ml
from medrail.evaluate.multilabel import measure_multilabel
from medrail.evaluate.strata import parts
from medrail.evaluate.summary import measure_classification, measure_segmentation
from medrail.read import read, read_mask
from medrail.types import SPLITS, Case, Image, Prediction, Progress, SplitName
from medrail.workspace import Run, write_text

WORST_SHOWN = 5


@dataclass(frozen=True)
class Scored:
    """One evaluated case.

    truth, probabilities:
        Classification: the true class's index and the K probabilities.
    labels, findings:
        Of several labels: for each of the K whether the case has it, and whether it was found.
    scores:
        Segmentation: metric name -> value of this case (NaN where undefined).
    counts:
        Segmentation: confusion counts of each axial slice, (S, K, K).
    mask_file:
        Segmentation: where the predicted mask was written.
    badness:
        What the table is sorted by, larger is worse.
    defects:
        Names of what was wrong with the image and was accepted or repaired in reading it.
    """

    case: Case
    badness: float
    timings_ms: Mapping[str, float]
    truth: int = -1
    probabilities: tuple[float, ...] = ()
    labels: tuple[bool, ...] = ()
    findings: tuple[bool, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)
    counts: IntArray | None = None
    mask_file: Path | None = None
    defects: tuple[str, ...] = ()


def evaluate(
    run: Run,
    config: Config,
    cases: Sequence[Case],
    progress: Progress | None = None,
    split: SplitName | None = None,
    leaked: Leaked = NOTHING_LEAKED,
) -> Evaluation:
    """Evaluate a run's exported network on the raw files of one split and write run/evaluation/.

    The network is run/network.onnx, the one that the bundle ships. Only one case's voxels are in memory at a time. A
    case that cannot be evaluated is recorded with its reason and the others go on.

    Written: evaluation.json (last, so a broken-off evaluation is never taken for a whole one), cases.csv (worst first),
    overlays/ID.png (the worst five and the first), and for segmentation predictions/ID.nii.gz or ID.png.

    Parameters
    ----------
    split:
        "train", "val" or "test"; None: ``config.evaluate.split``.
    leaked:
        Cases that the network has seen in training and that are judged all the same: every result says so.

    Raises
    ------
    CaseError
        If no case is in the split, or none of them could be evaluated.
    BundleError, RunError
        If the run's network is missing or unusable.
    """
    wanted = split or config.evaluate.split
    chosen = _chosen(cases, wanted)
    predictor = load_network(run.folder, threads=config.serve.threads)
    fingerprint = evaluation_fingerprint(run, config, cases, wanted, leaked)
    _clear(run)
    scored: list[Scored] = []
    failed: list[Mapping[str, str]] = []
    for index, case in enumerate(chosen):
        if progress:
            progress(index, len(chosen), case.id)
        try:
            scored.append(_score(run, config, predictor, case))
        except BundleError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever one case does must not stop the others
            failed.append({"case": case.id, "reason": _reason(error)})
    if progress:
        progress(len(chosen), len(chosen), "")
    if not scored:
        raise CaseError(
            f"none of the {len(chosen)} cases of the {wanted} split could be evaluated",
            where=failed[0]["case"],
            remedy=f"The first one's reason: {failed[0]['reason']}",
        )
    evaluation = Evaluation(
        split=wanted,
        n=len(scored),
        patients=len({one.case.patient for one in scored}),
        metrics=_marked(_measure(scored, predictor, config), leaked),
        failed=tuple(failed),
        fingerprint=fingerprint,
        confusion=_confusion(scored, predictor),
        timings_ms={name: _median(scored, name) for name in ("prepare", "model", "post")},
        strata=_strata(scored, predictor, config, leaked),
        accepted_leaks=leaked.to_json() if leaked else {},
    )
    worst_first = sorted(scored, key=lambda one: -one.badness)
    write_text(run.evaluation / CASE_FILE, _table(worst_first, predictor, leaked))
    for one in {id(one): one for one in (*worst_first[:WORST_SHOWN], scored[0])}.values():
        _draw(run, config, predictor, one)
    evaluation.save(run)
    return evaluation


def _chosen(cases: Sequence[Case], split: str) -> list[Case]:
    chosen = sorted((case for case in cases if case.split == split), key=lambda case: case.id)
    if not chosen:
        sizes = ", ".join(f"{name} {sum(case.split == name for case in cases)}" for name in SPLITS)
        raise CaseError(
            f"no case is in the {split} split",
            needed="at least one",
            remedy=f"Cases: {sizes}. Set evaluate.split to one that has cases, or raise split.{split}.",
        )
    return chosen


def _clear(run: Run) -> None:
    """Remove the last evaluation, its verdict first, so that nothing stale stands beside the new one."""
    (run.evaluation / EVALUATION_FILE).unlink(missing_ok=True)
    (run.evaluation / CASE_FILE).unlink(missing_ok=True)
    for name in ("predictions", "overlays"):
        shutil.rmtree(run.evaluation / name, ignore_errors=True)


def _score(run: Run, config: Config, predictor: Predictor, case: Case) -> Scored:
    if case.target is None:
        raise CaseError("the case has no label", needed="a class or a mask", remedy="Label it or leave it out.")
    image = read(case.paths[0], case.item, config.read_options)
    prediction = predictor(image, read_roi(case, image) if predictor.spec.needs_roi else None)
    if predictor.spec.multi_label:
        return _labelled(case, image, prediction)
    if predictor.spec.task == "classification":
        truth = target_index(case, predictor.spec.classes)
        probabilities = tuple(prediction.probabilities[name] for name in predictor.spec.classes)
        return Scored(
            case,
            1 - probabilities[truth],
            prediction.timings_ms,
            truth=truth,
            probabilities=probabilities,
            defects=_defects(case, image),
        )
    target = read_target_mask(case, image, config.data)
    assert prediction.mask is not None  # noqa: S101 - a segmentation always has one
    scores, counts = score_masks(target, prediction.mask, predictor.spec.classes)
    mask_file = write_mask(prediction.mask, run.evaluation / "predictions", case.id)
    return Scored(
        case,
        1 - scores["dice"],
        prediction.timings_ms,
        scores=scores,
        counts=counts,
        mask_file=mask_file,
        defects=_defects(case, image),
    )


def _labelled(case: Case, image: Image, prediction: Prediction) -> Scored:
    """Of several labels; worst is the case whose labels were thought least likely to be as they are."""
    labels = tuple(targets_of(case, prediction.classes).tolist())
    probabilities = tuple(prediction.probabilities[name] for name in prediction.classes)
    wrong = [1 - p if has else p for has, p in zip(labels, probabilities, strict=True)]
    return Scored(
        case,
        sum(wrong) / len(wrong),
        prediction.timings_ms,
        probabilities=probabilities,
        labels=labels,
        findings=tuple(name in (prediction.findings or ()) for name in prediction.classes),
        defects=_defects(case, image),
    )


def _defects(case: Case, image: Image) -> tuple[str, ...]:
    return tuple(sorted({*case.defects, *(defect.name for defect in image.defects)}))


def score_masks(truth: Image, predicted: Image, classes: Sequence[str]) -> tuple[dict[str, float], IntArray]:
    """The metrics of one segmented case, and the confusion counts of its axial slices (S, K, K).

    With one foreground class the names are ``dice``, ``iou``, ``hd95_mm`` and ``volume_error_ml``; with more, each
    class has its own as ``dice/CLASS`` and the plain name is the mean over the classes. Without geometry distances are
    in pixels (``hd95_px``) and there is no volume.
    """
    geometry = predicted.geometry
    axial = next((a for a, code in enumerate(geometry.axis_codes) if code in "SI"), 0) if geometry else 0
    true, found = (np.moveaxis(image.voxels[0], axial, 0).astype(np.uint8) for image in (truth, predicted))
    spacing = np.array(geometry.spacing_mm if geometry else (1.0, 1.0, 1.0))
    spacing = np.concatenate([spacing[[axial]], np.delete(spacing, axial)])
    counts = slice_confusion(true, found, len(classes))
    total = counts.sum(axis=0)
    by_metric: dict[str, Sequence[float]] = {
        "dice": dice(total).tolist(),
        "iou": iou(total).tolist(),
        "hd95_mm" if geometry else "hd95_px": [
            hd95(true == label, found == label, spacing) for label in range(1, len(classes))
        ],
    }
    if geometry:
        by_metric["volume_error_ml"] = volume_error_ml(total, geometry).tolist()
    scores: dict[str, float] = {}
    for name, values in by_metric.items():
        defined = [value for value in values if math.isfinite(value)]
        scores[name] = sum(defined) / len(defined) if defined else math.nan
        if len(values) > 1:
            scores |= {f"{name}/{label}": value for label, value in zip(classes[1:], values, strict=True)}
    return scores, counts


def _measure(scored: Sequence[Scored], predictor: Predictor, config: Config) -> dict[str, Measured]:
    patients = [one.case.patient for one in scored]
    settings = config.evaluate
    if predictor.spec.multi_label:
        return measure_multilabel(
            [one.labels for one in scored],
            [one.probabilities for one in scored],
            patients,
            predictor.spec.classes,
            resamples=settings.resamples,
            seed=settings.seed,
        )
    if predictor.spec.task == "classification":
        return measure_classification(
            [one.truth for one in scored],
            [one.probabilities for one in scored],
            patients,
            predictor.spec.classes,
            resamples=settings.resamples,
            seed=settings.seed,
            ordered=config.data.ordered,
        )
    return measure_segmentation(
        [one.scores for one in scored],
        patients,
        scored[0].counts,
        predictor.spec.classes,
        resamples=settings.resamples,
        seed=settings.seed,
    )


def _marked(metrics: Mapping[str, Measured], leaked: Leaked) -> dict[str, Measured]:
    """Wherever a number goes, its method goes with it: so that is where accepted leaks are said."""
    said = f"; {leak_sentence(leaked.counts)}" if leaked else ""
    return {name: replace(measured, method=measured.method + said) for name, measured in metrics.items()}


def _strata(
    scored: Sequence[Scored], predictor: Predictor, config: Config, leaked: Leaked
) -> dict[str, dict[str, dict[str, Measured]]]:
    named: dict[str, Callable[[Scored], str]] = {
        "leaked": lambda one: "yes" if one.case.id in leaked.reasons else "no",
        "defects": lambda one: "with" if one.defects else "without",
        "centre": lambda one: one.case.centre,
    }
    return {
        name: {
            value: _marked(_measure(part, predictor, config), NOTHING_LEAKED if name == "leaked" else leaked)
            for value, part in values.items()
        }
        for name, values in parts(scored, named).items()
    }


def _confusion(scored: Sequence[Scored], predictor: Predictor) -> tuple[tuple[int, ...], ...]:
    if predictor.spec.task != "classification" or predictor.spec.multi_label:
        return ()
    size = len(predictor.spec.classes)
    counts = np.zeros((size, size), dtype=int)
    for one in scored:
        counts[one.truth, int(np.argmax(one.probabilities))] += 1
    return tuple(tuple(int(count) for count in row) for row in counts)


def _median(scored: Sequence[Scored], name: str) -> float:
    return round(float(np.median([one.timings_ms[name] for one in scored])), 3)


def _table(worst_first: Sequence[Scored], predictor: Predictor, leaked: Leaked) -> str:
    classes = predictor.spec.classes
    rows: list[dict[str, Any]] = []
    for one in worst_first:
        row: dict[str, Any] = {"id": one.case.id, "patient": one.case.patient}
        if predictor.spec.multi_label:
            truth, found = _names(one.labels, classes), _names(one.findings, classes)
            row |= {"truth": truth, "predicted": found, "correct": int(one.labels == one.findings)}
            row |= {f"p/{name}": f"{p:.6f}" for name, p in zip(classes, one.probabilities, strict=True)}
        elif predictor.spec.task == "classification":
            best = int(np.argmax(one.probabilities))
            row |= {"truth": classes[one.truth], "predicted": classes[best], "correct": int(best == one.truth)}
            row |= {f"p/{name}": f"{p:.6f}" for name, p in zip(classes, one.probabilities, strict=True)}
        else:
            row |= {name: f"{value:.6f}" if math.isfinite(value) else "" for name, value in one.scores.items()}
        row |= {"centre": one.case.centre, "defects": " ".join(one.defects)}
        row |= {"leaked": leaked.kinds(one.case.id)} if leaked else {}
        rows.append(row)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _draw(run: Run, config: Config, predictor: Predictor, one: Scored) -> None:
    image = read(one.case.paths[0], one.case.item, config.data.read_options)
    classes = predictor.spec.classes
    if predictor.spec.multi_label:
        found, truth_names = (_names(which, classes) or "none" for which in (one.findings, one.labels))
        picture = overlay_png(image, caption=f"{found}   truth: {truth_names}")
    elif predictor.spec.task == "classification":
        best = int(np.argmax(one.probabilities))
        caption = f"{classes[best]} {one.probabilities[best]:.3f}   truth: {classes[one.truth]}"
        picture = overlay_png(image, caption=caption)
    else:
        predicted = read_mask(one.mask_file) if one.mask_file else None
        truth = read_target_mask(one.case, image, config.data)
        caption = f"Dice {one.scores['dice']:.3f}   colour: prediction   white: reference"
        picture = overlay_png(image, predicted, truth=truth, caption=caption)
    path = run.evaluation / "overlays" / f"{one.case.id}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture)


def _names(which: Sequence[bool], classes: Sequence[str]) -> str:
    return joined_labels((name for name, has in zip(classes, which, strict=True) if has), classes)


def _reason(error: Exception) -> str:
    """What happened and what to do, without any path or foreign text (the case says which file)."""
    if isinstance(error, MedrailError):
        parts = [error.found, f"needed: {error.needed}" if error.needed else "", error.remedy]
        return ". ".join(part.rstrip(".") for part in parts if part)
    if isinstance(error, OSError) and error.strerror:
        return f"the file cannot be read: {error.strerror}"
    if isinstance(error, MemoryError):
        return "not enough memory for this image"
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"unexpected {type(error).__name__} in {Path(last.filename).name}, line {last.lineno}"
