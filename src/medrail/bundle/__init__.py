"""What is shipped, and what answers.

In: a run's ``network.onnx`` + ``network.json``, or a bundle's folder (``model.onnx``, ``bundle.json``, ``card.md``).
Out: a ``Predictor`` that takes a raw ``Image`` to a ``Prediction`` on the raw grid. No torch anywhere.
The one function: ``load_bundle(folder)(image)``.
"""

from medrail.bundle.backend import Backend, onnx_backend
from medrail.bundle.load import load_bundle, load_network, verify_bundle, write_network
from medrail.bundle.manifest import FileEntry, Manifest
from medrail.bundle.maskfile import write_mask
from medrail.bundle.overlay import overlay_png
from medrail.bundle.predictor import Predictor
from medrail.bundle.sliding import sliding_window
from medrail.bundle.spec import InputKind, NetworkSpec

__all__ = [
    "Backend",
    "FileEntry",
    "InputKind",
    "Manifest",
    "NetworkSpec",
    "Predictor",
    "load_bundle",
    "load_network",
    "onnx_backend",
    "overlay_png",
    "sliding_window",
    "verify_bundle",
    "write_mask",
    "write_network",
]
