"""Written files come back as they were, and are whole or not there."""

import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from napari_convlstm_tumor.errors import GeometryError, InputError
from napari_convlstm_tumor.io import write
from napari_convlstm_tumor.io.nifti import volume_from_sitk
from napari_convlstm_tumor.io.read import read_volume
from napari_convlstm_tumor.volume import Grid

TURN = np.array([[0.8, -0.6, 0, 0], [0.6, 0.8, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
GRID = Grid((3, 4, 5), TURN @ [[-0.9, 0, 0, 12.3], [0, 1.1, 0, -7], [0, 0, 6.5, 3], [0, 0, 0, 1]])
RNG = np.random.default_rng(0)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("dtype", [np.float32, np.uint8, bool])
@pytest.mark.parametrize("visits", [None, 1, 3])
def test_nifti_round_trip(tmp_path, name, dtype, visits):
    shape = GRID.shape if visits is None else (visits, *GRID.shape)
    array = (RNG.normal(size=shape) * 5).astype(dtype)
    write.write_nifti(tmp_path / name, array, GRID, last_axis_visits=visits is not None)
    image = nib.load(tmp_path / name)
    stored = array if visits is None else np.moveaxis(array, 0, -1)
    assert image.get_data_dtype() == (np.uint8 if dtype is bool else dtype)
    np.testing.assert_array_equal(np.asanyarray(image.dataobj), stored)
    np.testing.assert_allclose(image.affine, GRID.affine, atol=1e-5)
    np.testing.assert_allclose(image.header.get_qform(), GRID.affine, atol=1e-4)
    assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (1, 1)
    assert image.header.get_xyzt_units() == ("mm", "unknown")
    if visits is not None:
        assert image.header["pixdim"][4] == 1


def test_nan_survives_and_itk_reads_the_same_place(tmp_path):
    array = RNG.normal(size=GRID.shape).astype(np.float32)
    array[0, 0, 0] = np.nan
    write.write_nifti(tmp_path / "a.nii.gz", array, GRID)
    np.testing.assert_array_equal(nib.load(tmp_path / "a.nii.gz").get_fdata(dtype=np.float32), array)
    volume = volume_from_sitk(sitk.ReadImage(str(tmp_path / "a.nii.gz")))
    np.testing.assert_array_equal(volume.data, np.nan_to_num(array))  # ITK itself reads NaN as 0
    assert volume.grid.matches(GRID)


def test_own_reader_accepts_it(tmp_path):
    array = RNG.normal(size=GRID.shape).astype(np.float32)
    write.write_nifti(tmp_path / "a.nii.gz", array, GRID)
    volume = read_volume([tmp_path / "a.nii.gz"])
    np.testing.assert_array_equal(volume.data, array)
    assert volume.grid.matches(GRID)


def test_same_array_same_bytes(tmp_path):
    for name in ("a.nii.gz", "b.nii.gz"):
        write.write_nifti(tmp_path / name, np.ones(GRID.shape, np.uint8), GRID)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


@pytest.mark.parametrize(
    ("array", "visits", "error"),
    [
        (np.zeros((3, 4, 6), np.uint8), False, GeometryError),
        (np.zeros((2, 3, 4, 5), np.uint8), False, GeometryError),
        (np.zeros((3, 4, 5, 2), np.uint8), True, GeometryError),  # visit last already
        (np.zeros(GRID.shape, np.float64), False, InputError),
    ],
)
def test_nifti_refusals(tmp_path, array, visits, error):
    with pytest.raises(error, match=r"^a.nii: "):
        write.write_nifti(tmp_path / "a.nii", array, GRID, last_axis_visits=visits)
    assert not list(tmp_path.iterdir())


def test_text_json_and_new_folders(tmp_path):
    path = tmp_path / "new" / "folder" / "a.json"
    write.write_json(path, {"é": [np.float32(0.5), np.nan, np.int64(3), Path("x"), (1, None)], "b": np.eye(2)})
    assert json.loads(path.read_text("utf-8")) == {"é": [0.5, None, 3, "x", [1, None]], "b": [[1, 0], [0, 1]]}
    write.write_text(path, "one\ntwo")
    assert path.read_bytes() == b"one\ntwo"


def test_csv_round_trip(tmp_path):
    rows = [
        {"visit": 1, "day": None, "volume_mm3": 12.5, "note": 'a, "b"\nc'},
        {"visit": 2, "day": np.nan, "volume_mm3": np.float64(0.1), "note": np.float32(np.nan)},
    ]
    write.write_csv(tmp_path / "a.csv", rows)
    assert write.read_csv(tmp_path / "a.csv") == [
        {"visit": "1", "day": "", "volume_mm3": "12.5", "note": 'a, "b"\nc'},
        {"visit": "2", "day": "", "volume_mm3": "0.1", "note": ""},
    ]
    assert (tmp_path / "a.csv").read_text().splitlines()[0] == "visit,day,volume_mm3,note"


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(1)", "\t=1", "'=1", "''=1", "'a", "a=1"])
def test_no_cell_is_a_formula_and_each_comes_back_as_it_was(tmp_path, text):
    for again in range(2):  # tables are read, added to and written again
        write.write_csv(tmp_path / "t.csv", [{"patient": text, "change": "-12.5" if again else -12.5}])
        lines = (tmp_path / "t.csv").read_text(encoding="utf-8").splitlines()
        assert lines[1].strip('"')[0] not in "=+-@\t"
        assert lines[1].endswith(",-12.5")
        [row] = write.read_csv(tmp_path / "t.csv")
        assert row == {"patient": text, "change": "-12.5"}
        text = row["patient"]


def test_csv_edges(tmp_path):
    write.write_csv(tmp_path / "a.csv", [])
    assert write.read_csv(tmp_path / "a.csv") == []
    with pytest.raises(ValueError, match="'b'"):
        write.write_csv(tmp_path / "b.csv", [{"a": 1}, {"a": 1, "b": 2}])
    assert not (tmp_path / "b.csv").exists()
    (tmp_path / "c.csv").write_text("a,b\n1\n")
    with pytest.raises(InputError, match=r"c.csv: row 1 has not as many cells"):
        write.read_csv(tmp_path / "c.csv")
    (tmp_path / "d.csv").write_bytes(b"a\n\xff\xfe")
    with pytest.raises(InputError, match=r"d.csv cannot be read"):
        write.read_csv(tmp_path / "d.csv")


# ---- whole or not at all ----


class Broken(Exception):
    """Not an error of the package, as a bug or a stopped thread would raise."""


@pytest.mark.parametrize("error", [Broken, KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_error_in_the_middle_leaves_the_old_file(tmp_path, monkeypatch, error):
    path = tmp_path / "a.nii.gz"
    write.write_nifti(path, np.ones(GRID.shape, np.uint8), GRID)
    before = path.read_bytes()

    def half(image, stream):
        stream.write(b"half")
        raise error

    monkeypatch.setattr(nib.Nifti1Image, "to_stream", half)
    kind = InputError if isinstance(error, OSError) else error
    with pytest.raises(kind) as caught:
        write.write_nifti(path, np.zeros(GRID.shape, np.uint8), GRID)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    if kind is InputError:
        assert str(caught.value) == "a.nii.gz cannot be written: No space left on device."


def test_a_killed_process_leaves_the_old_file(tmp_path):
    """SIGKILL after the data is on the disk, before it takes its name: nothing cleans up, nothing is lost."""
    path = tmp_path / "a.txt"
    write.write_text(path, "old")
    script = f"""
        import os, signal
        from pathlib import Path
        from napari_convlstm_tumor.io import write
        os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        write.write_text(Path({str(path)!r}), "new" * 1000)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    left = [p for p in tmp_path.iterdir() if p != path]
    assert all(p.name.startswith(".a.txt.") and p.suffix == ".tmp" for p in left)


def test_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"^a.txt cannot be written"):
        write.write_text(tmp_path / "file" / "a.txt", "text")


def test_new_files_have_the_usual_rights(tmp_path):
    """A temporary file made for one's own eyes only would stay so under its final name."""
    old = os.umask(0o022)
    try:
        write.write_text(tmp_path / "a.txt", "text")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o644
