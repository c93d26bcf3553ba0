"""The gallery: the worst cases, and the first one, as pictures that a person can judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medrail.bundle import Predictor, overlay_png
from medrail.cases import read_roi, read_target_mask
from medrail.config import Config
from medrail.evaluate.heat import heat_png
from medrail.evaluate.scored import Scored, labels_told
from medrail.read import read, read_mask
from medrail.workspace import Run

WORST_SHOWN = 5
OVERLAYS = "overlays"


@dataclass(frozen=True)
class Gallery:
    """Draws cases of one evaluation to evaluation/overlays/ID.png."""

    run: Run
    config: Config
    predictor: Predictor

    def draw(self, worst_first: Sequence[Scored], first: Scored) -> None:
        """The worst five cases and the first one."""
        for one in {id(one): one for one in (*worst_first[:WORST_SHOWN], first)}.values():
            path = self.path(one)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self._picture(one))

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

    def _picture(self, one: Scored) -> bytes:
        case, spec = one.case, self.predictor.spec
        image = read(case.paths[0], case.item, self.config.data.read_options)
        if spec.task == "segmentation":
            predicted = read_mask(one.mask_file) if one.mask_file else None
            truth = read_target_mask(case, image, self.config.data)
            return overlay_png(image, predicted, truth=truth, caption=self._said(one))
        if not self.predictor.has_evidence:
            return overlay_png(image, caption=self._said(one))
        seen = read(case.paths[0], case.item, self.config.read_options)
        roi = read_roi(case, seen) if spec.needs_roi else None
        evidence = self.predictor(seen, roi, evidence=True).evidence
        return heat_png(seen, evidence, self._said(one)) if evidence else overlay_png(image, caption=self._said(one))
