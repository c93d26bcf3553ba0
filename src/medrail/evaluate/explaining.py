"""Puts the network's maps of evidence to both tests of ``explanation``, on a few of the judged cases."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from medrail.bundle import Predictor
from medrail.cases import read_roi
from medrail.cases.listing import counted
from medrail.config import Config
from medrail.evaluate.bootstrap import Measured
from medrail.evaluate.explanation import (
    ANSWERS,
    Deletion,
    Explainer,
    Pointed,
    delete,
    measure_explanations,
    point_at,
)
from medrail.evaluate.scored import Scored, reason_of
from medrail.read import read
from medrail.types import Evidence, Image

Both = tuple[str, str]
BUDGET_S = 30.0
"""What the tests may take: where they take longer, by the time that judging took or in fact, fewer cases are tested."""
FEWEST_PATIENTS = 5
"""Below which nothing is said of whether maps are to be trusted."""
EXACT, APPROXIMATE = "exact evidence", "approximate (Grad-CAM)"


def explainer_for(predictor: Predictor, otherwise: Explainer | None) -> Explainer | None:
    """The exact evidence of a classifier where it has it, else what is given; None where nothing can be shown."""
    if predictor.spec.task != "classification":
        return None
    if not predictor.has_evidence:
        return otherwise

    def exactly(image: Image, class_name: str, roi: Image | None) -> Evidence:
        evidence = predictor.explain(image, class_name, roi)
        assert evidence is not None  # noqa: S101 - ``has_evidence`` says so
        return evidence

    return exactly


@dataclass(frozen=True)
class Explaining:
    """Tests the maps of one network.

    explainer:
        As ``explainer_for`` gives it.
    """

    config: Config
    predictor: Predictor
    explainer: Explainer | None

    def tested(self, scored: Sequence[Scored]) -> tuple[dict[str, Measured], tuple[str, ...]]:
        """The numbers of ``measure_explanations``, and what must be said of them; empty where nothing was tested."""
        settings = self.config.evaluate
        wanted = min(settings.explained_cases, len(scored))
        if self.explainer is None or not wanted:
            return {}, ()
        count = min(wanted, _affordable(scored))
        patients: list[str] = []
        pointed: list[Pointed | None] = []
        deletions: list[Deletion | None] = []
        failed: list[str] = []
        begin, tried = time.perf_counter(), 0
        for one in drawn(scored, count, settings.seed):
            if time.perf_counter() - begin > BUDGET_S:  # large images cost more than the network's answers
                break
            tried += 1
            try:
                hit, deletion = self._of(self.explainer, one)
            except Exception as error:  # noqa: BLE001 - a map that cannot be drawn must not sink the evaluation
                failed.append(reason_of(error))
                continue
            patients.append(one.case.patient)
            pointed.append(hit)
            deletions.append(deletion)
        said = [f"maps of evidence were tested on {tried} of {wanted} cases: it takes long here"] * (tried < wanted)
        if failed:
            said.append(f"no map of evidence could be tested of {counted(len(failed), 'case')}: {failed[0]}")
        measured = measure_explanations(patients, pointed, deletions, resamples=settings.resamples, seed=settings.seed)
        kind = EXACT if self.predictor.has_evidence else APPROXIMATE
        return {name: replace(one, method=f"{one.method}; {kind}") for name, one in measured.items()}, tuple(said)

    def _of(self, explainer: Explainer, one: Scored) -> tuple[Pointed | None, Deletion]:
        case, cropped = one.case, self.predictor.spec.needs_roi
        image = read(case.paths[0], case.item, self.config.read_options)
        roi = read_roi(case, image)
        seen = roi if cropped else None
        evidence = explainer(image, "", seen)
        deletion = delete(
            lambda changed: self.predictor(changed, seen).probabilities,
            image,
            evidence,
            seed=self.config.evaluate.seed,
        )
        # A network that sees nothing but the region points at it whatever it has learned.
        marked = roi is not None and not cropped and bool((roi.voxels > 0).any())
        return (point_at(evidence, roi) if roi is not None and marked else None), deletion


def drawn(scored: Sequence[Scored], count: int, seed: int) -> list[Scored]:
    """So many of the cases, at random, from as many patients as there are."""
    order = np.random.default_rng(seed).permutation(len(scored))
    seen: dict[str, int] = {}
    turns = []
    for place in order:
        patient = scored[place].case.patient
        seen[patient] = seen.get(patient, 0) + 1
        turns.append((seen[patient], int(place)))
    return [scored[place] for _, place in sorted(turns, key=lambda turn: turn[0])[:count]]


def trust(explanation: Mapping[str, Measured], patients: int) -> Both | None:
    """One sentence, in English and Chinese, that says whether the maps are to be trusted; None if nothing was tested.

    Parameters
    ----------
    patients:
        That were judged.
    """
    gain = explanation.get("deletion_gain")
    if gain is None:
        return None
    exact = gain.method.endswith(EXACT)
    name = ("The exact maps of evidence", "精确证据图") if exact else (f"The {APPROXIMATE} maps", "近似图（Grad-CAM）")
    interval = f"[{gain.low:.3f}, {gain.high:.3f}]" if math.isfinite(gain.low) else "without an interval"
    number = f"deletion gain {gain.value:.3f} {interval}, n = {gain.n}"
    if min(gain.n, patients) < FEWEST_PATIENTS:
        verdict = ("were tested on too few patients to say whether to trust them", "测试患者太少，无法判断是否可信")
    elif gain.low > 0:
        verdict = ("may be trusted to show what the answers hang on", "可信：所示区域确实影响模型的回答")
    elif gain.high < 0:
        verdict = ("are not to be trusted: other places change the answers more", "不可信：其他位置对回答的影响更大")
    else:
        verdict = (
            "are not shown to be better than maps moved to random places: do not rely on them",
            "未显示优于随机移位的图：请勿依赖",
        )
    english, chinese = f"{name[0]} {verdict[0]} ({number}", f"{name[1]}{verdict[1]}（{number}"
    hit, chance = explanation.get("pointing_hit_rate"), explanation.get("pointing_by_chance")
    if hit and chance:
        english += (
            f"; they point into the marked region in {hit.value:.0%} of {hit.n} cases, {chance.value:.0%} by chance"
        )
        chinese += f"；{hit.n} 例中 {hit.value:.0%} 指向标注区域，随机为 {chance.value:.0%}"
    return f"{english}).", f"{chinese}）。"


def _affordable(scored: Sequence[Scored]) -> int:
    """How many cases' answers the budget is worth."""
    seconds = float(np.median([sum(one.timings_ms.values()) for one in scored])) / 1e3 * ANSWERS
    return int(BUDGET_S / seconds) if seconds > 0 else len(scored)
