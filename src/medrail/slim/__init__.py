"""A trained Run -> a smaller, faster one: a run like any other, with ``parent`` and ``slim`` in its passport.

``prune_run(parent, config, workspace, cases, ratio)`` takes whole channels away (Torch-Pruning's dependency graph) and
teaches what is left by the unpruned network; ``sparsify_run`` sets single weights to zero, which makes nothing faster
and is there to be compared with; ``evaluate_sparsity`` counts such zeros.
"""

from medrail.slim.run import prune_run, sparsify_run
from medrail.slim.unstructured import evaluate_sparsity

__all__ = ["evaluate_sparsity", "prune_run", "sparsify_run"]
