"""Pairs: images with a mask each, as data.kind pairs, or as a table where no rule describes them."""

from __future__ import annotations

import glob
import json
from collections.abc import Iterator
from pathlib import Path

from medrail.cases.listing import Entry, counted, split_named
from medrail.config import DataConfig
from medrail.plan.layout import Layout, NewTable, list_entries, stopping
from medrail.plan.listing import FolderListing, folder_of
from medrail.plan.pairing import Pairing, pair_images
from medrail.plan.patients import propose

TABLE = "images.csv"


def pair_layouts(listing: FolderListing) -> list[Layout]:
    """Segmentation, where images and masks can be told to belong together."""
    pairing = pair_images(listing)
    if pairing is None:
        return []
    unsure = []
    if not pairing.certain:
        image, mask = pairing.pairs[0]
        unsure.append(f"which file is the mask was guessed: {mask} was taken for the mask of {image}")
    if pairing.alone:
        shown = ", ".join(pairing.alone[:3])
        have, are = ("has", "is") if len(pairing.alone) == 1 else ("have", "are")
        more = ", ..." if len(pairing.alone) > 3 else ""
        unsure.append(f"{counted(len(pairing.alone), 'image')} {have} no mask and {are} left out ({shown}{more})")
    rank = 1 if pairing.certain else 7
    names = tuple(_dataset_names(listing.root).items())
    described = _described(listing, pairing)
    if described is not None:
        data, entries = described
        return [
            Layout("segmentation", data, entries, pairing.why, rank, tuple(unsure), label_names=names),
        ]
    table = _table(listing, pairing)
    unsure.append(f"no single rule names these pairs, so {TABLE} beside medrail.yaml lists them: look through it")
    data = DataConfig(kind="csv", path=TABLE)
    entries = _table_entries(listing, table)
    return [Layout("segmentation", data, entries, pairing.why, rank, tuple(unsure), table=table, label_names=names)]


def _described(listing: FolderListing, pairing: Pairing) -> tuple[DataConfig, tuple[Entry, ...]] | None:
    """A configuration for which the cases room lists exactly these pairs and nothing is wrong."""
    wanted = {(str(listing.root / image), str(listing.root / mask)) for image, mask in pairing.pairs}
    for data in _proposals(str(listing.root), pairing):
        found = list_entries("segmentation", data)
        if found is None or stopping(found.findings):
            continue
        if {(str(entry.path), entry.target) for entry in found.entries} == wanted:
            return data, found.entries
    return None


def _proposals(root: str, pairing: Pairing) -> Iterator[DataConfig]:
    suffix = pairing.suffix or ""
    if not pairing.folders:
        if suffix:
            yield DataConfig(kind="pairs", path=root, mask_suffix=suffix)
            if len(pairing.pairs) == 1:
                pattern = glob.escape(pairing.pairs[0][0])
                yield DataConfig(kind="pairs", path=root, mask_suffix=suffix, pattern=pattern)
        return
    masks = {folder.rsplit("/", 1)[-1] for _, folder in pairing.folders}
    images = {folder.rsplit("/", 1)[-1] for folder, _ in pairing.folders}
    if len(pairing.folders) == 1:
        image_folder, mask_folder = pairing.folders[0]
        place = f"{glob.escape(image_folder)}/*" if image_folder else "*"
        for pattern in ("", place):
            yield DataConfig(kind="pairs", path=root, mask_path=mask_folder, mask_suffix=suffix, pattern=pattern)
    if len(masks) == 1:
        place = f"**/{glob.escape(images.copy().pop())}/*" if len(images) == 1 else ""
        for pattern in ("", place):
            yield DataConfig(kind="pairs", path=root, mask_path=masks.copy().pop(), mask_suffix=suffix, pattern=pattern)


def _table(listing: FolderListing, pairing: Pairing) -> NewTable:
    """The pairs as rows; patient and split where the folders or names tell them."""
    images = [image for image, _ in pairing.pairs]
    patients = _patients(images)
    splits = {image: _split(image) for image in images}
    with_split = all(splits.values())
    header = ("path", "mask", *(("patient",) if patients else ()), *(("split",) if with_split else ()))
    rows = []
    for image, mask in pairing.pairs:
        row = [str(listing.root / image), str(listing.root / mask)]
        row += [patients[image]] if patients else []
        row += [splits[image]] if with_split else []
        rows.append(tuple(row))
    return NewTable(TABLE, header, tuple(rows))


def _patients(images: list[str]) -> dict[str, str]:
    """Image -> patient, where every image lies in a folder of its own, or the names tell; else {}."""
    folders = [folder_of(image) for image in images]
    if len(images) > 1 and all(folders) and len(set(folders)) == len(folders):
        return dict(zip(images, folders, strict=True))
    pattern = propose(images)
    return {image: pattern.patient(image) for image in images} if pattern else {}


def _split(name: str) -> str:
    return next((split for part in name.split("/")[:-1] if (split := split_named(part))), "")


def _table_entries(listing: FolderListing, table: NewTable) -> tuple[Entry, ...]:
    """What the cases room will list once the table is written."""
    entries = []
    for row in table.rows:
        cells = dict(zip(table.header, row, strict=True))
        path = Path(cells["path"])
        entries.append(
            Entry(
                path,
                path.relative_to(listing.root).as_posix(),
                target=cells["mask"],
                split=split_named(cells.get("split", "")),
                patient=cells.get("patient", ""),
            )
        )
    return tuple(entries)


def _dataset_names(root: Path) -> dict[int, str]:
    """Names of mask values from a dataset.json, as the Medical Segmentation Decathlon and nnU-Net write it."""
    try:
        labels = json.loads((root / "dataset.json").read_text(encoding="utf-8"))["labels"]
        pairs = [(key, value) if str(key).isdigit() else (value, key) for key, value in labels.items()]
        return dict(sorted((int(value), str(name)) for value, name in pairs))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
