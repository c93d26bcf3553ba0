"""Which of many things are of one person, by what DICOM headers share; the digests themselves stay in memory.

Joined is what shares a Patient ID (an empty issuer is any issuer; two different ones are two namespaces), a study, a
series, or a name with birth date where no Patient ID contradicts. It is better to keep two people together than to have
one of them both in training and in the test: what joins does so through others too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

from medrail.read.dicom.who import Keyed

Node = tuple[str, ...]
_Node = TypeVar("_Node", bound=Hashable)


def nodes_of(everything: Sequence[Keyed]) -> list[list[Node]]:
    """What each is linked to: two that share a node are of one person."""
    issuers: dict[str, set[str]] = defaultdict(set)
    patients: dict[str, set[str]] = defaultdict(set)
    for one in everything:
        issuers[one.patient_key].add(one.issuer_key)
        patients[one.person_key].add(one.patient_key)
    return [_nodes(one, issuers[one.patient_key], patients[one.person_key]) for one in everything]


def _nodes(one: Keyed, issuers: set[str], patients: set[str]) -> list[Node]:
    nodes: list[Node] = []
    if one.patient_key:
        nodes.append(("patient", one.patient_key, "" if "" in issuers else one.issuer_key))
    nodes += [(kind, key) for kind, key in (("study", one.study_key), ("series", one.series_key)) if key]
    # Several Patient IDs contradict each other, unless somebody without one may be either.
    if one.person_key:
        nodes.append(("person", one.person_key, "" if "" in patients else one.patient_key))
    return nodes


def joined(groups: Iterable[Sequence[_Node]]) -> Mapping[_Node, _Node]:
    """Node -> the one that stands for all that are joined with it, directly or through others."""
    leader: dict[_Node, _Node] = {}

    def find(node: _Node) -> _Node:
        while leader.setdefault(node, node) != node:
            leader[node] = leader[leader[node]]
            node = leader[node]
        return node

    for group in groups:
        for node in group:
            leader[find(node)] = find(group[0])
    return {node: find(node) for node in leader}
