"""DICOM series: every real folder with its expected outcome, and generated series with known answers."""

import logging
import re
from pathlib import Path
from runpy import run_path

import numpy as np
import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from napari_convlstm_tumor.errors import GeometryError, InputError
from napari_convlstm_tumor.io import dicom, dicom_pixels
from napari_convlstm_tumor.io.read import read_volume

make = run_path(str(Path(__file__).with_name("make_dicom.py")))
write_series, write_enhanced, even_positions = (
    make["write_series"],
    make["write_enhanced"],
    make["even_positions"],
)

RNG = np.random.default_rng(0)
STORED = RNG.integers(-500, 500, (5, 4, 6)).astype(np.int16)  # (I, J, K), all sizes different

# folder -> (shape, spacing mm), or the words of the refusal
REAL = [
    ("enhanced-multiframe", (256, 256, 8), (1.0, 1.0, 1.2)),
    ("gantry-tilt", (512, 521, 4), (0.418, 0.418, 4.851)),  # 5 mm along z, tilted 14 degrees: 5 cos 14
    ("ge", (256, 256, 4), (1.0, 1.0, 1.0)),
    ("hyperfine", (112, 138, 8), (1.59, 1.61, 5.0)),
    ("jpeg-lossless", (256, 256, 4), (1.0, 1.0, 1.0)),
    ("rle", (256, 256, 4), (1.0, 1.0, 1.0)),
    ("siemens-implicit", (256, 256, 4), (1.0, 1.0, 1.0)),
    ("sarcoma-STS-001/CT/image", (198, 202, 59), (0.977, 0.977, 3.27)),
    ("sarcoma-STS-001/MR_T1/image", (174, 158, 59), (0.977, 0.977, 3.27)),
    ("missing-slice", "10.0 mm between 28.1 and 38.1 mm", None),
    ("mixed-orientation", "different orientations", None),
    ("rgb", "colour model RGB", None),
    ("too-few-slices", "Only 2 slice", None),
    ("rtstruct-mock", "it is RTSTRUCT", None),  # masks among the slices
    ("seg", "2 DICOM series", None),
]


@pytest.mark.parametrize(("folder", "expected", "spacing"), REAL, ids=[row[0] for row in REAL])
def test_real_folders(shared_data, folder, expected, spacing):
    paths = sorted((shared_data / "dicom" / folder).glob("*.dcm"))
    if isinstance(expected, str):
        with pytest.raises(InputError, match=expected):
            read_volume(paths)
        return
    volume = read_volume(paths)
    assert volume.grid.shape == expected
    assert volume.data.dtype == np.float32
    np.testing.assert_allclose(volume.grid.spacing_mm, spacing, atol=1e-3)


def test_compressions_of_one_scan_agree(shared_data):
    jpeg = read_volume(sorted((shared_data / "dicom" / "jpeg-lossless").glob("*.dcm")))
    rle = read_volume(sorted((shared_data / "dicom" / "rle").glob("*.dcm")))
    assert jpeg.grid.matches(rle.grid)
    np.testing.assert_array_equal(jpeg.data, rle.data)


def test_enhanced_agrees_with_pydicom(shared_data):
    path = shared_data / "dicom" / "enhanced-multiframe" / "IM-0001-0170-0001.dcm"
    header = pydicom.dcmread(path)
    slope = float(header.PerFrameFunctionalGroupsSequence[0].PixelValueTransformationSequence[0].RescaleSlope)
    volume = read_volume([path])
    # sagittal: x falls with the frame number in the file
    raw = header.pixel_array.transpose(2, 1, 0) * slope
    assert any(np.allclose(volume.data, candidate, atol=1e-3) for candidate in (raw, raw[:, :, ::-1]))
    first = header.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient
    k = round(float(volume.grid.to_index(np.multiply(first, (-1, -1, 1)))[2]))
    np.testing.assert_allclose(volume.data[:, :, k], raw[:, :, 0], atol=1e-3)


def test_geometry_and_values(tmp_path):
    paths = write_series(tmp_path, STORED, even_positions(6), spacing=(0.5, 2.0), rescale=(1, -1024), modality="CT")
    volume = read_volume(paths)
    np.testing.assert_array_equal(volume.data, STORED.astype(np.float32) - 1024)
    expected = [[-0.5, 0, 0, 10], [0, -2, 0, 20], [0, 0, 3, 30], [0, 0, 0, 1]]  # LPS -> RAS
    np.testing.assert_allclose(volume.grid.affine, expected)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless])
@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_rescale_of_every_slice(tmp_path, syntax, modality):
    rescales = [(1.5 + k, -10.25 * k) for k in range(6)]
    paths = write_series(tmp_path, STORED, even_positions(6), syntax=syntax, modality=modality, rescale=rescales)
    slope, intercept = np.array(rescales).T
    np.testing.assert_allclose(read_volume(paths).data, STORED * slope + intercept, rtol=1e-6)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless])
@pytest.mark.parametrize("slope", ["", None], ids=["empty", "absent"])
def test_an_intercept_counts_without_a_slope(tmp_path, syntax, slope):
    def change(_, dataset):
        if slope is None:
            del dataset.RescaleSlope
        else:
            dataset.RescaleSlope = slope

    paths = write_series(tmp_path, STORED, even_positions(6), rescale=(1, -1024), syntax=syntax, change=change)
    np.testing.assert_array_equal(read_volume(paths).data, STORED.astype(np.float32) - 1024)


def test_slices_are_sorted_by_position_not_by_name(tmp_path):
    order = [3, 0, 5, 1, 4, 2]
    paths = write_series(tmp_path, STORED[:, :, order], even_positions(6)[order])
    volume = read_volume(paths)
    np.testing.assert_array_equal(volume.data, STORED)


def test_oblique_voxels_lie_where_the_tags_say(tmp_path):
    a, b = np.deg2rad(20), np.deg2rad(35)
    row = np.array([np.cos(a), np.sin(a), 0])
    column = np.array([-np.sin(a) * np.cos(b), np.cos(a) * np.cos(b), np.sin(b)])
    normal = np.cross(row, column)
    positions = even_positions(6, step=-2.5 * normal)  # files run against the normal
    paths = write_series(tmp_path, STORED, positions, spacing=(0.7, 0.9), orientation=[*row, *column])
    volume = read_volume(paths)
    for i, j, k in [(0, 0, 0), (4, 0, 0), (0, 3, 2), (4, 3, 5)]:
        lps = positions[k] + i * 0.7 * row + j * 0.9 * column
        index = volume.grid.to_index(lps * (-1, -1, 1))
        np.testing.assert_allclose(index, np.rint(index), atol=1e-4)
        assert volume.data[tuple(np.rint(index).astype(int))] == STORED[i, j, k]


@pytest.mark.parametrize("degrees", [-20, 5, 14])
def test_tilt_is_corrected(tmp_path, caplog, degrees):
    """A linear field sampled on a tilted stack comes back as the same field in mm on a rectangular grid."""
    tilt = np.deg2rad(degrees)
    row, column = np.array([1.0, 0, 0]), np.array([0, np.cos(tilt), -np.sin(tilt)])
    positions = even_positions(6, step=(0, 0, 4.0))
    i, j, k = np.indices((20, 24, 6))
    lps = positions[k] + i[..., None] * 1.0 * row + j[..., None] * 0.5 * column
    field = lps @ (10, 20, 30)  # per mm
    with caplog.at_level(logging.WARNING):
        paths = write_series(
            tmp_path,
            np.rint(field).astype(np.int16),
            positions,
            spacing=(1, 0.5),
            orientation=[*row, *column],
        )
        volume = read_volume(paths)
    assert f"a tilt of {abs(degrees)}.0 degrees" in caplog.text
    assert volume.grid.spacing_mm == pytest.approx((1, 0.5, 4 * np.cos(tilt)), abs=1e-4)
    expected = (volume.grid.to_mm(np.moveaxis(np.indices(volume.grid.shape), 0, -1)) * (-1, -1, 1)) @ (
        10,
        20,
        30,
    )
    seen = volume.data > volume.data.min()
    assert seen.mean() > 0.5
    assert np.abs(volume.data - expected)[seen].max() < 1.5  # half a stored unit before and after interpolation


def test_uneven_slices_are_refused_or_interpolated(tmp_path, caplog):
    z = np.array([0.0, 3, 6, 12, 15, 18])
    positions = np.stack([0 * z, 0 * z, z], axis=1)
    ramp = np.broadcast_to((z * 10).astype(np.int16), (5, 4, 6))
    paths = write_series(tmp_path, ramp, positions)
    with pytest.raises(GeometryError, match=r"6\.0 mm between 6\.0 and 12\.0 mm .*3\.0 mm elsewhere"):
        read_volume(paths)
    with caplog.at_level(logging.WARNING):
        volume = read_volume(paths, resample_uneven=True)
    assert volume.grid.spacing_mm[2] == pytest.approx(3)
    np.testing.assert_allclose(volume.data[0, 0], np.arange(7) * 30, rtol=1e-6)
    assert "interpolated" in caplog.text


@pytest.mark.parametrize(
    ("z", "words"),
    [
        ([0, 1, 2, 3, 4, 6], "2.0 mm between 4.0 and 6.0 mm"),
        ([0, 1.00, 2.0, 3.0, 4.08, 5.16, 6.24, 7.32], "drifts from 1.00 to 1.08 mm"),
        ([0, 1.1, 2.1, 3.2, 4.3, 5.4], ""),  # 1.08 mm rounded to 0.1 mm
    ],
)
def test_what_counts_as_uneven(tmp_path, z, words):
    positions = np.array([[0, 0, v] for v in z])
    paths = write_series(tmp_path, np.resize(STORED, (5, 4, len(z))), positions)
    if not words:
        assert read_volume(paths).grid.shape[2] == len(z)
        return
    with pytest.raises(GeometryError, match=re.escape(words)):
        read_volume(paths)


def _double(k, dataset):
    if k == 3:
        dataset.ImagePositionPatient = [-10, -20, 36]


def _aside(k, dataset):
    if k == 3:
        dataset.ImagePositionPatient = [-4, -20, 39]


def _coarse(k, dataset):
    if k == 3:
        dataset.PixelSpacing = [1.5, 1]


def _small(k, dataset):
    if k == 3:
        dataset.Rows, dataset.PixelData = 2, dataset.PixelData[:20]


def _lost(k, dataset):
    del dataset.ImagePositionPatient


def _crooked(k, dataset):
    dataset.ImageOrientationPatient = [1, 0, 0, 0.5, 0.866, 0]


def _inverted(k, dataset):
    dataset.PhotometricInterpretation = "MONOCHROME1"


def _other_series(k, dataset):
    dataset.SeriesInstanceUID = f"1.2.{k % 2}"


def _truncated(k, dataset):
    dataset.PixelData = dataset.PixelData[:10]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_double, "occur more than once (first at 36.0 mm)"),
        (_aside, "6.0 mm off to the side"),
        (_coarse, "different pixel sizes"),
        (_small, "different sizes: 5 x 4, 5 x 2 pixels"),
        (_lost, "lacks its position"),
        (_crooked, "no right angle"),
        (_inverted, "MONOCHROME1"),
        (_other_series, "2 DICOM series"),
        (_truncated, "holds 10 bytes of pixels, 40 are expected"),
    ],
)
def test_refusals_name_the_file_and_no_person(tmp_path, change, words):
    paths = write_series(tmp_path, STORED, even_positions(6), change=change)
    with pytest.raises(InputError, match=re.escape(words)) as caught:
        read_volume(paths)
    message = str(caught.value)
    assert message.startswith("000.dcm and 5 more: ")
    for private in ("Private", "PRIVATE", "2001", str(tmp_path)):
        assert private not in message


@pytest.mark.parametrize("folder", ["jpeg-lossless", "rle", "siemens-implicit"])
@pytest.mark.parametrize("lost", [200, 20_000])
def test_truncated_file(shared_data, tmp_path, folder, lost):
    for path in sorted((shared_data / "dicom" / folder).glob("*.dcm")):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    broken = sorted(tmp_path.glob("*.dcm"))[2]
    broken.write_bytes(broken.read_bytes()[:-lost])
    with pytest.raises(InputError, match=re.escape(broken.name) + " (cannot|holds)"):
        read_volume(sorted(tmp_path.glob("*.dcm")))


def test_not_dicom_at_all(tmp_path):
    path = tmp_path / "note.txt"
    path.write_text("hello, this is no image, and long enough to be taken for something else" * 10)
    with pytest.raises(InputError, match=r"note.txt"):
        read_volume([path])
    (tmp_path / "empty.dcm").write_bytes(b"")
    with pytest.raises(InputError, match=r"empty.dcm"):
        read_volume([tmp_path / "empty.dcm"])
    with pytest.raises(InputError, match=r"gone.dcm"):
        read_volume([tmp_path / "gone.dcm"])


@pytest.mark.parametrize("rescales", [[(2, 5)] * 6, [(2 + k, 5 - k) for k in range(6)]])
def test_enhanced_frames_out_of_order(tmp_path, rescales):
    order = [3, 0, 5, 1, 4, 2]
    path = write_enhanced(
        tmp_path / "e.dcm",
        STORED[:, :, order],
        even_positions(6)[order],
        [rescales[k] for k in order],
        (0.5, 2.0),
    )
    volume = read_volume([path])
    slope, intercept = np.array(rescales).T
    np.testing.assert_allclose(volume.data, STORED * slope + intercept, rtol=1e-6)
    assert volume.grid.spacing_mm == pytest.approx((0.5, 2, 3))


def test_compressed_slices_are_decoded_together_and_alone_the_same(tmp_path, capfd, monkeypatch):
    """In calls of four files here; without a word of ITK's on the gap. A file that fails is read for itself."""
    positions = [p for k, p in enumerate(even_positions(7)) if k != 3]
    rescales = [(1.5 + k, -10.25 * k) for k in range(6)]
    paths = write_series(tmp_path, STORED, positions, syntax=RLELossless, rescale=rescales)
    monkeypatch.setattr(dicom_pixels, "FILES_AT_A_TIME", 4)
    together = dicom.read_dicom(paths, resample_uneven=True).data
    assert "WARNING" not in capfd.readouterr().err
    read = dicom_pixels.sitk.ReadImage

    def only_one(names, *arguments, **options):
        if not isinstance(names, str):
            raise RuntimeError("cannot be read together")
        return read(names, *arguments, **options)

    monkeypatch.setattr(dicom_pixels.sitk, "ReadImage", only_one)
    np.testing.assert_array_equal(dicom.read_dicom(paths, resample_uneven=True).data, together)
