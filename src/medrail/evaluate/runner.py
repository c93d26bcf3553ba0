"""evaluate(): the exported network on the raw files of one split, a case at a time."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from medrail.bundle import Predictor, load_network
from medrail.cases import Leaked
from medrail.config import Config
from medrail.errors import BundleError, CaseError
from medrail.evaluate.case_table import case_table
from medrail.evaluate.evaluation import (
    CASE_FILE,
    EVALUATION_FILE,
    NOTHING_LEAKED,
    Evaluation,
    evaluation_fingerprint,
)
from medrail.evaluate.explaining import Explaining, explainer_for
from medrail.evaluate.explanation import Explainer
from medrail.evaluate.gallery import OVERLAYS, Gallery
from medrail.evaluate.measuring import Measuring
from medrail.evaluate.page import PAGE_FILE, Shown, page
from medrail.evaluate.pictures import PICTURES, draw_pictures
from medrail.evaluate.scored import Scored, median_ms, reason_of, score_case
from medrail.types import SPLITS, Case, Progress, SplitName
from medrail.workspace import Run, write_text


def evaluate(
    run: Run,
    config: Config,
    cases: Sequence[Case],
    progress: Progress | None = None,
    split: SplitName | None = None,
    leaked: Leaked = NOTHING_LEAKED,
    explainer: Explainer | None = None,
) -> Evaluation:
    """Evaluate a run's exported network on the raw files of one split and write run/evaluation/.

    The network is run/network.onnx with run/calibration.json, as the bundle ships them. Only one case's voxels are in
    memory at a time. A case that cannot be evaluated is recorded with its reason and the others go on.

    Written: evaluation.json (last, so a broken-off evaluation is never taken for a whole one), cases.csv (worst first),
    index.html with pictures/, overlays/ID.png (the worst five and the first), and for segmentation
    predictions/ID.nii.gz or ID.png.

    Parameters
    ----------
    split:
        "train", "val" or "test"; None: ``config.evaluate.split``.
    leaked:
        Cases that the network has seen in training and that are judged all the same: every result says so.
    explainer:
        Draws the map of what speaks for a class where the network has no exact evidence; None: such a network's answers
        are not explained.

    Raises
    ------
    CaseError
        If no case is in the split, or none of them could be evaluated.
    BundleError, RunError
        If the run's network is missing or unusable.
    """
    wanted = split or config.evaluate.split
    chosen = _chosen(cases, wanted)
    predictor = load_network(run.folder, threads=config.serve.threads, engine=config.serve.engine)
    fingerprint = evaluation_fingerprint(run, config, cases, wanted, leaked)
    _clear(run)
    watch = _Watch()
    scored, failed = _judge(run, config, predictor, chosen, progress)
    if not scored:
        raise CaseError(
            f"none of the {len(chosen)} cases of the {wanted} split could be evaluated",
            where=failed[0]["case"],
            remedy=f"The first one's reason: {failed[0]['reason']}",
        )
    watch.passed("judge")
    evaluation = replace(
        Measuring(predictor, config, leaked).evaluation(wanted, scored),
        failed=tuple(failed),
        fingerprint=fingerprint,
        multi_label=predictor.spec.multi_label,
        settings={**config.evaluate.model_dump(mode="json"), "split": wanted},
        timings_ms={name: median_ms(scored, name) for name in ("prepare", "model", "post")},
    )
    watch.passed("measure")
    explainer = explainer_for(predictor, explainer)
    explanation, said = Explaining(config, predictor, explainer).tested(scored)
    evaluation = replace(evaluation, explanation=explanation, warnings=(*evaluation.warnings, *said))
    watch.passed("explain")
    worst_first = sorted(scored, key=lambda one: -one.badness)
    write_text(run.evaluation / CASE_FILE, case_table(worst_first, predictor, leaked))
    gallery = Gallery(run, config, predictor, explainer)
    approximate = gallery.draw(worst_first, scored[0])
    shown = Shown(
        run.name,
        predictor.spec.classes,
        draw_pictures(run.evaluation / PICTURES, evaluation),
        gallery.shown(worst_first),
        has_evidence=predictor.has_evidence,
        multi_label=predictor.spec.multi_label,
        approximate=approximate,
    )
    write_text(run.evaluation / PAGE_FILE, page(evaluation, shown))
    watch.passed("draw")
    evaluation = replace(evaluation, seconds=watch.seconds)
    evaluation.save(run)
    return evaluation


class _Watch:
    """How long each part took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = time.perf_counter()

    def passed(self, what: str) -> None:
        now = time.perf_counter()
        self.seconds[what], self._since = round(now - self._since, 3), now


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
    for name in (EVALUATION_FILE, CASE_FILE, PAGE_FILE):
        (run.evaluation / name).unlink(missing_ok=True)
    for name in ("predictions", OVERLAYS, PICTURES):
        shutil.rmtree(run.evaluation / name, ignore_errors=True)


def _judge(
    run: Run, config: Config, predictor: Predictor, chosen: Sequence[Case], progress: Progress | None
) -> tuple[list[Scored], list[Mapping[str, str]]]:
    """The cases that could be judged, and why the others could not."""
    scored: list[Scored] = []
    failed: list[Mapping[str, str]] = []
    for index, case in enumerate(chosen):
        if progress:
            progress(index, len(chosen), case.id)
        try:
            scored.append(score_case(run, config, predictor, case))
        except BundleError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever one case does must not stop the others
            failed.append({"case": case.id, "reason": reason_of(error)})
    if progress:
        progress(len(chosen), len(chosen), "")
    return scored, failed
