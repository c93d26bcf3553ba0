"""In what runs differ: configuration, seed, data, code, environment; and what each of them costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from medrail.errors import RunError
from medrail.evaluate.evaluation import EVALUATION_FILE
from medrail.workspace import Run, read_json

Kind = Literal["seed", "configuration", "data", "code", "environment"]
SEED = "train.seed"
EVALUATE = "evaluate."
_AFTERWARDS = ("export.", "slim.", "serve.")  # what is done with a run when its numbers stand
_SHOWN = 12
# Where the passport has what: its kind, a name, the keys that lead there, and whether it is a hash.
_PASSPORT: tuple[tuple[Kind, str, tuple[str, ...], bool], ...] = (
    ("data", "prepared data", ("data", "fingerprint"), True),
    ("data", "steps of prepare", ("data", "pipeline"), True),
    ("data", "training cases", ("data", "train_cases"), False),
    ("data", "training patients", ("data", "train_patients"), False),
    ("data", "validation cases", ("data", "val_cases"), False),
    ("code", "medrail version", ("medrail", "version"), False),
    ("code", "medrail source", ("medrail", "source_sha256"), True),
    ("code", "project commit", ("project", "commit"), True),
    ("code", "project diff", ("project", "diff_sha256"), True),
    *(("environment", name, ("machine", name), False) for name in ("python", "processor", "device", "device_name")),
    *(("environment", name, ("machine", name), False) for name in ("threads", "precision", "capability")),
)


@dataclass(frozen=True)
class Differing:
    """One thing in which the runs differ: its kind, its name, and the value of each run as text ("" for none)."""

    what: Kind
    name: str
    values: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        return {"what": self.what, "name": self.name, "values": dict(self.values)}


@dataclass(frozen=True)
class Cost:
    """What a run costs; None where it is not known.

    train_seconds:
        All epochs together, validation included.
    parameters, file_mb:
        Numbers that the exported network stores, and the size of its file.
    prepare_ms, model_ms:
        Median a case in the evaluation, on the machine and beside whatever ran there.
    """

    train_seconds: float | None = None
    parameters: int | None = None
    file_mb: float | None = None
    prepare_ms: float | None = None
    model_ms: float | None = None

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


def differing(runs: Mapping[str, Run], judged: Mapping[str, Sequence[Mapping[str, Any]]]) -> tuple[Differing, ...]:
    """Everything of config.yaml, passport.json and the settings of the evaluations in which the runs are not all alike.

    Parameters
    ----------
    judged:
        Of each run the ``settings`` of its evaluations. They need not be those of its config.yaml (`--set evaluate.*`).

    Raises
    ------
    RunError
        If one of these files cannot be read.
    """
    passports = {name: passport_of(run) for name, run in runs.items()}
    configs = {name: dict(_flat(_config_of(run))) | _planned(passports[name]) for name, run in runs.items()}
    rows: list[tuple[Kind, str, dict[str, str]]] = []
    for key in dict.fromkeys(key for config in configs.values() for key in config):
        if key.startswith((*_AFTERWARDS, EVALUATE)):
            continue
        kind: Kind = "seed" if key == SEED else "configuration"
        rows.append((kind, key, {name: config.get(key, "") for name, config in configs.items()}))
    rows += [("configuration", key, values) for key, values in _settings(judged).items()]
    for kind, label, keys, is_hash in _PASSPORT:
        found = {name: _at(passport, keys) for name, passport in passports.items()}
        rows.append((kind, label, {name: text[:_SHOWN] if is_hash else text for name, text in found.items()}))
    packages = {name: passport.get("packages") or {} for name, passport in passports.items()}
    for package in dict.fromkeys(one for named in packages.values() for one in named):
        rows.append(("environment", package, {name: str(named.get(package, "")) for name, named in packages.items()}))
    return tuple(Differing(kind, key, values) for kind, key, values in rows if len(set(values.values())) > 1)


def _planned(passport: Mapping[str, Any]) -> dict[str, str]:
    """What a training with a time budget did instead of what its configuration says."""
    schedule = passport.get("schedule") or {}
    if not schedule.get("minutes"):
        return {}
    return {f"train.{key}": str(schedule[key]) for key in ("epochs", "samples_per_epoch", "patience")}


def _settings(judged: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, dict[str, str]]:
    """evaluate.KEY -> run -> its value; of a group whose members differ, each of theirs."""
    flat = {name: [{key: str(value) for key, value in one.items()} for one in those] for name, those in judged.items()}
    keys = dict.fromkeys(key for those in flat.values() for one in those for key in one)
    return {
        f"{EVALUATE}{key}": {
            name: " / ".join(dict.fromkeys(one.get(key, "") for one in those)) for name, those in flat.items()
        }
        for key in keys
    }


def passport_of(run: Run) -> dict[str, Any]:
    """passport.json; empty where there is none (a pooled evaluation was not trained)."""
    return dict(read_json(run.passport)) if run.passport.is_file() else {}


def cost_of(run: Run) -> Cost:
    """What one run costs, from its passport, its exported network and its evaluation."""
    result = passport_of(run).get("result") or {}
    evaluated = run.evaluation / EVALUATION_FILE
    timings_ms = read_json(evaluated).get("timings_ms", {}) if evaluated.is_file() else {}
    size = run.network.stat().st_size / 1e6 if run.network.is_file() else None
    return Cost(
        train_seconds=result.get("train_seconds"),
        parameters=result.get("parameters") or _stored_numbers(run),
        file_mb=round(size, 3) if size is not None else None,
        prepare_ms=timings_ms.get("prepare"),
        model_ms=timings_ms.get("model"),
    )


def mean_cost(costs: Sequence[Cost]) -> Cost:
    """The mean of each number over the members of a group; None where a member lacks it."""
    means: dict[str, Any] = {}
    for name in vars(costs[0]):
        values = [getattr(one, name) for one in costs]
        known = None not in values
        means[name] = round(sum(values) / len(values), 3) if known else None
    means["parameters"] = int(means["parameters"]) if means["parameters"] is not None else None
    return Cost(**means)


def _stored_numbers(run: Run) -> int | None:
    """Of network.onnx; None without the package onnx, which only the training side has."""
    try:
        import onnx
    except ModuleNotFoundError:
        return None
    if not run.network.is_file():
        return None
    try:
        graph = onnx.load(run.network, load_external_data=False).graph
    except Exception:  # noqa: BLE001 - a file that is broken costs only this number
        return None
    total = 0
    for tensor in graph.initializer:
        size = 1
        for length in tensor.dims:
            size *= length
        total += size
    return total or None


def _config_of(run: Run) -> Any:
    if not run.config_file.is_file():
        return {}
    try:
        return YAML(typ="safe", pure=True).load(run.config_file.read_text(encoding="utf-8")) or {}
    except (YAMLError, UnicodeDecodeError):
        raise RunError("not readable as YAML", where=str(run.config_file)) from None


def _flat(value: Any, at: str = "") -> Iterator[tuple[str, str]]:
    """Dotted key -> text; lists stay whole, but for the steps of prepare."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flat(inner, f"{at}.{name}" if at else str(name))
    elif at == "prepare.steps" and isinstance(value, Sequence):
        yield at, " > ".join(str(step.get("kind", step)) if isinstance(step, Mapping) else str(step) for step in value)
        for place, step in enumerate(value):
            yield from _flat(step, f"{at}.{place}")
    else:
        yield at, str(value)


def _at(passport: Mapping[str, Any], keys: Sequence[str]) -> str:
    value: Any = passport
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return "" if value is None else str(value)
