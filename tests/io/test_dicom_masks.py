"""SEG and RTSTRUCT: known shapes, real files, and every way a structure can be unusable."""

import logging
import re
import sys
from pathlib import Path
from runpy import run_path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from scipy import ndimage

from napari_convlstm_tumor.errors import GeometryError, InputError, MissingDependency
from napari_convlstm_tumor.io.read import read_mask, read_volume
from napari_convlstm_tumor.volume import Grid

make = run_path(str(Path(__file__).with_name("make_dicom.py")))
write_series, write_rtstruct, even_positions = (
    make["write_series"],
    make["write_rtstruct"],
    make["even_positions"],
)

# 40 x 30 x 6 voxels of 1 x 1 x 3 mm, first voxel at LPS (-10, -20, 30)
GRID = Grid((40, 30, 6), np.array([[-1, 0, 0, 10], [0, -1, 0, 20], [0, 0, 3, 30], [0, 0, 0, 1]], float))


def rectangle(i0, i1, j0, j1, k, z_off=0.0):
    """The outline of voxels i0..i1-1, j0..j1-1 of slice k in LPS mm."""
    corners = [(i0, j0), (i1, j0), (i1, j1), (i0, j1)]
    return np.array([(-10 + i - 0.5, -20 + j - 0.5, 30 + 3 * k + z_off) for i, j in corners])


def test_contours_fill_the_voxels_they_enclose(tmp_path):
    path = write_rtstruct(tmp_path / "rt.dcm", {"GTV": [rectangle(5, 15, 4, 10, 2), rectangle(5, 7, 4, 10, 3)]})
    mask = read_mask(path, GRID)
    expected = np.zeros(GRID.shape, np.uint8)
    expected[5:15, 4:10, 2] = 1
    expected[5:7, 4:10, 3] = 1
    np.testing.assert_array_equal(mask.data, expected)
    assert mask.data.dtype == np.uint8
    assert mask.grid.matches(GRID)


OUTER, HOLE, ISLAND = rectangle(2, 22, 2, 22, 2), rectangle(5, 15, 5, 15, 2), rectangle(8, 10, 8, 10, 2)


@pytest.mark.parametrize(
    ("contours", "voxels"),
    [
        ([OUTER], 400),
        ([OUTER, HOLE], 300),
        ([HOLE, OUTER], 300),  # the order in the file does not matter
        ([ISLAND, OUTER, HOLE], 304),
        ([OUTER, OUTER], 400),  # stored twice is not a hole
        ([ISLAND, rectangle(20, 30, 8, 10, 2)], 24),
        ([], 0),
    ],
)
def test_holes_islands_and_neighbours(tmp_path, contours, voxels):
    path = write_rtstruct(tmp_path / "rt.dcm", {"GTV": contours})
    assert read_mask(path, GRID).data.sum() == voxels


def test_contours_on_a_grid_whose_slices_run_along_another_axis(tmp_path):
    path = write_rtstruct(tmp_path / "rt.dcm", {"GTV": [OUTER, HOLE]})
    turned = Grid((6, 40, 30), GRID.affine[:, [2, 0, 1, 3]])
    np.testing.assert_array_equal(np.moveaxis(read_mask(path, turned).data, 0, 2), read_mask(path, GRID).data)


SQUARE = rectangle(5, 15, 5, 15, 2)


@pytest.mark.parametrize(
    ("regions", "types", "error", "words"),
    [
        (
            {"GTV": [rectangle(5, 15, 5, 15, 2, 1.2)]},
            {},
            GeometryError,
            "1.20 mm off the nearest image slice",
        ),
        ({"GTV": [rectangle(5, 15, 5, 15, 8)]}, {}, GeometryError, "9.0 mm outside the image"),
        ({"GTV": [rectangle(35, 50, 5, 15, 2)]}, {}, GeometryError, "9.5 mm outside the image"),
        ({"GTV": [SQUARE, rectangle(10, 20, 5, 15, 2)]}, {}, InputError, "cross each other"),
        ({"GTV": [SQUARE.ravel()[:-1]]}, {}, InputError, "4 points stated, 11 coordinates found"),
        ({"Liver": [SQUARE], "Lung": [SQUARE]}, {}, InputError, "None of its 2 regions is named as a tumor"),
        ({"GTV_Mass": [SQUARE], "GTV_Edema": [SQUARE]}, {}, InputError, "those with the numbers 1, 2"),
        ({}, {}, InputError, "no regions"),
    ],
)
def test_unusable_structures(tmp_path, regions, types, error, words):
    path = write_rtstruct(tmp_path / "rt.dcm", regions, types=types)
    with pytest.raises(error, match=re.escape(words)) as caught:
        read_mask(path, GRID)
    assert str(caught.value).startswith("rt.dcm: ")


@pytest.mark.parametrize(
    ("regions", "types", "voxels"),
    [
        ({"Body": [OUTER], "gtv": [SQUARE]}, {}, 100),
        ({"Body": [OUTER], "Left thing": [SQUARE]}, {"Left thing": "GTV"}, 100),
        ({"Whatever": [SQUARE]}, {}, 100),  # the only region
        ({"GTV 1": [SQUARE], "GTV 2": [rectangle(20, 30, 5, 15, 2)]}, {}, 200),
    ],
)
def test_which_region_is_the_tumor(tmp_path, regions, types, voxels):
    path = write_rtstruct(tmp_path / "rt.dcm", regions, types=types)
    assert read_mask(path, GRID).data.sum() == voxels


def test_points_are_left_out_and_gaps_are_told(tmp_path, caplog):
    contours = [SQUARE, SQUARE[:2], rectangle(5, 15, 5, 15, 5)]
    path = write_rtstruct(tmp_path / "rt.dcm", {"GTV": contours})
    with caplog.at_level(logging.WARNING):
        assert read_mask(path, GRID).data.sum() == 200
    assert "2 point(s)" in caplog.text
    assert "2 slice(s) between" in caplog.text


@pytest.mark.parametrize(
    ("series", "frame", "fits"),
    [("series", "frame", True), ("series", "x", True), ("x", "frame", True), ("x", "x", False)],
)
def test_a_structure_of_another_image_is_refused(tmp_path, series, frame, fits):
    images = write_series(tmp_path / "ct", np.zeros((40, 30, 6), np.int16), even_positions(6))
    path = write_rtstruct(tmp_path / "rt.dcm", {"GTV": [SQUARE]}, series=series, frame=frame)
    if fits:
        assert read_mask(path, GRID, images).data.sum() == 100
        return
    with pytest.raises(InputError, match="made on another image"):
        read_mask(path, GRID, images)


@pytest.mark.parametrize(("folder", "name"), [("CT", "ct"), ("MR_T1", "t1")])
def test_sarcoma_contour_agrees_with_the_published_mask(shared_data, folder, name):
    root = shared_data / "dicom" / "sarcoma-STS-001" / folder
    images = sorted((root / "image").glob("*.dcm"))
    mask = read_mask(root / "mask" / "RS.dcm", read_volume(images).grid, images)
    published = nib.load(shared_data / "sarcoma" / "STS-001" / f"{name}_tumor.nii.gz")
    truth = np.asanyarray(published.dataobj) > 0
    volume_mm3 = truth.sum() * abs(np.linalg.det(published.affine))
    assert mask.data.sum() * mask.grid.voxel_mm3 == pytest.approx(volume_mm3, rel=0.005)
    to_mask = np.linalg.inv(mask.grid.affine) @ published.affine
    drawn = ndimage.affine_transform(
        mask.data.astype(np.float32), to_mask[:3, :3], to_mask[:3, 3], output_shape=truth.shape, order=1
    )
    drawn = drawn > 0.5
    assert 2 * np.sum(drawn & truth) / (drawn.sum() + truth.sum()) > 0.99


@pytest.mark.parametrize(
    "change", [(b"1\\2\\33", b"-\\2\\33"), (b"IS\x02\x001 ", b"IS\x02\x00x ")], ids=["contour", "region"]
)
def test_texts_in_place_of_numbers_are_refused(tmp_path, change):
    path = write_rtstruct(tmp_path / "rt.dcm", {"GTV": [[[1, 2, 33], [5, 2, 33], [5, 9, 33]]]})
    raw = path.read_bytes()
    assert change[0] in raw
    path.write_bytes(raw.replace(*change))
    with pytest.raises(InputError, match=r"rt\.dcm: The RTSTRUCT (lacks numbers|has no regions)"):
        read_mask(path, Grid((12, 10, 8), np.diag([-1.0, -1, 3, 1])))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("rt.dcm", ""),
        ("invalid_reference_rt.dcm", "None of its 4 regions is named"),
        ("non_existent_reference_rt.dcm", "None of its 4 regions is named"),
    ],
)
def test_rt_utils_files(shared_data, name, words):
    folder = shared_data / "dicom" / "rtstruct-mock"
    affine = np.diag([-0.488281, -0.488281, 5, 1])
    affine[:3, 3] = 125, 125, 60
    grid = Grid((512, 512, 2), affine)
    if words:
        with pytest.raises(InputError, match=words):
            read_mask(folder / name, grid, [folder / "ct_1.dcm"])
        return
    mask = read_mask(folder / name, grid, [folder / "ct_1.dcm"])
    # a 24 mm square less a 15 mm one without its corners: 576 - 223 mm2, give or take the outline
    assert mask.data[:, :, 0].sum() * 0.488281**2 == pytest.approx(353, abs=20)
    assert mask.data[:, :, 1].sum() == 0


def test_rt_utils_contours_off_the_image_are_refused(shared_data, tmp_path):
    """The fourth region of the file reaches 70 mm, where the two-slice image (60, 65 mm) has nothing."""
    folder = shared_data / "dicom" / "rtstruct-mock"
    structure = pydicom.dcmread(folder / "invalid_reference_rt.dcm", force=True)
    structure.StructureSetROISequence[3].ROIName = "GTV"
    structure.save_as(tmp_path / "rt.dcm")
    affine = np.diag([-0.488281, -0.488281, 5, 1])
    affine[:3, 3] = 125, 125, 60
    with pytest.raises(GeometryError, match=r"5\.0 mm outside the image"):
        read_mask(tmp_path / "rt.dcm", Grid((512, 512, 2), affine))


# ---- SEG ----


def write_seg(path, images, segments, labels, fractional=False):
    """segments (K, J, I, S) bool or float on the slices of images."""
    hd = pytest.importorskip("highdicom")
    from pydicom.sr.codedict import codes

    sources = sorted((pydicom.dcmread(p) for p in images), key=lambda d: float(d.ImagePositionPatient[2]))
    descriptions = [
        hd.seg.SegmentDescription(n, label, codes.SCT.MorphologicallyAbnormalStructure, codes.SCT.Mass, "MANUAL")
        for n, label in enumerate(labels, start=1)
    ]
    kind = "FRACTIONAL" if fractional else "BINARY"
    seg = hd.seg.Segmentation(
        sources, segments, kind, descriptions, hd.UID(), 1, hd.UID(), 1, "maker", "model", "1", "0",
        omit_empty_frames=True,
    )  # fmt: skip
    seg.save_as(path)
    return path


@pytest.fixture
def images(tmp_path):
    stored = np.arange(40 * 30 * 6, dtype=np.int16).reshape(40, 30, 6)
    return write_series(tmp_path / "ct", stored, even_positions(6))


def _at_mm(mask, grid):
    """The mask's tumor voxels as a set of voxel indices on another grid."""
    return {tuple(row) for row in np.rint(grid.to_index(mask.grid.to_mm(np.argwhere(mask.data)))).astype(int)}


def test_seg_voxels_lie_where_they_were_drawn(tmp_path, images):
    drawn = np.zeros((40, 30, 6), bool)
    drawn[5:15, 4:10, 1] = True
    drawn[7, 8, 4] = True  # slices 2 and 3 are empty and not stored
    path = write_seg(tmp_path / "seg.dcm", images, drawn.transpose(2, 1, 0)[..., None], ["any name"])
    grid = read_volume(images).grid
    mask = read_mask(path, grid, images)
    assert _at_mm(mask, grid) == {tuple(row) for row in np.argwhere(drawn)}
    assert mask.data.sum() == 61


def test_seg_with_several_segments_uses_the_tumor(tmp_path, images):
    drawn = np.zeros((6, 30, 40, 2), bool)
    drawn[1:5, :10, :10, 0] = True
    drawn[2, 20, 20:25, 1] = True
    grid = read_volume(images).grid
    path = write_seg(tmp_path / "seg.dcm", images, drawn, ["liver", "Tumour 1"])
    assert read_mask(path, grid, images).data.sum() == 5
    with pytest.raises(InputError, match="None of its 2 segments is named as a tumor"):
        read_mask(write_seg(tmp_path / "b.dcm", images, drawn, ["liver", "spleen"]), grid, images)


def test_fractional_seg_is_cut_at_half(tmp_path, images):
    fractions = np.zeros((6, 30, 40, 1), np.float32)
    fractions[1:4, 5, 5, 0] = 0.4, 0.6, 1.0
    path = write_seg(tmp_path / "seg.dcm", images, fractions, ["a"], fractional=True)
    assert read_mask(path, read_volume(images).grid, images).data.sum() == 2


def test_real_seg_of_another_image(shared_data):
    folder = shared_data / "dicom" / "seg"
    affine = np.array([[0, 0, -0.488281, 125], [0, -0.488281, 0, 128.1], [-1.25, 0, 0, 105.52], [0, 0, 0, 1.0]])
    assert read_mask(folder / "seg_image_ct_binary.dcm", Grid((3, 16, 16), affine)).data.sum() == 638
    with pytest.raises(GeometryError, match="outside its image"):
        read_mask(folder / "seg_image_ct_binary.dcm", Grid((128, 128, 3), np.eye(4)))
    with pytest.raises(InputError, match="another image"):
        read_mask(folder / "seg_image_ct_binary.dcm", Grid((3, 16, 16), affine), [folder / "ct_image.dcm"])


def test_an_image_is_no_mask(images):
    with pytest.raises(InputError, match="a SEG or an RTSTRUCT, this is CT"):
        read_mask(images[0], GRID)


@pytest.mark.parametrize(("package", "install"), [("highdicom", "highdicom"), ("skimage.draw", "scikit-image")])
def test_missing_package_says_the_install_line(tmp_path, images, monkeypatch, package, install):
    rt = write_rtstruct(tmp_path / "rt.dcm", {"GTV": [SQUARE]})
    seg = write_seg(tmp_path / "seg.dcm", images, np.ones((6, 30, 40, 1), bool), ["a"])
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependency, match=rf"'{install}'.*napari-convlstm-tumor\[dicom\]"):
        read_mask(seg if package == "highdicom" else rt, GRID)
