"""Predictions against truth.

In: a run's exported network and the raw files of the cases of one split.
Out: ``run/calibration.json``, and ``run/evaluation/``: metrics with 95 % intervals by patient, a page for a person, a
table of the cases worst first, masks, overlays.
The functions: ``fit_calibration(run, config, workspace, cases)``, then ``evaluate(run, config, cases)``.
"""

from medrail.evaluate.bootstrap import Measured, percentile_bootstrap
from medrail.evaluate.evaluation import Evaluation
from medrail.evaluate.fitting import fit_calibration
from medrail.evaluate.runner import evaluate

__all__ = ["Evaluation", "Measured", "evaluate", "fit_calibration", "percentile_bootstrap"]
