"""Which grey value and colour steps suit what was seen, and how training images may be varied."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from medrail.cases.listing import counted
from medrail.config import AugmentConfig, Task
from medrail.plan.fingerprint import Fingerprint
from medrail.plan.notes import Notes

Step = dict[str, Any]

_LUNG_SHARE = 0.1  # of the voxels inside a body scan; in an abdominal CT it is far below
_SIDES = re.compile(r"(?<![a-z])(left|right|links|rechts|lt|rt|l|r)(?![a-z])")


def colour_steps(found: Fingerprint, notes: Notes) -> tuple[list[Step], int]:
    """Steps that give every image the same number of channels, and that number."""
    if found.all_grey and any(channels == 3 for channels in found.channels):
        notes.inferred.append("colour files whose three channels are equal are read as grey: one channel")
        return [{"kind": "rgb_to_grey"}], 1
    if found.channels == (1, 3):
        notes.unsure.append("some images are grey and some in colour: all are brought to colour (or use rgb_to_grey)")
        return [{"kind": "grey_to_rgb"}], 3
    if len(found.channels) > 1:
        shown = ", ".join(map(str, found.channels))
        notes.unsure.append(f"images have different numbers of channels ({shown}): training needs one number")
    if found.channels == (3,) and not found.is_volume:
        return [{"kind": "grey_to_rgb"}], 3  # a grey picture sent to the service later is taken, too
    if found.channels == (1,) and not found.is_volume and not found.has_geometry:
        return [{"kind": "rgb_to_grey"}], 1
    return [], found.channels[-1]


def value_steps(found: Fingerprint, task: Task, channels: int, notes: Notes) -> tuple[list[Step], list[Step]]:
    """Steps on grey values: those for the raw values (a window, clipping), and those for the network (normalising)."""
    own_values: list[Step] = [{"kind": "clip_percentile", "low": 0.5, "high": 99.5}]
    if _no_common_unit(found, notes):
        return own_values, [{"kind": "normalise", "method": "zscore"}]
    if found.modality == "CT":
        return [_window(found, notes)], []
    if found.modality in ("MR", "PET", "volume"):
        if found.modality == "volume":
            notes.unsure.append("the files do not say what kind of scan they are: treated like MR (no fixed units)")
        return own_values, [{"kind": "normalise", "method": "zscore"}]
    if found.modality == "X-ray":
        return own_values, [{"kind": "normalise", "method": "zscore"}]
    if found.has_colour and task == "classification" and {image.unit for image in found.images} <= {"uint8", "uint16"}:
        notes.inferred.append("colour pictures: fixed normalisation (imagenet), so that colour itself can tell classes")
        return [], [{"kind": "normalise", "method": "imagenet"}]
    return [], [{"kind": "normalise", "method": "zscore"}]


def _no_common_unit(found: Fingerprint, notes: Notes) -> bool:
    """Whether there is CT among the images, and no window in HU suits all of them."""
    scans = Counter(image.modality for image in found.images)
    others = [name for name in ("MR", "PET", "X-ray") if scans[name]]
    if not scans["CT"]:
        return False
    scaled = "no window in HU suits all, so each image is scaled by its own values"
    if others:
        kinds = f"{', '.join(['CT', *others[:-1]])} and {others[-1]}"
        each = ", ".join(f"{name} {count}" for name, count in scans.most_common())
        notes.unsure.append(f"{kinds} mixed ({each} of the sampled images): {scaled}. Is one network for all meant?")
        return True
    without = sum(image.modality == "CT" and not image.in_hu for image in found.images)
    if without:
        are = "is" if without == 1 else "are"
        notes.unsure.append(f"{without} of {counted(scans['CT'], 'CT image')} {are} not in HU (no rescale): {scaled}")
    return without > 0


def _window(found: Fingerprint, notes: Notes) -> Step:
    scans = [image for image in found.images if image.modality == "CT"]
    share = sorted(image.lung_share for image in scans)[len(scans) // 2]
    preset = "lung" if share > _LUNG_SHARE else "soft_tissue"
    reason = f"{share:.0%} of the body has the density of lung"
    notes.unsure.append(
        f"CT window {preset} ({reason}); others: lung, bone, brain, soft_tissue, mediastinum, or center_hu and width_hu"
    )
    if any(image.unit != "HU" for image in scans):
        declared = all(image.declared == "CT" for image in scans)
        taken = "the DICOM files say CT and no unit; taken for HU" if declared else "taken for CT"
        notes.unsure.append(f"{taken} because values reach below -500; if they are not HU, replace window")
    return {"kind": "window", "preset": preset}


def augmentation(found: Fingerprint, classes: Sequence[str], notes: Notes) -> AugmentConfig:
    """Variations that keep an image of this kind plausible and its label true."""
    flip = _flips(found, classes, notes)
    if found.modality in ("X-ray", "grey picture") and not found.has_colour:
        return AugmentConfig(flip=flip, rotate_deg=10, scale=0.1, shift=0.05, intensity=0.2, gamma=0.2, noise=0.05)
    if found.has_colour:
        return AugmentConfig(flip=flip, rotate_deg=20, scale=0.1, shift=0.05, intensity=0.1, noise=0.05)
    if found.modality == "CT":
        return AugmentConfig(flip=flip, rotate_deg=10, scale=0.1, shift=0.05, intensity=0.1, noise=0.05)
    return AugmentConfig(flip=flip, rotate_deg=15, scale=0.15, shift=0.05, intensity=0.2, gamma=0.3, noise=0.1)


def _flips(found: Fingerprint, classes: Sequence[str], notes: Notes) -> tuple[Any, ...]:
    sided = [name for name in classes if _SIDES.search(name.lower().replace("_", " "))]
    if sided:
        notes.inferred.append(f"no mirroring in training: the class {sided[0]!r} names a side")
        return ()
    if found.has_colour:
        notes.unsure.append(
            "training mirrors colour pictures (train.augment.flip): right for microscopy and skin, "
            "wrong where left and right differ, as in fundus photographs"
        )
        return ("H", "W")
    notes.inferred.append(
        "no mirroring in training: bodies are not symmetric (train.augment.flip: [W] where sides do not matter)"
    )
    return ()
