"""The gallery: the worst cases, and the first one, as pictures that a person can judge."""

from __future__ import annotations

from collections.abc import Sequence


from medrail.bundle import Predictor, overlay_png
from medrail.cases import read_target_mask
from medrail.config import Config
from medrail.evaluate.scored import Scored
from medrail.read import read, read_mask
from medrail.workspace import Run

WORST_SHOWN = 5
OVERLAYS = "overlays"


def draw_gallery(run: Run, config: Config, predictor: Predictor, worst_first: Sequence[Scored], first: Scored) -> None:
    """Write evaluation/overlays/ID.png of the worst five cases and of the first one."""
    for one in {id(one): one for one in (*worst_first[:WORST_SHOWN], first)}.values():
        _draw(run, config, predictor, one)


def _draw(run: Run, config: Config, predictor: Predictor, one: Scored) -> None:
    image = read(one.case.paths[0], one.case.item, config.data.read_options)
    classes = predictor.spec.classes
    if predictor.spec.task == "classification":
        answer, probability = classes[one.predicted], one.probabilities[one.predicted]
        picture = overlay_png(image, caption=f"{answer} {probability:.3f}   truth: {classes[one.truth]}")
    else:
        predicted = read_mask(one.mask_file) if one.mask_file else None
        truth = read_target_mask(one.case, image, config.data)
        caption = f"Dice {one.scores['dice']:.3f}   colour: prediction   white: reference"
        picture = overlay_png(image, predicted, truth=truth, caption=caption)
    path = run.evaluation / OVERLAYS / f"{one.case.id}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture)
