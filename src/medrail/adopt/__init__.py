"""A network that was trained elsewhere -> a bundle like any other.

In: an ONNX file, and what its maker knows of it (classes, layout, scale). Out: ``bundles/NAME/VERSION``, whose card
says that nobody has evaluated it here. No torch anywhere. The one function: ``adopt(path, given, bundles, label)``.
"""

from medrail.adopt.adopt import Adopted, Label, adopt
from medrail.adopt.given import LAYOUTS, SCALES, Given

__all__ = ["LAYOUTS", "SCALES", "Adopted", "Given", "Label", "adopt"]
