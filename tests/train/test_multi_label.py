"""Several labels an image in training: targets, loss, validation; the whole way on small pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from medrail.bundle import Predictor
from medrail.bundle.probability import as_probabilities, joined_label_logits
from medrail.config import TrainConfig
from medrail.data import batches, load_samples
from medrail.errors import CaseError
from medrail.train import train
from medrail.train.loss import LARGEST_WEIGHT, make_loss, positive_weights
from medrail.train.material import gather
from medrail.train.validate import validate
from medrail.workspace import read_json
from shapes import SHAPES, shapes_project

CPU = torch.device("cpu")


@given(
    st.integers(1, 500).flatmap(lambda n: st.tuples(st.lists(st.integers(0, n), min_size=1, max_size=6), st.just(n)))
)
def test_both_sides_of_a_label_count_the_same_up_to_the_limit(counts: tuple[list[int], int]) -> None:
    positives, samples = counts
    for count, weight in zip(positives, positive_weights(positives, samples), strict=True):
        assert 1 / LARGEST_WEIGHT <= weight <= LARGEST_WEIGHT
        if 0 < count < samples and 1 / LARGEST_WEIGHT < weight < LARGEST_WEIGHT:
            assert weight * count == pytest.approx(samples - count)


def test_the_loss_is_weighted_binary_cross_entropy_of_each_label() -> None:
    logits, targets = torch.randn(8, 3), (torch.rand(8, 3) < 0.4).float()
    found = make_loss(TrainConfig(), "classification", (2, 4, 1), CPU, several_of=8)(logits, targets)
    weights = torch.tensor(positive_weights((2, 4, 1), 8))
    p = torch.sigmoid(logits)
    by_hand = -(weights * targets * p.log() + (1 - targets) * (1 - p).log()).mean()
    assert found == pytest.approx(float(by_hand), rel=1e-5)
    plain = make_loss(TrainConfig(class_weights="none"), "classification", (2, 4, 1), CPU, several_of=8)
    assert plain(logits, targets) == pytest.approx(
        float(torch.nn.functional.binary_cross_entropy(p, targets)), rel=1e-5
    )


def test_targets_are_a_row_of_zeros_and_ones_for_each_image(tmp_path: Path) -> None:
    project = shapes_project(tmp_path)
    material = gather(project.config, project.workspace, project.cases)
    samples = load_samples(material.store, material.training, material.needs)
    truth = {case.id: [float(name in str(case.target).split("|")) for name in SHAPES] for case in material.training}
    _, targets = samples.take(torch.arange(samples.count), torch.Generator())
    assert targets.dtype == torch.float32
    assert targets.tolist() == [truth[case.id] for case in material.training]
    assert samples.class_counts == tuple(int(count) for count in targets.sum(0))
    images, drawn = next(iter(batches(samples, project.config.train.model_copy(update={"batch_size": 5}), 0)))
    assert drawn.shape == (5, 2)
    assert drawn.dtype == torch.float32
    assert images.shape[0] == 5


def test_validation_is_the_mean_auc_of_the_labels_that_can_be_told(tmp_path: Path) -> None:
    project = shapes_project(tmp_path)
    material = gather(project.config, project.workspace, project.cases)
    spec = material.spec((24, 24))
    weight = np.random.default_rng(0).normal(size=(24 * 24, 2)).astype(np.float32)
    predictor = Predictor(spec, lambda batch: batch.reshape(len(batch), -1) @ weight)
    score = validate(predictor, material.store, material.training)
    truth = np.array([[name in str(case.target).split("|") for name in SHAPES] for case in material.training])
    found = np.stack([predictor.probabilities(material.store.load(case.id)[0]) for case in material.training])
    assert score.metrics["val_auc"] == pytest.approx(roc_auc_score(truth, found, average="macro"))
    of_truth = np.where(truth, found, 1 - found)
    assert score.metrics["val_loss"] == pytest.approx(-np.log(np.maximum(of_truth, 1e-7)).mean(), rel=1e-4)
    alike = [case for case in material.training if case.target == "disc"]
    assert validate(predictor, material.store, alike).metrics["val_auc"] == 0.5


@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=5))
def test_each_probability_is_the_sigmoid_of_its_logit(values: list[float]) -> None:
    logits = np.array(values, np.float32)
    theirs = torch.sigmoid(torch.from_numpy(logits).double()).numpy()
    np.testing.assert_allclose(as_probabilities(logits, multi_label=True), theirs, atol=1e-6)


@given(st.lists(st.lists(st.floats(-30, 30, width=32), min_size=3, max_size=3), min_size=1, max_size=6))
def test_a_volumes_probability_is_the_mean_of_its_slices(values: list[list[float]]) -> None:
    by_slice = np.array(values, np.float32)
    mean = torch.sigmoid(torch.from_numpy(by_slice).double()).mean(0).numpy()
    joined = as_probabilities(joined_label_logits(by_slice), multi_label=True)
    np.testing.assert_allclose(joined, mean, atol=1e-6)


def test_two_shapes_are_learnt_each_by_itself(tmp_path: Path) -> None:
    project = shapes_project(tmp_path)
    run = train(project.config, project.workspace, project.cases)
    passport = read_json(run.passport)
    assert passport["result"]["chosen_by"].startswith("the highest val_auc")
    assert passport["result"]["val_auc"] > 0.95


def test_labels_that_tell_no_training_cases_apart_are_refused(tmp_path: Path) -> None:
    project = shapes_project(tmp_path)
    alike = tuple(case for case in project.cases if case.target == "disc")
    with pytest.raises(CaseError, match="no label tells the"):
        gather(project.config, project.workspace, alike)
