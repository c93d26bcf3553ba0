"""What is usual: the answers and the prepared images of the validation cases, counted once for a service to hold by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from medrail.bundle.calibration import FINDING_FROM, Calibration
from medrail.bundle.probability import as_probabilities
from medrail.bundle.spec import NetworkSpec
from medrail.bundle.usual import NO_FINDING, Shares, Usual

FloatArray = npt.NDArray[np.float32]


def usual_of(
    spec: NetworkSpec,
    calibration: Calibration,
    logits: FloatArray,
    features: FloatArray,
    inputs: Sequence[Mapping[str, float]],
) -> Usual | None:
    """Count what was answered, as it is answered in service; None where there is nothing to count.

    Parameters
    ----------
    logits, features:
        (n, K) and (n, F) of the validation cases; (n, 0) where the network gives none.
    inputs:
        ``input_statistics`` of each.
    """
    shares: dict[str, Shares | None] = {}
    if spec.task == "classification" and logits.size:
        shares["classes"] = _classes(spec, calibration, logits)
    if calibration.ood and features.size:
        shares["ood_score"] = Shares.of_numbers([calibration.ood.score(row) for row in features])
    for name in ("input_mean", "input_sd"):
        shares[name] = Shares.of_numbers([entry[name] for entry in inputs if name in entry])
    told = {name: counted for name, counted in shares.items() if counted is not None}
    return Usual(len(logits), told) if told else None


def _classes(spec: NetworkSpec, calibration: Calibration, logits: FloatArray) -> Shares:
    counts: Counter[str] = Counter()
    for row in logits:
        probabilities = as_probabilities(row, multi_label=spec.multi_label, temperature=calibration.temperature)
        by_name = {name: float(value) for name, value in zip(spec.classes, probabilities, strict=True)}
        if not spec.multi_label:
            counts[calibration.decide(by_name)] += 1
            continue
        found = [name for name in by_name if by_name[name] >= calibration.thresholds.get(name, FINDING_FROM)]
        counts.update(found or [NO_FINDING])
    names = (*spec.classes, NO_FINDING) if spec.multi_label else spec.classes
    return Shares(tuple(counts[name] for name in names), names=names)
