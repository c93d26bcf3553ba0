"""What is shipped, and what answers.

In: a run's ``network.onnx`` + ``network.json``, or a bundle's folder (``model.onnx``, ``bundle.json``, ``card.md``).
Out: a ``Predictor`` that takes a raw ``Image`` to a ``Prediction`` on the raw grid. No torch anywhere.
The one function: ``load_bundle(folder)(image)``.
"""

from medrail.bundle.backend import Backend, Engine, onnx_backend
from medrail.bundle.calibration import Calibration
from medrail.bundle.engines import ENGINES, Choice
from medrail.bundle.load import choose_engine, load_bundle, load_network, unlisted, verify_bundle, write_network
from medrail.bundle.manifest import FileEntry, Manifest
from medrail.bundle.maskfile import write_mask
from medrail.bundle.overlay import overlay_png
from medrail.bundle.predictor import Answers, Predictor, unit_fits
from medrail.bundle.reference import Reference
from medrail.bundle.settle import Taken
from medrail.bundle.sliding import sliding_window
from medrail.bundle.spec import InputKind, NetworkSpec

__all__ = [
    "ENGINES",
    "Answers",
    "Backend",
    "Calibration",
    "Choice",
    "Engine",
    "FileEntry",
    "InputKind",
    "Manifest",
    "NetworkSpec",
    "Predictor",
    "Reference",
    "Taken",
    "choose_engine",
    "load_bundle",
    "load_network",
    "onnx_backend",
    "overlay_png",
    "sliding_window",
    "unit_fits",
    "unlisted",
    "verify_bundle",
    "write_mask",
    "write_network",
]
