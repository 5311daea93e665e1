"""Outlines lie where the card says that people draw them, and nothing new is outlined."""

from types import SimpleNamespace

import numpy as np
import pytest

from napari_convlstm_tumor.model.outline import outline_at, outline_moved

SPACING = (1.0, 1.0, 1.0)


def ramp() -> np.ndarray:
    """(1, 24, 4, 4): a tumor at voxels 0 to 9 whose probability falls to 0.02, and far from it 0.4."""
    falling = [0.99] * 8 + [0.8, 0.55, 0.35, 0.25, 0.15, 0.02] + [0.02] * 6 + [0.4] * 4
    return np.broadcast_to(np.array(falling, np.float32)[None, :, None, None], (1, 24, 4, 4)).copy()


@pytest.mark.parametrize(("level", "voxels"), [(0.5, 10), (0.3, 11), (0.2, 12), (0.7, 9)])
def test_the_outline_lies_at_the_level(level: float, voxels: int) -> None:
    moved = outline_moved(ramp(), level, SPACING)
    assert np.count_nonzero(moved[0, :, 0, 0] >= 0.5) == voxels
    assert (np.diff(moved[0, :12, 0, 0]) <= 0).all() and moved.max() <= 1


def test_only_what_was_outlined_is_drawn_wider() -> None:
    """Within 2 mm of it: what is further off, or was never outlined, stays as it is."""
    before, moved = ramp(), outline_moved(ramp(), 0.01, SPACING)
    assert np.count_nonzero(moved[0, :, 0, 0] >= 0.5) == 12
    assert np.array_equal(moved[:, 12:], before[:, 12:])
    nothing = ramp().clip(max=0.45)
    assert np.array_equal(outline_moved(nothing.copy(), 0.2, SPACING), nothing)


def test_the_odds_change_by_one_factor() -> None:
    before, moved = ramp()[0, :10, 0, 0], outline_moved(ramp(), 0.2, SPACING)[0, :10, 0, 0]
    assert moved / (1 - moved) == pytest.approx(before / (1 - before) * 4, rel=1e-4)


@pytest.mark.parametrize(
    ("kinds", "level"), [(("flair", "t1c"), 0.2), (("t1", "flair"), 0.3), (("t1",), 0.5), (("ct",), 0.7)]
)
def test_the_first_kind_of_the_card_that_is_there_decides(kinds: tuple[str, ...], level: float) -> None:
    model = SimpleNamespace(card={"outline_at": {"t1c": 0.2, "flair": 0.3, "ct": 0.7}})
    assert outline_at(model, kinds) == level  # type: ignore[arg-type]
    assert outline_at(SimpleNamespace(card={}), kinds) == 0.5  # type: ignore[arg-type]
