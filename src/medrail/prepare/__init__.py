"""Image -> model-ready Image, and back to the raw grid; the same code in training and in service (no torch).

In: an ``Image`` in raw voxels and the steps as data. Out: an ``Image`` with its history, from which masks are replayed
and answers inverted. ``Pipeline.from_dict(steps)(image)`` does it for one image; ``prepare(config, workspace, cases)``
for a whole case table, in parallel, into a ``Store`` that training reads.
"""

from medrail.prepare.pipeline import Pipeline
from medrail.prepare.report import PrepareReport
from medrail.prepare.runner import outdated, prepare, store_of
from medrail.prepare.steps import STEPS, Step, check_steps
from medrail.prepare.store import Store

__all__ = ["STEPS", "Pipeline", "PrepareReport", "Step", "Store", "check_steps", "outdated", "prepare", "store_of"]
