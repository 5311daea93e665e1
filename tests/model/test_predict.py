"""Prediction: order of visits, windows, following what was pointed at."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_convlstm_tumor.errors import InputError, SettingsError
from napari_convlstm_tumor.model import drawing, predict
from napari_convlstm_tumor.model import follow as follow_module
from napari_convlstm_tumor.model import visits as passes
from napari_convlstm_tumor.model.answer import Answer
from napari_convlstm_tumor.model.card import save_model
from napari_convlstm_tumor.model.device import pick_device
from napari_convlstm_tumor.model.follow import (
    follow,
    joined_later,
    places_found,
    surest,
    taken_in,
    touching,
    with_lost_parts,
    without_specks,
)
from napari_convlstm_tumor.model.network import GrowthNet, NetworkConfig
from napari_convlstm_tumor.model.prompts import LIKENESS_CARRIED
from napari_convlstm_tumor.model.visits import visit_order
from napari_convlstm_tumor.model.windows import Canvas, plan_windows, window_weight
from napari_convlstm_tumor.series import FED, AlignedSeries, Look, Prompt, Registration
from napari_convlstm_tumor.settings import Settings
from napari_convlstm_tumor.volume import Grid


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
        weight = window_weight(window, windows)
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


SMALL = NetworkConfig(channels=(4, 6, 8, 8, 8), hidden=(3, 3, 4, 4))


def tiny_series(masks, visits=3, shape=(24, 24, 12)):
    """Aligned visits of noise with a bright ball, on 1 mm."""
    rng = np.random.default_rng(0)
    grid = Grid(shape, np.eye(4))
    nothing = Registration(np.eye(4), 1.0, True)
    return AlignedSeries(
        "p",
        rng.normal(size=(visits, 1, *shape)).astype(np.float32),
        np.ones((visits, 1), bool),
        np.ones((visits, *shape), bool),
        ("t1c",),
        tuple(range(0, 50 * visits, 50)),
        True,
        grid,
        np.zeros((visits, 1), np.float32),
        np.ones((visits, 1), np.float32),
        masks,
        (nothing,) * visits,
        (grid,) * visits,
    )


def ball():
    mask = np.zeros((24, 24, 12), np.uint8)
    mask[8:14, 8:14, 4:8] = 1
    return mask


def followed(found, masks, order=None):
    """Which of the network's ``found`` masks are kept when ``masks`` are given."""
    aligned = tiny_series(masks)
    canvas = Canvas.empty(aligned, 6, (2, 2, 2))
    canvas.probability[:] = np.stack(found)
    drawn = drawing.draw_prompts(aligned, ())
    kept = follow(canvas.probability, aligned, drawn, order or visit_order(3, sorted(drawn)))
    return None if kept is None else [bool((k & (f > 0)).any()) for k, f in zip(kept, found, strict=True)]


NOTHING = np.zeros((24, 24, 12), np.uint8)


@pytest.mark.parametrize(
    ("found", "masks", "expected", "reason"),
    [
        (
            (NOTHING, ball(), ball()),
            (ball(), None, None),
            [False, True, True],
            "the given mask leads on, not the answer",
        ),
        ((ball(), NOTHING, ball()), (ball(), None, None), [True, False, True], "a tumor that is gone may come back"),
        ((ball(), ball(), ball()), (None, None, ball()), [True, True, True], "followed back in time"),
        ((ball(), ball(), ball()), (NOTHING, None, None), None, "an empty mask points at nothing"),
    ],
)
def test_lesions_are_followed_from_given_masks(found, masks, expected, reason):
    assert followed(found, masks) == expected, reason


@pytest.fixture
def tiny_model(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "tiny.safetensors"
    save_model(GrowthNet(SMALL), path, {"automatic": ["t1c"]})
    return Settings(model=str(path))


def answer(aligned, settings, prompts=(), unfollowed=False):
    work = predict.segment(aligned, prompts, settings, unfollowed=unfollowed)
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


@pytest.mark.parametrize("shape", [(24, 24, 12), (33, 31, 17), (20, 20, 5), (16, 16, 1)])
def test_any_size_gives_a_probability_for_every_voxel(tiny_model, shape):
    aligned = tiny_series((None, None, None), shape=shape)
    prediction = answer(aligned, tiny_model)
    assert prediction.probability.shape == (3, *shape)
    assert np.all((prediction.probability >= 0) & (prediction.probability <= 1))
    assert any("without a prompt" in w for w in prediction.warnings)


@pytest.mark.parametrize(("fed", "warned"), [(FED, False), ("MR (raw - median) / sigma", True)])
def test_a_network_fed_otherwise_than_it_was_trained_is_told(tmp_path, fed, warned):
    path = tmp_path / "tiny.safetensors"
    save_model(GrowthNet(SMALL), path, {"automatic": ["t1c"], "fed": fed})
    prediction = answer(tiny_series((None, None, None)), Settings(model=str(path)))
    assert any("normalised in another way" in w for w in prediction.warnings) == warned


def test_a_given_mask_stands_in_the_answer(tiny_model):
    prediction = answer(tiny_series((None, ball(), None)), tiny_model)
    assert np.array_equal(prediction.mask(1), ball())


def test_a_kind_of_image_the_card_does_not_name_needs_a_prompt(tiny_model):
    aligned = replace(tiny_series((None, None, None)), modalities=("ct",))
    with pytest.raises(InputError, match="by itself on ct"):
        answer(aligned, tiny_model)
    prompted = answer(aligned, tiny_model, (Prompt(2, "point", np.array([10.0, 10, 6])),))
    assert prompted.probability.shape == (3, 24, 24, 12)


def test_the_forecast_head_answers_on_the_cpu(tiny_model):
    prediction = answer(tiny_series((ball(), ball(), ball())), tiny_model)
    phi = np.ones((24, 24, 12), np.float32)
    speed = predict.expected_speed(prediction, phi, phi, 1.5, 50, 50, tiny_model)
    assert np.allclose(speed, 1.5, atol=0.05)  # an untrained head answers the region's mean


def test_a_rim_shows_the_core_it_encloses_and_the_difference_is_said(tiny_model):
    rim = ball()
    rim[10:12, 10:12, 4:8] = 0
    assert np.array_equal(drawing.closed(rim, (1, 1, 5)), ball() > 0)
    prediction = answer(tiny_series((rim, None, None)), tiny_model)
    assert np.array_equal(prediction.mask(0), rim)
    assert any("leaves out what its rim encloses" in w for w in prediction.warnings)
    solid = answer(tiny_series((ball(), None, None)), tiny_model)
    assert not any("rim" in w for w in solid.warnings)


def test_a_box_becomes_the_mean_of_the_network_and_its_ellipsoid():
    grid = Grid((40, 40, 40), np.eye(4))
    box = Prompt(1, "box", np.array([[9.5, 9.5, 9.5], [29.5, 29.5, 29.5]]))
    sure = np.ones((1, 40, 40, 40), np.float32)
    unsure = np.full((1, 40, 40, 40), 0.5, np.float32)
    no = np.zeros((1, 40, 40, 40), np.float32)
    ellipsoid = 4 / 3 * np.pi * 10**3
    volume = {n: drawing.box_as_mask(box, p, grid).mask.data.sum() for n, p in {"?": unsure, "no": no}.items()}
    assert volume["?"] == pytest.approx(drawing.BOX_FILLED**3 * ellipsoid, rel=0.03)
    assert volume["no"] == pytest.approx(ellipsoid, rel=0.03)
    assert drawing.box_as_mask(box, sure, grid).mask.data.all()


def test_what_a_wide_look_half_sees_is_looked_at_closely() -> None:
    seen = np.zeros((2, 16, 16, 16), np.float32)
    seen[0, 1:4, 1:4, 1:4], seen[1, 1:5, 1:5, 1:5] = 0.4, 0.4  # one lesion, which the second visit shows larger
    seen[0, 10:13, 10:13, 10:13] = 0.9
    seen[1, 10:14, 1:5, 1:5] = 0.2
    assert places_found(seen, (3.0, 3.0, 3.0), 150.0, 4) == [(1, (2, 2, 2)), (0, (11, 11, 11))]
    assert places_found(seen, (3.0, 3.0, 3.0), 150.0, 1) == [(1, (2, 2, 2))]


def test_places_that_the_wide_look_was_less_sure_of_are_left_out() -> None:
    wide = np.zeros((2, 8, 8, 8), np.float32)
    outlines = [np.zeros(wide.shape, dtype=bool) for _ in range(4)]
    for n, sure in enumerate((0.8, 0.9, 0.5)):
        outlines[n][:, 2 * n : 2 * n + 2] = True
        wide[outlines[n]] = sure
    assert surest(outlines, wide, 1.0, True) == [0, 1]  # 0.5 is less than 0.65 of 0.9; the last outlines nothing
    assert surest(outlines[2:], wide, 1.0, True) == [0]  # alone it is the surest
    assert surest(outlines[3:], wide, 1.0, True) == [] == surest([], wide, 1.0, True)
    assert surest(outlines[:1], wide / 10, 1.0, True) == []  # no wide look bears it out: the close look has made it up
    assert surest(outlines[:1], wide / 10, 1.0, False) == [0]  # on T1c there is little that it could have made up
    assert surest(outlines[:1], wide / 40, 1.0, False) == []  # but not nothing
    assert surest(outlines[3:], wide, 1.0, False) == [] == surest(outlines[:1], 0 * wide, 1.0, False)


def test_nothing_is_larger_than_any_tumor() -> None:
    wide = np.full((2, 8, 8, 8), 0.9, np.float32)
    outline = np.zeros(wide.shape, dtype=bool)
    outline[:, :2] = True  # 128 voxels at each of the two visits
    assert surest([outline], wide, 3_000.0, True) == [0]  # 384 mL
    assert surest([outline], wide, 4_000.0, True) == [] == surest([outline], wide, 4_000.0, False)  # half a litre


def test_a_dark_middle_gets_the_rim_back_that_only_the_wide_look_saw() -> None:
    radius = np.linalg.norm((np.indices((40, 40, 40)).T - (20, 20, 20)).T, axis=0)[None]
    wide = np.where(radius < 10, 0.8, 0.0).astype(np.float32)
    middle = np.where(radius < 6, 0.9, 0.0).astype(np.float32)
    whole = with_lost_parts(middle, wide, (1.0, 1.0, 1.0), True)
    assert np.array_equal(whole >= 0.5, radius < 10)
    assert whole.max() == pytest.approx(0.9)
    nearly = np.where(radius < 9, 0.9, 0.0).astype(np.float32)
    assert np.array_equal(with_lost_parts(nearly, wide, (1.0, 1.0, 1.0), True), nearly)
    # a leak on one side of a tumor that the close look outlines whole
    tumor = np.where((radius < 6) & (np.indices((40, 40, 40))[1] < 20), 0.9, 0.0).astype(np.float32)
    leak = np.where(np.indices((40, 40, 40))[1] >= 20, 0.8, tumor).astype(np.float32)
    assert np.array_equal(with_lost_parts(tumor, leak, (1, 1, 1), True), tumor)


@pytest.mark.parametrize(("largest_mm3", "outlined"), [(6_000.0, False), (7_000.0, True)])
def test_what_the_wide_look_makes_larger_than_any_tumor_is_none(tiny_model, monkeypatch, largest_mm3, outlined) -> None:
    """390 mL of a close look became 670 mL of a head without a tumor."""
    monkeypatch.setattr(follow_module, "LARGEST_FOUND_MM3", largest_mm3)
    monkeypatch.setattr(predict, "places_found", lambda *_: [(0, (3, 3, 2))])
    monkeypatch.setattr(predict, "with_lost_parts", lambda close, *_: np.ones_like(close))  # 24 x 24 x 12 mm
    prediction = answer(tiny_series((None, None, None)), tiny_model)
    assert prediction.probability.any() == outlined


def test_a_large_tumor_is_outlined_as_whole_as_the_wide_look_saw_it_at_every_visit() -> None:
    columns = np.indices((2, 30, 20, 20))[1]
    wide = np.where(columns < np.array([20, 8]).reshape(2, 1, 1, 1), 0.8, 0.0).astype(np.float32)
    wide[:, 29] = 0.8  # something else, which does not touch the tumor
    close = np.where(columns < np.array([12, 4]).reshape(2, 1, 1, 1), 0.9, 0.0).astype(np.float32)
    whole = with_lost_parts(close, wide, (1.4, 1.6, 1.6), True) >= 0.5  # 17 mL close, at the first visit
    assert np.array_equal(whole, (wide >= 0.5) & (columns < 29))
    assert np.array_equal(with_lost_parts(close, wide, (1.4, 1.6, 1.6), False), close)
    assert np.array_equal(with_lost_parts(close, wide, (1.4, 1.0, 1.0), True), close)  # 7 mL


def test_specks_are_no_lesions_and_pieces_of_one_count_together() -> None:
    probability = np.zeros((40, 20, 20), np.float32)
    probability[2:4, 2:4, 2:4] = 0.9  # 8 mm3, alone
    probability[20:22, 10:13, 10:13] = 0.8  # 18 mm3, and as much again 2 mm beside it
    probability[24:26, 10:13, 10:13] = 0.7
    probability[30, 0, 0] = 0.4  # below one half: no outline, stays
    kept = without_specks(probability, (1.0, 1.0, 1.0), 30.0)
    assert not kept[:10].any()
    assert np.array_equal(kept[10:], probability[10:])
    assert without_specks(probability, (2.0, 2.0, 2.0), 30.0).max() == np.float32(0.9)  # 64 mm3 there
    assert not without_specks(probability, (1.0, 1.0, 1.0), 40.0)[20:28].any()


def outlining(frames, monkeypatch):
    """A network that outlines ``frames`` whatever it is shown."""
    look = Look(tuple(slice(0, n) for n in frames.shape[1:]), frames.shape[1:])
    made = Answer(frames, np.zeros((1, 1, 1, 1), np.float16), look, outlined=frames.copy())

    def outlined(*_):
        yield 1.0
        return made

    monkeypatch.setattr(predict, "_prompted", outlined)


def test_only_specks_at_a_visit_are_left_out_and_said(tiny_model, monkeypatch) -> None:
    aligned = tiny_series((None, None, None))
    frames = np.zeros((3, *aligned.grid.shape), np.float32)
    frames[0, 8:14, 8:14, 4:8] = frames[2, 8:10, 8:10, 4:6] = 0.9
    outlining(frames, monkeypatch)
    prediction = answer(aligned, tiny_model, (Prompt(1, "point", np.zeros(3)),))
    assert [bool(prediction.mask(t).any()) for t in range(3)] == [True, False, False]
    said = [w for w in prediction.warnings if "only specks below 30 mm3" in w]
    assert len(said) == 1 and "visit 3" in said[0]


@pytest.mark.parametrize(("pieces", "said"), [(2, False), (9, True)])
def test_an_outline_that_falls_into_many_pieces_is_said(tiny_model, monkeypatch, pieces, said) -> None:
    aligned = tiny_series((None, None, None))
    frames = np.zeros((3, *aligned.grid.shape), np.float32)
    frames[0, 8:14, 8:14, 4:8] = 0.9
    for n in range(pieces):  # of 48 mm3 each, apart
        frames[1, 8 * (n // 3) : 8 * (n // 3) + 4, 8 * (n % 3) : 8 * (n % 3) + 4, 4:7] = 0.9
    outlining(frames, monkeypatch)
    prediction = answer(aligned, tiny_model, (Prompt(1, "point", np.zeros(3)),))
    warned = [w for w in prediction.warnings if "many pieces" in w]
    assert bool(warned) == said and all("visit 2" in w for w in warned)


@pytest.mark.parametrize(("level", "wide"), [(0.5, False), (0.2, True)])
def test_the_answer_is_outlined_where_the_card_says(tmp_path, monkeypatch, level, wide) -> None:
    """A border of 0.3 is in the outline where the card says 0.2, also of what was not followed; a given mask stands."""
    path = tmp_path / "level.safetensors"
    save_model(GrowthNet(SMALL), path, {"automatic": ["t1c"], "outline_at": {"t1c": level}})
    aligned = tiny_series((ball(), None, None))
    frames = np.zeros((3, *aligned.grid.shape), np.float32)
    frames[:, 7:15, 7:15, 3:9] = 0.3
    frames[:, 8:14, 8:14, 4:8] = 0.9
    outlining(frames, monkeypatch)
    prediction = answer(aligned, Settings(model=str(path)), unfollowed=True)
    assert np.array_equal(prediction.mask(0), ball())
    for shown in (prediction.probability, prediction.unfollowed):
        assert np.array_equal(shown[1:] >= 0.5, frames[1:] >= (0.3 if wide else 0.9))


def test_what_the_lesion_reaches_at_another_visit_is_counted_from_the_start_and_said(tiny_model, monkeypatch) -> None:
    aligned = tiny_series((None, None, None))
    frames = np.zeros((3, *aligned.grid.shape), np.float32)
    frames[0, 2:8, 4:12, 2:10] = frames[0, 16:22, 4:12, 2:10] = 0.9  # two lesions, one pointed at, which are one later
    frames[1:, 2:22, 4:12, 2:10] = 0.9
    look = Look(tuple(slice(0, n) for n in aligned.grid.shape), aligned.grid.shape)
    canvas = Canvas(frames, np.ones_like(frames), np.zeros((1, 1, 1, 1), np.float16), (1, 1, 1))

    def filled(*_):
        yield 1.0
        return canvas

    monkeypatch.setattr(predict, "_fill_canvas", filled)
    monkeypatch.setattr(predict.looks, "first_look", lambda grid: look)
    monkeypatch.setattr(predict.looks, "next_look", lambda *_: None)
    prediction = answer(aligned, tiny_model, (Prompt(1, "point", aligned.grid.to_mm((5, 8, 6))),))
    assert np.array_equal(prediction.probability >= 0.5, frames >= 0.5)
    said = [w for w in prediction.warnings if "nobody pointed at is counted too" in w]
    assert len(said) == 1 and "visit 1" in said[0]


def likeness_at(aligned, drawn, visit, carried=0.0):
    """(C, I, J, K) of the network's input at a 0-based visit."""
    window = tuple(slice(0, n) for n in aligned.grid.shape)
    tissues = passes._tissues(drawn, visit_order(len(aligned.days), sorted(drawn)), carried)
    made = passes._visit_input(
        aligned, drawn, tissues, visit, window, aligned.modalities, (8, 8, 4), torch.device("cpu")
    )
    return made[1]


def test_the_tissue_pointed_at_is_known_again_at_visits_nobody_pointed_at() -> None:
    aligned = tiny_series((None, None, None))
    aligned.data[:] = 0.0
    aligned.data[:, 0, 8:16] = 2.0
    click = Prompt(2, "point", np.array((12.0, 12.0, 6.0)))  # known forward and backward
    drawn = drawing.draw_prompts(aligned, (click,))
    for visit, share in enumerate((0.5, 1.0, 0.5)):
        alike = likeness_at(aligned, drawn, visit, carried=0.5)
        assert alike[0, 0, 8:16].unique().tolist() == [share]
        assert alike[0, 0, :8].max() < 1e-6
    assert likeness_at(aligned, drawn, 0, carried=0.0).max() == 0


def test_a_later_prompt_says_what_is_known_again_from_then_on() -> None:
    aligned = tiny_series((None, None, None))
    means = {n: torch.full((1, 1), float(n)) for n in (0, 1)}
    drawn = {n: (torch.zeros(4, *aligned.grid.shape), mean) for n, mean in means.items()}
    tissues = passes._tissues(drawn, visit_order(3, [0, 1]), 0.5)
    assert {visit: (float(mean), weight) for visit, (mean, weight) in tissues.items()} == {
        0: (0.0, 1.0),
        1: (1.0, 1.0),
        2: (1.0, 0.5),
    }


def test_an_empty_mask_does_not_end_what_is_known_again() -> None:
    """The tumor may be gone at one visit and come back."""
    aligned = tiny_series((None, np.zeros((24, 24, 12), np.uint8), None))
    aligned.data[:] = 0.0
    aligned.data[:, 0, 8:16] = 2.0
    drawn = drawing.draw_prompts(aligned, (Prompt(1, "point", np.array((12.0, 12.0, 6.0))),))
    for visit, share in enumerate((1.0, 0.5, 0.5)):
        assert likeness_at(aligned, drawn, visit, carried=0.5)[0, 0, 8:16].unique().tolist() == [share]


def test_nothing_is_known_again_in_a_kind_of_image_that_the_prompted_visit_lacks() -> None:
    aligned = tiny_series((None, None, None))
    aligned.present[0] = False
    drawn = drawing.draw_prompts(aligned, (Prompt(1, "point", np.array((12.0, 12.0, 6.0))),))
    assert likeness_at(aligned, drawn, 1, carried=0.5).max() == 0


@pytest.mark.parametrize(
    ("clicked", "remembers", "carried"),
    [(True, True, LIKENESS_CARRIED), (True, False, 0.0), (False, True, 0.0)],
)
def test_what_is_known_again_is_what_a_person_pointed_at(tiny_model, monkeypatch, clicked, remembers, carried) -> None:
    """Not what the program clicked by itself, nor where the memory is cleared to see what it is worth."""
    seen = []

    def noted(work, *rest, run=predict.run_visits):
        seen.append(work.carried)
        return run(work, *rest)

    monkeypatch.setattr(predict, "run_visits", noted)
    monkeypatch.setattr(GrowthNet, "remembers", remembers)
    click = Prompt(1, "point", np.array((11.0, 11.0, 6.0)))
    answer(tiny_series((None, None, None)), tiny_model, (click,) if clicked else ())
    assert set(seen) == {carried}


@pytest.mark.parametrize(
    ("kind", "visits", "masks", "warned"),
    [
        ("ct", (1,), (None,) * 3, True),
        ("ct", (1, 2, 3), (None,) * 3, True),
        ("ct", (), (ball(), None, None), True),
        ("ct", (), (ball(),) * 3, False),
        ("ct", (1,), (None,), False),
        ("t1c", (1,), (None,) * 3, False),
    ],
)
def test_where_change_is_followed_in_part_it_is_said(tiny_model, kind, visits, masks, warned) -> None:
    aligned = replace(tiny_series(masks, visits=len(masks)), modalities=(kind,))
    clicks = tuple(Prompt(visit, "point", np.array((11.0, 11.0, 6.0))) for visit in visits)
    prediction = answer(aligned, tiny_model, clicks)
    assert any("only in part" in w for w in prediction.warnings) == warned


@pytest.mark.parametrize(
    ("kinds", "types", "masks", "told"),
    [
        (("ct",), ("point",), (None, None), "(visit 1)"),
        (("ct",), ("point", "scribble"), (None, None), "(visits 1, 2)"),
        (("ct",), ("box",), (None, None), None),
        (("ct",), ("point",), (ball(), None), None),
        (("t1c",), ("point",), (None, None), None),
    ],
)
def test_a_click_where_a_box_is_safer_is_told(tiny_model, kinds, types, masks, told) -> None:
    aligned = replace(tiny_series(masks, visits=2), modalities=kinds)
    shapes = {
        "point": np.array((11.0, 11.0, 6.0)),
        "scribble": np.array(((10.0, 10.0, 6.0), (12.0, 12.0, 6.0))),
        "box": np.array(((6.0, 6.0, 3.0), (16.0, 16.0, 9.0))),
    }
    prompts = tuple(Prompt(n + 1, kind, shapes[kind]) for n, kind in enumerate(types))
    said = [w for w in answer(aligned, tiny_model, prompts).warnings if "Draw a box" in w]
    assert [w[-len(told) - 1 : -1] for w in said] == [told] if told else not said


def of_kinds(aligned: AlignedSeries, kinds: tuple[str, ...]) -> AlignedSeries:
    """The same image as several kinds."""
    of_each = ("data", "present", "centre", "scale")
    repeated = {name: np.repeat(getattr(aligned, name), len(kinds), axis=1) for name in of_each}
    return replace(aligned, modalities=kinds, **repeated)


@pytest.fixture
def core_model(tmp_path):
    """A network whose card says on what the core is outlined."""
    torch.manual_seed(0)
    path = tmp_path / "core.safetensors"
    save_model(GrowthNet(SMALL), path, {"automatic": ["t1c", "flair"], "core_on": ["t1", "t1c"]})
    return Settings(model=str(path))


@pytest.mark.parametrize(
    ("kinds", "core_known", "told"),
    [
        (("t1c",), True, None),
        (("t1", "t1c"), True, None),
        (("t1c", "flair"), True, "core was outlined, on t1c; flair"),
        (("t1", "t1c", "t2", "flair"), True, "core was outlined, on t1 and t1c; t2 and flair"),
        (("t1c", "flair"), False, "may take in oedema"),
        (("t2", "flair"), True, None),
    ],
)
def test_what_is_outlined_where_oedema_shows_is_told(core_model, tiny_model, kinds, core_known, told) -> None:
    aligned = of_kinds(tiny_series((None,), visits=1), kinds)
    click = (Prompt(1, "point", np.array((11.0, 11.0, 6.0))),)
    said = " ".join(answer(aligned, core_model if core_known else tiny_model, click).warnings)
    for sentence in ("core was outlined", "may take in oedema"):
        assert (sentence in said) == (told is not None and sentence in told)
    assert told is None or told in said


@pytest.mark.parametrize("prompted", [True, False])
@pytest.mark.parametrize("everywhere", [True, False])
def test_the_core_is_outlined_without_what_shows_oedema(core_model, monkeypatch, prompted, everywhere) -> None:
    """FLAIR helps to find a tumor; where every visit has T1c it changes nothing of the outline of a click."""
    aligned = of_kinds(tiny_series((None, None), visits=2), ("t1c", "flair"))
    aligned.present[1, 0] = everywhere
    monkeypatch.setattr(predict, "places_found", lambda *_: [(0, (3, 3, 2))])
    monkeypatch.setattr(predict, "surest", lambda outlines, *_: list(range(len(outlines))))
    click = (Prompt(1, "point", np.array((11.0, 11.0, 6.0))),) if prompted else ()
    seen = []
    for flair in (0.0, 2.0):
        aligned.data[:, 1] += flair
        seen.append(answer(aligned, core_model, click).features)
    assert np.array_equal(*seen) == everywhere


def test_one_kind_of_image_is_taken_out_of_a_series() -> None:
    aligned = of_kinds(tiny_series((None, None), visits=2), ("t1c", "flair"))
    aligned.data[:, 1] += 1
    aligned.present[1, 0] = False
    flair = aligned.only(("flair", "t2"))
    assert flair.modalities == ("flair",)
    assert np.array_equal(flair.data, aligned.data[:, 1:])
    assert flair.present.tolist() == [[True], [True]]
    assert flair.centre.shape == flair.scale.shape == (2, 1)
    assert aligned.only(aligned.modalities) is aligned


def test_clicks_in_unlike_tissue_each_find_their_own_likeness() -> None:
    aligned = tiny_series((None, None, None))
    aligned.data[0, 0] = 0.0
    aligned.data[0, 0, :8], aligned.data[0, 0, 16:] = -2.0, 3.0  # necrosis and a bright rim, as a scan may show them
    places = ((3.0, 12.0, 6.0), (20.0, 12.0, 6.0))
    drawn = drawing.draw_prompts(aligned, tuple(Prompt(1, "point", np.array(p)) for p in places))
    assert drawn[0][1].tolist() == [[-2.0], [3.0]]
    alike = likeness_at(aligned, drawn, 0)
    dark, between, bright = alike[0, 0, :8], alike[0, 0, 8:16], alike[0, 0, 16:]
    assert dark.min() == bright.min() == 1.0  # their mean intensity, 0.5, is that of neither
    assert between.max() < 1e-6


@pytest.mark.parametrize(("gap_mm", "joined"), [(3, True), (6, False)])
def test_pieces_further_apart_than_they_may_be_are_two_lesions(gap_mm: int, joined: bool) -> None:
    mask = np.zeros((40, 12, 12), dtype=bool)
    mask[4:10, 4:8, 4:8] = mask[10 + gap_mm : 18 + gap_mm, 4:8, 4:8] = True
    seeds = np.zeros_like(mask)
    seeds[5, 5, 5] = True
    kept = touching(mask, seeds, (1.0, 1.0, 1.0)) & mask
    assert kept[:10].sum() == mask[:10].sum()
    assert bool(kept[10:].any()) == joined
    assert touching(mask, np.roll(seeds, -4, axis=0), (1.0, 1.0, 1.0)).any()  # a seed 3 mm beside it
    assert not touching(mask, np.roll(seeds, 26, axis=0), (1.0, 1.0, 1.0)).any()  # one beyond them all is too far


@pytest.mark.parametrize("kind", ["point", "box"])
def test_a_later_visit_that_is_pointed_at_is_seen_in_several_ways(tiny_model, kind) -> None:
    aligned = tiny_series((None, None, None))
    first = Prompt(1, "point", np.array((11.0, 11.0, 6.0)))
    last = Prompt(3, "point", first.ras_mm)
    if kind == "box":
        last = Prompt(3, "box", np.array(((6.0, 6.0, 2.0), (16.0, 16.0, 10.0))))
    work = predict.Workplace(predict.cached_model(tiny_model.model, torch.device("cpu")), torch.device("cpu"), 0.5)

    def seen(prompts: tuple[Prompt, ...]) -> dict[int, np.ndarray]:
        drawn = drawing.draw_prompts(aligned, prompts)
        window = tuple(slice(0, n) for n in aligned.grid.shape)
        order = visit_order(3, sorted(drawn))
        return {t: part[0] for t, part in predict.run_visits(work, aligned, drawn, order, window, (16, 16, 16))}

    calls = []
    network = work.model.network
    hook = network.register_forward_hook(lambda _, inputs, output: calls.append((inputs, output[0])))
    both = seen((first, last))
    hook.remove()
    of_last = calls[2:]
    with_memory, alone = of_last[:2]
    assert with_memory[0][5] is not None and len(alone[0]) == 5
    mean = torch.sigmoid(torch.cat([logits for _, logits in of_last])[:, 0].float()).mean(0).numpy()[:24, :24, :12]
    assert np.array_equal(both[2], mean)
    only_first = seen((first,))
    assert np.array_equal(both[1], only_first[1])
    if kind == "box":  # says more than the memory knows
        assert len(of_last) == 2
        return
    untold = torch.sigmoid(of_last[2][1][0, 0].float()).numpy()[:24, :24, :12]  # as if nobody had pointed there
    assert len(of_last) == 3 and np.array_equal(untold, only_first[2])


def test_a_lesion_left_out_that_the_other_grows_into_is_noticed() -> None:
    found = np.zeros((2, 30, 10, 10), dtype=bool)
    found[0, 2:8, 2:8, 2:8] = found[0, 20:26, 2:8, 2:8] = True  # two lesions, the first pointed at
    found[1, 2:26, 2:8, 2:8] = True  # one
    kept = found.copy()
    kept[0, 15:] = False
    assert joined_later(found, kept, (1.0, 1.0, 1.0), 150.0) == [0]
    assert joined_later(found, kept, (1.0, 1.0, 1.0), 250.0) == []  # it has 216 mm3
    sure = np.where(found, np.float32(0.95), np.float32(0.0))
    assert np.array_equal(taken_in(sure, found, kept, (1.0, 1.0, 1.0), 150.0), found & ~kept)
    assert not taken_in(sure, found, kept, (1.0, 1.0, 1.0), 250.0).any()
    less = np.where(found & ~kept, np.float32(0.75), sure)
    assert not taken_in(less, found, kept, (1.0, 1.0, 1.0), 150.0).any()
    found[0, 20:26] = True  # 600 mm3, of which 216 lie where the other grows
    assert joined_later(found, kept, (1.0, 1.0, 1.0), 150.0) == [0]
    assert not taken_in(sure, found, kept, (1.0, 1.0, 1.0), 150.0).any()
    found[1, 9:] = kept[1, 9:] = False  # they never meet
    assert joined_later(found, kept, (1.0, 1.0, 1.0), 150.0) == []
    assert not taken_in(sure, found, kept, (1.0, 1.0, 1.0), 150.0).any()
