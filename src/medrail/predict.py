"""Bundle + files -> answers as files: a class table, masks on the raw grid, overlays.

``predict_files(bundle, inputs, out)`` takes files and folders (a folder of DICOM files is one image a series); an input
that cannot be read or does not fit is recorded with its reason, and the others go on.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medrail.bundle import Predictor, overlay_png
from medrail.cases.layouts.series import place_of
from medrail.errors import ConfigError, MedrailError, ReadError, UnsupportedFormat
from medrail.predict_slide import predict_slide
from medrail.read import is_slide, read, read_mask, write_nifti
from medrail.read.dicom.headers import Foreign
from medrail.read.dicom.series import scan
from medrail.read.dicom.volume import volumes_of
from medrail.types import READ_AS_STORED, Prediction, Progress
from medrail.wording import PREDICT, in_words
from medrail.workspace import write_text

DISCLAIMER = "Not a medical device: for research and education only."


@dataclass(frozen=True)
class Input:
    """One image to predict: a file, or one series of a folder."""

    path: Path
    item: str = ""

    def __str__(self) -> str:
        return f"{self.path} [{self.item}]" if self.item else str(self.path)

    @property
    def name(self) -> str:
        """What the outputs are called after: the file's name without its endings, and the series."""
        stem = self.path.name
        for ending in (".nii.gz", ".gz", *self.path.suffixes[-1:]):
            if ending and stem.lower().endswith(ending.lower()) and len(stem) > len(ending):
                stem = stem[: -len(ending)]
                break
        return f"{stem}-{self.item}" if self.item else stem


@dataclass(frozen=True)
class Answer:
    """What became of one input: a prediction and the files written, or a reason; of a slide, areas in mm^2."""

    input: Input
    prediction: Prediction | None = None
    files: tuple[Path, ...] = ()
    reason: str = ""
    areas_mm2: Mapping[str, float] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """The prediction in a few words, after what speaks against relying on it; empty where there is none."""
        if self.prediction is None:
            return ""
        return unlike_sentence(self.prediction) + self._found

    @property
    def unlike_training(self) -> bool:
        return bool(self.prediction and self.prediction.unlike_training)

    @property
    def _found(self) -> str:
        assert self.prediction is not None  # noqa: S101 - ``summary`` looks first
        if self.areas_mm2:
            return ", ".join(f"{name} {area:.3f} mm2" for name, area in self.areas_mm2.items())
        if self.prediction.mask is None:
            return _said(self.prediction)
        volumes = volumes_ml(self.prediction)
        return ", ".join(f"{name} {ml:.1f} ml" if ml is not None else name for name, ml in volumes.items())


def unlike_sentence(prediction: Prediction) -> str:
    """A warning that goes before an answer for an image unlike the training data; else empty."""
    return f"unlike the training data (score {prediction.ood_score:.3g}): " if prediction.unlike_training else ""


def find_inputs(paths: Sequence[str | Path], series: str = "") -> list[Input]:
    """Files as they are; of folders every image below, with the DICOM files of one series as one input.

    series:
        The only one that is meant, of one folder, zip or file.

    Raises
    ------
    ConfigError
        If a path does not exist, or a series is asked of several.
    ReadError
        If a folder holds nothing that medrail reads.
    """
    if series:
        return _one_input(paths, series)
    inputs: list[Input] = []
    for path in map(Path, paths):
        if path.is_file():
            inputs.append(Input(path))
        elif path.is_dir():
            inputs += _inputs_below(path)
        else:
            raise _no_such(path)
    return inputs


def _one_input(paths: Sequence[str | Path], series: str) -> list[Input]:
    path = Path(paths[0])
    if len(paths) != 1:
        raise ConfigError(f"--series with {len(paths)} inputs", needed="one input, which holds the series")
    if not path.exists():
        raise _no_such(path)
    return [Input(path, series)]


def _no_such(path: Path) -> ConfigError:
    return ConfigError(
        "there is no such file or folder",
        needed="an image file, or a folder of images",
        where=str(path),
        remedy="Look for a mistyped name; a relative path starts at the folder you are in.",
    )


def _inputs_below(folder: Path) -> list[Input]:
    holds = scan(folder)
    series = [volume.series for volume in volumes_of(holds.groups, holds.broken, READ_AS_STORED)]
    found = [Input(*place_of(one, series)) for one in series]
    found += [Input(file.path) for file in holds.foreign if _is_input(file)]
    found += [Input(file.path) for file in holds.refused]  # kept, so that the summary names them
    slides = {file.path.parent: file.path for file in reversed(holds.others) if is_slide(file.path)}
    found += [Input(path) for path in slides.values()]  # one slide's levels are files of one folder
    found.sort(key=lambda one: (str(one.path), one.item))
    if not found:
        raise ReadError(
            "no image in this folder",
            needed="DICOM, NIfTI, NRRD, MHA, PNG, JPEG, ...",
            where=str(folder),
            remedy="Name the folder that holds the images, or the files themselves.",
        )
    return found


_IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".dcm", ".nii", ".gz", ".mha", ".mhd", ".nrrd")


def _is_input(file: Foreign) -> bool:
    """An image, or what calls itself one and shall be named in the summary; a text beside the images is none."""
    if file.error is None:
        return file.kind not in ("npz", "zip")
    return not isinstance(file.error, UnsupportedFormat) or file.path.suffix.lower() in _IMAGE_ENDINGS


def predict_files(
    predictor: Predictor,
    inputs: Sequence[Input],
    out: Path,
    *,
    roi: Path | None = None,
    overlays: bool = True,
    progress: Progress | None = None,
) -> list[Answer]:
    """Predict each input and write ``out/predictions.csv``, masks (``NAME_mask.nii.gz``) and overlays (``NAME.png``).

    Where a classifier has exact maps of evidence, ``NAME_evidence.png`` shows the one for the class decided for.

    Raises
    ------
    BundleError
        If the bundle's network cannot run at all; what is wrong with one input stands in its ``Answer.reason``.
    """
    out.mkdir(parents=True, exist_ok=True)
    names = _unique_names(inputs)
    answers = []
    for number, (one, name) in enumerate(zip(inputs, names, strict=True), 1):
        try:
            if predictor.spec.slide and not one.item and is_slide(one.path):
                answers.append(_predict_slide(predictor, one, name, out, overlays, progress))
            else:
                answers.append(_predict(predictor, one, name, out, roi, overlays))
        except (MedrailError, OSError) as error:
            answers.append(Answer(one, reason=_reason(error, one)))
        if progress:
            progress(number, len(inputs), name)
    write_text(out / "predictions.csv", _table(predictor, answers, names))
    return answers


def _reason(error: MedrailError | OSError, one: Input) -> str:
    """The error without the input's own path, which stands before it in the table and on the terminal."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    text = in_words(str(error), PREDICT)
    return text.removeprefix(f"{one.path}: ")


def _unique_names(inputs: Sequence[Input]) -> list[str]:
    names: list[str] = []
    taken: set[str] = set()
    for one in inputs:
        name, count = one.name, 1
        while name.lower() in taken:
            count += 1
            name = f"{one.name}-{count}"
        taken.add(name.lower())
        names.append(name)
    return names


def _predict(predictor: Predictor, one: Input, name: str, out: Path, roi: Path | None, overlays: bool) -> Answer:
    image = read(one.path, one.item, predictor.spec.read_options)
    prediction = predictor(image, read_mask(roi) if roi else None, evidence=overlays)
    files = []
    if prediction.mask is not None:
        files.append(out / f"{name}_mask.nii.gz")
        write_nifti(prediction.mask, files[-1])
    if overlays:
        files.append(out / f"{name}.png")
        caption = "" if prediction.mask is not None else _said(prediction)
        files[-1].write_bytes(overlay_png(image, prediction.mask, caption=caption))
    if overlays and prediction.evidence:
        files.append(out / f"{name}_evidence.png")
        caption = f"evidence (exact): orange for {prediction.evidence.class_name}, blue against it"
        files[-1].write_bytes(overlay_png(image, heat=prediction.evidence.values, caption=caption))
    return Answer(one, prediction, tuple(files))


def _said(prediction: Prediction) -> str:
    """A classification in a few words."""
    if prediction.findings is None:
        said = f"{prediction.class_name} ({prediction.confidence:.3f})"
        possible = " or ".join(prediction.conformal_set or ()) or "none of the classes"
        return f"{said}; undecided, possible: {possible}" if prediction.undecided else said
    found = [f"{name} ({prediction.probabilities[name]:.3f})" for name in prediction.findings]
    return ", ".join(found) or "no finding"


def _predict_slide(
    predictor: Predictor, one: Input, name: str, out: Path, overlays: bool, progress: Progress | None
) -> Answer:
    answer = predict_slide(predictor, one.path, out, name, overlays=overlays, progress=progress)
    return Answer(one, answer.prediction, answer.files, areas_mm2=answer.areas_mm2)


def _table(predictor: Predictor, answers: Sequence[Answer], names: Sequence[str]) -> str:
    """CSV, a row an input; classification: class, confidence (or findings), every probability;
    segmentation: ml, of slides mm^2.

    With a calibration that knows them: the classes that cannot be ruled out, the score of likeness, and the verdict.
    """
    classification = predictor.spec.task == "classification"
    classes = predictor.spec.classes if classification else predictor.spec.classes[1:]
    unit = "mm2" if predictor.spec.slide else "ml"
    columns = [f"p_{name}" if classification else f"{name}_{unit}" for name in classes]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    told = ["findings"] if predictor.spec.multi_label else ["class_name", "confidence"] if classification else []
    added = _added(predictor)
    writer.writerow(["input", "name", *told, *columns, *added, "reason"])
    for answer, name in zip(answers, names, strict=True):
        start = [str(answer.input), name]
        values = [f"{area:.6f}" for area in answer.areas_mm2.values()]
        values = values or _values(answer.prediction, len(told) + len(columns))
        more = [_cell(answer.prediction, name) for name in added]
        writer.writerow([*start, *values, *more, answer.reason])
    return text.getvalue()


def _added(predictor: Predictor) -> list[str]:
    """The columns that a calibration adds."""
    calibration = predictor.calibration
    if calibration is None:
        return []
    of_classes = ["conformal_set", "abstain"] if calibration.conformal and not predictor.spec.slide else []
    return of_classes + (["ood_score", "unlike_training"] if calibration.ood else [])


def _cell(prediction: Prediction | None, name: str) -> str:
    value = getattr(prediction, name, None)
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    return f"{value:.6f}" if isinstance(value, float) else "|".join(value)


def _values(prediction: Prediction | None, count: int) -> list[str]:
    if prediction is None:
        return [""] * count
    if prediction.task == "classification":
        probabilities = [f"{value:.6f}" for value in prediction.probabilities.values()]
        if prediction.findings is not None:
            return ["|".join(prediction.findings), *probabilities]
        return [str(prediction.class_name), f"{prediction.confidence:.6f}", *probabilities]
    if prediction.mask is None or prediction.mask.geometry is None:
        return [""] * count
    return [f"{volume:.3f}" if volume is not None else "" for volume in volumes_ml(prediction).values()]


def volumes_ml(prediction: Prediction) -> dict[str, float | None]:
    """Volume in millilitres of each class but the background; None without physical space.

    Raises
    ------
    ValueError
        For a classification.
    """
    if prediction.mask is None:
        raise ValueError("a classification has no volumes")
    geometry = prediction.mask.geometry
    result: dict[str, float | None] = {}
    for index, name in enumerate(prediction.classes[1:], 1):
        voxels = int((prediction.mask.voxels == index).sum())
        if geometry is None:
            result[name] = None
        else:
            d, h, w = geometry.spacing_mm
            result[name] = voxels * d * h * w / 1000
    return result
