"""What other pipelines have done already: a change in the last steps does not repeat the first ones.

A store whose pipeline has the same first steps holds their result, if these are all of its steps, or all but a last
``normalise`` that it kept as a line of whole numbers (``Prepared.lines``). A last ``round`` has changed the numbers.
"""

from __future__ import annotations

from collections.abc import Iterator

from medrail.errors import MedrailError
from medrail.prepare.making import Base
from medrail.prepare.pipeline import Pipeline
from medrail.prepare.store import Store
from medrail.workspace import read_json


class Bases:
    """The stores of a workspace that may serve a pipeline, the most advanced first."""

    def __init__(self, store: Store) -> None:
        # A region of interest would have to be taken through the first steps as well: those pipelines begin anew.
        found = [] if store.pipeline.needs_roi else list(_found(store))
        self._bases = sorted(found, key=lambda base: base.steps, reverse=True)

    @property
    def any(self) -> bool:
        return bool(self._bases)

    def of(self, case_id: str, made_from: str) -> Base | None:
        """One that has the case, made from the same files."""
        for base in self._bases:
            entry = base.store.entries.get(case_id)
            if entry is None or entry.get("made_from") != made_from:
                continue
            if not base.whole and "multiply" not in entry:
                continue
            if base.store.source_fingerprint(case_id) == made_from:
                return base
        return None


def _found(store: Store) -> Iterator[Base]:
    for folder in store.workspace.prepared.glob("*"):
        pipeline = _pipeline_in(store, folder.name)
        if pipeline is None or not pipeline.steps or (pipeline == store.pipeline and not store.plain):
            continue
        other = Store(store.workspace, pipeline)
        if store.pipeline.begins_with(pipeline):
            yield Base(other, len(pipeline.steps))
        normalised = pipeline.steps[-1].kind == "normalise" and len(pipeline.steps) > 1
        if normalised and store.pipeline.begins_with(Pipeline(pipeline.steps[:-1])):
            yield Base(other, len(pipeline.steps) - 1)


def _pipeline_in(store: Store, name: str) -> Pipeline | None:
    """The pipeline of a compact store; None where the folder holds none, or one of another version."""
    try:
        pipeline = Pipeline.from_dict(read_json(store.workspace.prepared / name / "pipeline.json")["steps"])
    except (MedrailError, KeyError, TypeError):
        return None
    return pipeline if name == pipeline.fingerprint[:12] else None
