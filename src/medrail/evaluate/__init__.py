"""Predictions against truth.

In: a run's exported network and the raw files of the cases of one split.
Out: ``run/evaluation/``: metrics with 95 % intervals by patient, a table of the cases worst first, masks, overlays.
The one function: ``evaluate(run, config, cases)``.
"""

from medrail.evaluate.bootstrap import Measured, percentile_bootstrap
from medrail.evaluate.evaluation import Evaluation
from medrail.evaluate.runner import evaluate

__all__ = ["Evaluation", "Measured", "evaluate", "percentile_bootstrap"]
