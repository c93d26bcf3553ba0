"""prune_run: a trained Run -> a pruned and fine-tuned one, a run like any other."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn

from medrail.cases import read_record
from medrail.config import Config
from medrail.errors import RunError
from medrail.lock import Busy, locked
from medrail.models.structure import structure_of
from medrail.slim.distil import Distillation, Kind
from medrail.slim.gradients import give_gradients
from medrail.slim.prune import check_prunable, flush_vanishing, prune
from medrail.slim.request import Request
from medrail.slim.size import Size, size_of
from medrail.slim.unstructured import evaluate_sparsity, zero_smallest
from medrail.slim.write import Made, write_run
from medrail.train import load_model, passport, train
from medrail.train.checkpoint import load, save
from medrail.train.device import choose
from medrail.train.material import Material, gather
from medrail.train.processes import refuse_several
from medrail.train.runs import SLIMMING, find_place
from medrail.train.start import Start
from medrail.train.validate import select_by
from medrail.train.weights import network_in
from medrail.types import Case, Progress
from medrail.workspace import Run, Workspace, read_json


def prune_run(
    parent: Run,
    config: Config,
    workspace: Workspace,
    cases: Sequence[Case],
    ratio: float,
    *,
    run_name: str | None = None,
    progress: Progress | None = None,
) -> Run:
    """Take channels out of a run's network and teach what is left, as ``config.slim`` says.

    In each of ``slim.rounds`` rounds the same share of what there is goes, and the network is fine-tuned on the
    parent's training cases: as in training, with a part of the loss that keeps its answers near those of the unpruned
    one; the epoch is chosen by the validation cases. The same request gives the same run without doing anything; one
    that was killed is taken up again after its last saved epoch.

    Parameters
    ----------
    config:
        The parent's, with what is wanted in ``slim``.
    cases:
        The prepared cases, with the splits of the parent's record.
    ratio:
        Share that is taken away, 0..1; ``config.slim.by`` says of what.
    run_name:
        Folder below ``runs``; None: PARENT-pruned50.
    progress:
        Called after each batch of fine-tuning.

    Returns
    -------
    A run with ``parent`` and ``slim`` in its passport, its weights in checkpoints/best.safetensors.

    Raises
    ------
    ConfigError
        If such a network cannot be pruned, or not so far; or Torch-Pruning is not installed.
    RunError
        If the parent is not finished, or a run of that name is another one or being made.
    """
    refuse_several("slim")
    request = Request.of(parent, config, "structured", ratio)
    check_prunable(request.about["model"]["name"])

    def make(material: Material, fingerprint: str, name: str) -> Made:
        return _in_rounds(request, material, cases, fingerprint, name, progress)

    return _once(request, workspace, cases, run_name, make)


def sparsify_run(
    parent: Run,
    config: Config,
    workspace: Workspace,
    cases: Sequence[Case],
    ratio: float,
    *,
    run_name: str | None = None,
) -> Run:
    """The unstructured baseline: the same network with the smallest ``ratio`` of its weights set to zero.

    Parameters and errors as of ``prune_run``; nothing is fine-tuned.
    """
    request = Request.of(parent, config, "unstructured", ratio)

    def make(material: Material, fingerprint: str, name: str) -> Made:
        whole = load_model(parent)
        sparse = zero_smallest(whole, ratio)
        share = evaluate_sparsity(sparse).share
        size = size_of(sparse, request.shape)
        said = f"unstructured: {share:.0%} of the weights are zero, all multiplications are still done"
        slim = _slim(request, size, size, [], said) | {"sparsity": share}
        return Made(sparse, _untrained(request, material), slim)

    return _once(request, workspace, cases, run_name, make)


def _once(
    request: Request,
    workspace: Workspace,
    cases: Sequence[Case],
    run_name: str | None,
    make: Callable[[Material, str, str], Made],
) -> Run:
    """The run of this request: the one there is, or one that is made now."""
    read_record(request.parent)
    material = gather(request.fine_tuning, workspace, cases)
    training = passport.fingerprint(request.fine_tuning, material.store, material.classes, material.cases, None)
    fingerprint = request.fingerprint(training)
    place = find_place(request.config, workspace, fingerprint, run_name)
    if place.finished:
        return place.run
    name = run_name or _free_name(request, workspace)
    with _held(workspace, name):
        place = find_place(request.config, workspace, fingerprint, name)
        if place.finished:  # another process has just made it
            return place.run
        made = make(material, fingerprint, name)
        run = write_run(made, request, fingerprint, workspace.run(name), workspace)
        for number in range(1, request.config.slim.rounds + 1):
            shutil.rmtree(_round(workspace, name, number).folder, ignore_errors=True)
    return run


def _in_rounds(
    request: Request,
    material: Material,
    cases: Sequence[Case],
    fingerprint: str,
    name: str,
    progress: Progress | None,
) -> Made:
    slim, workspace, whole = request.slim, material.workspace, load_model(request.parent)
    each = 1 - (1 - request.ratio) ** (1 / slim.rounds)
    network, before, rounds = whole, size_of(whole, request.shape), []
    fine_tuned: Run | None = None
    for number in range(1, slim.rounds + 1):
        place, made_of = _round(workspace, name, number), f"{fingerprint}/{number}"
        network = _pruned(request, material, network, each, place, made_of)
        if slim.epochs:
            start = Start(network, made_of, _guide(request) if slim.distil else None)
            told = _part_of(progress, number, slim.rounds)
            fine_tuned = train(request.fine_tuning, workspace, cases, run_name=place.name, progress=told, start=start)
            network = network_in(fine_tuned.best)
        rounds.append(_round_says(request, network, fine_tuned))
    vanished = flush_vanishing(network)
    after = size_of(network, request.shape)
    told_of = dict(read_json(fine_tuned.passport)) if fine_tuned else _untrained(request, material)
    if vanished:
        notes = [*told_of["result"]["notes"], f"{vanished} vanishing weights were set to zero"]
        told_of["result"] = {**told_of["result"], "notes": notes}
    return Made(network, told_of, _slim(request, before, after, rounds, _said(request, before, after)), fine_tuned)


def _pruned(
    request: Request, material: Material, network: nn.Module, ratio: float, place: Run, made_of: str
) -> nn.Module:
    """The network with which a round begins; it is kept, so that a round that is taken up again has the very same."""
    begun = place.checkpoints / "start.safetensors"
    if begun.is_file() and load(begun).get("made_of") == made_of:
        return network_in(begun)
    shutil.rmtree(place.folder, ignore_errors=True)
    if request.slim.importance == "taylor":
        give_gradients(network, material)
    pruned = prune(network, request.about["model"]["name"], request.shape, ratio, request.slim)
    flush_vanishing(pruned)
    content = {**request.about, "epoch": 0, "made_of": made_of, "structure": structure_of(pruned)}
    save(begun, {**content, "weights": pruned.state_dict()})
    return network_in(begun)


def _guide(request: Request) -> Distillation:
    slim, data = request.slim, request.config.data
    kind: Kind = "multi_label" if data.multi_label else request.config.task
    dims = int(request.about["model"]["dims"])
    return Distillation(load_model(request.parent), dims, kind, slim.distil, slim.temperature)


def _untrained(request: Request, material: Material) -> dict[str, Any]:
    """A passport as of a training of no epochs."""
    config = request.fine_tuning
    machine = choose(config.train, config.task, config.model.dims)
    begun = passport.begin(config, material.workspace, material.store, material.cases, machine)
    chosen = "not fine-tuned"
    return passport.finish(begun, epochs=0, train_seconds=0.0, best_epoch=0, chosen_by=chosen, notes=[chosen])


def _slim(request: Request, before: Size, after: Size, rounds: Sequence[dict[str, Any]], said: str) -> dict[str, Any]:
    sizes = {"before": before.to_dict(), "after": after.to_dict()}
    return {"said": said, **request.settings, **sizes, "each_round": list(rounds)}


def _said(request: Request, before: Size, after: Size) -> str:
    slim = request.slim
    left = {key: after.to_dict()[key] / value for key, value in before.to_dict().items()}
    taught = "fine-tuned with distillation" if slim.distil else "fine-tuned"
    taught = taught if slim.epochs else "not fine-tuned"
    if slim.rounds > 1:
        taught += f" in {slim.rounds} rounds"
    return (
        f"structured, by {slim.importance}: {left['channels']:.0%} of the channels, {left['parameters']:.0%} of the "
        f"weights and {left['macs']:.0%} of the multiplications are left; {taught}"
    )


def _round_says(request: Request, network: nn.Module, fine_tuned: Run | None) -> dict[str, Any]:
    says: dict[str, Any] = size_of(network, request.shape).to_dict()
    if fine_tuned:
        result, metric = read_json(fine_tuned.passport)["result"], select_by(request.config)
        says |= {key: result[key] for key in ("epochs", "best_epoch", "train_seconds", metric) if key in result}
    return says


def _part_of(progress: Progress | None, number: int, rounds: int) -> Progress | None:
    if progress is None:
        return None

    def tell(done: int, total: int, note: str = "") -> None:
        progress((number - 1) * total + done, rounds * total, f"round {number}, {note}" if rounds > 1 else note)

    return tell


def _round(workspace: Workspace, name: str, number: int) -> Run:
    return workspace.run(f"{SLIMMING}{name}.{number}")


def _free_name(request: Request, workspace: Workspace) -> str:
    """The request's own name, or that with a number where something else has it."""
    name, number = request.name(), 1
    while workspace.run(name if number == 1 else f"{name}-{number}").folder.exists():
        number += 1
    return name if number == 1 else f"{name}-{number}"


@contextmanager
def _held(workspace: Workspace, name: str) -> Iterator[None]:
    try:
        with locked(workspace.runs / f"{SLIMMING}{name}.lock"):
            yield
    except Busy as busy:
        raise RunError(
            f"another process (number {busy.note.get('process', 'unknown')}) is making it",
            where=str(workspace.run(name).folder),
            remedy="Wait until it has ended and repeat: what is finished is not made again.",
        ) from None
