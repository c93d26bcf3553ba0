"""What changed in the data of a segmentation is named by case, and how digests of weights are taken."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from medrail.cases import read_record, write_record
from medrail.read import read, write_nifti
from medrail.train.differences import Difference, of_data, told
from medrail.train.weights import tensors_sha256


def test_a_changed_mask_is_named_and_an_image_with_the_same_content_is_not(volumes: Any) -> None:
    run = volumes.workspace.run("one")
    write_record(run, volumes.cases)
    assert of_data(read_record(run), volumes.cases, volumes.workspace, drawn=False) == []
    mask = volumes.workspace.root / "raw" / "p2_mask.nii.gz"
    image = read(mask)
    image.voxels[0, 0, 0, 0] = 1
    write_nifti(image, mask)
    found = of_data(read_record(run), volumes.cases, volumes.workspace, drawn=False)
    assert [(one.what, one.name) for one in found] == [("data", "mask of case p2")]
    assert found[0].recorded != found[0].found


def test_many_cases_are_one_sentence() -> None:
    changed = [Difference("data", f"image of case p{number}", "a", "b") for number in range(9)]
    gone = [Difference("data", f"case q{number}", "there", "missing") for number in range(1)]
    torch_other = Difference("environment", "torch", "2.13.0", "2.12")
    assert told([torch_other, *changed, *gone]) == [
        "data: image of 9 cases changed (p0, p1, p2, p3, p4, p5 and 3 more), 1 case missing (q0)",
        "environment: torch 2.13.0 -> 2.12",
    ]


def test_the_digest_of_weights_tells_numbers_names_and_types_and_not_the_layout() -> None:
    tensors = {"a": torch.randn(2, 3, 4, 5), "b": torch.tensor(3), "c": torch.zeros(0)}
    digest = tensors_sha256(tensors)
    assert tensors_sha256(dict(reversed(tensors.items()))) == digest
    assert tensors_sha256({**tensors, "a": tensors["a"].to(memory_format=torch.channels_last)}) == digest
    nudged = tensors["a"].clone()
    nudged[1, 2, 3, 4] = torch.nextafter(nudged[1, 2, 3, 4], torch.tensor(9.0))
    others = [
        {**tensors, "a": nudged},
        {**tensors, "a": tensors["a"].reshape(2, 3, 5, 4)},
        {**tensors, "b": torch.tensor(3.0)},
        {"a": tensors["a"], "b": tensors["b"], "d": tensors["c"]},
    ]
    assert len({digest, *map(tensors_sha256, others)}) == 5


@pytest.mark.parametrize("value", [0.0, -0.0])
def test_even_the_sign_of_zero_counts(value: float) -> None:
    other = tensors_sha256({"a": torch.tensor([-value])})
    assert tensors_sha256({"a": torch.tensor([value])}) != other
