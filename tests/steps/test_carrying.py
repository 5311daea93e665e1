"""Where the network follows change in part, a given outline is carried on by registration and taken in by half."""

from dataclasses import replace
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import ndimage

from napari_convlstm_tumor.series import Prediction, Prompt, Registration
from napari_convlstm_tumor.settings import Settings
from napari_convlstm_tumor.steps import carrying

make = run_path(str(Path(__file__).with_name("patient.py")))
GRID, ball, patient, returned = (make[n] for n in ("GRID", "ball", "patient", "returned"))
MIDDLE = np.array((39.0, 35.0, 29.0))
BEFORE_MM, AFTER_MM = 16.0, 13.0  # what the tumor shrinks from and to
CLICK, BOX = Prompt(1, "point", MIDDLE[None]), Prompt(1, "box", np.stack([MIDDLE - 16, MIDDLE + 16]))
OURS = "ours"


@pytest.fixture(autouse=True)
def our_network(monkeypatch):
    monkeypatch.setattr(
        carrying, "_model", lambda settings: SimpleNamespace(id=OURS, card={"automatic": ["t1c", "flair"]})
    )


def shrinking(kind="ct", masked=True):
    """Two visits of textured tissue in which a ball shrinks, and takes the tissue around it with it."""
    texture = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal(GRID.shape), 1.5)
    away = GRID.to_mm(np.moveaxis(np.indices(GRID.shape), 0, -1)) - MIDDLE
    distance = np.linalg.norm(away, axis=-1)
    before = texture / texture.std() + 4 * (distance < BEFORE_MM)
    reach = 1 + (BEFORE_MM / AFTER_MM - 1) * np.exp(-(((distance - AFTER_MM).clip(min=0) / 10.0) ** 2))
    source = np.moveaxis(GRID.to_index(MIDDLE + away * reach[..., None]), -1, 0)
    after = ndimage.map_coordinates(before, source, order=1, mode="nearest")
    balls = [ball(GRID, MIDDLE, radius) for radius in (BEFORE_MM, AFTER_MM)]
    _, aligned, _ = patient(balls, modalities=(kind,))
    given = (balls[0], None) if masked else (None, None)
    return replace(aligned, data=np.stack([before, after])[:, None].astype(np.float32), masks=given)


def answering(aligned, later_radius_mm=BEFORE_MM, model=OURS):
    """A segmenter that outlines visit 1 as it is and visit 2 as a ball: as it was, where it follows nothing."""
    balls = [ball(GRID, MIDDLE, radius) for radius in (BEFORE_MM, later_radius_mm)]

    def segmenter(*_):
        yield 0.5
        yield 1.0
        return Prediction(np.stack(balls).astype(np.float32), aligned.days, GRID, model)

    return segmenter


def shown(aligned, prompts=(), **how):
    return returned(carrying.outline(answering(aligned, **how), aligned, prompts, Settings()))


def radius_mm(mask):
    return (np.count_nonzero(mask) * GRID.voxel_mm3 * 3 / (4 * np.pi)) ** (1 / 3)


@pytest.mark.parametrize(("masked", "prompts"), [(True, ()), (False, (BOX,))])
def test_a_shrinkage_that_the_network_does_not_follow_is_followed_in_part(masked, prompts):
    """By the registration itself, which finds about half of it in this texture."""
    found = shown(shrinking(masked=masked), prompts)
    assert radius_mm(found.mask(0)) == pytest.approx(BEFORE_MM, abs=0.3)
    assert (BEFORE_MM + AFTER_MM) / 2 < radius_mm(found.mask(1)) < BEFORE_MM - 0.4
    said = [w for w in found.warnings if "halfway" in w]
    assert len(said) == 1 and said[0].startswith("At visit 2 the outline")


def test_what_is_shown_is_halfway_between_both_fronts(monkeypatch):
    def carried(mask, *_):
        assert mask.grid.shape == GRID.shape  # the margin reaches beyond this small grid
        return ball(GRID, MIDDLE, AFTER_MM).astype(np.float32)

    monkeypatch.setattr(carrying, "carried", carried)
    assert radius_mm(shown(shrinking()).mask(1)) == pytest.approx((BEFORE_MM + AFTER_MM) / 2, abs=0.2)


@pytest.mark.parametrize(
    ("kind", "masked", "prompts", "model", "why"),
    [
        ("t1c", True, (), OURS, "the network follows change there"),
        ("ct", False, (CLICK,), OURS, "a click does not say where the outline is"),
        ("ct", True, (replace(CLICK, visit=2),), OURS, "both visits are pointed at"),
        ("ct", True, (), "another", "it is not our network's answer"),
    ],
)
def test_elsewhere_the_answer_stays_as_it_is(kind, masked, prompts, model, why):
    found = shown(shrinking(kind, masked), prompts, model=model)
    assert radius_mm(found.mask(1)) == pytest.approx(BEFORE_MM, abs=0.3), why
    assert not found.warnings


def test_a_tumor_that_the_network_no_longer_finds_does_not_come_back():
    assert not shown(shrinking(), later_radius_mm=0.0).mask(1).any()


@pytest.mark.parametrize(
    "changes",
    [
        {"present": np.array([[True], [False]])},
        {"registrations": (Registration(np.eye(4), 1.0, True), Registration(np.eye(4), 0.1, False))},
    ],
    ids=["no image of one kind", "could not be aligned"],
)
def test_visits_that_cannot_be_compared_are_left_alone(changes):
    aligned = replace(shrinking(), **changes)
    assert radius_mm(shown(aligned).mask(1)) == pytest.approx(BEFORE_MM, abs=0.3)


def test_a_bundle_is_asked_alone(tmp_path):
    aligned = shrinking()
    found = returned(carrying.outline(answering(aligned), aligned, (), Settings(model=str(tmp_path))))
    assert not found.warnings


def test_outlines_are_carried_from_the_visit_before_or_the_first_after():
    nothing = np.zeros(GRID.shape, np.uint8)
    mask = ball(GRID, MIDDLE, 8)
    _, aligned, _ = patient([mask] * 5)
    masked = replace(aligned, masks=(None, mask, None, None, nothing))
    assert carrying._sources(masked, ()) == {0: 1, 2: 1, 3: 1}
    assert carrying._sources(masked, (replace(BOX, visit=3), replace(CLICK, visit=1))) == {3: 2}
