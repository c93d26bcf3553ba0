"""The models folder, watched: a new version is loaded and proved beside the old one and then takes over; a broken one
never does, and what is loaded needs no file any more.

A folder ``NAME/VERSION`` counts as soon as its bundle.json is there and every file is as that says; until then it may
be a copy on its way, and it is looked at again whenever anything in it changes.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from medrail.bundle import Manifest
from medrail.bundle.manifest import MANIFEST_FILE
from medrail.errors import MedrailError, ServeError
from medrail.serve.gate import Gate
from medrail.serve.loading import Loader
from medrail.serve.registry import Refused, Registry, ServedModel, must_differ
from medrail.serve.settings import Settings
from medrail.serve.state import STATE_FILE, State, writable
from medrail.serve.versions import Traffic, version_key

BUNDLES = "bundles"
_LOOKS_UNTIL_REFUSED = 2  # with nothing changed in the folder between them
Stamp = tuple[tuple[str, int, int], ...]


def is_models_folder(folder: Path) -> bool:
    """Whether it holds bundles as NAME/VERSION, itself or in ``bundles/``, and is none itself."""
    return folder.is_dir() and not (folder / MANIFEST_FILE).exists() and any(True for _ in _versions_in(folder))


def open_registry(bundles: Sequence[Path], settings: Settings) -> Registry:
    """As ``Registry.load``."""
    if not bundles:
        raise ServeError("no bundle to serve", remedy="Name the folder of one: `medrail serve bundles/NAME/VERSION`.")
    gate = Gate.of(settings)
    loader = Loader(settings, gate)
    folder = bundles[0] if len(bundles) == 1 and is_models_folder(bundles[0]) else None
    state = State(state_file(bundles, settings))
    if folder is not None:
        registry = Registry((), gate, settings.default_model, state=state)
        watch = Watch(folder, registry, loader, settings)
        watch.look(at_start=True)
    else:
        models = tuple(loader.load(each) for each in bundles)
        must_differ(models)
        order = [f"{model.name}/{model.version}" for model in models]
        registry = Registry(models, gate, settings.default_model or models[0].name, order, state)
        watch = Watch(None, registry, loader, settings)
    registry.watcher = watch
    loader.told = lambda *batch: registry.on_batch(*batch)
    if not registry.models:
        raise ServeError(
            "no bundle in the models folder can be served: "
            + "; ".join(f"{each.name}/{each.version}: {each.reason}" for each in registry.refused),
            where=str(folder),
        )
    if settings.default_model and settings.default_model not in {model.name for model in registry.models}:
        raise ServeError(f"no model is called {settings.default_model!r}", remedy="Change serve.default_model.")
    return registry


def state_file(bundles: Sequence[Path], settings: Settings) -> Path | None:
    """Where serving.json of these bundles, or of this models folder, is kept; None: nowhere."""
    folder = bundles[0] if len(bundles) == 1 and is_models_folder(bundles[0]) else None
    places = [settings.state_dir] if settings.state_dir else [folder, settings.log_dir]
    return next((place / STATE_FILE for place in places if place is not None and writable(place)), None)


def _versions_in(folder: Path) -> Iterator[Path]:
    """Folders NAME/VERSION with a bundle.json; names that begin with a dot are passed over."""
    root = folder / BUNDLES if (folder / BUNDLES).is_dir() else folder
    for file in sorted(root.glob(f"*/*/{MANIFEST_FILE}")):
        if not any(part.startswith(".") for part in file.relative_to(root).parts):
            yield file.parent


@dataclass
class _Seen:
    """What is known of a version's folder as it was at a ``stamp``."""

    stamp: Stamp
    manifest: Manifest | None = None
    problem: str = ""
    looks: int = 0

    @property
    def refused(self) -> bool:
        return self.looks >= _LOOKS_UNTIL_REFUSED


class Watch:
    """Keeps a registry as its models folder (None: there is none) and serving.json say."""

    def __init__(self, folder: Path | None, registry: Registry, loader: Loader, settings: Settings) -> None:
        self.loader = loader
        self._folder = folder
        self._registry = registry
        self._settings = settings
        self._seen: dict[Path, _Seen] = {}
        self._one_at_a_time = threading.RLock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._reloads = registry.state.reloads
        self._gone = False
        registry.fetch_version = self._fetch

    def start(self) -> None:
        """Look again and again, in a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="medrail-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        if self._thread:
            self._thread.join(timeout=60)

    def _run(self) -> None:
        while True:
            try:
                self.look()
            except Exception as error:  # noqa: BLE001 - whatever happens here, the service goes on with what it has
                self._registry.tell("watch-failed", error=type(error).__qualname__)
            if self._stopped.wait(self._settings.watch_s):
                return

    def look(self, *, again: bool = False, at_start: bool = False) -> None:
        """Take over what is new.

        Parameters
        ----------
        again:
            Try once more what was refused, and give up the loaded versions whose folders are gone.
        at_start:
            Load only what is to answer; there is nothing that could be on its way.
        """
        with self._one_at_a_time:
            self._registry.refresh()
            again = again or self._registry.state.reloads != self._reloads
            self._reloads = self._registry.state.reloads
            if self._folder is None or not self._scan(again):
                return
            for name in sorted({seen.manifest.name for seen in self._seen.values() if seen.manifest}):
                self._bring(name, at_start)
                if self._stopped.is_set():
                    return
            if not at_start:
                self._let_go(again)
            self._tell_refused(at_start)

    def _scan(self, again: bool) -> bool:
        """Note what is in the folder; False, noting nothing, if it is gone."""
        assert self._folder is not None  # noqa: S101 - look() asked
        found = {}
        for folder in _versions_in(self._folder):
            try:
                found[folder] = tuple(
                    sorted((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in os.scandir(folder))
                )
            except OSError:  # it goes while it is looked at
                continue
        if bool(found) == self._gone:
            self._gone = not found
            self._registry.tell("models-folder", there=bool(found))
        if not found:
            return False
        known = {} if again else self._seen
        self._seen = {
            folder: known[folder] if folder in known and known[folder].stamp == stamp else _Seen(stamp)
            for folder, stamp in found.items()
        }
        for folder, seen in self._seen.items():
            if seen.manifest is None and not seen.refused:
                self._attempt(folder, seen, lambda folder=folder: Manifest.read(folder))  # type: ignore[misc]
        self._refuse_twins()
        return True

    def _attempt(self, folder: Path, seen: _Seen, attempt: Callable[[], Manifest | ServedModel]) -> ServedModel | None:
        """Read or load it; what fails is counted, and told when it has failed often enough."""
        try:
            result = attempt()
        except MemoryError:
            seen.problem = "it does not fit into memory"
        except MedrailError as error:
            seen.problem = _without(folder, error.found + (f"; needed: {error.needed}" if error.needed else ""))
        except Exception as error:  # noqa: BLE001 - a bundle comes from strangers; nothing in it may end the service
            seen.problem = f"it cannot be loaded ({type(error).__name__})"
        else:
            seen.problem = ""
            seen.manifest = result if isinstance(result, Manifest) else result.manifest
            return result if isinstance(result, ServedModel) else None
        seen.looks += 1
        return None

    def _refuse_twins(self) -> None:
        first: dict[tuple[str, str], str] = {}
        for seen in self._seen.values():
            manifest = seen.manifest
            if manifest is None:
                continue
            if first.setdefault((manifest.name, manifest.version), manifest.bundle_id) != manifest.bundle_id:
                seen.problem, seen.looks = "another folder holds this name and version", _LOOKS_UNTIL_REFUSED
                seen.manifest = None

    def _bring(self, name: str, at_start: bool) -> None:
        """Load the newest versions of a model, and those that requests may go to."""
        traffic = self._registry.traffic(name)
        if at_start and self._bring_these(name, traffic.asked(), 0 if traffic.pinned else 1):
            return
        self._bring_these(name, traffic.needed(), 1 if at_start else self._settings.keep_versions)

    def _bring_these(self, name: str, needed: Collection[str], several: int) -> int:
        """How many of the model are loaded then. They take over together: one after the other, a newer one would
        answer, and be remembered, while the pinned one is still being loaded."""
        good = 0
        new: list[ServedModel] = []
        for folder, seen, manifest in self._newest_first(name):
            if self._stopped.is_set() or (manifest.version not in needed and good >= several):
                continue
            if any(_same(model.manifest, manifest) for model in (*self._registry.models, *new)):
                good += 1
            elif not seen.refused and (model := self._load(folder, seen)):
                new.append(model)
                good += 1
        if new:
            self._registry.add(new)
        return good

    def _newest_first(self, name: str) -> list[tuple[Path, _Seen, Manifest]]:
        of_name = [
            (folder, seen, seen.manifest)
            for folder, seen in self._seen.items()
            if seen.manifest is not None and seen.manifest.name == name
        ]
        return sorted(of_name, key=lambda each: version_key(each[2].version), reverse=True)

    def _load(self, folder: Path, seen: _Seen) -> ServedModel | None:
        """Ready to stand beside those that are there; None if it cannot be loaded."""
        model = self._attempt(folder, seen, lambda: self.loader.load(folder))
        if model is not None:
            self._registry.tell(
                "model",
                model=model.name,
                version=model.version,
                bundle_id=model.predictor.bundle_id,
                engine=str(model.predictor.taken),
                largest_batch=model.largest_batch,
            )
        return model

    def _fetch(self, name: str, version: str) -> ServedModel | None:
        """A version that is in the folder and not loaded; None, too, where it cannot be loaded, for whatever reason."""
        with self._one_at_a_time:
            for folder, seen, manifest in self._newest_first(name):
                if manifest.version == version:
                    return self._load(folder, seen)
        return None

    def _let_go(self, again: bool) -> None:
        """Of the versions that are neither new nor may be asked."""
        there = {_key(seen.manifest) for seen in self._seen.values() if seen.manifest}
        doubtful = {folder.parent.name for folder, seen in self._seen.items() if not seen.manifest}

        def kept(loaded: Sequence[ServedModel], traffic: Traffic) -> Sequence[ServedModel]:
            left = [model for model in loaded if _key(model.manifest) in there] if again else loaded
            if not left and loaded[0].name in doubtful:  # what cannot be read yet never ends what answers
                left = loaded
            newest, needed = left[-self._settings.keep_versions :], traffic.needed()
            return [model for model in left if model in newest or model.version in needed]

        self._registry.let_go(kept)

    def _tell_refused(self, at_start: bool) -> None:
        refused = tuple(
            Refused(folder.parent.name, folder.name, seen.problem)
            for folder, seen in self._seen.items()
            if seen.problem and (seen.refused or at_start)
        )
        for each in refused:
            if each not in self._registry.refused:
                self._registry.tell("refused", model=each.name, version=each.version, reason=each.reason)
        self._registry.refused = refused


def _key(manifest: Manifest) -> tuple[str, str]:
    return manifest.name, manifest.version


def _same(one: Manifest, other: Manifest) -> bool:
    return _key(one) == _key(other) and one.files == other.files


def _without(folder: Path, text: str) -> str:
    """The text without the path of the bundle."""
    for path in (str(folder.resolve()), str(folder)):
        text = text.replace(path, "the bundle")
    return text
