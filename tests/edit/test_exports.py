"""What is given away: each kind of export, and the recipe that comes to the same numbers in a batch."""

import csv
import importlib.util
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import nibabel as nib
import numpy as np
import pytest
from conftest_edit import DAYS, ball, make_series
from test_recompute import stroke

from napari_convlstm_tumor import pipeline
from napari_convlstm_tumor.edit import exports
from napari_convlstm_tumor.edit.editor import Editor
from napari_convlstm_tumor.edit.exports import can_export, export
from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.io.discover import find_patient
from napari_convlstm_tumor.results import load
from napari_convlstm_tumor.settings import Settings
from napari_convlstm_tumor.volume import Grid

# A scanner's origin is not a corner of the image.
ORIGIN = np.eye(4)
ORIGIN[:3, 3] = -20


@pytest.fixture
def edited(network_result):
    editor = Editor(network_result)
    editor.paint(1, stroke(network_result, 1))
    return editor


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("report", ["HAND-02-report.html"]),
        ("csv", ["HAND-02-visits.csv", "HAND-02-lesions.csv", "HAND-02-edits.csv"]),
        ("png", ["HAND-02-visits.png"]),
        ("gif", ["HAND-02-growth.gif"]),
        ("mp4", ["HAND-02-growth.mp4"]),
    ],
)
def test_files_are_written_whole(edited, kind, names, tmp_path):
    assert [p.name for p in export(edited, kind, tmp_path)] == names
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(names)
    assert all(p.stat().st_size > 40 for p in tmp_path.iterdir())


def test_the_film_has_a_picture_per_visit(edited, tmp_path):
    import imageio.v3 as film

    frames = film.imread(export(edited, "gif", tmp_path)[0])
    assert len(frames) == len(DAYS)
    assert all((a != b).mean() > 0.01 for a, b in pairwise(frames))


def test_the_film_for_players_shows_every_visit_for_a_second(edited, tmp_path):
    import imageio_ffmpeg

    reader = imageio_ffmpeg.read_frames(str(export(edited, "mp4", tmp_path)[0]))
    about, frames = next(reader), list(reader)
    assert about["duration"] == pytest.approx(len(DAYS) * exports.SECONDS_A_VISIT, abs=0.2)
    assert len(frames) == len(DAYS) * exports.FILM_PICTURES_A_SECOND and about["codec"] == "h264"


def test_without_ffmpeg_the_install_line_is_said(edited, tmp_path, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "imageio_ffmpeg" else found(name))
    with pytest.raises(InputError, match=r"pip install 'napari-convlstm-tumor\[film\]'"):
        export(edited, "mp4", tmp_path)


def test_the_table_of_edits_is_the_log(edited, tmp_path):
    paths = export(edited, "csv", tmp_path)
    with paths[2].open() as stream:
        rows = list(csv.DictReader(stream))
    assert [(r["what"], r["visit"]) for r in rows] == [("painted", "2")]


def test_nifti_is_the_result_folder(edited, tmp_path):
    (place,) = export(edited, "nifti", tmp_path)
    np.testing.assert_array_equal(load(place).masks, edited.analysis.masks)


@pytest.mark.parametrize("kind", ["dicom", "recipe", "shoes"])
def test_what_cannot_be_exported_says_why(edited, kind, tmp_path):
    with pytest.raises(InputError, match="This cannot be exported: "):
        export(edited, kind, tmp_path)
    assert can_export(edited.analysis)["report"] == ""


@pytest.fixture
def from_files(tmp_path):
    """A patient on disk, analysed by the pipeline with a stand-in for the network."""
    from conftest_edit import chances

    from napari_convlstm_tumor.series import Prediction

    for t, visit in enumerate(make_series().visits):
        place = tmp_path / "HAND-03" / f"day-{DAYS[t]:03d}"
        place.mkdir(parents=True)
        image = visit.images["t1c"]
        nib.save(nib.Nifti1Image(image.data, ORIGIN @ image.grid.affine), place / "t1c.nii.gz")

    def segmenter(aligned, prompts, settings):
        yield 0.5
        at_zero = replace(aligned, grid=Grid(aligned.grid.shape, np.linalg.inv(ORIGIN) @ aligned.grid.affine))
        return Prediction(chances(at_zero), aligned.days, aligned.grid, "made by hand")

    settings = Settings(register=False)
    *_, last = pipeline.analyse(find_patient(tmp_path / "HAND-03", settings), settings, segmenter)
    return last.analysis


def test_the_recipe_comes_to_the_same_numbers(from_files, tmp_path):
    editor = Editor(from_files)
    for t in range(4):
        editor.paint(t, editor.analysis.masks[t] ^ ball(from_files.grid, (13, 4, 0), 4.0))
    export(editor, "recipe", tmp_path / "recipe")
    run = [sys.executable, "-m", "napari_convlstm_tumor", "run", "manifest.csv", "--recipe", "recipe.yaml"]
    done = subprocess.run(
        [*run, "--out", "result"], cwd=tmp_path / "recipe", capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr[-2000:]
    again = load(next(p.parent for p in (tmp_path / "recipe" / "result").rglob("run.json")))
    np.testing.assert_array_equal(again.masks, editor.analysis.masks)
    np.testing.assert_array_equal(again.growth, editor.analysis.growth)
    for one, other in zip(again.report.visits, editor.analysis.report.visits, strict=True):
        assert one["volume_mm3"] == pytest.approx(other["volume_mm3"])
