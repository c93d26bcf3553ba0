"""Image -> model-ready Image, and back to the raw grid; the same code in training and in service (no torch).

In: an ``Image`` in raw voxels and the steps as data. Out: an ``Image`` with its history, from which masks are replayed
and answers inverted. ``Pipeline.from_dict(steps)(image)`` does it for one image; ``prepare(config, workspace, cases)``
for a whole case table, in parallel, into a ``Store`` that training reads.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from medrail.prepare.pipeline import Pipeline
from medrail.prepare.steps import STEPS, Step, check_steps

if TYPE_CHECKING:
    from medrail.prepare.report import PrepareReport
    from medrail.prepare.runner import outdated, prepare, store_of
    from medrail.prepare.store import Store

__all__ = ["STEPS", "Pipeline", "PrepareReport", "Step", "Store", "check_steps", "outdated", "prepare", "store_of"]

# A service prepares single images only, and starts a fifth quicker without what works on whole case tables.
_LATER = {
    "PrepareReport": "report",
    "outdated": "runner",
    "prepare": "runner",
    "store_of": "runner",
    "Store": "store",
}


def __getattr__(name: str) -> Any:
    """What is only loaded when it is asked for."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
