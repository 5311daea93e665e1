"""Windows and one whole pass of the shipped network give the same outlines."""

import math

import numpy as np
import pytest
import torch

from napari_convlstm_tumor.model import device, predict, windows
from napari_convlstm_tumor.model.device import Workplace, cached_model
from napari_convlstm_tumor.model.network import total_stride
from napari_convlstm_tumor.series import AlignedSeries, Look, Prompt, Registration
from napari_convlstm_tumor.settings import Settings
from napari_convlstm_tumor.volume import Grid

SHAPE = (112, 32, 24)
SMALLEST_OVERLAP_DICE = 0.97


def series_with_balls(visits=1):
    """Two bright balls far apart in noise on 1 mm."""
    rng = np.random.default_rng(0)
    axes = np.ogrid[tuple(slice(0, n) for n in SHAPE)]
    data = rng.normal(0, 0.2, (visits, 1, *SHAPE)).astype(np.float32)
    for visit in range(visits):
        for centre in (20, 92):
            radius = np.sqrt((axes[0] - centre) ** 2 + (axes[1] - 16) ** 2 + (axes[2] - 12) ** 2)
            data[visit, 0][radius < 6] += 3
    return AlignedSeries(
        patient="p",
        data=data,
        present=np.ones((visits, 1), bool),
        inside=np.ones((visits, *SHAPE), bool),
        modalities=("t1c",),
        days=tuple(range(0, 60 * visits, 60)),
        dated=True,
        grid=Grid(SHAPE, np.eye(4)),
        centre=np.zeros((visits, 1), np.float32),
        scale=np.ones((visits, 1), np.float32),
        masks=(None,) * visits,
        registrations=(Registration(np.eye(4), 1.0, True),) * visits,
        native_grids=(Grid(SHAPE, np.eye(4)),) * visits,
    )


def result_of(steps):
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def test_windows_agree_with_one_whole_pass():
    aligned = series_with_balls()
    clicks = tuple(Prompt(1, "point", np.array([float(x), 16.0, 12.0])) for x in (20, 92))
    whole_grid = Look(tuple(slice(0, n) for n in SHAPE), SHAPE)
    model = cached_model("default", torch.device("cpu"))
    stride = total_stride(aligned.grid.spacing_mm, model.network.levels - 1)
    answers, counts = [], []
    for largest in (windows.LARGEST_PASS_VOXELS, 60_000):
        work = Workplace(model, torch.device("cpu"), largest_voxels=largest)
        steps = predict._one_look(work, aligned, clicks, whole_grid, 0.0, 1.0)
        answers.append(result_of(steps)[0].probability)
        counts.append(len(windows.plan_windows(windows.body_box(aligned), stride, largest)))
    assert counts[0] == 1
    assert counts[1] > 1
    for whole, cut in zip(*answers, strict=True):
        assert (whole >= 0.5).any()
        overlap = 2 * np.count_nonzero((whole >= 0.5) & (cut >= 0.5))
        overlap /= np.count_nonzero(whole >= 0.5) + np.count_nonzero(cut >= 0.5)
        assert overlap >= SMALLEST_OVERLAP_DICE


def test_a_lesion_far_away_that_is_clicked_at_a_later_visit_is_outlined():
    """Nothing of it had been where the first visit's lesion can have grown to, and it was not looked at."""
    aligned = series_with_balls(2)
    aligned.data[0, 0, 60:] = aligned.data[0, 0, :52]  # no second ball yet
    aligned.data[0, 0, 72:112] = np.random.default_rng(1).normal(0, 0.2, (40, *SHAPE[1:]))
    clicks = tuple(Prompt(v, "point", np.array([float(x), 16.0, 12.0])) for v, x in ((1, 20), (2, 20), (2, 92)))
    prediction = result_of(predict.segment(aligned, clicks, Settings()))
    for visit, ends in ((0, (0,)), (1, (0, 1))):
        mask = prediction.mask(visit) > 0
        assert [bool(mask[:52].any()), bool(mask[60:].any())] == [end in ends for end in (0, 1)]
    both = [np.count_nonzero(part) for part in (prediction.mask(1)[:52], prediction.mask(1)[60:])]
    assert both[0] == pytest.approx(both[1], rel=0.35)


def gpu_of(voxels, run):
    """predict.run_visits with a GPU whose memory holds a pass of so many voxels; on this machine's CPU."""

    def limited(work, aligned, drawn, order, window, stride):
        size = math.prod(w.stop - w.start for w in window)
        if work.device.type == "cuda" and size > voxels:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        here = Workplace(work.model, torch.device("cpu"))
        yield from run(here, aligned, drawn, order, window, stride)

    return limited


@pytest.mark.parametrize(("holds", "said"), [(70_000, "windows of 0.0"), (0, "went on on the CPU")])
def test_a_gpu_with_too_little_memory_gives_way_and_says_so(monkeypatch, holds, said):
    monkeypatch.setattr(device, "SMALLEST_PASS_VOXELS", 20_000 if holds else 400_000)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(predict, "apart", lambda prompts, *_: [prompts])  # one look that is as large as both
    monkeypatch.setattr(predict, "run_visits", gpu_of(holds, predict.run_visits))
    aligned = series_with_balls()
    clicks = tuple(Prompt(1, "point", np.array([float(x), 16.0, 12.0])) for x in (20, 92))
    model = cached_model("default", torch.device("cpu"))
    answers, notes = [], []
    for where in ("cuda", "cpu"):
        monkeypatch.setattr(predict, "pick_device", lambda name, where=where: torch.device(where))
        prediction = result_of(predict.segment(aligned, clicks, Settings(), model))
        answers.append(prediction.mask(0))
        notes.append([w for w in prediction.warnings if "GPU" in w])
    assert said in notes[0][-1]
    assert ("CPU" in "".join(notes[0])) == (holds == 0)
    assert notes[1] == []
    overlap = 2 * np.count_nonzero(answers[0] & answers[1]) / (answers[0].sum() + answers[1].sum())
    assert overlap >= SMALLEST_OVERLAP_DICE


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_real_gpu_that_is_full_gives_way():
    aligned = series_with_balls()
    clicks = (Prompt(1, "point", np.array([20.0, 16.0, 12.0])),)
    torch.cuda.set_per_process_memory_fraction(1e-4)
    try:
        prediction = result_of(predict.segment(aligned, clicks, Settings(device="cuda")))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert any("memory was too small" in w for w in prediction.warnings)
