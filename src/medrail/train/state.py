"""State: how far a training has come. All of it lies in last.pt, so a killed run goes on as if nothing had happened."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from medrail.errors import RunError
from medrail.train import checkpoint
from medrail.train.average import Average
from medrail.train.validate import Score
from medrail.workspace import Run, write_text

SHARE_FOR_SAVING = 0.05
"""Of the time of training: a ResNet-18 with its average and its optimizer is 180 MB."""


@dataclass
class State:
    """The moving part of a training.

    network:
        The one that answers, with its weights as they are trained.
    trained, optimizer:
        What is trained: the network, or it with the layers of deep supervision around it.
    average:
        Of the network's weights, or None.
    about:
        What ``load_model`` needs beside the weights: task, classes, model, grid.
    epoch:
        Whole epochs done.
    history:
        The lines of metrics.jsonl.
    best_epoch, best_rank:
        The best epoch so far by validation; 0 before the first one and without validation.
    found_epoch:
        The first epoch after which the network found anything in validation; 0 before it.
    parts:
        How many parts each batch is computed in.
    notes:
        What is to be known of the result: topic -> sentence, one each.
    """

    network: nn.Module
    trained: nn.Module
    optimizer: torch.optim.Optimizer
    about: dict[str, Any]
    average: Average | None = None
    epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = 0
    best_rank: tuple[float, float] = (-math.inf, -math.inf)
    found_epoch: int = 0
    parts: int = 1
    notes: dict[str, str] = field(default_factory=dict)
    _unsaved_best: dict[str, Any] = field(default_factory=dict)
    _next_save: float = -math.inf

    @property
    def judged(self) -> nn.Module:
        """The network that is validated, kept and exported."""
        return self.average.network if self.average else self.network

    def exhausted(self, patience: int) -> bool:
        """Whether the last ``patience`` epochs were all no better than the best one before them.

        Epochs before the network has found anything do not count: a slow start is no standstill.
        """
        since = max(self.best_epoch, self.found_epoch)
        return bool(patience and self.found_epoch and self.epoch - since >= patience)

    def take(self, line: dict[str, Any], score: Score | None) -> bool:
        """Take down an epoch; True if it is the best so far."""
        self.epoch += 1
        self.history.append(line)
        if score and score.found and not self.found_epoch:
            self.found_epoch = self.epoch
        if score is None or score.rank <= self.best_rank:
            return False
        self.best_epoch, self.best_rank = self.epoch, score.rank
        return True

    def set_learning_rate(self, value: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = value

    def note(self, epochs: int, running: str = "") -> str:
        """For a progress bar: the epoch that runs, counted from 1, with what is told of it, and the last whole one."""
        last = self.history[-1] if self.history else {}
        shown = [f"{key} {value:.4f}" for key, value in last.items() if key.startswith(("train_", "val_"))]
        told = [f"{running}; before:" if running and shown else running]
        number = self.epoch + 1 if running else self.epoch
        return f"epoch {number} of {epochs}: {' '.join(part for part in [*told, ', '.join(shown)] if part)}"

    def save(self, run: Run, fingerprint: str, *, best: bool, final: bool = False) -> None:
        """Write metrics.jsonl, and now and then best.pt and, as the one that counts, last.pt.

        Writing may take a twentieth of the time; what a kill loses is computed again, with the same result. ``best``:
        this epoch is the best so far; ``final``: it is the last one, so all is written.
        """
        if best:
            weights = {key: value.detach().cpu().clone() for key, value in self.judged.state_dict().items()}
            self._unsaved_best = {**self.about, "epoch": self.epoch, "weights": weights}
        write_text(run.metrics, "".join(json.dumps(line) + "\n" for line in self.history))
        began = time.perf_counter()
        if not final and began < self._next_save:
            return
        if self._unsaved_best:
            checkpoint.save(run.best, self._unsaved_best)
            self._unsaved_best = {}
        content = {
            "fingerprint": fingerprint,
            "network": self.trained.state_dict(),
            "average": self.average.network.state_dict() if self.average else {},
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch,
            "history": self.history,
            "best_epoch": self.best_epoch,
            "best_rank": self.best_rank,
            "found_epoch": self.found_epoch,
            "parts": self.parts,
            "notes": self.notes,
        }
        checkpoint.save(run.last, content)
        ended = time.perf_counter()
        self._next_save = ended + (ended - began) / SHARE_FOR_SAVING

    def save_best(self, run: Run) -> None:
        """Write the weights as they are now as the ones that are evaluated and exported."""
        checkpoint.save(run.best, {**self.about, "epoch": self.epoch, "weights": self.judged.state_dict()})

    def restore(self, run: Run, fingerprint: str) -> None:
        """Go on from last.pt, if there is one and best.pt, where one was written, is still beside it.

        Raises
        ------
        RunError
            If it is broken or of another run.
        """
        checkpoint.clear_leftovers(run.checkpoints)
        if not run.last.is_file():
            return
        content = checkpoint.load(run.last)
        if content.get("fingerprint") != fingerprint:
            raise RunError("belongs to another run", where=str(run.last), remedy="Delete the run's folder.")
        if content["best_epoch"] and not run.best.is_file():
            return  # what the best epoch was is known, its weights are not: begin again
        self.trained.load_state_dict(content["network"])
        if self.average:
            self.average.network.load_state_dict(content["average"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.epoch, self.best_epoch = content["epoch"], content["best_epoch"]
        self.history = list(content["history"])
        self.best_rank, self.found_epoch = tuple(content["best_rank"]), content["found_epoch"]
        self.parts = content["parts"]
        self.notes |= content.get("notes", {}) | self.notes  # of a topic that is told anew, what is true now
