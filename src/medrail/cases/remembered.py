"""Near duplicates remembered: every image is compared with every other, and once is enough while none has changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from medrail.cases.fingerprint import FileHashes
from medrail.cases.leaks import Known, near_of
from medrail.cases.near.pairs import NearPair
from medrail.types import Case
from medrail.workspace import source_sha256


def near_pairs_of(cases: Sequence[Case], facts: Mapping[str, Known], hashes: FileHashes) -> list[NearPair]:
    """As ``near_of``, recalled where the same medrail has compared the same images before."""
    seen = [[case.id, facts[case.id].signature, facts[case.id].pixels] for case in cases]
    key = hashlib.sha256(json.dumps(["near", source_sha256(), seen]).encode()).hexdigest()
    kept = hashes.fact(key)
    if kept is not None:
        return [NearPair(**values) for values in json.loads(kept)]
    pairs = near_of(cases, facts)
    hashes.keep(key, json.dumps([asdict(pair) for pair in pairs]))
    return pairs
