"""Class folders and MedMNIST files: classification that needs no table."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import numpy as np

from medrail.config import DataConfig
from medrail.plan.dicom_folders import dicom_folders
from medrail.plan.layout import Layout, list_entries, stopping, told, too_many_classes
from medrail.plan.listing import FolderListing, folder_of, stem
from medrail.plan.look_labels import why_several
from medrail.plan.pairing import IMAGE_WORDS, says_mask

_FEWEST_IMAGES_A_CLASS = 2


def class_folder_layouts(listing: FolderListing) -> list[Layout]:
    """DIR/CLASS/* or DIR/{train,val,test}/CLASS/*, where at least two folders hold images of at least two names."""
    if len(listing.top_folders) < 2 and not any(name.count("/") > 1 for name in listing.images):
        return []
    folders = dicom_folders(listing)
    if folders.patients or any(_is_mask(name) for name in listing.images):
        return []
    data = DataConfig(kind="class_folders", path=str(listing.root))
    found = list_entries("classification", data)
    if found is None or not found.entries:
        return []
    classes = Layout("classification", data, found.entries, "", rank=5).targets
    if len(classes) < 2 or any(name.lower() in IMAGE_WORDS for name in classes):
        return []
    if too_many_classes(classes) or sum(classes.values()) < _FEWEST_IMAGES_A_CLASS * len(classes):
        return []
    shown = ", ".join(list(classes)[:4]) + (", ..." if len(classes) > 4 else "")
    splits = {entry.split for entry in found.entries if entry.split}
    above = f" below {', '.join(sorted(splits))}" if splits else ""
    why = f"images lie in {len(classes)} folders{above} that name a class: {shown}"
    unsure = told(stopping(found.findings), listing.root)
    if folders.doubt:
        unsure = (*unsure, folders.doubt)
    return [Layout("classification", data, found.entries, why, rank=5, unsure=unsure)]


def _is_mask(name: str) -> bool:
    """Whether an image is a mask by its name or by its folder's: among images of a class it would be learnt as one."""
    words = set(re.split(r"[^a-z]+", stem(name).lower()))
    return bool(words & {"mask", "masks", "seg", "segmentation"}) or says_mask(folder_of(name).rsplit("/", 1)[-1])


def medmnist_layouts(listing: FolderListing) -> list[Layout]:
    """The npz files of a folder, where they are of MedMNIST's form."""
    return [layout for name in listing.arrays[:5] for layout in medmnist_layouts_of(listing.root / name)]


def medmnist_layouts_of(path: Path) -> list[Layout]:
    """A file with train_images, train_labels, ..."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = set(archive.files)
            several = "train_labels" in names and archive["train_labels"][:1].size > 1
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile):
        return []
    if not {"train_images", "train_labels"} <= names:
        return []
    data = DataConfig(kind="medmnist", path=str(path), multi_label=several)
    found = list_entries("classification", data)
    if found is None or not found.entries:
        return []
    unsure = told(stopping(found.findings), path.parent)
    why = f"{path.name} holds the arrays train_images and train_labels, as MedMNIST's files do"
    if several:
        why += f"; a column a label. {why_several(data, found.entries)}"
    return [Layout("classification", data, found.entries, why, rank=6, unsure=unsure)]
