"""explain: raw images -> Evidence, by whatever way the run's network allows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from medrail.bundle import Predictor, load_network
from medrail.bundle.sliding import SLICES_A_BATCH
from medrail.errors import InputError
from medrail.evaluate.explanation import Explainer
from medrail.explain.gradcam import APPROXIMATE, BY_ITSELF, GradCam
from medrail.train import load_model
from medrail.types import Evidence, Image
from medrail.workspace import Run


def explain(run: Run, images: Iterable[Image], class_name: str = "") -> Iterator[Evidence]:
    """What in each raw image speaks for a class: exact evidence where the network has it, else Grad-CAM.

    Parameters
    ----------
    run:
        Trained and exported.
    images:
        As ``read`` gave them; one at a time is in memory.
    class_name:
        The class; "": of each image the one that is decided for, of several labels the most probable.

    Raises
    ------
    InputError
        If the run's network segments, whose mask needs no explanation of where; there is no such class; or an image
        does not suit it.
    BundleError, RunError
        If the run's network is missing or unusable.
    """
    explainer = make_explainer(run)
    return (explainer(image, class_name, None) for image in images)


def make_explainer(run: Run, predictor: Predictor | None = None) -> Explainer:
    """The function that ``explain`` maps over images, for callers that have a class or region for each of them.

    Parameters
    ----------
    predictor:
        The run's, where it is loaded already.

    Raises
    ------
    As ``explain``.
    """
    predictor = predictor or load_network(run.folder)
    if predictor.spec.task != "classification":
        raise InputError("the network segments", needed="a classifier", where=run.name)
    if predictor.has_evidence:
        return lambda image, class_name, roi: _exact(predictor, image, class_name, roi)
    method = BY_ITSELF if predictor.spec.multi_label else APPROXIMATE
    gradcam: list[GradCam] = []  # made for the size of the first image

    def approximate(image: Image, class_name: str, roi: Image | None) -> Evidence:
        name = _class_of(predictor, image, class_name, roi)
        prepared = predictor.prepare(image, roi)
        voxels = prepared.voxels.astype(np.float32)
        batch = voxels[np.newaxis] if predictor.spec.dims == 3 else np.moveaxis(voxels, 1, 0)
        if not gradcam:
            gradcam.append(GradCam(load_model(run), batch.shape[1:]))
        index = predictor.spec.classes.index(name)
        maps = [
            gradcam[0](batch[first : first + SLICES_A_BATCH], index, by_itself=predictor.spec.multi_label)
            for first in range(0, len(batch), SLICES_A_BATCH)
        ]
        cells = maps[0][0] if predictor.spec.dims == 3 else np.concatenate(maps)
        return Evidence(name, predictor.spread(cells, prepared, image), exact=False, method=method)

    return approximate


def _class_of(predictor: Predictor, image: Image, class_name: str, roi: Image | None) -> str:
    """The class that is asked for, else the one decided for, else (of several labels) the most probable one."""
    if class_name:
        if class_name not in predictor.spec.classes:
            raise InputError(f"no class {class_name!r}", needed=f"one of {', '.join(predictor.spec.classes)}")
        return class_name
    answer = predictor(image, roi)
    return answer.class_name or max(answer.probabilities, key=answer.probabilities.__getitem__)


def _exact(predictor: Predictor, image: Image, class_name: str, roi: Image | None) -> Evidence:
    evidence = predictor.explain(image, class_name, roi)
    assert evidence is not None  # noqa: S101 - the caller has looked whether the network has it
    return evidence
