"""Masks of every kind of label, visits and series: what is chosen, what is refused, and how it is said."""

import logging
import re
from pathlib import Path
from runpy import run_path

import nibabel as nib
import numpy as np
import pytest

from napari_convlstm_tumor.errors import GeometryError, InputError, SeriesError
from napari_convlstm_tumor.io.read import read_mask, read_series, read_visit, read_volume
from napari_convlstm_tumor.series import PatientFiles, VisitFiles
from napari_convlstm_tumor.settings import Settings
from napari_convlstm_tumor.volume import Grid

make = run_path(str(Path(__file__).with_name("make_dicom.py")))

AFFINE = np.array([[-1, 0, 0, 10], [0, 1, 0, -20], [0, 0, 3, 30], [0, 0, 0, 1]], float)
SHAPE = (10, 12, 8)
GRID = Grid(SHAPE, AFFINE)
RAMP = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)


def save(path, data, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, affine), path)
    return path


def ball(value=1, dtype=np.uint8, at=(5, 6, 4), radius=2.5):
    distance = np.linalg.norm(np.indices(SHAPE) - np.reshape(at, (3, 1, 1, 1)), axis=0)
    return ((distance < radius) * value).astype(dtype)


# ---- read_volume ----


def test_wrong_numbers_of_files(tmp_path):
    path = save(tmp_path / "a.nii.gz", RAMP)
    with pytest.raises(InputError, match="No image files"):
        read_volume([])
    with pytest.raises(InputError, match="2 files were given for one image"):
        read_volume([path, path])


# ---- read_mask ----

MANY = RAMP.copy()
SIGNED = np.linspace(-5, 5, RAMP.size, dtype=np.float32).reshape(SHAPE)
SCALED_IMAGE = np.linspace(0, 1, RAMP.size, dtype=np.float32).reshape(SHAPE)
SOFT = ball(0.6, np.float32)  # a shy network: never above 0.6
CERTAIN = np.maximum(ball(0.97, np.float32), ball(0.3, np.float32, radius=3))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (ball(), ball()),
        (ball(4, np.int16), ball()),
        (ball(255), ball()),
        (ball(1, np.float32), ball()),
        (ball() + 2 * ball(at=(2, 2, 2), radius=1.5), ball() | ball(at=(2, 2, 2), radius=1.5)),
        (np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)),
        (CERTAIN, ball()),
        (MANY, "959 different values"),
        (SIGNED, "negative values (down to -5)"),
        (SCALED_IMAGE, "not clearly a map of probabilities"),
        (SOFT, "not clearly a map of probabilities"),
        (ball(1.5, np.float32), "up to 1.5"),
    ],
    ids=[
        "labels", "label 4", "label 255", "float labels", "two labels", "empty", "probabilities", "an image",
        "signed distance", "an image from 0 to 1", "undecided", "not a label",
    ],
)  # fmt: skip
def test_what_counts_as_tumor(tmp_path, data, expected):
    path = save(tmp_path / "mask.nii.gz", data)
    if isinstance(expected, str):
        with pytest.raises(InputError, match=r"^mask.nii.gz: .*" + re.escape(expected)):
            read_mask(path, GRID)
        return
    mask = read_mask(path, GRID)
    assert mask.data.dtype == np.uint8
    np.testing.assert_array_equal(mask.data, expected)


@pytest.mark.parametrize(
    ("data", "labels"),
    [
        (ball() + 2 * ball(radius=1.5) + ball(at=(2, 2, 2), radius=1), "1, 3"),
        (np.clip(RAMP, 0, 12), "1, 2, 3, 4, 5, 6, ..."),
        (ball(4), None),
        (ball(0.95, np.float32) - ball(0.3, np.float32, radius=1), None),
    ],
)
def test_several_labels_are_told_once(tmp_path, caplog, data, labels):
    with caplog.at_level(logging.WARNING):
        for name in ("one", "two"):
            read_mask(save(tmp_path / f"{name}.nii.gz", data), GRID)
    said = {r.getMessage() for r in caplog.records if "labels" in r.getMessage()}
    assert len(said) == (labels is not None)  # the same words for both files
    assert labels is None or f"has the labels {labels}: all of them count as tumor" in said.pop()


def test_mask_keeps_its_own_grid(tmp_path):
    fine = AFFINE @ np.diag([0.5, 0.5, 1, 1])
    mask = read_mask(save(tmp_path / "mask.nii.gz", ball(), fine), GRID)
    np.testing.assert_allclose(mask.grid.affine, fine)


def shifted(x):
    affine = AFFINE.copy()
    affine[0, 3] += x
    return affine


@pytest.mark.parametrize(
    ("affine", "words"),
    [
        (shifted(50), "lies outside its image in space"),
        (shifted(8), "tumor lies outside the image"),
        (np.diag([1.0, 1, 3, 1]), "no position"),
        (np.diag([-1.0, -1, 1, 1]), "no position"),
    ],
)
def test_mask_elsewhere_is_refused(tmp_path, affine, words):
    with pytest.raises(GeometryError, match=words):
        read_mask(save(tmp_path / "mask.nii.gz", ball(), affine), GRID)


def test_mask_partly_outside_is_told(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        read_mask(save(tmp_path / "mask.nii.gz", ball(), shifted(5)), GRID)
    assert re.search(r"mask.nii.gz: \d+\.\d % of the tumor lies outside", caplog.text)


# ---- visits and series ----


@pytest.fixture
def patient(tmp_path):
    visits = []
    for number, day in enumerate((0, 41, 97), start=1):
        folder = tmp_path / f"2001-0{number}-03"
        images = {
            "flair": (save(folder / "flair.nii.gz", RAMP + number),),
            "t1c": (save(folder / "t1c.nii.gz", RAMP),),
        }
        mask = save(folder / "mask.nii.gz", ball()) if number < 3 else None
        visits.append(VisitFiles(folder.name, images, mask, day=day))
    return PatientFiles("P-1", tuple(visits))


def test_series(patient):
    series = read_series(patient, Settings())
    assert series.days == (0, 41, 97)
    assert series.dated
    assert series.modalities == ("t1c", "flair")
    assert [visit.mask is not None for visit in series.visits] == [True, True, False]
    assert series.visits[1].images["flair"].data[0, 0, 0] == 2


def test_settings_restrict_what_is_read(patient):
    patient.visits[0].images["t1c"][0].write_bytes(b"damaged")
    patient.visits[0].mask.write_bytes(b"damaged")
    series = read_series(patient, Settings(modality=("flair",), masks="ignore"))
    assert series.modalities == ("flair",)
    assert all(visit.mask is None for visit in series.visits)


@pytest.mark.parametrize(
    ("modality", "found", "expected"),
    [
        ((), ("other", "t1"), ("t1", "other")),
        (("t1",), ("other",), ("t1",)),  # an image of unknown kind counts as the one given
        (("t1",), ("other", "t1"), ("t1",)),
        (("t1", "t2"), ("other",), None),
        (("ct",), ("t1",), None),
    ],
)
def test_modality_choice(tmp_path, modality, found, expected):
    images = {name: (save(tmp_path / f"{name}.nii.gz", RAMP),) for name in found}
    files = PatientFiles("P", (VisitFiles("a", images, day=0),))
    if expected is None:
        with pytest.raises(SeriesError, match=rf"^Visit 1: .*{' or '.join(modality)}; found: {', '.join(found)}"):
            read_visit(files, 0, Settings(modality=modality))
        return
    assert tuple(read_visit(files, 0, Settings(modality=modality)).images) == expected


def test_undated_visits_count_positions(patient):
    undated = PatientFiles("P", tuple(VisitFiles(v.label, v.images) for v in patient.visits))
    series = read_series(undated, Settings())
    assert series.days == (0, 1, 2)
    assert not series.dated


def test_errors_name_the_visit_and_the_file_but_no_date(patient):
    save(patient.visits[1].images["t1c"][0], np.full(SHAPE, 7, np.int16))
    with pytest.raises(InputError, match=r"^Visit 2: t1c.nii.gz: Every voxel has the value 7") as caught:
        read_series(patient, Settings())
    assert "2001" not in str(caught.value)
    patient.visits[1].images["t1c"][0].write_bytes(b"")
    with pytest.raises(InputError, match=r"^Visit 2: t1c.nii.gz: The file is empty"):
        read_series(patient, Settings())


def test_a_date_in_the_name_of_an_image_is_not_told(tmp_path, caplog):
    for values, words in (((7, 7), "Every voxel"), ((0, 1), "no values but"), ((5, 6, 7), "Hounsfield")):
        data = np.resize(np.array(values, np.int16), SHAPE)
        path = save(tmp_path / "P_2017-03-29_ct.nii.gz", data)
        files = PatientFiles("P", (VisitFiles("a", {"ct": (path,)}, day=0),))
        try:
            read_visit(files, 0, Settings())
        except InputError as error:
            logging.getLogger("napari_convlstm_tumor").warning(error)
        assert words in caplog.text and "P_(date)_ct.nii.gz" in caplog.text
    assert "2017" not in "".join(record.getMessage() for record in caplog.records)


def test_known_problems_are_not_read_over(patient):
    files = PatientFiles("P", patient.visits, problems=("Two visits lie on day 41.",))
    with pytest.raises(SeriesError, match="Two visits lie on day 41"):
        read_series(files, Settings())


def test_uneven_dicom_visit_follows_the_setting(tmp_path):
    positions = make["even_positions"](6)
    positions[4:, 2] += 3
    paths = make["write_series"](tmp_path / "ct", RAMP[:, :, :6], positions)
    files = PatientFiles("P", (VisitFiles("a", {"ct": tuple(paths)}, day=0),))
    with pytest.raises(GeometryError, match=r"^Visit 1: 000.dcm and 5 more: Slices are missing"):
        read_visit(files, 0, Settings())
    volume = read_visit(files, 0, Settings(resample_uneven=True)).images["ct"]
    assert volume.grid.shape == (10, 12, 7)


def test_contours_are_drawn_on_the_image_they_name(tmp_path):
    """CT and T1 of one visit on different grids; the structure names the CT, which is not the first image."""
    ct = make["write_series"](tmp_path / "ct", RAMP[:, :, :6], make["even_positions"](6), series="ct")
    t1 = make["write_series"](
        tmp_path / "t1", RAMP[:, :, :6], make["even_positions"](6, (0, 0, 31)), series="t1", modality="MR"
    )
    square = [(-8.5, -17.5, 36), (-4.5, -17.5, 36), (-4.5, -13.5, 36), (-8.5, -13.5, 36)]
    mask = make["write_rtstruct"](tmp_path / "rt.dcm", {"GTV": [square]}, series="ct")
    files = PatientFiles("P", (VisitFiles("a", {"t1": tuple(t1), "ct": tuple(ct)}, mask, day=0),))
    visit = read_visit(files, 0, Settings())
    assert visit.mask.grid.matches(visit.images["ct"].grid)
    assert visit.mask.data.sum() == 16


def test_real_glioblastoma(shared_data):
    folders = sorted((shared_data / "glioblastoma" / "GBM-01").iterdir())
    visits = tuple(
        VisitFiles(f.name, {"t1c": (f / "t1c.nii.gz",)}, f / "tumor.nii.gz", day=100 * n) for n, f in enumerate(folders)
    )
    series = read_series(PatientFiles("GBM-01", visits), Settings())
    assert [v.images["t1c"].grid.spacing_mm[2] for v in series.visits] == pytest.approx([6.5, 6.5])
    assert all(v.mask is not None and v.mask.data.sum() > 100 for v in series.visits)
