"""The model card: what a person should know before using the bundle, as Markdown (Mitchell et al., FAT* 2019)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from medrail.bundle import Calibration, Manifest, NetworkSpec
from medrail.bundle.engines import INT8
from medrail.bundle.reference import REFERENCE_FILE
from medrail.cases import leak_sentence
from medrail.evaluate import Evaluation

_NOT_A_DEVICE = (
    "**Not a medical device.** For research and teaching. It has not been assessed by any authority and must not be "
    "used for diagnosis, treatment or any decision about a patient."
)


def write_card(manifest: Manifest, evaluation: Evaluation, calibration: Calibration | None = None) -> str:
    """The text of card.md: purpose, numbers with intervals, calibration, training data, preprocessing, provenance."""
    spec, origin = manifest.spec, manifest.provenance
    sections = [
        f"# {manifest.name}, version {manifest.version}",
        _NOT_A_DEVICE,
        "## What it does",
        _purpose(spec),
        f"## How well: the {evaluation.split} split, {_count(evaluation.n, 'case')} of "
        f"{_count(evaluation.patients, 'patient')}",
        *_leaks(evaluation),
        *_ensemble(origin),
        _metrics(manifest.metrics),
        "The brackets are 95 % intervals; the last column says how they were found. They hold for data like this split "
        "only: other scanners, protocols or patients can give other numbers. Evaluate it on your own data first.",
        *([_confusion(evaluation, spec)] if evaluation.confusion else []),
        *_strata(evaluation),
        *_calibration(evaluation),
        *(["## What is applied to its answers", _applied(calibration)] if calibration else []),
        "## Why it answers so",
        _evidence(spec, manifest.parity),
        "## What it was trained on",
        _training(spec, origin, leaked=bool(evaluation.accepted_leaks)),
        "## Preprocessing, part of the bundle",
        "\n".join(f"{number}. {_step(step)}" for number, step in enumerate(spec.pipeline, 1)) or "None.",
        "## Where it comes from",
        _origin(manifest),
    ]
    return "\n\n".join(sections) + "\n"


def _purpose(spec: NetworkSpec) -> str:
    size = spec.patch or spec.grid
    shown = f" of {' x '.join(map(str, size))} ({' x '.join('DHW'[-len(size) :])})" if size else ""
    if spec.multi_label:
        what = (
            f"Tells which of {len(spec.classes)} findings an image has: none, one or several, each with a probability "
            f"of its own. They are {', '.join(spec.classes)}."
        )
    elif spec.task == "classification":
        what = f"Tells which of {len(spec.classes)} classes an image is: {', '.join(spec.classes)}."
    else:
        what = f"Marks each voxel of an image as one of: {', '.join(spec.classes)} (the first is the background)."
    unit = "slices or pictures" if spec.dims == 2 else "volumes"
    windows = "" if spec.task == "classification" else ", slid over larger images"
    return f"{what}\n\nThe network is {spec.dims}-D and sees {unit}{shown}{windows}. It expects {spec.input_kind}."


def _metrics(metrics: Mapping[str, Mapping[str, Any]]) -> str:
    rows = ["| metric | value | 95 % interval | n | method |", "|---|---|---|---|---|"]
    for name, measured in metrics.items():
        interval = f"[{_number(measured['low'])}, {_number(measured['high'])}]"
        row = [_cell(name), _number(measured["value"]), interval, str(measured["n"]), _cell(str(measured["method"]))]
        rows.append(f"| {' | '.join(row)} |")
    return "\n".join(rows)


def _applied(calibration: Calibration) -> str:
    """Whatever a reader needs to read a probability, a decision or a warning."""
    lines = []
    if calibration.temperature != 1:
        lines.append(f"Probabilities are calibrated: the logits are divided by {calibration.temperature:.3g}.")
    for name, threshold in calibration.thresholds.items():
        lines.append(f"Threshold: {name} from a probability of {threshold:.3g} on ({calibration.threshold_rule}).")
    if calibration.conformal:
        lines.append(
            f"Conformal sets: of new cases like those of the fit, at least {1 - calibration.conformal.alpha:.0%} have "
            "their true class among the classes that are not ruled out."
        )
    if calibration.ood:
        lines.append(
            f"Unlike the training data: images with a score above {calibration.ood.threshold:.3g}, which "
            f"{calibration.ood.quantile:.1%} of held-out images do not exceed. An image below it may "
            "still be of a kind that the network was not made for."
        )
    counts = {name: value for name, value in calibration.made_from.items() if _is_short(name, value)}
    made_from = ", ".join(f"{name} {value}" for name, value in counts.items())
    lines += [f"Fitted on: {made_from}."] if made_from else []
    return "\n".join(f"* {line}" for line in lines) or "Nothing."


def _is_short(name: str, value: Any) -> bool:
    return name != "fingerprint" and isinstance(value, int | float | str)


def _evidence(spec: NetworkSpec, parity: Mapping[str, Any]) -> str:
    if spec.task == "segmentation":
        return "The mask is the answer; there are no maps of evidence."
    if not spec.cells:
        return (
            "This network has no exact maps of evidence. Grad-CAM, as the evaluation may show it, is an approximation "
            "and can mislead."
        )
    gap = parity.get("evidence_gap")
    measured = f" (largest difference on real cases {gap:.1g} of the largest logit)" if gap is not None else ""
    return (
        "It has exact maps of evidence: for each class the mean over the map plus a constant is the logit"
        f"{measured}. They say where the answer came from, not whether that was a good reason."
    )


def _leaks(evaluation: Evaluation) -> list[str]:
    """What must be known before any of the numbers is read."""
    if not evaluation.accepted_leaks:
        return []
    return [
        f"**{leak_sentence(evaluation.accepted_leaks)}.** The numbers below are not what unseen patients will give; "
        "do not compare or publish them as such."
    ]


def _ensemble(origin: Mapping[str, Any]) -> list[str]:
    """Whose the numbers are, where the bundle holds several networks."""
    ensemble = origin.get("ensemble")
    if not ensemble:
        return []
    count = len(ensemble["members"])
    return [f"**An ensemble of {count} networks, whose probabilities are averaged.** {ensemble['numbers_are_of']}"]


def _strata(evaluation: Evaluation) -> list[str]:
    """One metric for each part of the cases, where they have parts; not of those that are too small.

    A bundle travels: a number of one patient would tell of that patient, and nothing of the network.
    """
    rows, too_small = [], 0
    for name, values in evaluation.to_json()["strata"].items():
        for value, metrics in values.items():
            if value in evaluation.too_small.get(name, {}):
                too_small += 1
                continue
            metric, measured = next(iter(metrics.items()))
            interval = f"[{_number(measured['low'])}, {_number(measured['high'])}]"
            cells = [_cell(f"{name}: {value}"), _cell(metric), _number(measured["value"]), interval]
            rows.append(f"| {' | '.join([*cells, str(measured['n'])])} |")
    head = ["| cases | metric | value | 95 % interval | n |", "|---|---|---|---|---|"]
    left_out = (
        f"{_count(too_small, 'part')} of the cases with too few to read {'is' if too_small == 1 else 'are'} left out."
    )
    return [*(["\n".join([*head, *rows])] if rows else []), *([left_out] if too_small else [])]


def _calibration(evaluation: Evaluation) -> list[str]:
    """What the calibrated answers are worth, and what must be known of them."""
    nothing = not evaluation.calibration.get("fitted")
    said = [
        *(evaluation.calibration.get("said", ()) if nothing else ()),
        *(f"**{one}**" for one in evaluation.warnings),
    ]
    rows = []
    for label, rates in evaluation.operating_points.items():
        cells = [f"{_number(rate.value)} [{_number(rate.low)}, {_number(rate.high)}]" for rate in rates.values()]
        threshold = evaluation.calibration.get("thresholds", {}).get(label)
        rows.append(f"| {' | '.join([_cell(label), _number(threshold), *cells])} |")
    head = [
        "| class against the rest | threshold | sensitivity | specificity | PPV | NPV |",
        "|---|---|---|---|---|---|",
    ]
    further = {"conformal sets": evaluation.conformal, "answered as unlike the training data": evaluation.ood}
    for title, metrics in further.items():
        for name, one in metrics.items():
            numbers = f"{_number(one.value)} [{_number(one.low)}, {_number(one.high)}]"
            said.append(f"{title}: {name.replace('_', ' ')} {numbers}, n = {one.n}")
    listed = ["\n".join(f"* {_cell(text)}" for text in said)] if said else []
    return ["## Decisions", *listed, *(["\n".join([*head, *rows])] if rows else [])] if said or rows else []


def _confusion(evaluation: Evaluation, spec: NetworkSpec) -> str:
    names = [_cell(name) for name in spec.classes]
    rows = [f"| true class | {' | '.join(f'taken for {name}' for name in names)} |", "|---" * (len(names) + 1) + "|"]
    rows += [
        f"| {name} | {' | '.join(map(str, counts))} |" for name, counts in zip(names, evaluation.confusion, strict=True)
    ]
    return "\n".join(rows)


def _training(spec: NetworkSpec, origin: Mapping[str, Any], *, leaked: bool) -> str:
    data = origin.get("data", {})
    train = f"{_count(data.get('train_cases', 0), 'case')} of {_count(data.get('train_patients', 0), 'patient')}"
    if "ensemble" in origin:
        noun = {"folds": "fold", "seeds": "seed"}[origin["ensemble"]["kind"]]
        names = ", ".join(f"{one['run']} ({noun} {one[noun]})" for one in origin["ensemble"]["members"])
        chosen = f", in the members' training or validation. Members: {names}"
    elif data.get("val_cases"):
        chosen = (
            f"; the weights were chosen by {_count(data['val_cases'], 'validation case')} of "
            f"{_count(data.get('val_patients', 0), 'patient')}"
        )
    else:
        chosen = "; there were no validation cases, so the last weights were kept"
    model = origin.get("model", {})
    apart = (
        "No patient is in a member's training and in what that member was judged on, by what the case table says of "
        "patients."
        if "ensemble" in origin and not leaked
        else "Some of the evaluated cases, or their patients, were in it: see above."
        if leaked
        else "No patient is in two splits by what the case table says of patients."
    )
    return (
        f"{train}{chosen}. Raw images: {spec.input_kind}. "
        f"Network: {model.get('name', '?')}, {spec.dims}-D, {origin.get('epochs', '?')} epochs, seed "
        f"{origin.get('seed', '?')}. {apart}"
    )


def _origin(manifest: Manifest) -> str:
    origin, parity = manifest.provenance, manifest.parity
    lines = {
        "run": origin.get("run"),
        "completed": origin.get("completed"),
        "medrail": origin.get("medrail"),
        "passport fingerprint": origin.get("fingerprint"),
        "data fingerprint": origin.get("data", {}).get("fingerprint"),
        "pipeline fingerprint": manifest.spec.pipeline_fingerprint,
        "project commit": origin.get("commit"),
        "engine": _engine(manifest),
        "quantised against unquantised" if _is_quantised(manifest) else "ONNX against torch": (
            f"{parity.get('cases')} real cases, largest difference of a probability "
            f"{parity.get('max_abs_difference', math.nan):.2g}, {parity.get('metric')} changed by "
            f"{parity.get('metric_change', math.nan):.2g}"
        ),
    }
    return "\n".join(f"* {name}: {value}" for name, value in lines.items() if value)


def _is_quantised(manifest: Manifest) -> bool:
    return manifest.engine is not None and manifest.engine.precision == INT8


def _engine(manifest: Manifest) -> str:
    """What was chosen to run it, and how another one proves itself."""
    chosen = f"{manifest.engine} was chosen; " if manifest.engine else ""
    if not manifest.tolerance:
        return str(manifest.engine or "")
    limits = ", ".join(f"{limit:g} in {precision}" for precision, limit in manifest.tolerance.items())
    return f"{chosen}any whose logits are within {limits} of those in {REFERENCE_FILE}, in units of their size"


def _step(step: Mapping[str, Any]) -> str:
    parameters = ", ".join(f"{key} {value}" for key, value in step.items() if key != "kind")
    return f"`{step.get('kind')}`{f': {parameters}' if parameters else ''}"


def _number(value: Any) -> str:
    return "-" if value is None or math.isnan(float(value)) else f"{float(value):.4g}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
