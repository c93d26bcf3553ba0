"""The gallery: the worst cases, and the first one, as pictures that a person can judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medrail.bundle import Predictor, overlay_png
from medrail.cases import read_roi, read_target_mask
from medrail.config import Config
from medrail.errors import MedrailError
from medrail.evaluate.explaining import APPROXIMATE
from medrail.evaluate.explanation import Explainer
from medrail.evaluate.heat import heat_png
from medrail.evaluate.scored import Scored, labels_told
from medrail.read import read, read_mask
from medrail.types import Evidence
from medrail.workspace import Run

WORST_SHOWN = 5
OVERLAYS = "overlays"


@dataclass(frozen=True)
class Gallery:
    """Draws cases of one evaluation to evaluation/overlays/ID.png.

    explainer:
        What shows where a classifier's answer comes from (``explainer_for``); None: nothing does.
    """

    run: Run
    config: Config
    predictor: Predictor
    explainer: Explainer | None = None

    def draw(self, worst_first: Sequence[Scored], first: Scored) -> frozenset[str]:
        """The worst five cases and the first one; the ids of those whose picture is an approximate map."""
        approximate = set()
        for one in {id(one): one for one in (*worst_first[:WORST_SHOWN], first)}.values():
            path = self.path(one)
            path.parent.mkdir(parents=True, exist_ok=True)
            evidence = self._evidence(one)
            if evidence and not evidence.exact:
                approximate.add(one.case.id)
            path.write_bytes(self._picture(one, evidence))
        return frozenset(approximate)

    def shown(self, worst_first: Sequence[Scored]) -> list[tuple[str, str, Path]]:
        """(case, what is said of it, its picture) of the worst five."""
        return [(one.case.id, self._said(one), self.path(one)) for one in worst_first[:WORST_SHOWN]]

    def path(self, one: Scored) -> Path:
        """Where a case's picture lies."""
        return self.run.evaluation / OVERLAYS / f"{one.case.id}.png"

    def _said(self, one: Scored) -> str:
        classes = self.predictor.spec.classes
        if self.predictor.spec.multi_label:
            found, truth = (labels_told(which, classes) or "none" for which in (one.findings, one.labels))
            return f"{found}, truth: {truth}"
        if self.predictor.spec.task == "classification":
            return f"{classes[one.predicted]} {one.probabilities[one.predicted]:.3f}, truth: {classes[one.truth]}"
        return f"Dice {one.scores['dice']:.3f}; colour: prediction, white: reference"

    def _evidence(self, one: Scored) -> Evidence | None:
        """None also where this image's map cannot be drawn: a picture less must not sink the evaluation."""
        if self.explainer is None:
            return None
        seen = read(one.case.paths[0], one.case.item, self.config.read_options)
        try:
            return self.explainer(seen, "", read_roi(one.case, seen) if self.predictor.spec.needs_roi else None)
        except (MedrailError, ValueError):
            return None

    def _picture(self, one: Scored, evidence: Evidence | None) -> bytes:
        case, spec = one.case, self.predictor.spec
        image = read(case.paths[0], case.item, self.config.data.read_options)
        if spec.task == "segmentation":
            predicted = read_mask(one.mask_file) if one.mask_file else None
            truth = read_target_mask(case, image, self.config.data)
            return overlay_png(image, predicted, truth=truth, caption=self._said(one))
        if evidence is None:
            return overlay_png(image, caption=self._said(one))
        seen = read(case.paths[0], case.item, self.config.read_options)
        caption = self._said(one) if evidence.exact else f"{self._said(one)}; {APPROXIMATE}"
        return heat_png(seen, evidence, caption)
