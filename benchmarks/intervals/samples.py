"""Made studies whose true numbers are known: patients, their cases, answers and masks' Dice."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

LIKENESS = 0.6
"""Share of the noise that all images of a patient have in common."""
FAILURES = 0.05
"""Share of patients whose mask fails: Dice anywhere below 0.4."""


@dataclass(frozen=True)
class Setting:
    """One kind of study.

    patients, most_images:
        Every patient has 1 to ``most_images`` images, each number equally likely.
    shares:
        Of the classes; the last ones are the rare ones.
    apart:
        How many standard deviations the classes lie apart.
    """

    name: str
    patients: int
    most_images: int = 1
    shares: tuple[float, ...] = (0.65, 0.35)
    apart: float = 2.0

    def described(self) -> str:
        images = "1 image" if self.most_images == 1 else f"1 to {self.most_images} images"
        classes = " / ".join(f"{share:.0%}" for share in self.shares)
        return f"{self.patients} patients, {images} each, classes {classes}"


@dataclass(frozen=True)
class Sample:
    """truth (n,), probabilities (n, K), a second model's (n, K), dice and dice_failing (n,), patients (n,)."""

    truth: IntArray
    probabilities: FloatArray
    second: FloatArray
    dice: FloatArray
    dice_failing: FloatArray
    patients: IntArray


def draw(setting: Setting, generator: np.random.Generator, patients: int | None = None) -> Sample:
    """A study of the setting, or a big one in its place of ``patients`` patients to read the true numbers from.

    The classes are normal, the probabilities those of Bayes' rule, so the models are calibrated. All images of a
    patient are of one class. The second model is as good as the first and shares half of its noise.
    """
    count = patients or setting.patients
    members = np.repeat(np.arange(count), generator.integers(1, setting.most_images + 1, count))
    truth = generator.choice(len(setting.shares), count, p=setting.shares)[members]
    common = _noise(generator, members, len(setting.shares))
    models = [
        _answers(setting, truth, math.sqrt(0.5) * common + math.sqrt(0.5) * _noise(generator, members, common.shape[1]))
        for _ in range(2)
    ]
    usual, failing = generator.beta(9, 1.5, count), generator.random(count) < FAILURES
    dice, dice_failing = (
        _near(generator, values[members], setting.most_images > 1)
        for values in (usual, np.where(failing, 0.4 * generator.random(count), usual))
    )
    return Sample(truth, models[0], models[1], dice, dice_failing, members)


def _noise(generator: np.random.Generator, members: IntArray, columns: int) -> FloatArray:
    of_patient = generator.normal(size=(members[-1] + 1, columns))[members]
    return np.asarray(
        math.sqrt(LIKENESS) * of_patient + math.sqrt(1 - LIKENESS) * generator.normal(size=of_patient.shape)
    )


def _answers(setting: Setting, truth: IntArray, noise: FloatArray) -> FloatArray:
    """Bayes' probabilities of normal classes whose centres lie ``apart`` from each other."""
    centres = setting.apart / math.sqrt(2) * np.eye(len(setting.shares))
    logits = (centres[truth] + noise) @ centres + np.log(setting.shares)
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def _near(generator: np.random.Generator, values: FloatArray, several: bool) -> FloatArray:
    """The images' own Dice around their patient's."""
    if not several:
        return values
    held = np.clip(values, 1e-6, 1 - 1e-6)
    return np.asarray(1 / (1 + np.exp(-(np.log(held / (1 - held)) + 0.3 * generator.normal(size=len(values))))))
