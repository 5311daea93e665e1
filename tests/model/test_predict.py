"""Prediction: order of visits, windows, following what was pointed at."""

import math

import numpy as np
import pytest
import torch

from napari_convlstm_tumor.errors import SettingsError
from napari_convlstm_tumor.model import predict
from napari_convlstm_tumor.model.predict import pick_device, plan_windows, touching, visit_order


@pytest.mark.parametrize(
    ("visits", "prompted", "expected", "reason"),
    [
        (3, [], [(0, None), (1, 0), (2, 1)], "no prompt: forward in time"),
        (3, [0], [(0, None), (1, 0), (2, 1)], "prompt at the first visit"),
        (3, [2], [(2, None), (1, 2), (0, 1)], "prompt at the last: back in time"),
        (4, [1, 3], [(1, None), (2, 1), (3, 2), (0, 1)], "from the first prompted one, then back from it"),
    ],
)
def test_every_visit_is_reached_from_a_prompt(visits, prompted, expected, reason):
    assert visit_order(visits, prompted) == expected, reason


@pytest.mark.parametrize("shape", [(40, 40, 20), (120, 100, 33), (31, 257, 64)])
@pytest.mark.parametrize("largest", [20_000, 100_000, 10**9])
def test_windows_cover_the_box_and_start_on_the_stride(shape, largest):
    stride = (16, 16, 8)
    box = tuple(slice(3, 3 + n) for n in shape)
    seen = np.zeros([n + 3 for n in shape], dtype=int)
    for window in plan_windows(box, stride, largest):
        assert all(w.start % s == 0 for w, s in zip(window, stride, strict=True))
        seen[window] += 1
    assert seen[box].min() >= 1


def test_a_body_that_fits_is_one_window():
    assert len(plan_windows((slice(0, 64), slice(0, 64), slice(0, 64)), (16, 16, 16))) == 1


def test_window_weights_are_positive_everywhere():
    windows = plan_windows((slice(0, 200), slice(0, 100), slice(0, 64)), (16, 16, 16), 300_000)
    assert len(windows) > 1
    for window in windows:
        weight = predict._window_weight(window, windows)
        assert weight.shape == tuple(w.stop - w.start for w in window)
        assert weight.min() > 0


def test_only_what_was_pointed_at_is_kept():
    mask = np.zeros((40, 20, 20), dtype=bool)
    mask[4:8, 5:9, 5:9] = True  # pointed at
    mask[10:12, 5:9, 5:9] = True  # a fragment 2 mm away
    mask[30:34, 5:9, 5:9] = True  # another bright thing
    seeds = np.zeros_like(mask)
    seeds[5, 6, 6] = True
    kept = touching(mask, seeds, (1.0, 1.0, 1.0)) & mask
    assert kept[:12].sum() == mask[:12].sum()
    assert not kept[30:].any()


def test_nothing_pointed_at_keeps_nothing():
    mask = np.ones((8, 8, 8), dtype=bool)
    assert not touching(mask, np.zeros_like(mask), (1, 1, 1)).any()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_asking_for_an_absent_gpu_is_refused():
    with pytest.raises(SettingsError, match="finds no CUDA GPU"):
        pick_device("cuda")
    assert pick_device("auto").type == "cpu"


def test_mean_window_overlap_is_bounded():
    windows = plan_windows((slice(0, 240), slice(0, 240), slice(0, 155)), (16, 16, 16), 2_000_000)
    computed = sum(math.prod(w.stop - w.start for w in window) for window in windows)
    assert computed < 2.0 * 240 * 240 * 155
