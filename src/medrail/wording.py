"""Remedies in the words of the verb that was typed.

The library speaks of an item and of ``data.on_defect``, as its arguments and a project's medrail.yaml call them; verbs
have other names for these, or no such choice.
"""

from __future__ import annotations

from medrail.errors import MedrailError

Words = tuple[tuple[str, str], ...]

_RECORDED = ", which is recorded"
_AS_CHANNELS = " data.four_d: channels makes time points channels of one image."
_SERIES: Words = (
    ("Name one of them as the item, or give it a folder of its own", "Name one of them with --series"),
    ("as the item of the case", "with --series"),
    ("as the item", "with --series"),
    ("Leave the item empty", "Leave --series out"),
    ("the item", "--series"),
    ("no item", "no --series"),
    ("(data.four_d: separate)", "with --series"),
    (_AS_CHANNELS, ""),
)
_ON_DEFECT: Words = (
    (_RECORDED, ""),
    ("set data.on_defect: ", "use --on-defect "),
)
CONVERT: Words = (
    ("Name one of them as the item, or give it a folder of its own", "Name one of them as the item"),
    ("Name one of them as the item", "Name one of them with --series; `medrail inspect` says where each lies"),
    *_SERIES,
    *_ON_DEFECT,
)
INSPECT: Words = _ON_DEFECT
# How a model's images are read was decided when it was trained.
PREDICT: Words = (
    *_SERIES,
    (_RECORDED, ""),
    ("set data.on_defect: ", "take a model whose project says data.on_defect: "),
)
SERVE: Words = (
    ("Name one of them as the item, or give it a folder of its own", "Send one of them alone"),
    ("Name one of them as the item", "Send one of them alone"),
    ("Name one of the parts as the item", "Send one of the parts alone"),
    ("Name the volume as the item", "Send the volume alone"),
    ("Name it as the item of the case", "Send the picture itself"),
    ("Give the item um=8 for all of it at 8 um a pixel; data.kind: slides cuts slides into tiles.", "Send a tile."),
    ("Read them separately (data.four_d: separate)", "Send them one by one"),
    *PREDICT[-2:],
    (_AS_CHANNELS, ""),
)


def in_words(text: str, words: Words) -> str:
    """A sentence of the library as a verb says it."""
    for said, meant in words:
        text = text.replace(said, meant)
    return text


def reworded(error: MedrailError, words: Words) -> MedrailError:
    """The same error, its remedy in the verb's words."""
    error.needed, error.remedy = in_words(error.needed, words), in_words(error.remedy, words)
    return error
