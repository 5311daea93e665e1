"""Windows and one whole pass of the shipped network give the same outlines."""

from functools import partial

import numpy as np
import torch

from napari_convlstm_tumor.model import predict, windows
from napari_convlstm_tumor.model.network import total_stride
from napari_convlstm_tumor.series import AlignedSeries, Look, Prompt, Registration
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


def test_windows_agree_with_one_whole_pass(monkeypatch):
    aligned = series_with_balls()
    clicks = tuple(Prompt(1, "point", np.array([float(x), 16.0, 12.0])) for x in (20, 92))
    whole_grid = Look(tuple(slice(0, n) for n in SHAPE), SHAPE)
    model = predict.cached_model("growthnet-1", torch.device("cpu"))
    stride = total_stride(aligned.grid.spacing_mm, model.network.levels - 1)
    answers, counts = [], []
    for largest in (windows.LARGEST_PASS_VOXELS, 60_000):
        plan = partial(windows.plan_windows, largest=largest)
        monkeypatch.setattr(predict, "plan_windows", plan)
        steps = predict._one_look(model, aligned, clicks, whole_grid, torch.device("cpu"), 0.0, 1.0)
        answers.append(result_of(steps)[0].probability)
        counts.append(len(plan(windows.body_box(aligned), stride)))
    assert counts[0] == 1
    assert counts[1] > 1
    for whole, cut in zip(*answers, strict=True):
        assert (whole >= 0.5).any()
        overlap = 2 * np.count_nonzero((whole >= 0.5) & (cut >= 0.5))
        overlap /= np.count_nonzero(whole >= 0.5) + np.count_nonzero(cut >= 0.5)
        assert overlap >= SMALLEST_OVERLAP_DICE
