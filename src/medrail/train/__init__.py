"""Prepared cases -> a Run: trained weights with everything that says how they came about.

In: the configuration, the workspace and the cases. Out: ``runs/NAME/`` with config.yaml, passport.json, metrics.jsonl
and checkpoints/{last,best}.pt; a killed run is taken up again, a finished one returned as it is.
The one function: ``train``; ``load_model(run)`` gives the trained network back.
"""

from medrail.train.answer import torch_backend
from medrail.train.loop import train
from medrail.train.track import TRACKERS, Tracker
from medrail.train.weights import load_model

__all__ = ["TRACKERS", "Tracker", "load_model", "torch_backend", "train"]
