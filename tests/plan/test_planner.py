"""Laws: whatever was seen, the plan is a valid configuration whose steps and sizes suit its network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medrail.config import Config, DataConfig, Task, parse
from medrail.plan.effort import FACTOR
from medrail.plan.fingerprint import Fingerprint, ImageFacts
from medrail.plan.machine import BUDGET_MINUTES, Machine
from medrail.plan.mask_facts import MaskFacts
from medrail.plan.notes import Notes
from medrail.plan.planner import mask_classes, name_of, plan_config
from medrail.prepare import check_steps

LAPTOP = Machine(cores=2, memory_gb=8, gpu=False)
PICTURE = ImageFacts("grey picture", "uint8", 1, (1, 300, 400), None, (3.0, 100.0, 250.0))
COLOUR = replace(PICTURE, modality="colour picture", channels=3)
VOLUME = ImageFacts("MR", "arbitrary", 1, (60, 240, 250), (1.0, 0.9, 0.8), (0.0, 80.0, 900.0))
THICK = replace(VOLUME, grid=(24, 320, 300), spacing_mm=(5.0, 0.7, 0.7))
CT = ImageFacts("CT", "HU", 1, (100, 512, 500), (1.5, 0.8, 0.8), (-1000.0, 20.0, 300.0))
MASKS = MaskFacts(read=4, looks="labels", values=((0, 4), (1, 4)), foreground_share=0.1)


def fingerprint(*images: ImageFacts, cases: int = 100, **values: Any) -> Fingerprint:
    plain: dict[str, Any] = {"patients": cases, "splits": (), "leaking_patients": 0, "classes": ()}
    return Fingerprint(cases=cases, images=images or (PICTURE,), **{**plain, **values})


def planned(task: Task, found: Fingerprint, machine: Machine = LAPTOP) -> tuple[Config, Notes]:
    notes = Notes()
    if task == "classification" and not found.classes:
        found = replace(found, classes=(("ill", found.cases // 2), ("well", found.cases - found.cases // 2)))
    if task == "segmentation" and found.masks is None:
        found = replace(found, masks=MASKS)
    config, _ = plan_config(task, DataConfig(kind="csv", path="table.csv"), found, machine, notes)
    return config, notes


def kinds(config: Config) -> list[str]:
    return [step["kind"] for step in config.prepare.steps]


def step(config: Config, kind: str) -> dict[str, Any]:
    return next(step for step in config.prepare.steps if step["kind"] == kind)


def final_size(config: Config) -> tuple[int, ...]:
    """([D,] H, W) of what the network is trained on."""
    if config.model.patch:
        return config.model.patch
    kind = "slices" if "slices" in kinds(config) else "resize"
    return tuple(step(config, kind)["size"])


def thumbnail_size(task: Task, found: Fingerprint) -> tuple[int, ...]:
    """The own size of pictures so small that they are classified as they are; () of all others."""
    if task != "classification" or found.is_volume:
        return ()
    sides = [float(np.median([grid[axis] for grid in found.grids])) for axis in (1, 2)]
    return tuple(map(round, sides)) if min(sides) >= 16 and max(sides) < 64 else ()


sizes = st.integers(1, 1200)
millimetres = st.floats(0.1, 12)
grids = st.tuples(st.one_of(st.just(1), st.integers(2, 400)), sizes, sizes)
spacings = st.one_of(st.none(), st.tuples(millimetres, millimetres, millimetres))
values = st.floats(-2000, 70000)
image_facts = st.builds(
    ImageFacts,
    modality=st.sampled_from(["CT", "MR", "PET", "X-ray", "volume", "grey picture", "colour picture"]),
    unit=st.sampled_from(["HU", "SUV", "uint8", "uint16", "arbitrary"]),
    channels=st.sampled_from([1, 3, 4]),
    grid=grids,
    spacing_mm=spacings,
    values=st.tuples(values, values, values),
    grey_in_colour=st.booleans(),
    lung_share=st.floats(0, 1),
)
mask_facts = st.builds(
    MaskFacts,
    read=st.integers(1, 24),
    looks=st.sampled_from(["labels", "instances", "grey", "empty"]),
    values=st.lists(st.integers(1, 300), max_size=8, unique=True).map(lambda v: tuple((n, 1) for n in [0, *sorted(v)])),
    foreground_share=st.floats(0, 1),
    other_grid=st.integers(0, 3),
    problems=st.sampled_from([(), ("is no mask",)]),
)


@st.composite
def fingerprints(draw: st.DrawFn) -> Fingerprint:
    cases = draw(st.integers(1, 100_000))
    names = draw(st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=5, unique=True))
    train = draw(st.integers(0, cases))
    splits = draw(st.sampled_from([(), (("train", train), ("test", cases - train)), (("train", train),)]))
    return Fingerprint(
        cases=cases,
        patients=draw(st.integers(1, cases)),
        splits=tuple((name, count) for name, count in splits if count),
        leaking_patients=draw(st.integers(0, 2)),
        classes=tuple((name, draw(st.integers(1, cases))) for name in names),
        images=tuple(draw(st.lists(image_facts, min_size=1, max_size=4))),
        masks=draw(st.one_of(st.none(), mask_facts)),
    )


machines = st.builds(Machine, cores=st.integers(1, 64), memory_gb=st.floats(0.5, 500), gpu=st.booleans())
tasks: st.SearchStrategy[Task] = st.sampled_from(["classification", "segmentation"])


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(tasks, fingerprints(), machines)
def test_any_fingerprint_gives_a_configuration_that_runs(task: Task, found: Fingerprint, machine: Machine) -> None:
    notes = Notes()
    data = DataConfig(kind="csv", path="t.csv")
    config, minutes = plan_config(task, data, found, machine, notes, label_names=[(0, "background"), (1, "x")])
    assert parse(config.to_dict(), step_check=check_steps) == config
    own = thumbnail_size(task, found)
    assert final_size(config) == own if own else all(size % FACTOR == 0 and size > 0 for size in final_size(config))
    assert len(final_size(config)) == config.model.dims
    assert (config.model.dims == 3) <= found.is_volume
    needs_geometry = {"resample", "slices", "orient"} & set(kinds(config))
    assert not needs_geometry or found.has_geometry
    assert config.model.name in ({"unet"} if task == "segmentation" else {"tiny_cnn", "resnet18"})
    assert minutes > 0
    assert all(isinstance(note, str) and note for note in [*notes.inferred, *notes.unsure])


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(tasks, fingerprints(), st.floats(8, 64))
def test_a_gpu_never_makes_images_smaller(task: Task, found: Fingerprint, memory_gb: float) -> None:
    slow, _ = plan_config(task, DataConfig(kind="csv", path="t"), found, Machine(2, memory_gb, gpu=False), Notes())
    fast, _ = plan_config(task, DataConfig(kind="csv", path="t"), found, Machine(2, memory_gb, gpu=True), Notes())
    if slow.model.dims == fast.model.dims == 2 and not fast.model.patch:  # patches have the pictures' own resolution
        assert not slow.model.patch
        assert max(final_size(fast)) >= max(final_size(slow))


def test_grey_pictures_are_classified_at_their_shape() -> None:
    config, _ = planned("classification", fingerprint(PICTURE, cases=2000))
    assert kinds(config) == ["rgb_to_grey", "resize", "normalise"]
    assert final_size(config) == (176, 224)
    assert (config.model.name, config.model.dims, config.model.channels) == ("resnet18", 2, 1)
    assert config.train.augment.flip == ()


def test_colours_are_kept_and_mirrored() -> None:
    config, notes = planned("classification", fingerprint(COLOUR))
    assert step(config, "normalise")["method"] == "imagenet"
    assert config.model.channels == 3
    assert config.train.augment.flip == ("H", "W")
    assert any("fundus" in note for note in notes.unsure)


def test_classes_that_name_a_side_forbid_mirroring() -> None:
    found = fingerprint(COLOUR, classes=(("left_eye", 50), ("right_eye", 50)))
    config, notes = planned("classification", found)
    assert config.train.augment.flip == ()
    assert any("names a side" in note for note in notes.inferred)


def test_grey_stored_as_colour_needs_one_channel() -> None:
    grey = replace(PICTURE, channels=3, grey_in_colour=True)
    config, _ = planned("classification", fingerprint(PICTURE, grey))
    assert config.model.channels == 1
    assert kinds(config)[0] == "rgb_to_grey"


def test_ct_gets_a_window_told_from_its_lungs() -> None:
    config, _ = planned("segmentation", fingerprint(CT, cases=4))
    assert step(config, "window")["preset"] == "soft_tissue"
    config, _ = planned("segmentation", fingerprint(replace(CT, lung_share=0.3), cases=4))
    assert step(config, "window")["preset"] == "lung"


def test_few_volumes_become_slices_of_three_planes() -> None:
    config, _ = planned("segmentation", fingerprint(VOLUME, cases=4))
    assert kinds(config) == ["orient", "resample", "clip_percentile", "normalise", "slices", "round"]
    assert step(config, "slices")["planes"] == ["axial", "coronal", "sagittal"]
    assert config.model.dims == 2


def test_thick_slices_become_slices_of_their_own_plane() -> None:
    config, _ = planned("segmentation", fingerprint(THICK, cases=4))
    assert step(config, "slices")["planes"] == ["axial"]
    standing = replace(THICK, grid=(320, 24, 300), spacing_mm=(0.7, 5.0, 0.7))
    config, _ = planned("segmentation", fingerprint(standing, cases=4))
    assert step(config, "slices")["planes"] == ["coronal"]


def test_every_sampled_volume_fits_into_its_slices() -> None:
    small, large = VOLUME, replace(VOLUME, grid=(90, 300, 310))
    config, _ = planned("segmentation", fingerprint(small, large, cases=4))
    spacing = step(config, "resample")["spacing_mm"]
    height, width = step(config, "slices")["size"]
    d, h, w = (n * mm / new for n, mm, new in zip(large.grid, large.spacing_mm or (), spacing, strict=True))
    assert height >= round(max(d, h))
    assert width >= round(max(h, w))


def test_many_volumes_and_a_gpu_become_patches() -> None:
    config, _ = planned("segmentation", fingerprint(VOLUME, cases=60), Machine(16, 64, gpu=True))
    assert config.model.dims == 3
    assert len(config.model.patch) == 3
    assert kinds(config) == ["orient", "resample", "clip_percentile", "normalise", "round"]


def test_volumes_are_classified_in_three_dimensions_unless_they_are_thin() -> None:
    config, _ = planned("classification", fingerprint(VOLUME, cases=60))
    assert (config.model.dims, kinds(config)[:2]) == (3, ["orient", "resize"])
    config, _ = planned("classification", fingerprint(replace(VOLUME, grid=(4, 100, 100)), cases=60))
    assert (config.model.dims, len(step(config, "resize")["size"])) == (2, 2)


def test_large_data_on_a_small_machine_are_made_affordable() -> None:
    found = fingerprint(replace(PICTURE, grid=(1, 2000, 2000)), cases=100_000)
    notes = Notes()
    config, minutes = plan_config(
        "segmentation", DataConfig(kind="csv", path="t"), replace(found, masks=MASKS), Machine(1, 4, gpu=False), notes
    )
    assert config.train.samples_per_epoch > 0
    assert minutes < 1.2 * BUDGET_MINUTES


def test_given_splits_are_kept_unless_patients_leak() -> None:
    splits = (("train", 60), ("val", 20), ("test", 20))
    config, _ = planned("classification", fingerprint(splits=splits))
    assert config.split.by == "given"
    config, notes = planned("classification", fingerprint(splits=splits, leaking_patients=3))
    assert config.split.by == "patient"
    assert any(note.startswith("3 patients stand in more than one") for note in notes.unsure)
    config, _ = planned("classification", fingerprint(splits=(("train", 60),)))
    assert config.split.by == "patient"


@pytest.mark.parametrize(("patients", "val", "test"), [(1, 0, 0.5), (2, 0, 0.5), (10, 0.2, 0.2), (100, 0.15, 0.15)])
def test_few_patients_are_divided_as_far_as_they_go(patients: int, val: float, test: float) -> None:
    config, notes = planned("segmentation", fingerprint(cases=patients))
    assert (config.split.val, config.split.test) == (val, test)
    assert (patients == 1) == any("one patient only" in note for note in notes.unsure)


@pytest.mark.parametrize(
    ("looks", "found", "names", "wanted"),
    [
        ("labels", (1,), {}, {"classes": ("background", "foreground")}),
        ("labels", (255,), {}, {"classes": ("background", "foreground"), "mask_values": (0, 255)}),
        (
            "labels",
            (128, 255),
            {},
            {"classes": ("background", "value_128", "value_255"), "mask_values": (0, 128, 255)},
        ),
        ("labels", (1, 2), {0: "air", 1: "liver", 2: "tumour"}, {"classes": ("air", "liver", "tumour")}),
        ("labels", (2,), {0: "air", 1: "liver", 2: "tumour"}, {"classes": ("air", "liver", "tumour")}),
        ("instances", (1, 2, 3), {}, {"classes": ("background", "foreground"), "foreground_nonzero": True}),
        ("grey", (7, 8), {}, {"classes": ("background", "foreground"), "foreground_nonzero": True}),
        ("empty", (), {}, {"classes": ("background", "foreground")}),
    ],
)
def test_what_mask_values_mean(
    looks: Any, found: tuple[int, ...], names: dict[int, str], wanted: dict[str, Any]
) -> None:
    masks = MaskFacts(read=3, looks=looks, values=tuple((v, 3) for v in (0, *found)), foreground_share=0.1)
    assert mask_classes(masks, Notes(), names) == wanted


def test_rare_mask_values_are_no_classes_unless_they_have_a_name() -> None:
    values = ((0, 24), (1, 24), (7, 1))
    masks = MaskFacts(read=24, looks="labels", values=values, foreground_share=0.1, rare=((7, 1, 3),))
    notes = Notes()
    assert mask_classes(masks, notes, {}) == {"classes": ("background", "foreground")}
    assert any(
        note.startswith("the mask value 7 stands in 1 of 24 masks, 3 voxels: an error?") for note in notes.unsure
    )
    names = {0: "air", 1: "liver", 7: "vessel"}
    assert mask_classes(masks, notes, names) == {"classes": ("air", "liver", "vessel"), "mask_values": (0, 1, 7)}


def test_ct_and_mr_together_get_no_window_and_are_told() -> None:
    config, notes = planned("classification", fingerprint(CT, CT, VOLUME))
    assert "window" not in kinds(config)
    assert "clip_percentile" in kinds(config)
    assert any(note.startswith("CT and MR mixed (CT 2, MR 1 of") for note in notes.unsure)
    assert not any("what kind of scan" in note or "taken for CT" in note for note in notes.unsure)


def test_ct_that_is_not_in_hu_gets_no_window_and_is_told() -> None:
    config, notes = planned("classification", fingerprint(CT, replace(CT, unit="arbitrary", declared="CT")))
    assert "window" not in kinds(config)
    assert any(note.startswith("1 of 2 CT images is not in HU") for note in notes.unsure)


@pytest.mark.parametrize(("declared", "wanted"), [("", "taken for CT because"), ("CT", "the DICOM files say CT")])
def test_ct_without_a_unit_that_reaches_air_gets_a_window_and_is_told(declared: str, wanted: str) -> None:
    found = fingerprint(replace(CT, unit="arbitrary", reaches_air=True, declared=declared))
    config, notes = planned("classification", found)
    assert "window" in kinds(config)
    assert any(note.startswith(wanted) for note in notes.unsure)


@pytest.mark.parametrize(
    ("path", "name"),
    [("/a/chest xray/", "chest-xray"), ("t.csv", "t"), ("/", "model"), ("/x/肺部", "model"), ("..", "model")],
)
def test_names(path: str, name: str) -> None:
    assert name_of(path) == name


def test_pictures_of_very_different_sizes_are_segmented_at_their_own_resolution() -> None:
    sizes = [(1, 256, 256), (1, 256, 300), (1, 360, 360)]
    config, notes = planned("segmentation", fingerprint(*(replace(PICTURE, grid=grid) for grid in sizes)))
    assert config.model.patch == (256, 304)
    assert "resize" not in kinds(config)
    assert any("256 to 360 pixels" in note for note in notes.inferred)
    alike, _ = planned("segmentation", fingerprint(*(replace(PICTURE, grid=grid) for grid in sizes[:2])))
    assert alike.model.patch == ()
    assert "resize" in kinds(alike)
    other, _ = planned("classification", fingerprint(*(replace(PICTURE, grid=grid) for grid in sizes)))
    assert other.model.patch == ()


def test_where_native_patches_take_too_long_pictures_are_resized() -> None:
    found = fingerprint(
        replace(PICTURE, grid=(1, 1000, 1000)), replace(PICTURE, grid=(1, 500, 500)), replace(PICTURE), cases=5000
    )
    config, _ = planned("segmentation", found, Machine(1, 8, gpu=False))
    assert config.model.patch == ()
    assert planned("segmentation", found, Machine(16, 64, gpu=True))[0].model.patch


def test_a_batch_fits_into_the_memory() -> None:
    found = fingerprint(replace(PICTURE, grid=(1, 512, 512)), cases=2000)
    sizes = [
        planned("segmentation", found, machine)[0].train.batch_size
        for machine in (
            Machine(8, 0.5, gpu=False),
            Machine(8, 8, gpu=True, gpu_gb=2.0),
            Machine(8, 8, gpu=True, gpu_gb=80),
        )
    ]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]


@pytest.mark.parametrize("minutes", [2.0, 30.0, 240.0])
def test_the_plan_keeps_to_the_minutes(minutes: float) -> None:
    found = replace(fingerprint(replace(PICTURE, grid=(1, 1500, 1500)), cases=3000), masks=MASKS)
    machine = Machine(2, 8, gpu=False, minutes=minutes)
    _, expected = plan_config("segmentation", DataConfig(kind="csv", path="t"), found, machine, Notes())
    assert expected < 1.3 * minutes


def test_the_drivers_tool_tells_of_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from medrail.plan import machine as room

    monkeypatch.setattr(room.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(room.subprocess, "run", lambda *_, **__: SimpleNamespace(stdout="2048\n40960\n"))
    assert (room.this_machine().gpu, room.this_machine().gpu_gb) == (True, 40.0)
    assert "40 GB free on a GPU" in room.this_machine().describe()
    monkeypatch.setattr(room.subprocess, "run", lambda *_, **__: SimpleNamespace(stdout="[N/A]"))
    assert (room.this_machine().gpu, room.this_machine().gpu_gb) == (True, 0.0)
    monkeypatch.setattr(room.shutil, "which", lambda name: None)
    assert not room.this_machine().gpu
