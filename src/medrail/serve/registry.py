"""The served models: which are loaded, which of them answers a request, and how that is changed while requests run.

What a request holds is never taken from it: a change makes a new table, and a model that left it goes when the last
request that works with it has been answered.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from medrail.bundle import Manifest, Predictor
from medrail.errors import MedrailError, ServeError
from medrail.serve.gate import Gate
from medrail.serve.problems import Refusal
from medrail.serve.settings import Settings
from medrail.serve.state import State
from medrail.serve.versions import Traffic, version_key

LATEST = "latest"


@dataclass(frozen=True, eq=False)
class ServedModel:
    """One bundle in service: its manifest, its card in Markdown, and its predictor behind the gate.

    largest_batch:
        How many waiting images are computed together; 1: each is computed alone.
    """

    manifest: Manifest
    card: str
    predictor: Predictor
    largest_batch: int = 1

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def version(self) -> str:
        return self.manifest.version


@dataclass(frozen=True)
class Chosen:
    """Who answers a request, and who answers it, too, in its shadow."""

    model: ServedModel
    shadows: tuple[ServedModel, ...] = ()


@dataclass(frozen=True)
class Refused:
    """A bundle that is in the models folder and is not served; ``reason`` holds no path."""

    name: str
    version: str
    reason: str


Table = Mapping[str, tuple[ServedModel, ...]]
"""Name -> its loaded versions, in the order of ``latest``: the last is the newest."""
LoadVersion = Callable[[str, str], ServedModel | None]


class Watcher(Protocol):
    """What looks after a registry while it serves."""

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def look(self, *, again: bool = False) -> None: ...


@dataclass(eq=False)
class Registry:
    """All served models. Reading takes no lock; changes come one after the other.

    Parameters
    ----------
    loaded:
        Any number of versions of each model.
    gate:
        That all their inferences pass.
    default_name:
        The model that answers requests which name none, and no other, even if it is gone; "": the first one, and when
        that goes, the first one that is left.
    newest_first:
        None: versions are ordered by their numbers. Else the order in which they were given: the first one counts as
        the newest.
    state:
        Where pins, canaries and shadows are written down.
    fetch_version:
        Loads a version that is there and not loaded; None if there is none.
    tell:
        Hears of each change: (event, values).
    on_batch:
        Hears of each batch that is computed: (name, version, inputs in it, inputs that still wait).
    watcher:
        Keeps it as the models folder and serving.json are; None: nothing changes by itself.
    """

    loaded: Sequence[ServedModel]
    gate: Gate
    default_name: str = ""
    newest_first: Sequence[str] | None = None
    state: State = field(default_factory=lambda: State(None))
    fetch_version: LoadVersion = lambda name, version: None
    tell: Callable[..., None] = lambda event, **values: None
    on_batch: Callable[[str, str, int, int], None] = lambda name, version, size, waiting: None
    refused: tuple[Refused, ...] = ()
    watcher: Watcher | None = None

    def __post_init__(self) -> None:
        self._wanted_default = self.default_name
        self._lock = threading.RLock()
        self._counts: dict[str, Iterator[int]] = {}
        self._table: Table = {}
        self.largest_batch = 1  # of any model
        self._traffic: Mapping[str, Traffic] = self.state.read()
        self.hold(self.loaded)

    @staticmethod
    def load(bundles: Sequence[str | Path], settings: Settings) -> Registry:
        """Verify, load and warm every bundle; or look into a models folder, where one is given.

        Raises
        ------
        ServeError
            If there is no bundle, two are the same, or a network does not run.
        BundleError
            If a bundle is missing, damaged or of another version.
        """
        from medrail.serve.watch import open_registry  # it fills what this file defines

        return open_registry([Path(folder) for folder in bundles], settings)

    # What requests ask

    @property
    def models(self) -> tuple[ServedModel, ...]:
        """Every loaded version; the first is the default, and of each model the first is the one that answers."""
        table = self._table
        names = sorted(table, key=lambda name: name != self.default_name)
        active = {name: self._active(table, name) for name in names}
        return tuple(
            model
            for name in names
            for model in (active[name], *(each for each in reversed(table[name]) if each is not active[name]))
        )

    @property
    def default(self) -> ServedModel:
        """The model that answers requests which name none; errors as ``find``."""
        return self.find("")

    def is_default(self, model: ServedModel) -> bool:
        """Whether it answers requests which name none."""
        versions = self._table.get(self.default_name)
        return versions is not None and self._active(self._table, self.default_name) is model

    def find(self, wanted: str) -> ServedModel:
        """The model called ``NAME`` (the version that answers), ``NAME/VERSION`` or ``NAME/latest``; "": the default.

        Raises
        ------
        Refusal
            "unknown-model".
        """
        table = self._table
        name, _, version = (wanted or self.default_name).partition("/")
        versions = table.get(name, ())
        if versions and not version:
            return self._active(table, name)
        if versions and version == LATEST:
            return versions[-1]
        for model in versions:
            if model.version == version:
                return model
        known = ", ".join(f"{model.name}/{model.version}" for model in self.models)
        raise Refusal("unknown-model", f"Served here: {known}.")

    def choose(self, wanted: str) -> Chosen:
        """Who answers the next request: as ``find``, and for a model without a version also its canary's share and its
        shadow.

        Raises
        ------
        Refusal
            "unknown-model".
        """
        model = self.find(wanted)
        if "/" in wanted:
            return Chosen(model)
        traffic = self._traffic.get(model.name, Traffic())
        by_version = {each.version: each for each in self._table.get(model.name, ())}
        canary = by_version.get(traffic.canary)
        if canary is not None and canary is not model:
            count = next(self._counts.setdefault(model.name, itertools.count()))
            model = canary if traffic.to_canary(count) else model
        shadow = by_version.get(traffic.shadow)
        return Chosen(model, (shadow,) if shadow is not None and shadow is not model else ())

    def traffic(self, name: str) -> Traffic:
        """How a model's requests are divided."""
        return self._traffic.get(name, Traffic())

    # What changes it

    def hold(self, models: Sequence[ServedModel]) -> None:
        """Let these be the loaded ones, at once."""
        with self._lock:
            by_name: dict[str, list[ServedModel]] = {}
            for model in models:
                by_name.setdefault(model.name, []).append(model)
            answering = self._answering()
            self.largest_batch = max((model.largest_batch for model in models), default=1)
            self._table = {name: tuple(sorted(each, key=self._order)) for name, each in by_name.items()}
            if not self._wanted_default and self.default_name not in self._table:
                self.default_name = next(iter(self._table), "")
            self._settle(answering)

    def add(self, models: Sequence[ServedModel]) -> None:
        """Let these be loaded, too, all at once; each takes the place of one of its name and version."""
        with self._lock:
            new = {(model.name, model.version) for model in models}
            others = [each for each in self._loaded if (each.name, each.version) not in new]
            self.hold([*others, *models])

    def let_go(self, kept: Callable[[Sequence[ServedModel], Traffic], Sequence[ServedModel]]) -> None:
        """Give up what ``kept`` (all loaded versions of one model, how its requests are divided) leaves out.

        Nothing is pinned, loaded or given up meanwhile. What would leave nothing at all is not done.
        """
        with self._lock:
            left = [model for name, each in self._table.items() for model in kept(each, self.traffic(name))]
            if left and len(left) < len(self._loaded):
                self.hold(left)

    def refresh(self) -> None:
        """Read what another process, or a person, wrote into serving.json.

        Nothing is written: who answered before is known to the process that made the change.
        """
        with self._lock:
            self._traffic = dict(self.state.read())

    def reload(self) -> None:
        """Look at the models folder now, in every process: what was refused is tried again, and a loaded version goes
        whose folder is not there any more."""
        self.state.ask_to_reload()
        if self.watcher:
            self.watcher.look(again=True)

    def pin(self, name: str, version: str) -> Traffic:
        """Let one version answer until another is pinned; "" or "latest": the newest one, whichever that is.

        A canary or a shadow that is the version which answers then ends.

        Raises
        ------
        Refusal
            "unknown-model", also where the version cannot be loaded.
        """
        version = "" if version == LATEST else version
        with self._held(name, version):
            answers = version or self._table[name][-1].version

            def changed(traffic: Traffic) -> Traffic:
                if answers == traffic.canary:
                    traffic = replace(traffic, canary="", share=0.0)
                return replace(traffic, pinned=version, shadow="" if answers == traffic.shadow else traffic.shadow)

            return self._change(name, "pin", changed)

    def canary(self, name: str, version: str, share: float) -> Traffic:
        """Let another version answer a share of the requests; a share of 0 ends it, whatever version is named.

        Raises
        ------
        Refusal
            "unknown-model", or "version-conflict" where that version is the one that answers.
        """
        wanted = version if share > 0 else ""
        with self._held(name, wanted):
            self._must_be_another(name, wanted)
            return self._change(name, "canary", lambda traffic: replace(traffic, canary=wanted, share=share))

    def shadow(self, name: str, version: str) -> Traffic:
        """Let another version answer, too, without anyone seeing it; "" ends it.

        Raises
        ------
        Refusal
            As ``canary``.
        """
        with self._held(name, version):
            self._must_be_another(name, version)
            return self._change(name, "shadow", lambda traffic: replace(traffic, shadow=version))

    def rollback(self, name: str) -> Traffic:
        """Pin the version that answered before the one that answers; canary and shadow end.

        Raises
        ------
        Refusal
            "unknown-model", or "version-conflict" where no version answered before that can still be loaded.
        """
        active = self.find(name).version
        before = (version for version in reversed(self.traffic(name).before) if version != active)
        there = next((model for version in before if (model := self._there(name, version))), None)
        if there is None:
            raise Refusal("version-conflict", f"No version of {name} answered before {active} that is still there.")
        with self._lock:
            self._keep(there)
            return self._change(name, "rollback", lambda traffic: traffic.rolled_back(there.version))

    def _change(self, name: str, order: str, change: Callable[[Traffic], Traffic]) -> Traffic:
        with self._lock:
            answering = self._answering()
            after = self.state.change(name, change)
            self._traffic = {**self._traffic, name: after}
            values = {key: value for key, value in after.to_dict().items() if key != "before"}
            self.tell("traffic", order=order, model=name, **values)
            self._settle(answering)
            return self.traffic(name)

    def _answering(self) -> Mapping[str, str]:
        """Name of the model -> the version that answers now."""
        return {name: self._active(self._table, name).version for name in self._table}

    def _settle(self, before: Mapping[str, str]) -> None:
        """Write down which version answers now, of the models where it is another one than before the change.

        What this process only has not loaded yet, as a version that is pinned elsewhere, took nothing over.
        """
        for name, version in self._answering().items():
            traffic = self.traffic(name)
            is_waited_for = traffic.pinned not in ("", version)
            if version in (before.get(name), traffic.active) or is_waited_for:
                continue
            after = self.state.change(name, lambda traffic, version=version: traffic.took_over(version))  # type: ignore[misc]
            self._traffic = {**self._traffic, name: after}
            self.tell("answers", model=name, version=version, instead_of=traffic.active)

    def _active(self, table: Table, name: str) -> ServedModel:
        versions = table[name]
        wanted = self._traffic.get(name, Traffic()).answering([model.version for model in versions])
        return next(model for model in versions if model.version == wanted)

    def _order(self, model: ServedModel) -> tuple[Any, ...]:
        if self.newest_first is None:
            return version_key(model.version)
        return (-self.newest_first.index(f"{model.name}/{model.version}"),)

    @property
    def _loaded(self) -> list[ServedModel]:
        return list(itertools.chain.from_iterable(self._table.values()))

    @contextmanager
    def _held(self, name: str, version: str) -> Iterator[None]:
        """Within it the version ("": none in particular) is loaded, and nobody else changes anything.

        Raises
        ------
        Refusal
            "unknown-model".
        """
        self.find(name)
        model = self._there(name, version) if version else None
        if version and model is None:
            raise Refusal("unknown-model", f"There is no version {version!r} of {name} that can be served.")
        with self._lock:
            if model is not None:
                self._keep(model)
            self.find(name)  # it may have gone since
            yield

    def _keep(self, model: ServedModel) -> None:
        """Let it be loaded, whether it was, is new, or was given up a moment ago."""
        if all(each.version != model.version for each in self._table.get(model.name, ())):
            self.add([model])

    def _must_be_another(self, name: str, version: str) -> None:
        if version and version == self.find(name).version:
            raise Refusal(
                "version-conflict", f"{name}/{version} is the one that answers.", "Pin the other version first."
            )

    def _there(self, name: str, version: str) -> ServedModel | None:
        """The version if it is loaded, else loaded for this; without the lock, since that takes its time."""
        for model in self._table.get(name, ()):
            if model.version == version:
                return model
        try:
            return self.fetch_version(name, version)
        except MedrailError:
            return None


def must_differ(models: Sequence[ServedModel]) -> None:
    """Raises ServeError if two are of the same name and version."""
    if len({(model.name, model.version) for model in models}) < len(models):
        raise ServeError("the same name and version twice", needed="a name and version for each bundle")
