"""medrail: from a folder of raw medical images to a defended, deployed model. Not a medical device.

>>> import medrail
>>> medrail.read("scan.nii.gz")                      # raw file -> Image  # doctest: +SKIP
>>> medrail.load_bundle("bundles/brain/1")(image)    # Image -> Prediction  # doctest: +SKIP
>>> project = medrail.open_project("my-project")     # then medrail.check(project), medrail.prepare(project), ...
... # doctest: +SKIP

Names are imported when first used, so that ``import medrail`` costs nothing and never loads torch.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medrail.bundle import load_bundle
    from medrail.client import Client
    from medrail.errors import MedrailError
    from medrail.prepare import Pipeline
    from medrail.read import read
    from medrail.stages import check, open_project, run_all
    from medrail.stages import evaluate_run as evaluate
    from medrail.stages import export_run as export
    from medrail.stages import prepare_cases as prepare
    from medrail.stages import train_run as train
    from medrail.stages import tune_project as tune
    from medrail.types import Case, Geometry, Image, Prediction

__version__ = "0.1.0"
__all__ = [
    "Case",
    "Client",
    "Geometry",
    "Image",
    "MedrailError",
    "Pipeline",
    "Prediction",
    "check",
    "evaluate",
    "export",
    "load_bundle",
    "open_project",
    "prepare",
    "read",
    "run_all",
    "train",
    "tune",
]

_HOME = {
    "Case": ("medrail.types", "Case"),
    "Client": ("medrail.client", "Client"),
    "Geometry": ("medrail.types", "Geometry"),
    "Image": ("medrail.types", "Image"),
    "MedrailError": ("medrail.errors", "MedrailError"),
    "Pipeline": ("medrail.prepare", "Pipeline"),
    "Prediction": ("medrail.types", "Prediction"),
    "check": ("medrail.stages", "check"),
    "evaluate": ("medrail.stages", "evaluate_run"),
    "export": ("medrail.stages", "export_run"),
    "load_bundle": ("medrail.bundle", "load_bundle"),
    "open_project": ("medrail.stages", "open_project"),
    "prepare": ("medrail.stages", "prepare_cases"),
    "read": ("medrail.read", "read"),
    "run_all": ("medrail.stages", "run_all"),
    "train": ("medrail.stages", "train_run"),
    "tune": ("medrail.stages", "tune_project"),
}


class _Package(ModuleType):
    """`medrail.read` is a function for users and a room for imports; an attribute of the class wins over the room.

    The import system writes each imported room into the package's attributes. For the names of ``__all__`` those are
    passed over, so that ``medrail.read(path)`` means the same before and after ``from medrail.read import ...``.
    """

    def __getattribute__(self, name: str) -> Any:
        if name in _HOME:
            module, attribute = _HOME[name]
            return getattr(importlib.import_module(module), attribute)
        return super().__getattribute__(name)


sys.modules[__name__].__class__ = _Package


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
