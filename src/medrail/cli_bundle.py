"""The verb of bundles: import, verify, show."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrail.errors import ConfigError

if TYPE_CHECKING:
    from medrail.bundle import Manifest
    from medrail.console import Console
    from medrail.types import Prediction

OK = 0


def bundle(arguments: argparse.Namespace, console: Console) -> int:
    return _SUBVERBS[arguments.subverb](arguments, console)


def _import(arguments: argparse.Namespace, console: Console) -> int:
    from medrail.adopt import Given, Label, adopt
    from medrail.console import shown
    from medrail.read import read

    path = Path(arguments.model)
    if not path.is_file():
        raise ConfigError("there is no such file", needed="an ONNX file", where=str(path))
    given = Given(
        classes=_classes(arguments.classes),
        layout=arguments.layout,
        scale=arguments.scale or "",
        steps=_steps(arguments.steps),
        size=arguments.size or (),
        channels=arguments.channels or 0,
        color=arguments.color,
        keep_aspect=arguments.keep_aspect,
        multi_label=arguments.multi_label,
        answers=arguments.answers,
        output=arguments.output,
        unit=arguments.unit,
    )
    label = Label(arguments.name or path.stem, arguments.version, arguments.about)
    adopted = adopt(path, given, Path(arguments.out), label, [read(one) for one in arguments.try_])
    manifest, folder = adopted.manifest, adopted.folder
    console.line(f"Imported {manifest.bundle_id}. It was not evaluated here: see {shown(folder / 'card.md')}")
    changes = manifest.provenance["imported"]["changes"]
    console.bullets(changes)
    console.table(_about(manifest))
    for name, answer in zip(arguments.try_, adopted.tried, strict=True):
        console.line(f"\n{name}: {_told(answer)}")
    console.line(f"\n-> {shown(folder)}")
    if console.as_json:
        tried = [
            {"image": name, "class": answer.class_name, "probabilities": dict(answer.probabilities)}
            for name, answer in zip(arguments.try_, adopted.tried, strict=True)
        ]
        console.json({**_values(folder, manifest), "changes": changes, "tried": tried})
    console.next_command("medrail serve", shown(folder))
    return OK


def _verify(arguments: argparse.Namespace, console: Console) -> int:
    from medrail.bundle import load_bundle, unlisted, verify_bundle
    from medrail.console import shown
    from medrail.workspace import find_bundle

    folder = find_bundle(arguments.bundle)
    manifest = verify_bundle(folder)
    load_bundle(folder, engine="onnxruntime")
    console.line(f"{manifest.bundle_id}: every file is the one that was exported, and the network opens")
    console.table(tuple((name, f"{entry.bytes} bytes, {entry.sha256}") for name, entry in manifest.files.items()))
    strange = unlisted(folder, manifest)
    console.bullets([f"{shown(folder / name)} is no part of the bundle, and nothing reads it" for name in strange])
    if console.as_json:
        console.json({**_values(folder, manifest), "unlisted": strange})
    return OK


def _show(arguments: argparse.Namespace, console: Console) -> int:
    from medrail.bundle import verify_bundle
    from medrail.workspace import find_bundle

    folder = find_bundle(arguments.bundle)
    manifest = verify_bundle(folder)
    console.line((folder / "card.md").read_text(encoding="utf-8"))
    if console.as_json:
        console.json({**_values(folder, manifest), "manifest": manifest.to_dict()})
    return OK


_SUBVERBS: dict[str, Callable[[argparse.Namespace, Console], int]] = {
    "import": _import,
    "verify": _verify,
    "show": _show,
}


def _values(folder: Path, manifest: Manifest) -> dict[str, Any]:
    files = {name: {"bytes": entry.bytes, "sha256": entry.sha256} for name, entry in manifest.files.items()}
    return {"bundle": str(folder), "bundle_id": manifest.bundle_id, "files": files}


def _about(manifest: Manifest) -> tuple[tuple[str, str], ...]:
    spec, parity = manifest.spec, manifest.parity
    return (
        ("task", spec.task),
        ("classes", ", ".join(spec.classes)),
        ("input", f"{spec.channels} x {' x '.join(map(str, spec.grid))}"),
        ("preparation", ", ".join(str(step["kind"]) for step in spec.pipeline) or "none"),
        ("answers as the file", f"largest difference {parity['max_abs_difference']:.1g} on {parity['cases']} inputs"),
    )


def _told(answer: Prediction) -> str:
    if answer.mask is not None:
        counts = {name: int((answer.mask.voxels == index).sum()) for index, name in enumerate(answer.classes)}
        return ", ".join(f"{name} {count} voxels" for name, count in counts.items())
    ranked = sorted(answer.probabilities.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {value:.4f}" for name, value in ranked)


def _classes(text: str) -> tuple[str, ...]:
    """Names with commas between, or ``@FILE`` with one a line."""
    if not text.startswith("@"):
        return tuple(name.strip() for name in text.split(","))
    path = Path(text[1:])
    if not path.is_file():
        raise ConfigError("there is no such file", needed="class names, one a line", where=f"--classes {text}")
    return tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())


def _steps(name: str | None) -> tuple[dict[str, Any], ...]:
    """A YAML list, as ``prepare.steps`` is one."""
    if not name:
        return ()
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    where = f"--steps {name}"
    try:
        values = YAML(typ="safe", pure=True).load(Path(name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError("there is no such file", where=where) from None
    except (YAMLError, UnicodeDecodeError):
        raise ConfigError("not readable as YAML", where=where) from None
    if not isinstance(values, list) or not values:
        raise ConfigError(f"holds a {type(values).__name__}", needed="a list of steps, as prepare.steps", where=where)
    return tuple(values)
