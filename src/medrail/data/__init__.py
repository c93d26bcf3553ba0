"""Prepared cases -> batches for a network (torch from here on).

In: a ``Store`` and the cases of one split. Out: float32 images (N, C, [D,] H, W) and int64 targets, (N,) or
(N, [D,] H, W) (of several labels float32, (N, K)), indexed a whole batch at once from arrays of the stored type in
memory, and augmented by draws that can be recorded.
The functions: ``load_samples(store, cases, needs)``, then ``batches(samples, settings, epoch)``.
"""

from medrail.data.augment import augment
from medrail.data.compact import Compact, Levels
from medrail.data.draws import Draws, check_augment, draw
from medrail.data.fit import Needs
from medrail.data.load import load_samples
from medrail.data.loader import batches
from medrail.data.order import batches_per_epoch, generator
from medrail.data.samples import Patches, Samples, Wholes

__all__ = [
    "Compact",
    "Draws",
    "Levels",
    "Needs",
    "Patches",
    "Samples",
    "Wholes",
    "augment",
    "batches",
    "batches_per_epoch",
    "check_augment",
    "draw",
    "generator",
    "load_samples",
]
