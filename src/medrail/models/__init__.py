"""Name -> network, with random weights.

In: a ``ModelConfig``, the task and the number of classes. Out: an ``nn.Module`` from float32 (N, C, [D,] H, W)
to logits, (N, K) or (N, K, [D,] H, W). The one function: ``build_model``. The variants
are the table ``MODELS``; each entry says when to choose it.
"""

from medrail.models.build import build_model, check_model
from medrail.models.table import MODELS, Architecture

__all__ = ["MODELS", "Architecture", "build_model", "check_model"]
