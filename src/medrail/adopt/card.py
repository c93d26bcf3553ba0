"""The card of an imported network: what is known of it, and above all what is not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medrail.bundle import Manifest

_NOT_A_DEVICE = (
    "**Not a medical device.** For research and teaching. It has not been assessed by any authority and must not be "
    "used for diagnosis, treatment or any decision about a patient."
)
_NOT_EVALUATED = (
    "**Imported; not evaluated here.** This network was trained elsewhere. medrail has checked that the bundle answers "
    "as the file that was imported, and nothing else: not how often it is right, not on which patients, not whether "
    "those were in its training."
)

_NOTHING_SAID = (
    "Nothing was said. Ask whoever gave it to you on whom it was trained, and under which licence it may be used."
)
_NOT_CALIBRATED = (
    "Not known here. There is no calibration: its probabilities may be far from how often it is right, no threshold "
    "was chosen, and it cannot tell an image that is unlike those of its training. Evaluate it on your own patients "
    "before you believe it."
)


def write_imported_card(manifest: Manifest) -> str:
    """The text of card.md."""
    spec, imported = manifest.spec, manifest.provenance["imported"]
    several = "none, one or several of" if spec.multi_label else "which of"
    what = {
        "classification": f"Tells {several} {len(spec.classes)} classes an image is: {', '.join(spec.classes)}.",
        "segmentation": f"Marks each voxel of an image as one of: {', '.join(spec.classes)} (the first is the "
        "background).",
    }[spec.task]
    size = " x ".join(map(str, spec.grid))
    sections = [
        f"# {manifest.name}, version {manifest.version}",
        _NOT_A_DEVICE,
        _NOT_EVALUATED,
        "## What it does",
        f"{what}\n\nThe network is {spec.dims}-D and sees {spec.channels} channels of {size} "
        f"({' x '.join('DHW'[-len(spec.grid) :])}). It expects {spec.input_kind}.",
        "## What is said of its origin",
        imported["about"] or _NOTHING_SAID,
        "## How well",
        _NOT_CALIBRATED,
        "## Preprocessing, part of the bundle",
        "As whoever imported it said it was trained. If that is wrong, it answers all the same, and wrongly.\n\n"
        + ("\n".join(f"{number}. {_step(step)}" for number, step in enumerate(spec.pipeline, 1)) or "None."),
        "## What was changed in the file",
        "\n".join(f"* {change}" for change in imported["changes"]) or "Nothing.",
        "## Where it comes from",
        "\n".join(f"* {name}: {value}" for name, value in _origin(manifest).items() if value not in ("", None)),
    ]
    return "\n\n".join(sections) + "\n"


def _origin(manifest: Manifest) -> dict[str, Any]:
    imported, parity = manifest.provenance["imported"], manifest.parity
    return {
        "file": imported["file"],
        "SHA-256": imported["sha256"],
        "written by": imported["producer"],
        "opset": imported["opset"],
        "medrail": manifest.provenance["medrail"],
        "pipeline fingerprint": manifest.spec.pipeline_fingerprint,
        "bundle against file": f"{parity['cases']} inputs, largest difference {parity['max_abs_difference']:.2g}",
    }


def _step(step: Mapping[str, Any]) -> str:
    parameters = ", ".join(f"{key} {value}" for key, value in step.items() if key != "kind")
    return f"`{step.get('kind')}`{f': {parameters}' if parameters else ''}"
