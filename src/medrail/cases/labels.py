"""Class names: which a case has, and what was meant by one that is unknown."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence

from medrail.cases.listing import Entry, Finding, counted, shown
from medrail.config import Config
from medrail.errors import CaseError
from medrail.types import Case


def class_names(config: Config, cases: Iterable[Case]) -> tuple[str, ...]:
    """The classes in the order of the network's outputs: as configured, else (classification) all targets, sorted."""
    if config.data.classes:
        return config.data.classes
    targets = {case.target for case in cases if case.target is not None}
    return tuple(sorted(targets, key=_natural)) if config.task == "classification" else ()


def _natural(name: str) -> tuple[bool, int, str]:
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
        raise CaseError("no label", where=case.paths[0], remedy="Label the case or take it out of the data.")
    if case.target not in classes:
        found = f"the class {case.target!r} is not known"
        needed = f"one of {shown(classes, 12)}"
        remedy = nearest_class(case.target, classes) or "Correct the label, or add the class to data.classes."
        raise CaseError(found, needed=needed, where=case.paths[0], remedy=remedy)
    return list(classes).index(case.target)


def class_finding(target: str | None, where: str, classes: Sequence[str]) -> Finding | None:
    """What is wrong with a class name, where classes are configured; else None."""
    if not classes or target is None or target in classes:
        return None
    what = f"the class {target!r} is not in data.classes ({shown(classes, 12)})"
    remedy = nearest_class(target, classes) or "Correct the label, or add the class to data.classes."
    return Finding("unknown_class", where, what, remedy)


def misspelt_classes(targets: Iterable[str | None], config: Config) -> dict[str, str]:
    """The data's name of a class -> its name in data.classes, where the two differ and only the data's has cases.

    One label among many that are right is a mistake in the data; a class of which no case is right is one in the
    configuration, and said once.
    """
    found = {target for target in targets if target is not None}
    if config.task != "classification" or not config.data.classes:
        return {}
    missing = {_plain(name): name for name in config.data.classes if name not in found}
    misspelt: dict[str, str] = {}
    for target in sorted(found - set(config.data.classes)):
        near = difflib.get_close_matches(_plain(target), list(missing), n=1, cutoff=0.6)
        if near:
            misspelt[target] = missing.pop(near[0])
    return misspelt


def misspelt_findings(entries: Iterable[Entry], misspelt: Mapping[str, str]) -> list[Finding]:
    """One finding for each misspelt class, at its first case."""
    entries = tuple(entries)
    findings = []
    for target, name in misspelt.items():
        places = list(dict.fromkeys(entry.where or str(entry.path) for entry in entries if entry.target == target))
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
