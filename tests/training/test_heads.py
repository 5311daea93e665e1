"""Whole simulated heads to train on: made once, of seeds of their own, with the same layout as a person's patients."""

import numpy as np
import pytest
import torch

from napari_convlstm_tumor.errors import SettingsError
from napari_convlstm_tumor.training import heads, own, testsets
from napari_convlstm_tumor.training.anatomy import Anatomy
from napari_convlstm_tumor.training.dataset import Stage


def small_brain():
    """A ball of white matter in a small box: a head in a second."""
    axes = np.ogrid[tuple(slice(n) for n in (84, 84, 84))]
    inside = sum((x - 42.0) ** 2 for x in axes) <= 32**2
    outside = np.sqrt(sum((x - 42.0) ** 2 for x in axes)) - 32
    white = np.where(inside, 255, 0).astype(np.uint8)
    nothing = np.zeros_like(white)
    tissue = np.stack([nothing, white, nothing])
    return Anatomy("ball", (1.0, 1.0, 1.0), {}, tissue, np.maximum(outside, 0).astype(np.float16))


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    cache = tmp_path_factory.mktemp("heads")
    return cache, heads.simulated_heads([small_brain()], 2, [7], cache)


def test_heads_are_made_once(kept, monkeypatch):
    cache, found = kept
    assert found
    assert sorted(p.name for p in cache.iterdir()) == [f"head-{1_070_000 + n}-ball" for n in range(2)]
    monkeypatch.setattr(heads, "ProcessPoolExecutor", lambda *_: pytest.fail("made again"))
    again = heads.simulated_heads([small_brain()], 2, [7], cache)
    assert [p.folder for p in again] == [p.folder for p in found]


def test_no_head_has_the_seed_of_a_patient_of_the_evaluation():
    assert max(testsets.FIRST_SIMULATED_SEED, testsets.FIRST_TUMOR_FREE_SEED) + 100_000 < heads.FIRST_HEAD_SEED
    one, other = (heads._plan([small_brain()], seed, 9_999)[0].seed for seed in (0, 1))
    assert other - one == heads.HEADS_PER_RUN
    with pytest.raises(SettingsError, match="at most 10000 heads"):
        heads.simulated_heads([], 10_001, [0], None)


def test_heads_hold_more_tumors_without_contrast_than_patients_do():
    plans = [heads._plan([small_brain()], 3, n)[0] for n in range(400)]
    assert all(plan.enhancing is None for plan in plans if plan.course == "mixed")
    others = [plan.enhancing for plan in plans if plan.course != "mixed"]
    assert set(others) == {None, False}
    assert others.count(False) / len(others) == pytest.approx(heads.PLAIN_SHARE, abs=0.07)


def test_a_head_gives_the_sequences_of_a_patient(kept):
    _, found = kept
    dataset = own.OwnDataset(found, 1, Stage((2, 3), (0.5, 0, 0, 0, 0.5, 0, 0)))
    samples = [dataset[n] for n in range(8)]
    assert any(sample["prompt"].any() for sample in samples)
    for sample in samples:
        assert sample["mask"][0].any() or not sample["prompt"].any(), "a click is in a tumor"
        assert sample["days"][0] == 0
        assert (torch.diff(sample["days"]) > 0).all()
        assert torch.isfinite(sample["images"]).all()
    assert {tuple(s["mask"].shape[1:]) for s in samples} & {(64, 80, 48), (64, 80, 32)}, "whole heads among them"
