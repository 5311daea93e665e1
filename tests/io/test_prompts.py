"""The prompts file: what is read, and a clear sentence for every entry that cannot be used."""

import json
import re

import nibabel as nib
import numpy as np
import pytest

from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.io.prompts import read_prompts, write_prompts
from napari_convlstm_tumor.series import Prompt, Series, Visit
from napari_convlstm_tumor.volume import Grid, Volume

# Visit 1: x -10..10, y -20..4, z 30..54 (outer faces). Visit 2: turned by 45 degrees about z at x = 100.
STRAIGHT = Grid((10, 12, 8), [[2, 0, 0, -9], [0, 2, 0, -19], [0, 0, 3, 31.5], [0, 0, 0, 1]])
HALF = np.sqrt(0.5)
TURNED = Grid((10, 10, 10), [[HALF, -HALF, 0, 100], [HALF, HALF, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


@pytest.fixture
def series():
    images = [Volume(np.zeros(grid.shape, np.float32), grid) for grid in (STRAIGHT, TURNED)]
    return Series("P", tuple(Visit(str(n), n, {"t1c": image}) for n, image in enumerate(images)))


def write(folder, entries):
    path = folder / "prompts.json"
    path.write_text(entries if isinstance(entries, str) else json.dumps(entries))
    return path


def point(*ras_mm, visit=1, **more):
    return {"visit": visit, "type": "point", "ras_mm": list(ras_mm), **more}


def box(a, b, visit=1):
    return {"visit": visit, "type": "box", "ras_mm": [list(a), list(b)]}


def scribble(*corners, visit=1):
    return {"visit": visit, "type": "scribble", "ras_mm": [list(c) for c in corners]}


def test_points_boxes_and_masks(tmp_path, series):
    data = np.zeros(STRAIGHT.shape, np.uint8)
    data[4, 5, 6] = 1
    (tmp_path / "masks").mkdir()
    nib.save(nib.Nifti1Image(data, STRAIGHT.affine), tmp_path / "masks" / "m.nii.gz")
    entries = [
        point(1, -5, 40),
        box((5, -10, 50), (-5, 0, 35)),
        {"visit": 1, "type": "mask", "path": "masks/m.nii.gz"},
        point(100, 7, 3, visit=2),
    ]
    a_point, a_box, a_mask, other = read_prompts(write(tmp_path, entries), series)
    assert (a_point.visit, a_point.type, a_point.ras_mm.tolist()) == (1, "point", [1, -5, 40])
    assert a_box.ras_mm.tolist() == [[-5, -10, 35], [5, 0, 50]]  # sorted
    np.testing.assert_array_equal(a_mask.mask.data, data)
    assert (other.visit, other.ras_mm.tolist()) == (2, [100, 7, 3])


def test_an_empty_list_is_no_prompts(tmp_path, series):
    assert read_prompts(write(tmp_path, []), series) == ()


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ("[{", "not valid JSON: .* in line 1"),
        ("{}", "holds one dict, a list"),
        ([3], "Entry 1: 3 is no prompt"),
        ([point(1, -5, 40), {"visit": 1}], "Entry 2: The type is None; it is one of point, box, scribble, mask"),
        ([{"visit": 1, "type": "lasso"}], "Entry 1: The type is 'lasso'"),
        ([{"type": "point", "ras_mm": [0, 0, 0]}], "Entry 1: A point needs 'visit'"),
        ([{"visit": 1, "type": "box"}], "Entry 1: A box needs 'ras_mm'"),
        ([point(1, -5, 40, label=0)], "Entry 1: Unknown key 'label'"),
        ([point(1, -5, 40, visit=3)], "Entry 1: The visit is 3; this patient has visits 1 to 2"),
        ([point(1, -5, 40, visit=0)], "The visit is 0"),
        ([point(1, -5, 40, visit=True)], "The visit is True"),
        ([point(1, -5, 40, visit="1")], "The visit is '1'"),
        ([point(1, -5)], r"ras_mm is \[1, -5\]; a point has \[x, y, z\]"),
        ([point(1, -5, "a")], r"ras_mm is \[1, -5, 'a'\]"),
        ([point(1, -5, None)], "finite numbers"),
        ("[" + json.dumps(point(1, -5, float("nan"))) + "]", "finite numbers"),
        ([point(1, -5, 58.5)], r"The point \(1.0, -5.0, 58.5\) mm lies 4.5 mm outside"),
        ([point(13, 8, 40)], "lies 5.0 mm outside"),  # 3 mm in x, 4 mm in y
        ([point(95, 0, 3, visit=2)], "outside the images of visit 2"),
        ([{**box((0, 0, 40), (5, 5, 50)), "ras_mm": [0, 0, 40]}], r"a box has \[\[x, y, z\], \[x, y, z\]\]"),
        ([box((0, -5, 40), (5, -2, 40))], r"no extent along z \(both 40 mm\)"),
        ([box((20, -5, 40), (30, -2, 50))], "lies outside the images of visit 1"),
        (
            [{"visit": 1, "type": "mask", "path": "gone.nii.gz"}],
            "Entry 1: gone.nii.gz: The file does not exist",
        ),
        ([{"visit": 1, "type": "mask", "path": 5}], "path is 5"),
        ([point(1, -5, 40)] * 5001, "holds 5001 prompts, at most 5000"),
        ([scribble(*[[1, -5, 40]] * 3000)] * 2, "have 6000 points"),
        ([scribble(*[[1, -5, 40], [5, -5, 40]] * 1300)], "lines are 10396 mm long"),
    ],
)
def test_unusable_files(tmp_path, series, entries, words):
    with pytest.raises(InputError, match=words) as caught:
        read_prompts(write(tmp_path, entries), series)
    assert str(caught.value).startswith("prompts.json: ")
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("edge", [(-10, -20, 30), (10, 4, 54)])
def test_the_outer_face_is_inside(tmp_path, series, edge):
    assert len(read_prompts(write(tmp_path, [point(*edge)]), series)) == 1


def test_box_corner_of_a_turned_image(tmp_path, series):
    """The box touches the box around the turned image, but not the image."""
    near = box((100 - 6, 0, 2), (100 - 4, 1, 4), visit=2)
    with pytest.raises(InputError, match="outside the images of visit 2"):
        read_prompts(write(tmp_path, [near]), series)


def test_empty_mask_and_missing_file(tmp_path, series):
    nib.save(nib.Nifti1Image(np.zeros(STRAIGHT.shape, np.uint8), STRAIGHT.affine), tmp_path / "m.nii.gz")
    with pytest.raises(InputError, match=r"Entry 1: m.nii.gz has no tumor voxel"):
        read_prompts(write(tmp_path, [{"visit": 1, "type": "mask", "path": "m.nii.gz"}]), series)
    with pytest.raises(InputError, match=r"^none.json: The prompts file does not exist"):
        read_prompts(tmp_path / "none.json", series)


def test_round_trip(tmp_path, series):
    prompts = (
        Prompt(1, "point", np.array([1.25, -5, 40])),
        Prompt(2, "box", np.array([[98.0, 3, 1], [102, 9, 8]])),
    )
    write_prompts(tmp_path / "p.json", prompts)
    back = read_prompts(tmp_path / "p.json", series)
    assert [(p.visit, p.type, p.ras_mm.tolist()) for p in back] == [
        (p.visit, p.type, p.ras_mm.tolist()) for p in prompts
    ]
    mask = Prompt(1, "mask", mask=Volume(np.zeros(STRAIGHT.shape, np.uint8), STRAIGHT))
    with pytest.raises(InputError, match=re.escape("Prompt 1 is a mask")):
        write_prompts(tmp_path / "p.json", [mask])


def test_a_scribble_is_a_line_of_two_or_more_points(tmp_path, series):
    path = tmp_path / "prompts.json"
    line = [[1.0, -5.0, 40.0], [2.0, -5.0, 40.0], [2.0, -4.0, 41.0]]
    path.write_text(json.dumps([{"visit": 1, "type": "scribble", "ras_mm": line}]))
    (prompt,) = read_prompts(path, series)
    assert prompt.type == "scribble" and prompt.ras_mm.tolist() == line
    path.write_text(json.dumps([{"visit": 1, "type": "scribble", "ras_mm": line[:1]}]))
    with pytest.raises(InputError, match="a scribble has"):
        read_prompts(path, series)
