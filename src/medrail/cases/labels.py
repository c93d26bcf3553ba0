"""Class names: which a case has, and what was meant by one that is unknown.

Where each image has one class, a case's target is its name. With ``data.multi_label`` an image has none, one or several
labels: the target is their names with ``|`` between them, in the order of the classes, and "" for none of them.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from medrail.cases.listing import Entry, Finding, counted, shown
from medrail.config import LABEL_MARKS, Config, DataConfig
from medrail.errors import CaseError
from medrail.types import Case

SEPARATOR = "|"
_BETWEEN = re.compile("|".join(map(re.escape, LABEL_MARKS)))


def class_names(config: Config, cases: Iterable[Case]) -> tuple[str, ...]:
    """The classes in the order of the network's outputs: as configured, else (classification) all targets, sorted."""
    if config.data.classes:
        return config.data.classes
    if config.data.label_columns:
        return tuple(name for name in config.data.label_columns if not is_none_label(name, config.data))
    targets = {name for case in cases for name in labels_of(case.target, config.data)}
    return tuple(sorted(targets, key=natural)) if config.task == "classification" else ()


def labels_of(target: str | None, data: DataConfig) -> tuple[str, ...]:
    """The names that a target holds: with ``multi_label`` any number of them, else one; () without a target.

    >>> labels_of("Effusion|Mass", DataConfig(kind="csv", path="", multi_label=True))
    ('Effusion', 'Mass')
    """
    if target is None:
        return ()
    return tuple(name for name in target.split(SEPARATOR) if name) if data.multi_label else (target,)


def joined_labels(names: Iterable[str], classes: Sequence[str] = ()) -> str:
    """The target that holds these names once each: in the order of ``classes``, those that are in none behind.

    >>> joined_labels(["Mass", "Effusion", "Mass"])
    'Effusion|Mass'
    """
    place = {name: index for index, name in enumerate(classes)}
    return SEPARATOR.join(sorted(set(names), key=lambda name: (place.get(name, len(place)), natural(name))))


def parsed_labels(text: str, data: DataConfig) -> str | None:
    """A cell of labels, as ``Effusion|Mass`` or ``No Finding``, as a target; None for an empty cell: it says nothing.

    A cell with nothing but separators says "none of them", as the case table writes it.

    Raises
    ------
    ValueError
        If the cell says at once that there is none and that there are some; the message says so.
    """
    if not text.strip():
        return None
    names = [name.strip() for name in _BETWEEN.split(text) if name.strip()]
    labels = [name for name in names if not is_none_label(name, data)]
    if labels and len(labels) < len(names):
        none = next(name for name in names if is_none_label(name, data))
        raise ValueError(f"{none!r} stands beside {shown(map(repr, labels))}")
    return joined_labels(labels, data.classes)


def is_none_label(name: str, data: DataConfig) -> bool:
    """Whether a name says "none of the labels" (``data.none_label``, whatever its case, spaces and underscores)."""
    return bool(data.none_label) and name not in data.classes and _plain(name) == _plain(data.none_label)


def named_target(target: str | None) -> str:
    """A target for a person: "none of the labels" where it is empty."""
    return "none of the labels" if target == "" else str(target)


def targets_of(case: Case, classes: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Multi-label: which of the classes a case has, (K,).

    Raises
    ------
    CaseError
        If the case has no label, or one that is not among the classes.
    """
    if case.target is None:
        raise _unlabelled(case)
    names = {name for name in case.target.split(SEPARATOR) if name}
    for name in sorted(names - set(classes)):
        raise _unknown(case, name, classes)
    return np.array([name in names for name in classes], dtype=bool)


def natural(name: str) -> tuple[bool, int, str]:
    """Whole numbers by value (2 before 10), before the other names."""
    return (False, int(name), name) if name.isascii() and name.isdigit() else (True, 0, name)


def target_index(case: Case, classes: Sequence[str]) -> int:
    """The place of a case's class among the classes, from 0.

    Raises
    ------
    CaseError
        If the case has no label, or one that is not among the classes.
    """
    if case.target is None:
        raise _unlabelled(case)
    if case.target not in classes:
        raise _unknown(case, case.target, classes)
    return list(classes).index(case.target)


def _unlabelled(case: Case) -> CaseError:
    return CaseError("no label", where=case.paths[0], remedy="Label the case or take it out of the data.")


def _unknown(case: Case, name: str, classes: Sequence[str]) -> CaseError:
    remedy = nearest_class(name, classes) or "Correct the label, or add the class to data.classes."
    found, needed = f"the class {name!r} is not known", f"one of {shown(classes, 12)}"
    return CaseError(found, needed=needed, where=case.paths[0], remedy=remedy)


def class_finding(target: str | None, where: str, data: DataConfig) -> Finding | None:
    """What is wrong with a target's class names, where classes are configured; else None."""
    classes = data.classes
    unknown = [name for name in labels_of(target, data) if name not in classes]
    if not classes or not unknown:
        return None
    what = f"the class {unknown[0]!r} is not in data.classes ({shown(classes, 12)})"
    remedy = nearest_class(unknown[0], classes) or "Correct the label, or add the class to data.classes."
    return Finding("unknown_class", where, what, remedy)


def misspelt_classes(targets: Iterable[str | None], config: Config) -> dict[str, str]:
    """The data's name of a class -> its name in data.classes, where the two differ and only the data's has cases.

    One label among many that are right is a mistake in the data; a class of which no case is right is one in the
    configuration, and said once.
    """
    found = {name for target in targets for name in labels_of(target, config.data)}
    if config.task != "classification" or not config.data.classes:
        return {}
    missing = {_plain(name): name for name in config.data.classes if name not in found}
    misspelt: dict[str, str] = {}
    for target in sorted(found - set(config.data.classes)):
        near = difflib.get_close_matches(_plain(target), list(missing), n=1, cutoff=0.6)
        if near:
            misspelt[target] = missing.pop(near[0])
    return misspelt


def misspelt_findings(entries: Iterable[Entry], misspelt: Mapping[str, str], data: DataConfig) -> list[Finding]:
    """One finding for each misspelt class, at its first case."""
    entries = tuple(entries)
    findings = []
    for target, name in misspelt.items():
        having = (entry for entry in entries if target in labels_of(entry.target, data))
        places = list(dict.fromkeys(entry.where or str(entry.path) for entry in having))
        more = f" (and in {counted(len(places) - 1, 'other place')})" if len(places) > 1 else ""
        what = f"the class is called {target!r} here{more}, and {name!r} in data.classes"
        findings.append(Finding("unknown_class", places[0], what, f"Write {target!r} into data.classes, or rename it."))
    return findings


def nearest_class(name: str, classes: Sequence[str]) -> str:
    """ "Did you mean ...?" for a class name that differs in case, spaces or a letter or two; else ""."""
    plain = {_plain(known): known for known in classes}
    near = difflib.get_close_matches(_plain(name), list(plain), n=1, cutoff=0.6)
    return f"Did you mean {plain[near[0]]!r}?" if near else ""


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())
