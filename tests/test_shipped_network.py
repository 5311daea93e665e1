"""The shipped weights do what the card says on patients they were not trained on: floors, not the measured values."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from napari_convlstm_tumor.io.discover import find_patient
from napari_convlstm_tumor.io.read import read_series
from napari_convlstm_tumor.pipeline import analyse
from napari_convlstm_tumor.series import Prompt
from napari_convlstm_tumor.settings import Settings

SAMPLE = Path(__file__).resolve().parents[1] / "sample_data"


def dice(a, b):
    return 2 * np.count_nonzero((a > 0) & (b > 0)) / max(1, np.count_nonzero(a) + np.count_nonzero(b))


def finished(steps):
    for step in steps:
        analysis = step.analysis
    return analysis


def click(volume, visit):
    depth = ndimage.distance_transform_edt(volume.data, volume.grid.spacing_mm)
    return Prompt(visit, "point", volume.grid.to_mm(np.unravel_index(int(np.argmax(depth)), depth.shape)))


@pytest.fixture(scope="module")
def progressing():
    settings = Settings()
    files = find_patient(SAMPLE / "progressing", settings)
    return files, [v.mask for v in read_series(files, settings).visits]


def test_a_click_at_the_last_visit_is_carried_to_all(progressing):
    files, truths = progressing
    prompt = click(truths[2], 3)
    analysis = finished(analyse(files, Settings(masks="ignore"), prompts=(prompt,)))
    scores = [dice(m.data, t.data) for m, t in zip(analysis.native_masks, truths, strict=True)]
    assert scores[2] > 0.5
    assert np.mean(scores) > 0.4
    assert analysis.prediction.model.startswith("growthnet-5 (sha256 ")


def test_a_box_at_the_last_visit_is_carried_to_all(progressing):
    """Through the registration of its visit, whose turn gives a box eight corners."""
    files, truths = progressing
    inside = truths[2].grid.to_mm(np.argwhere(truths[2].data))
    prompt = Prompt(3, "box", np.stack([inside.min(axis=0), inside.max(axis=0)]))
    analysis = finished(analyse(files, Settings(masks="ignore", spacing=(2.0,)), prompts=(prompt,)))
    scores = [dice(m.data, t.data) for m, t in zip(analysis.native_masks, truths, strict=True)]
    assert scores[2] > 0.5


def test_the_same_input_gives_the_same_result(progressing):
    files, truths = progressing
    prompt = click(truths[0], 1)
    runs = [finished(analyse(files, Settings(masks="ignore", spacing=(3.0,)), prompts=(prompt,))) for _ in range(2)]
    assert np.array_equal(runs[0].masks, runs[1].masks)
    assert np.array_equal(runs[0].growth, runs[1].growth, equal_nan=True)
    assert runs[0].report.visits == runs[1].report.visits


def test_masks_at_some_visits_stand_and_prompt_the_others(progressing, tmp_path):
    for source in sorted((SAMPLE / "progressing").glob("day-*")):
        target = tmp_path / "P" / source.name
        target.mkdir(parents=True)
        (target / "t1c.nii.gz").symlink_to(source / "t1c.nii.gz")
    (tmp_path / "P" / "day-100" / "mask.nii.gz").symlink_to(SAMPLE / "progressing" / "day-100" / "mask.nii.gz")
    analysis = finished(analyse(find_patient(tmp_path / "P"), Settings()))
    truths = progressing[1]
    assert np.array_equal(analysis.native_masks[2].data, truths[2].data)
    assert dice(analysis.native_masks[1].data, truths[1].data) > 0.4
