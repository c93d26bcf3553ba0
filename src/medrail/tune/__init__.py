"""Prepared cases and a search space -> the settings that validate best, each tried by a training.

In: the configuration with ``tune.space``, the workspace and the prepared cases. Out: ``tune/STUDY/`` with best.yaml,
trials.csv, study.json, pictures, and a Run a trial; a study that was killed or interrupted goes on, and several
processes share one. The test split is never looked at. The one function: ``tune``.
"""

from medrail.tune.run import tune
from medrail.tune.tuned import Tuned

__all__ = ["Tuned", "tune"]
