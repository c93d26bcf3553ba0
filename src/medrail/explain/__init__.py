"""A trained Run and raw images -> for each image a map of what spoke for a class, on the image's own grid.

Exact where the network allows it (``medrail.models.evidence``), through the exported network; else Grad-CAM, which is
an approximation, through torch. The result says which. The one function: ``explain(run, images)``.
"""

from medrail.explain.explain import explain
from medrail.explain.gradcam import GradCam

__all__ = ["GradCam", "explain"]
