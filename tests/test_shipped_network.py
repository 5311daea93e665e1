"""The shipped weights do what the card says on patients they were not trained on: floors, not the measured values."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from napari_convlstm_tumor.io.discover import find_patient
from napari_convlstm_tumor.io.read import read_series
from napari_convlstm_tumor.model import device
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
    assert analysis.prediction.model.startswith("growthnet-10 (sha256 ")


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
    assert runs[0].provenance["precision"] == device.precision_of(torch.device("cpu"))


# CPU and GPU round bf16 in another order. How much that can move was measured on the CPU with another rounding, float32
# in place of bf16, on this patient at its own voxels: Dice 0.9996, volumes 0.1 %. Not at 3 mm, where the tumor has 33
# to 245 voxels and two of them are more than the bound.
ROUNDING_DICE, ROUNDING_VOLUME = 0.99, 0.02


def assert_same_but_for_rounding(one, other):
    for mine, theirs in zip(one.masks, other.masks, strict=True):
        assert mine.any()
        assert dice(mine, theirs) >= ROUNDING_DICE
    volumes = [[row["volume_mm3"] for row in analysis.report.visits] for analysis in (one, other)]
    assert volumes[0] == pytest.approx(volumes[1], rel=ROUNDING_VOLUME)


def clicked(progressing, **settings):
    files, truths = progressing
    prompts = (click(truths[0], 1),)
    return finished(analyse(files, Settings(masks="ignore", **settings), prompts=prompts))


@pytest.mark.skipif(not device.computes_bf16("cpu"), reason="this CPU imitates bf16: a patient takes over ten minutes")
def test_another_rounding_gives_the_same_outlines(progressing, monkeypatch):
    """What is asked of a GPU below can be had: float32 and bf16 agree within the bound, and are not the same."""
    rough = clicked(progressing)
    monkeypatch.setattr(device, "computes_bf16", lambda kind: False)
    fine = clicked(progressing)
    assert not np.array_equal(rough.prediction.probability, fine.prediction.probability)
    assert_same_but_for_rounding(rough, fine)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_cpu_and_gpu_agree(progressing):
    assert_same_but_for_rounding(clicked(progressing, device="cpu"), clicked(progressing, device="cuda"))


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
