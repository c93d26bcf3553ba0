"""A trained Run -> a smaller, faster one: a run like any other, with ``parent`` and ``slim`` in its passport.

``judge(making)`` makes every candidate, times it and tests it against the run as it was evaluated. ``prune_run(parent,
config, workspace, cases, ratio)`` takes whole channels away (Torch-Pruning's dependency graph) and teaches what is left
by the unpruned network; ``quantise_run`` lets the network compute in whole numbers of 8 bits. ``sparsify_run`` sets
single weights to zero, which makes nothing faster and is there to be compared with; ``evaluate_sparsity`` counts such
zeros.
"""

from medrail.slim.judge import judge
from medrail.slim.making import Making
from medrail.slim.quantise import quantise_run
from medrail.slim.run import prune_run, sparsify_run
from medrail.slim.unstructured import evaluate_sparsity

__all__ = ["Making", "evaluate_sparsity", "judge", "prune_run", "quantise_run", "sparsify_run"]
