"""Hypothesis turns bytes and values of everything that is read: whatever comes, a TumorError or a sane answer.

HOSTILE_EXAMPLES=2000 tries more than the 30 of the suite.
"""

import gzip
import json
import math
import os
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from napari_convlstm_tumor.errors import TumorError
from napari_convlstm_tumor.io.clinical import read_clinical
from napari_convlstm_tumor.io.dicom_masks import read_dicom_mask
from napari_convlstm_tumor.io.dicom_tags import read_header
from napari_convlstm_tumor.io.discover import find_patients
from napari_convlstm_tumor.io.links import read_links
from napari_convlstm_tumor.io.prompts import read_prompts, read_saved_prompts
from napari_convlstm_tumor.io.read import read_volume
from napari_convlstm_tumor.results import read_recipe
from napari_convlstm_tumor.series import Series, Visit
from napari_convlstm_tumor.volume import Grid, Volume

HERE = Path(__file__).parent
files = run_path(str(HERE / "damage_files.py"))
make = run_path(str(HERE.parent / "io" / "make_dicom.py"))
GRID = Grid(files["SHAPE"], files["AFFINE"])
SERIES = Series("P", tuple(Visit(str(n), 40 * n, {"t1c": Volume(files["IMAGE"], GRID)}, None) for n in range(2)), True)
EXAMPLES = int(os.environ.get("HOSTILE_EXAMPLES", "30"))
fuzz = settings(
    max_examples=EXAMPLES, deadline=None, derandomize=EXAMPLES == 30,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
# (place as a share of the file, new byte); places crowd at the beginning, where headers are.
EDITS = st.lists(st.tuples(st.floats(0, 1).map(lambda x: x**3), st.integers(0, 255)), min_size=1, max_size=8)
CUTS = st.sampled_from([1.0, 1.0, 1.0, 0.999, 0.5, 0.02])
WORDS = st.one_of(
    st.sampled_from([
        "P", "0", "1", "40", "-1", "1e400", "nan", "t1c", "P/day-000/t1c.nii.gz", "..", "/", "\0", '"', "a,b",
        "2019-01-01", "worse", "yes", "radiotherapy end", "9" * 5000, "٣", "²",
    ]),
    st.text(max_size=12),
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_infinity=False) | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)
KEYS = st.sampled_from(["visit", "type", "ras_mm", "path", "is", "is_not", "model", "spacing", "modality", "reference"])
ENTRIES = st.lists(st.dictionaries(KEYS, JSON | st.sampled_from([1, 2, "point", "box", "mask", [1, 2, 3]]), max_size=5),
                   max_size=3)  # fmt: skip


def edited(raw, edits, cut):
    raw = bytearray(raw)
    for share, byte in edits:
        raw[min(len(raw) - 1, int(share * len(raw)))] = byte
    return bytes(raw[: max(1, int(cut * len(raw)))])


def refused(read, *arguments):
    """The answer, or None where a TumorError was raised; anything else is a failure of the test."""
    try:
        return read(*arguments)
    except TumorError as error:
        assert len(str(error)) < 2000
        return None


def sane(volume):
    assert volume.data.ndim == 3
    assert np.isfinite(volume.data).all()
    assert all(math.isfinite(s) and s > 0 for s in volume.grid.spacing_mm)
    assert np.isfinite(volume.grid.affine).all()


def healthy_file(tmp_path, name):
    path = tmp_path / name
    if path.exists():
        return path.read_bytes()
    if name.endswith(".nii"):
        raw = bytes(files["plain"]())
    elif name.endswith(".nii.gz"):
        raw = gzip.compress(files["plain"](), mtime=0)
    else:
        files["nrrd" if name.endswith(".nrrd") else "mhd"]()(path)
        raw = path.read_bytes()
    path.write_bytes(raw)
    return raw


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha"])
@fuzz
@given(edits=EDITS, cut=CUTS)
def test_single_files(tmp_path, name, edits, cut):
    (tmp_path / "x").mkdir(exist_ok=True)
    path = tmp_path / "x" / name
    path.write_bytes(edited(healthy_file(tmp_path, name), edits, cut))
    volume = refused(read_volume, [path])
    if volume is not None:
        sane(volume)


@fuzz
@given(edits=EDITS, cut=CUTS)
def test_a_packed_file_with_an_edited_header(tmp_path, edits, cut):
    raw = edited(bytes(files["plain"]()), [(share * 348 / 31072, byte) for share, byte in edits], cut)
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(raw, 1))
    volume = refused(read_volume, [path])
    if volume is not None:
        sane(volume)


@fuzz
@given(edits=EDITS, cut=CUTS, which=st.integers(0, 3))
def test_dicom_series(tmp_path, edits, cut, which):
    folder = tmp_path / "series"
    if not folder.exists():
        stored = np.random.default_rng(0).integers(0, 1000, (6, 5, 4)).astype(np.int16)
        make["write_series"](folder, stored, make["even_positions"](4))
    paths = sorted(folder.glob("*.dcm"))
    before = paths[which].read_bytes()
    try:
        paths[which].write_bytes(edited(before, edits, cut))
        read_header(paths[which])
        refused(find_patients, folder)
        volume = refused(read_volume, paths)
        if volume is not None:
            sane(volume)
    finally:
        paths[which].write_bytes(before)


@fuzz
@given(edits=EDITS, cut=CUTS)
def test_contours(tmp_path, edits, cut):
    path = tmp_path / "rt.dcm"
    ring = np.array([[-5.0, -12, 36], [2, -12, 36], [2, -5, 36], [-5, -5, 36]])
    grid = Grid((12, 10, 8), np.diag([-1.0, -1, 3, 1]))
    make["write_rtstruct"](path, {"GTV": [ring]})
    path.write_bytes(edited(path.read_bytes(), edits, cut))
    mask = refused(read_dicom_mask, path, grid, [])
    assert mask is None or set(np.unique(mask.data)) <= {0, 1}


@fuzz
@given(header=st.permutations(["patient", "path", "day", "date", "visit", "modality", "mask"]),
       rows=st.lists(st.lists(WORDS, max_size=8), max_size=4), between=st.sampled_from(",;\t"))  # fmt: skip
@example(["patient", "path"], [["P", "\0"]], ",")
@example(["patient", "path", "day"], [["P", "P", "9" * 5000]], ",")
@example(["patient", "path"], [["P", "~nobody/x"]], ",")
@example(["patient", "path"], [["P", "x" * 5000]], ",")
def test_manifests(tmp_path, header, rows, between):
    path = tmp_path / "manifest.csv"
    lines = [between.join(header), *(between.join(row) for row in rows)]
    path.write_text("\n".join(lines), encoding="utf-8", errors="surrogatepass", newline="")
    refused(find_patients, path)


@fuzz
@given(raw=st.binary(max_size=300))
def test_bytes_for_every_text(tmp_path, raw):
    for name, read in (
        ("manifest.csv", find_patients),
        ("clinical.csv", lambda p: read_clinical(p, "P", (0, 40))),
        ("links.json", lambda p: read_links(p, 2)),
        ("prompts.json", lambda p: read_prompts(p, SERIES)),
        ("recipe.yaml", read_recipe),
    ):
        (tmp_path / name).write_bytes(raw)
        refused(read, tmp_path / name)


@fuzz
@given(content=JSON | ENTRIES)
@example([{"visit": 1, "type": "point", "ras_mm": [10**400, 0, 0]}])
@example([{"visit": 1, "type": "mask", "path": "\0"}])
@example([{"visit": 1, "type": "mask", "path": 5}])
@example([{"visit": 1, "type": "mask", "path": "x" * 5000}])
@example([{"visit": 1, "ras_mm": [10**400, 0, 0], "is": 1}])
@example({"spacing": [float("nan")]})
@example({"prompts": "\0"})
@example({1: 2})
def test_json_for_prompts_links_and_recipes(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_text(json.dumps(content))
    for prompt in refused(read_prompts, path, SERIES) or ():
        assert prompt.ras_mm is None or np.isfinite(prompt.ras_mm).all()
    for prompt in refused(read_saved_prompts, path) or ():
        assert prompt.visit >= 1
    refused(read_links, path, 2)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(content))
    refused(read_recipe, tmp_path / "recipe.yaml")


@pytest.mark.parametrize("value", [".inf", "-.inf"])
def test_a_recipe_with_an_infinite_whole_number(tmp_path, value):
    (tmp_path / "recipe.yaml").write_text(f"reference: {value}")
    with pytest.raises(TumorError):
        read_recipe(tmp_path / "recipe.yaml")


@fuzz
@given(header=st.permutations(["patient", "visit", "day", "steroid_mg_per_day", "status", "event"]),
       rows=st.lists(st.lists(WORDS, min_size=6, max_size=6), max_size=4))  # fmt: skip
@example(["visit", "steroid_mg_per_day", "status"], [["1", "nan", "worse"]])
def test_clinical_tables(tmp_path, header, rows):
    path = tmp_path / "clinical.csv"
    text = "\n".join(",".join(row) for row in [header, *rows])
    path.write_text(text, encoding="utf-8", errors="surrogatepass", newline="")
    inputs = refused(read_clinical, path, "P", (0, 40))
    for state in inputs.visits if inputs else ():
        assert state is None or state.steroid_mg_per_day is None or math.isfinite(state.steroid_mg_per_day)
