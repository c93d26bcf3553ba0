"""A trained Run and raw images -> for each image a map of what spoke for a class, on the image's own grid.

Exact where the network allows it (``medrail.models.evidence``), through the exported network; else Grad-CAM, which is
an approximation, through torch. The result says which. The functions: ``explain(run, images)``, and
``make_explainer(run)`` for callers that have a class or region for each image.
"""

from medrail.explain.explain import explain, make_explainer
from medrail.explain.gradcam import GradCam

__all__ = ["GradCam", "explain", "make_explainer"]
