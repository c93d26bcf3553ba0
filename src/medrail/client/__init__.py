"""The service from Python: what `medrail serve` answers, as typed values instead of JSON.

In: a service's URL, and files, bytes, arrays or ``Image``s. Out: ``Classification``, ``Segmentation``, masks,
comparisons, all frozen; or a ``ServiceError`` that says what the service said.
The one class: ``with Client("http://127.0.0.1:8000") as client: client.predict("scan.png")``.
"""

from medrail.client.answers import (
    Answer,
    Classification,
    ClassificationDifference,
    Comparison,
    Evidence,
    Mask,
    MaskClass,
    MaskClassDifference,
    MaskDifference,
    Model,
    Segmentation,
)
from medrail.client.client import Client
from medrail.client.sources import Source

__all__ = [
    "Answer",
    "Classification",
    "ClassificationDifference",
    "Client",
    "Comparison",
    "Evidence",
    "Mask",
    "MaskClass",
    "MaskClassDifference",
    "MaskDifference",
    "Model",
    "Segmentation",
    "Source",
]
