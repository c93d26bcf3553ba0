"""Pairing: which image belongs to which mask, told from folders and names."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from medrail.plan.listing import FolderListing, folder_of, stem

MASK_WORDS = frozenset(
    {"mask", "masks", "label", "labels", "labelstr", "labelsval", "labelsts", "seg", "segs", "segmentation"}
    | {"segmentations", "annotation", "annotations", "gt", "groundtruth", "roi", "rois", "contour", "contours"}
    | {"truth", "manual", "target", "targets"}
)
IMAGE_WORDS = frozenset(
    {
        "image",
        "images",
        "img",
        "imgs",
        "imagestr",
        "imagesval",
        "imagests",
        "scan",
        "scans",
        "input",
        "inputs",
        "volume",
    }
)
# What else stands in an image's name but not in its mask's: nnU-Net's channel number; and filler.
_FILLER = frozenset({"0000", "ground", "binary"})

Match = tuple[dict[str, str], list[str]]
"""Image -> mask, and the images without one."""


@dataclass(frozen=True)
class Pairing:
    """Images with their masks, as posix paths below the listing's root.

    pairs:
        (image, mask), sorted by image.
    why:
        What the pairs were told from, for a person.
    alone:
        Images without a mask where others have one.
    folders:
        The (image folder, mask folder) couples, where folders told the pairs; else empty.
    certain:
        False when the names do not say which file is the mask, or which image a mask belongs to.
    """

    pairs: tuple[tuple[str, str], ...]
    why: str
    alone: tuple[str, ...] = ()
    folders: tuple[tuple[str, str], ...] = ()
    certain: bool = True

    @property
    def suffix(self) -> str | None:
        """What every mask's name has in addition to its image's ("" when they are the same); None if that varies."""
        if not all(stem(mask).startswith(stem(image)) for image, mask in self.pairs):
            return None
        found = {stem(mask)[len(stem(image)) :] for image, mask in self.pairs}
        return found.pop() if len(found) == 1 else None


def pair_images(listing: FolderListing) -> Pairing | None:
    """The pairs of a folder by the first rule that fits, or None.

    The rules: a folder of masks beside one of images; names that say mask; names that are another's with something
    added; two files of which one says mask.
    """
    return _two_folders(listing) or _mask_words(listing) or _longer_names(listing) or _only_two(listing)


def says_mask(text: str) -> bool:
    """Whether a folder's or a file's name says mask, as `labelsTr`, `train_masks`, `GT`, `a-seg`."""
    return bool(_words(text) & MASK_WORDS)


def _words(text: str) -> set[str]:
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)
    return {text.lower(), *filter(None, re.split(r"[^a-z0-9]+", spaced.lower()))}


def _key(name: str) -> tuple[str, ...]:
    """A name's words without those that only say image or mask: equal for an image and its mask."""
    words = [word for word in re.split(r"[^a-z0-9]+", stem(name).lower()) if word]
    kept = [word for word in words if word not in MASK_WORDS | IMAGE_WORDS | _FILLER]
    return tuple(re.sub(r"^(?:images?|img|masks?|labels?|seg)(?=\d)", "", word) for word in kept)


def _two_folders(listing: FolderListing) -> Pairing | None:
    """`images/` beside `masks/`, at any depth; several such couples (train/images + train/masks, ...) are joined."""
    pairs: dict[str, str] = {}
    alone: list[str] = []
    couples: list[tuple[str, str]] = []
    for mask_folder, masks in listing.by_folder.items():
        if not mask_folder or not says_mask(mask_folder.rsplit("/", 1)[-1]):
            continue
        parent = folder_of(mask_folder)
        beside = [name for name in listing.by_folder if name and folder_of(name) == parent and name != mask_folder]
        candidates = [name for name in [*beside, parent] if not says_mask(name.rsplit("/", 1)[-1])]
        matches = {folder: _match(listing.by_folder.get(folder, ()), masks) for folder in candidates}
        best = max(matches, key=lambda folder: len(matches[folder][0]), default=None)
        if best is not None and matches[best][0]:
            pairs |= matches[best][0]
            alone += matches[best][1]
            couples.append((best, mask_folder))
    if not pairs:
        return None
    images, masks_in = couples[0]
    why = f"the masks in {masks_in}/ are called as the images in {f'{images}/' if images else 'the folder above'}"
    if len(couples) > 1:
        why += f", and so in {len(couples)} couples of folders"
    return Pairing(tuple(sorted(pairs.items())), why, tuple(sorted(alone)), tuple(couples))


def _match(images: Sequence[str], masks: Sequence[str]) -> Match:
    """Images and masks of the same name, or of the same name but for words that say image or mask."""
    by_stem = {stem(mask): mask for mask in masks}
    by_key = _unique_keys(masks)
    found = {image: by_stem[stem(image)] for image in images if stem(image) in by_stem}
    for key, image in _unique_keys(images).items():
        if key and key in by_key:
            found.setdefault(image, by_key[key])
    return found, [image for image in images if image not in found]


def _unique_keys(names: Sequence[str]) -> dict[tuple[str, ...], str]:
    keys = {name: _key(name) for name in names}
    counts = Counter(keys.values())
    return {key: name for name, key in keys.items() if counts[key] == 1}


def _mask_words(listing: FolderListing) -> Pairing | None:
    """`a.png` with `a_mask.png`, `x_image.nrrd` with `x_label.nrrd`, also inside a folder of each patient."""
    pairs: dict[str, str] = {}
    alone: list[str] = []
    variants: set[str] = set()
    for names in listing.by_folder.values():
        masks = [name for name in names if _last_word(name) in MASK_WORDS]
        images = [name for name in names if name not in masks]
        if not masks:
            alone += images
            continue
        matched, left = _match(images, masks)
        if not matched:
            matched, left, found = _several_images(images, masks)
            variants |= found
        if not matched and len(masks) == len(images) == 1:
            matched, left = {images[0]: masks[0]}, []
        pairs |= matched
        alone += left
    if not pairs or len(pairs) < len(alone):
        return None
    why = f"the name of {stem(next(iter(pairs.values())))} says that it is the mask of {stem(next(iter(pairs)))}"
    if variants:
        why += f"; of several images of a mask ({', '.join(sorted(variants)[:4])}) the first was taken"
    return Pairing(tuple(sorted(pairs.items())), why, tuple(sorted(alone)), certain=not variants)


def _last_word(name: str) -> str:
    meaning = [word for word in re.split(r"[^a-z]+", stem(name).lower()) if word in MASK_WORDS | IMAGE_WORDS]
    return meaning[-1] if meaning else ""


def _several_images(images: Sequence[str], masks: Sequence[str]) -> tuple[dict[str, str], list[str], set[str]]:
    """`p1_t1 p1_t2 p1_seg`: for each mask the first image whose name begins with the mask's."""
    by_mask: dict[str, list[str]] = defaultdict(list)
    for mask in masks:
        key = _key(mask)
        by_mask[mask] = sorted(image for image in images if key and _key(image)[: len(key)] == key)
    pairs = {found[0]: mask for mask, found in by_mask.items() if found}
    variants = {"_".join(_key(image)[len(_key(mask)) :]) for mask, found in by_mask.items() for image in found}
    taken = {image for found in by_mask.values() for image in found}
    return pairs, [image for image in images if image not in taken], variants if len(variants) > 1 else set()


def _longer_names(listing: FolderListing) -> Pairing | None:
    """Files whose name is another's with letters added, as `ch2` and `ch2bet`: that they are masks is a guess."""
    shared: dict[str, dict[str, str]] = defaultdict(dict)
    for names in listing.by_folder.values():
        by_stem = {stem(name): name for name in names}
        for longer, mask in by_stem.items():
            image, suffix = _shorter(longer, by_stem)
            if image:
                shared[suffix][image] = mask
    if not shared:
        return None
    suffix, pairs = max(shared.items(), key=lambda item: (len(item[1]), item[0]))
    if 2 * len(pairs) < 0.6 * len(listing.images):
        return None
    image, mask = next(iter(pairs.items()))
    why = f"{stem(mask)} has the name of {stem(image)} with {suffix!r} added"
    return Pairing(tuple(sorted(pairs.items())), why, certain=says_mask(suffix))


def _shorter(longer: str, by_stem: Mapping[str, str]) -> tuple[str, str]:
    """The file whose name begins this one, and what is added to it, where that begins with a letter."""
    for cut in range(len(longer) - 1, 1, -1):
        suffix = longer[cut:]
        if longer[:cut] in by_stem and re.match(r"[-_. ]?[A-Za-z]", suffix):
            return by_stem[longer[:cut]], suffix
    return "", ""


def _only_two(listing: FolderListing) -> Pairing | None:
    """A folder with one image and one file whose name says mask."""
    masks = [name for name in listing.images if says_mask(stem(name))]
    if len(listing.images) != 2 or len(masks) != 1:
        return None
    image = next(name for name in listing.images if name != masks[0])
    return Pairing(((image, masks[0]),), f"of the two files {masks[0]} is the one whose name says mask")
