"""NIfTI, NRRD and MetaImage: values, units, positions, and every refusal."""

import gzip
import logging
import re
import tracemalloc

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from napari_convlstm_tumor.errors import GeometryError, InputError
from napari_convlstm_tumor.io.nifti import volume_from_sitk
from napari_convlstm_tumor.io.read import read_volume

DATA = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
AFFINE = np.array([[-0.9, 0, 0, 12], [0, 1.1, 0, -7], [0, 0, 6.5, 3], [0, 0, 0, 1]])
TURN = np.array([[0.8, -0.6, 0, 0], [0.6, 0.8, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


def save(path, data=DATA, affine=AFFINE, slope=None, unit="mm", sform=1, qform=1, qform_affine=None, dtype=None):
    image = nib.Nifti1Image(data, affine, dtype=dtype)
    image.set_sform(affine, sform)
    image.set_qform(affine if qform_affine is None else qform_affine, qform)
    image.header.set_xyzt_units(unit)
    if slope is not None:
        image.header.set_slope_inter(*slope)
    nib.save(image, path)
    return path


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".NII.GZ"])
@pytest.mark.parametrize("affine", [AFFINE, TURN @ AFFINE])
def test_values_and_affine(tmp_path, suffix, affine):
    volume = read_volume([save(tmp_path / f"a{suffix}", affine=affine)])
    assert volume.data.dtype == np.float32
    np.testing.assert_array_equal(volume.data, DATA)
    np.testing.assert_allclose(volume.grid.affine, affine, atol=1e-5)


def test_slope_and_intercept(tmp_path):
    path = save(tmp_path / "a.nii.gz")
    raw = bytearray(gzip.decompress(path.read_bytes()))
    raw[112:120] = np.array([2.5, -10], "<f4").tobytes()  # scl_slope, scl_inter
    path.write_bytes(gzip.compress(bytes(raw)))
    np.testing.assert_allclose(read_volume([path]).data, DATA * 2.5 - 10)


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<u2", ">i4", "u1"])
def test_stored_types(tmp_path, dtype):
    volume = read_volume([save(tmp_path / "a.nii", DATA.astype(dtype))])
    assert volume.data.dtype == np.dtype(np.float32)
    np.testing.assert_array_equal(volume.data, DATA)


@pytest.mark.parametrize(("unit", "scale"), [("mm", 1), ("unknown", 1), ("micron", 1e-3), ("meter", 1e3)])
def test_units(tmp_path, unit, scale):
    stored = np.diag([1 / scale] * 3 + [1]) @ AFFINE
    volume = read_volume([save(tmp_path / "a.nii", affine=stored, unit=unit)])
    np.testing.assert_allclose(volume.grid.affine, AFFINE, rtol=1e-5)


def test_metres_that_are_millimetres_are_refused(tmp_path):
    with pytest.raises(GeometryError, match=r"a.nii: A voxel size of \(900.0, 1100.0, 6500.0\) mm"):
        read_volume([save(tmp_path / "a.nii", unit="meter")])


@pytest.mark.parametrize(
    ("sform", "qform", "shift", "kept"),
    [
        (1, 1, 0.5, "s"),  # apart by less than the tolerance: the sform
        (1, 0, 50, "s"),
        (0, 1, 50, "q"),
        (1, 1, 1.5, None),
        (4, 1, 50, None),
    ],
)
def test_sform_and_qform(tmp_path, sform, qform, shift, kept):
    other = AFFINE.copy()
    other[0, 3] += shift
    path = save(tmp_path / "a.nii", sform=sform, qform=qform, qform_affine=other)
    if kept is None:
        with pytest.raises(GeometryError, match=rf"a.nii: .*{shift:.1f} mm apart"):
            read_volume([path])
        return
    np.testing.assert_allclose(read_volume([path]).grid.affine, AFFINE if kept == "s" else other, atol=1e-5)


def test_no_position_is_told(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        volume = read_volume([save(tmp_path / "a.nii", sform=0, qform=0)])
    assert "a.nii: the header gives no position" in caplog.text
    assert volume.grid.spacing_mm == pytest.approx((0.9, 1.1, 6.5))


def test_voxel_size_zero_is_not_taken_for_one_millimetre(tmp_path):
    path = save(tmp_path / "a.nii", sform=0, qform=1)
    raw = bytearray(path.read_bytes())
    raw[80:92] = np.zeros(3, "<f4").tobytes()  # pixdim[1:4]
    path.write_bytes(bytes(raw))
    with pytest.raises(GeometryError, match=r"voxel size of \[0.0, 0.0, 0.0\]"):
        read_volume([path])


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((3, 4, 5, 1), ""),
        ((3, 4, 5, 1, 1), ""),
        ((3, 4, 5, 2), "(3, 4, 5, 2): several volumes"),
        ((3, 4), "(3, 4): 2 dimensions"),
    ],
)
def test_dimensions(tmp_path, shape, words):
    path = save(tmp_path / "a.nii.gz", np.resize(DATA, shape))
    if not words:
        np.testing.assert_array_equal(read_volume([path]).data, DATA)
        return
    with pytest.raises(InputError, match=re.escape(words)):
        read_volume([path])


def test_colour_and_complex_are_refused(tmp_path):
    rgb = np.zeros((3, 4, 5), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    with pytest.raises(InputError, match="colour"):
        read_volume([save(tmp_path / "a.nii", rgb)])
    with pytest.raises(InputError, match="colour"):
        read_volume([save(tmp_path / "b.nii", DATA.astype(np.complex64))])


def test_sheared_affine_is_refused(tmp_path):
    sheared = AFFINE.copy()
    sheared[0, 1] = 0.3
    with pytest.raises(GeometryError, match=r"a.nii: The affine is sheared"):
        read_volume([save(tmp_path / "a.nii", affine=sheared, qform=0)])


@pytest.mark.parametrize(("bad", "refused"), [(1, False), (8, False), (9, True)])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite_voxels(tmp_path, caplog, bad, refused, value):
    data = np.linspace(-1000, 500, 8000, dtype=np.float32).reshape(20, 20, 20)
    data[10, 10, 1 : 1 + bad] = value
    path = save(tmp_path / "a.nii.gz", data)
    if refused:
        with pytest.raises(InputError, match=r"9 of 8000 voxels \(0.11 %\) are NaN"):
            read_volume([path])
        return
    with caplog.at_level(logging.WARNING):
        read = read_volume([path]).data
    assert np.all(read[10, 10, 1 : 1 + bad] == -1000)  # air, not water
    assert f"{bad} voxels were NaN" in caplog.text


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha"])
@pytest.mark.parametrize("damage", ["missing", "empty", "half", "text"])
def test_damaged_files(tmp_path, name, damage):
    path = tmp_path / name
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 999, (20, 20, 20)).astype(np.int16)
    if ".nii" in name:
        save(path, noise)
    else:
        sitk.WriteImage(sitk.GetImageFromArray(noise), str(path))
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "half": content[: len(content) // 2], "text": b"hello " * 200}[damage])
    with pytest.raises(InputError, match=rf"^{name}: ") as caught:
        read_volume([path])
    assert str(tmp_path) not in str(caught.value)


def test_memory_of_a_whole_brain(tmp_path):
    """About twice the float32 image while reading: the decompressed file, the result, a chunk of 8 MB."""
    shape = (240, 240, 155)
    path = save(tmp_path / "a.nii.gz", np.zeros(shape, np.float32))
    tracemalloc.start()
    read_volume([path])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.3 * 4 * np.prod(shape)


# ---- SimpleITK formats ----


def itk_image(data=DATA):
    image = sitk.GetImageFromArray(np.ascontiguousarray(data.transpose(2, 1, 0)))  # (i, j, k) -> (k, j, i)
    image.SetSpacing((0.9, 1.1, 6.5))
    image.SetOrigin((1, 2, 3))
    image.SetDirection((0.8, -0.6, 0, 0.6, 0.8, 0, 0, 0, 1))
    return image


@pytest.mark.parametrize("name", ["a.nrrd", "a.nhdr", "a.mha", "a.mhd", "A.NRRD"])
def test_itk_formats(tmp_path, name):
    image = itk_image()
    path = tmp_path / name.lower()
    sitk.WriteImage(image, str(path))
    path = path.rename(tmp_path / name)
    volume = read_volume([path])
    assert volume.data.dtype == np.float32
    np.testing.assert_array_equal(volume.data, DATA)
    for ijk in [(0, 0, 0), (2, 0, 0), (1, 3, 4)]:
        lps = image.TransformIndexToPhysicalPoint(ijk)
        np.testing.assert_allclose(volume.grid.to_mm(ijk), np.multiply(lps, (-1, -1, 1)), atol=1e-5)


def test_itk_and_nibabel_agree(tmp_path):
    sitk.WriteImage(itk_image(), str(tmp_path / "a.nii.gz"))
    sitk.WriteImage(itk_image(), str(tmp_path / "a.mha"))
    nifti, meta = read_volume([tmp_path / "a.nii.gz"]), read_volume([tmp_path / "a.mha"])
    assert nifti.grid.matches(meta.grid)
    np.testing.assert_array_equal(nifti.data, meta.data)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (sitk.Image(3, 4, sitk.sitkInt16), "(3, 4): 2 dimensions"),
        (sitk.Image([3, 4, 5, 2], sitk.sitkInt16), "(3, 4, 5, 2): several volumes"),
        (sitk.Image([3, 4, 5], sitk.sitkVectorUInt8, 3), "3 values: colour"),
    ],
)
def test_itk_refusals(tmp_path, image, words):
    sitk.WriteImage(image, str(tmp_path / "a.mha"))
    with pytest.raises(InputError, match=re.escape(words)):
        read_volume([tmp_path / "a.mha"])


def test_a_4d_itk_image_with_one_volume():
    assert volume_from_sitk(sitk.Image([3, 4, 5, 1], sitk.sitkInt16)).grid.shape == (3, 4, 5)
