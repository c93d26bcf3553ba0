"""Evidence and Grad-CAM of trained networks, on pictures where a bright square decides the class."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from medrail.bundle import InputKind, NetworkSpec, Predictor
from medrail.bundle.evidence import contrast
from medrail.config import ModelConfig
from medrail.errors import InputError
from medrail.evaluate.explanation import Deletion, Pointed, delete, measure_explanations, point_at
from medrail.explain import GradCam, explain, make_explainer
from medrail.models import MODELS, build_model
from medrail.models.cells import cell_places
from medrail.models.evidence import WithEvidence
from medrail.train import torch_backend
from medrail.types import Evidence, Image

SIZE, SIDE = 64, 22  # larger than a cell of the last map, which is what a map can tell apart
CLASSES = ("square", "cross")
Maps = Callable[[Predictor, nn.Module, Image], Evidence]


def drawn(rng: np.random.Generator, kind: int) -> tuple[Image, Image]:
    """A picture with a bright square (kind 0) or a bright cross (kind 1) somewhere, and where it is."""
    voxels = rng.normal(0, 0.3, (1, 1, SIZE, SIZE)).astype(np.float32)
    mask = np.zeros((1, 1, SIZE, SIZE), np.uint8)
    top, left = rng.integers(2, SIZE - SIDE - 2, 2)
    place = (0, 0, slice(top, top + SIDE), slice(left, left + SIDE))
    shape = np.ones((SIDE, SIDE), np.float32)
    if kind == 1:
        bars = np.abs(np.arange(SIDE) - SIDE / 2 + 0.5) < 3
        shape = (bars[:, None] | bars[None, :]).astype(np.float32)
    voxels[place] += 2 * shape
    mask[place] = 1
    return Image(voxels), Image(mask, unit="label")


class Flat(nn.Module):
    """No global pooling: a small network that ends in a linear layer over all places."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inner, outer in ((1, 8), (8, 16), (16, 16)):
            layers += [nn.Conv2d(inner, outer, 3, 2, 1), nn.ReLU()]
        self.maps = nn.Sequential(*layers)
        self.rest = nn.Sequential(nn.Flatten(), nn.Linear(16 * 64, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        answered: torch.Tensor = self.rest(self.maps(x))
        return answered


def trained(network: nn.Module, steps: int) -> nn.Module:
    rng = np.random.default_rng(0)
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(steps):
        kinds = rng.integers(0, 2, 24)
        batch = torch.from_numpy(np.stack([drawn(rng, kind)[0].voxels[:, 0] for kind in kinds]))
        optimiser.zero_grad()
        nn.functional.cross_entropy(network.train()(batch), torch.from_numpy(kinds)).backward()
        optimiser.step()
    return network.eval()


@pytest.fixture(scope="module")
def tiny() -> nn.Module:
    torch.manual_seed(0)
    return trained(build_model(ModelConfig(name="tiny_cnn", dims=2), "classification", 2), 60)


@pytest.fixture(scope="module")
def flat() -> nn.Module:
    torch.manual_seed(0)
    return trained(Flat(), 150)


def predictor_of(network: nn.Module, exact: bool, *, multi_label: bool = False) -> Predictor:
    kind = InputKind(picture=True, channels=1, unit="arbitrary")
    wrapped = WithEvidence(network, "pooled_linear" if exact else "linear", (1, SIZE, SIZE))
    cells = cell_places(wrapped, (1, SIZE, SIZE)) if exact else ()
    spec = NetworkSpec("classification", CLASSES, 2, 1, (), kind, grid=(SIZE, SIZE), cells=cells)
    return Predictor(replace(spec, multi_label=multi_label), torch_backend(wrapped))


def exactly(predictor: Predictor, network: nn.Module, image: Image) -> Evidence:
    evidence = predictor.explain(image)
    assert evidence is not None
    return evidence


def by_gradcam(predictor: Predictor, network: nn.Module, image: Image) -> Evidence:
    name = str(predictor(image).class_name)
    cells = GradCam(network, (1, SIZE, SIZE))(np.moveaxis(image.voxels, 1, 0), CLASSES.index(name))
    return Evidence(name, predictor.spread(cells, image, image), exact=False, method="Grad-CAM")


def judged(predictor: Predictor, network: nn.Module, maps: Maps, count: int = 16) -> tuple[dict[str, Any], float]:
    """Both tests, and the share of right answers."""
    rng = np.random.default_rng(7)
    pointed: list[Pointed] = []
    deletions: list[Deletion] = []
    right = 0
    for number in range(count):
        image, mask = drawn(rng, number % 2)
        evidence = maps(predictor, network, image)
        right += evidence.class_name == CLASSES[number % 2]
        pointed.append(point_at(evidence, mask))
        deletions.append(delete(lambda one: predictor(one).probabilities, image, evidence, seed=number))
    return measure_explanations([str(n) for n in range(count)], pointed, deletions), right / count


def test_exact_evidence_of_a_trained_network_hits_and_noise_does_not(tiny: nn.Module) -> None:
    predictor = predictor_of(tiny, exact=True)
    found, accuracy = judged(predictor, tiny, exactly)
    assert accuracy >= 0.9, "a network that has learned nothing proves nothing"
    assert found["pointing_hit_rate"].value >= 0.8
    assert found["pointing_hit_rate"].low > found["pointing_by_chance"].high
    rng = np.random.default_rng(3)

    def noise(predictor: Predictor, network: nn.Module, image: Image) -> Evidence:
        values = Image(rng.normal(size=image.voxels.shape).astype(np.float32))
        return Evidence(str(predictor(image).class_name), values, exact=False, method="noise")

    nothing, _ = judged(predictor, tiny, noise)
    assert nothing["pointing_hit_rate"].value < 0.4
    assert nothing["deletion_gain"].value < found["deletion_gain"].value


def test_gradcam_of_a_network_without_pooling_hits(flat: nn.Module) -> None:
    predictor = predictor_of(flat, exact=False)
    assert not predictor.has_evidence
    assert predictor.explain(drawn(np.random.default_rng(0), 0)[0]) is None
    found, accuracy = judged(predictor, flat, by_gradcam)
    assert accuracy >= 0.9
    assert found["pointing_hit_rate"].low > found["pointing_by_chance"].high


def test_of_a_pooled_network_gradcam_is_the_exact_evidence_where_positive(tiny: nn.Module) -> None:
    """The law that ties the two together, to float32's precision."""
    batch = torch.randn(3, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        evidence = WithEvidence(tiny, "pooled_linear", (1, SIZE, SIZE))(batch)[2].numpy()
    for index in range(2):
        found = GradCam(tiny, (1, SIZE, SIZE))(batch.numpy(), index)
        wanted = np.stack([np.maximum(contrast(one, index), 0) for one in evidence]) / evidence[0, 0].size
        np.testing.assert_allclose(found, wanted, atol=1e-5 * float(wanted.max()))
        alone = GradCam(tiny, (1, SIZE, SIZE))(batch.numpy(), index, by_itself=True)
        wanted = np.maximum(evidence[:, index], 0) / evidence[0, 0].size
        np.testing.assert_allclose(alone, wanted, atol=1e-5 * max(float(wanted.max()), 1))


@pytest.mark.parametrize("token", [False, True])
@pytest.mark.parametrize("dims", [2, 3])
def test_a_transformers_tokens_find_their_places(dims: int, token: bool) -> None:
    """One bright patch in an empty image; with a class token no gradient reaches the last block's other tokens."""
    from monai.networks.nets.vit import ViT

    class Answering(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = ViT(
                1, (32, 48, 16)[:dims], (8,) * dims, hidden_size=24, mlp_dim=48, num_layers=2, num_heads=2,
                spatial_dims=dims, classification=token, num_classes=3, post_activation="",
            )  # fmt: skip
            self.head = nn.Identity() if token else nn.Linear(24, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            answered, _ = self.encoder(x)
            found: torch.Tensor = answered if token else self.head(answered.mean(1))
            return found

    torch.manual_seed(0)
    size = (32, 48, 16)[:dims]
    maps = GradCam(Answering(), (1, *size))
    found = np.stack(
        [maps(np.random.default_rng(0).normal(size=(2, 1, *size)).astype(np.float32), k) for k in range(3)]
    )
    assert found.shape == (3, 2, *(length // 8 for length in size))
    assert np.isfinite(found).all()
    assert (found.reshape(6, -1).std(axis=1) > 0).any()


@pytest.mark.parametrize("name", [name for name, entry in MODELS.items() if entry.task == "classification"])
def test_every_classifier_of_the_table_can_be_explained(name: Any) -> None:
    torch.manual_seed(0)
    network = build_model(ModelConfig(name=name, dims=2), "classification", 3, (64, 96))
    found = GradCam(network, (1, 64, 96))(np.random.default_rng(0).normal(size=(2, 1, 64, 96)).astype(np.float32), 1)
    assert found.shape[0] == 2
    assert found.ndim == 3
    assert found[0].size > 1
    assert np.isfinite(found).all()
    assert found.min() >= 0


def test_a_network_without_any_map_is_refused() -> None:
    with pytest.raises(ValueError, match="no map"):
        GradCam(nn.Sequential(nn.Flatten(), nn.Linear(48, 8), nn.ReLU(), nn.Linear(8, 2)), (1, 6, 8))


def test_a_run_is_explained_exactly_or_said_to_be_approximate(
    tiny: nn.Module, flat: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medrail.workspace import Run

    room = importlib.import_module("medrail.explain.explain")
    image, _mask = drawn(np.random.default_rng(0), 0)
    for network, exact in ((tiny, True), (flat, False)):
        monkeypatch.setattr(room, "load_network", lambda folder, n=network, e=exact: predictor_of(n, e))
        monkeypatch.setattr(room, "load_model", lambda run, n=network: n)
        decided, other = (*explain(Run(tmp_path), [image]), *explain(Run(tmp_path), [image], CLASSES[1]))
        assert (decided.exact, other.exact) == (exact, exact)
        assert ("exact" in decided.method) is exact
        assert ("approximate" in decided.method) is not exact
        assert (decided.class_name, other.class_name) == ("square", "cross")
        assert decided.values.grid == image.grid
        if exact:
            np.testing.assert_allclose(decided.values.voxels, -other.values.voxels, atol=1e-5)


@pytest.mark.parametrize("exact", [True, False])
def test_of_several_labels_the_most_probable_one_is_explained_by_itself(
    exact: bool, tiny: nn.Module, flat: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medrail.workspace import Run

    network = tiny if exact else flat
    monkeypatch.setattr(importlib.import_module("medrail.explain.explain"), "load_model", lambda run: network)
    predictor = predictor_of(network, exact, multi_label=True)
    explainer = make_explainer(Run(tmp_path), predictor)
    for kind, name in enumerate(CLASSES):
        image, _mask = drawn(np.random.default_rng(kind), kind)
        assert predictor(image).class_name is None
        found = explainer(image, "", None)
        assert found.class_name == name
        if not exact:
            assert "the others" not in found.method
            cells = GradCam(network, (1, SIZE, SIZE))(np.moveaxis(image.voxels, 1, 0), kind, by_itself=True)
            np.testing.assert_allclose(found.values.voxels, predictor.spread(cells, image, image).voxels, atol=1e-6)
        with pytest.raises(InputError, match="no class 'circle'"):
            explainer(image, "circle", None)
