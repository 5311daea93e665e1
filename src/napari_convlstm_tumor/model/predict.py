"""The shipped network on one patient: device, precision, looks, windows, prompts carried over the visits.

The network works where the lesion is, on voxels that suit its size (model/looks). Without a prompt it looks over the
whole grid first and then at each thing it found, as if a person had clicked there. The memory needed does not grow with
the number of visits: one visit is in the network at a time and only the recurrent state goes on.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from napari_convlstm_tumor.model import looks
from napari_convlstm_tumor.model import prompts as channels
from napari_convlstm_tumor.model.answer import Answer, Seen, mean_of, together
from napari_convlstm_tumor.model.card import Model
from napari_convlstm_tumor.model.cautions import Doubts, cautions, finds_by_itself, outlined_on, refuse_blind_run
from napari_convlstm_tumor.model.device import Workplace, cached_model, fast_precision, pick_device
from napari_convlstm_tumor.model.drawing import (
    box_as_mask,
    draw_prompts,
    is_prompted,
    prompted_bounds,
    visits_pointed_at,
)
from napari_convlstm_tumor.model.follow import (
    SMALLEST_OUTLINED_MM3,
    follow,
    joined_later,
    outlines_of,
    places_found,
    scattered,
    surest,
    taken_in,
    with_lost_parts,
    without_specks,
)
from napari_convlstm_tumor.model.network import (
    forecast_geometry,
    pool_strides,
    total_stride,
)
from napari_convlstm_tumor.model.outline import outline_at, outline_moved
from napari_convlstm_tumor.model.places import apart, points_of, within_reach
from napari_convlstm_tumor.model.visits import run_visits, visit_order
from napari_convlstm_tumor.model.windows import Canvas, body_box, plan_windows, window_weight
from napari_convlstm_tumor.series import DAYS_PER_MONTH, AlignedSeries, FloatVolume, Look, Prediction, Prompt
from napari_convlstm_tumor.settings import Settings

# Without a prompt, something smaller than this is not taken for a lesion, and at most so many are.
SMALLEST_FOUND_MM3 = 150.0
MOST_FOUND = 4
# As much of a lesion that nobody pointed at, where one that was pointed at reaches at another visit, counts.
SMALLEST_JOINED_MM3 = 150.0
# Of the network's correction to the mean speed of the front so much is believed. The mean of two forecasts is often
# better than either (Bates and Granger 1969): on 106 simulated patients of those that calibrate the bands, Dice was
# 0.819 for none of it (the linear forecast), 0.826 for half and 0.818 for all (growthnet-3; a scratch script).
FORECAST_SHARE = 0.5


def segment(
    aligned: AlignedSeries,
    prompts: tuple[Prompt, ...],
    settings: Settings,
    model: Model | None = None,
    unfollowed: bool = False,
) -> Generator[float, None, Prediction]:
    """Tumor probability at every visit; yields the fraction done after each visit of each look.

    prompts: in the space of the common grid (pipeline brings them there). Masks in ``aligned`` are prompts too, and
    stand as they are in the answer. model: instead of the one that the settings name. unfollowed: also give what the
    network outlined before only what continues the lesions pointed at was kept (None without prompts).

    Raises InputError when the network cannot work without a prompt on these images.
    """
    device = pick_device(settings.device)
    model = model or cached_model(settings.model, device)
    prompted = is_prompted(aligned, prompts)
    work = Workplace(
        model,
        device,
        carried=channels.LIKENESS_CARRIED if prompted and model.network.remembers else 0.0,
        finer=model.network.remembers or len(visits_pointed_at(aligned, prompts)) == len(aligned.days),
        unfollowed=unfollowed and prompted,
    )
    refuse_blind_run(model, aligned, prompts)
    if prompted:
        answer = yield from _prompted(work, aligned.only(outlined_on(model, aligned)), prompts, 0.0, 1.0)
    else:
        answer = yield from _automatic(work, aligned)
    outlined = [bool((frame >= 0.5).any()) for frame in answer.probability]
    probability = _cleaned(answer.probability, aligned, prompts)
    specks = [visit for visit, frame in enumerate(probability) if outlined[visit] and not (frame >= 0.5).any()]
    level = outline_at(model, outlined_on(model, aligned))
    probability = outline_moved(probability, level, aligned.grid.spacing_mm)
    for visit, mask in enumerate(aligned.masks):
        if mask is not None:
            probability[visit] = mask
    in_pieces = scattered(probability >= 0.5, visits_pointed_at(aligned, prompts))
    doubts = replace(answer.doubts, specks=tuple(specks), scattered=tuple(in_pieces))
    outlined_first = answer.outlined
    if outlined_first is not None:
        outlined_first = outline_moved(_cleaned(outlined_first, aligned, prompts), level, aligned.grid.spacing_mm)
    warnings = (*cautions(model, aligned, prompts, doubts), *work.notes)
    return Prediction(
        probability,
        aligned.days,
        aligned.grid,
        model.id,
        warnings=warnings,
        features=answer.features,
        look=answer.look,
        unfollowed=outlined_first,
    )


def _cleaned(probability: FloatVolume, aligned: AlignedSeries, prompts: tuple[Prompt, ...]) -> FloatVolume:
    """Probability (T, I, J, K), in place: within each visit's image, without specks where nobody pointed."""
    probability *= aligned.inside
    for visit in set(range(len(probability))) - {p.visit - 1 for p in prompts}:
        probability[visit] = without_specks(probability[visit], aligned.grid.spacing_mm, SMALLEST_OUTLINED_MM3)
    return probability


def _prompted(
    work: Workplace, aligned: AlignedSeries, prompts: tuple[Prompt, ...], start: float, end: float
) -> Generator[float, None, Answer]:
    """The lesions that prompts and given masks point at, those apart from each other one by one.

    Clicks alone do not tell where a lesion ends, so that a look over everything is first.
    """
    wide, look = None, looks.first_look(aligned.grid)
    if prompted_bounds(aligned, prompts) is None:
        middle = (start + end) / 2
        wide = yield from _one_look(work, aligned, prompts, look, start, middle)
        start = middle
    masked = any(mask is not None for mask in aligned.masks)  # a mask shows all that is meant
    groups = [prompts] if masked else apart(prompts, None if wide is None else wide[1], look, aligned.grid)
    answer: Answer | None = None
    for n, group in enumerate(groups):
        low, high = (start + (end - start) * (n + m) / len(groups) for m in (0, 1))
        one = yield from _closely(work, aligned, group, wide, low, high)
        answer = one if answer is None else together(answer, one)
    assert answer is not None  # there are prompts or masks
    return answer


def _closely(
    work: Workplace, aligned: AlignedSeries, prompts: tuple[Prompt, ...], wide: Seen | None, start: float, end: float
) -> Generator[float, None, Answer]:
    """One lesion, or several near to each other, looked at until the look suits their size.

    wide: the look over everything, where there was one.
    """
    grid, shown, points = aligned.grid, visits_pointed_at(aligned, prompts), points_of(prompts, aligned.grid)
    known = prompted_bounds(aligned, prompts)
    look = looks.first_look(grid) if known is None else looks.look_at(grid, *known, work.finer)
    steps = _halves(start, end)
    if wide is None:
        wide = yield from _one_look(work, aligned, prompts, look, *next(steps))
    answer, found = wide
    for n in range(1, looks.LOOKS):
        found = within_reach(found, shown[0], points, look, grid)
        closer = n == 1 and known is None  # whatever was found on a look over everything is looked at once more
        better = looks.next_look(look, grid, found, [place for _, place in points], closer, work.finer)
        if better is None:
            break
        look = better
        answer, found = yield from _one_look(work, aligned, prompts, look, *next(steps))
    if any(p.type == "box" for p in prompts):
        prompts = tuple(box_as_mask(p, answer.probability, grid) if p.type == "box" else p for p in prompts)
        answer, _ = yield from _one_look(work, aligned, prompts, look, *next(steps))
    own = looks.own_voxels(look)
    if own is not None:
        answer = mean_of(answer, (yield from _one_look(work, aligned, prompts, own, *next(steps)))[0])
    return _with_lost_parts(work, answer, wide[0], aligned) if known is None else answer


def _halves(start: float, end: float) -> Iterator[tuple[float, float]]:
    """Each the first half of what is left: how many looks there will be is not known."""
    while True:
        middle = (start + end) / 2
        yield start, middle
        start = middle


def _automatic(work: Workplace, aligned: AlignedSeries) -> Generator[float, None, Answer]:
    """Looks over everything without a prompt, then a look at every place that one of them found.

    All kinds of image help to find a tumor; it is then outlined as one that was clicked.
    """
    shown = aligned.only(outlined_on(work.model, aligned))
    over = looks.search_looks(aligned.grid)
    wide = []
    for n, look in enumerate(over):
        answer, _ = yield from _one_look(work, aligned, (), look, 0.4 * n / len(over), 0.4 * (n + 1) / len(over))
        wide.append(answer.probability)
    most = replace(answer, probability=np.max(wide, axis=0))
    seen = np.stack([looks.shrink(p, over[0]) for p in most.probability])
    small = looks.look_grid(over[0], aligned.grid)
    places = places_found(seen, small.spacing_mm, SMALLEST_FOUND_MM3, MOST_FOUND)
    answers = []
    for n, (visit, voxel) in enumerate(places):
        click = Prompt(visit + 1, "point", small.to_mm(voxel))
        low, high = (0.4 + 0.6 * (n + m) / len(places) for m in (0, 1))
        answers.append((yield from _prompted(work, shown, (click,), low, high)))
    if shown is aligned:
        answers = [_with_lost_parts(work, answer, most, aligned) for answer in answers]
    outlines = [a.probability >= 0.5 for a in answers]
    old_lesions = "t1c" not in aligned.modalities  # of the white matter: bright on FLAIR and T2 alone
    kept = surest(outlines, np.mean(wide, axis=0), aligned.grid.voxel_mm3, old_lesions)
    if not kept:
        return replace(most, probability=np.zeros_like(most.probability))
    best = np.max([answers[n].probability for n in kept], axis=0)
    return replace(answers[kept[0]], probability=best)  # the largest lesion's features: the forecast


def _with_lost_parts(work: Workplace, close: Answer, wide: Answer, aligned: AlignedSeries) -> Answer:
    """The answer of close looks, with what only the wide look saw of the tumor.

    Where the network finds nothing by itself (CT, T1 alone) the wide look leaks too often to be trusted with all of it.
    """
    trusted = finds_by_itself(work.model, aligned)
    spacing_mm = aligned.grid.spacing_mm
    return replace(close, probability=with_lost_parts(close.probability, wide.probability, spacing_mm, trusted))


def _one_look(
    work: Workplace,
    aligned: AlignedSeries,
    prompts: tuple[Prompt, ...],
    look: Look,
    start: float,
    end: float,
) -> Generator[float, None, Seen]:
    """The network over all visits through one look; also what it found there, (T, *look.shape) bool."""
    small = looks.seen_through(look, aligned)
    drawn = draw_prompts(small, looks.prompts_through(look, prompts, aligned.grid))
    order = visit_order(len(aligned.days), sorted(drawn))
    canvas = yield from _fill_canvas(work, small, drawn, order, start, end)
    outlined = outlines_of(canvas.probability, small) & small.inside
    kept = follow(canvas.probability, small, drawn, order)
    added, joined = None, list[int]()
    if kept is not None:
        added = taken_in(canvas.probability, outlined, kept, small.grid.spacing_mm, SMALLEST_JOINED_MM3)
        kept |= added
        joined = joined_later(outlined, kept, small.grid.spacing_mm, SMALLEST_JOINED_MM3)
    answer = canvas.probability * (small.inside if kept is None else small.inside & kept)
    found = outlines_of(answer, small)
    whole = np.stack([looks.grow(frame, look, aligned.grid) for frame in answer])
    open_visits = [visit for visit, mask in enumerate(aligned.masks) if mask is None]
    doubts = Doubts(
        lost=tuple(v for v in open_visits if outlined[v].any() and not found[v].any()),
        joined=tuple(v for v in joined if v in open_visits),
        taken_in=tuple(v for v in open_visits if added is not None and added[v].any()),
    )
    outlined_first = None
    if work.unfollowed:
        outlined_first = np.stack([looks.grow(frame, look, aligned.grid) for frame in canvas.probability])
    found_mm3 = float(np.count_nonzero(found) * small.grid.voxel_mm3)
    return Answer(whole, canvas.features, look, found_mm3, doubts, outlined_first), found


def _fill_canvas(
    work: Workplace,
    aligned: AlignedSeries,
    drawn: dict[int, tuple[Tensor, Tensor]],
    order: list[tuple[int, int | None]],
    start: float,
    end: float,
) -> Generator[float, None, Canvas]:
    """The network's answer for every visit, window by window; begun again smaller when the GPU's memory runs out."""
    spacing, levels = aligned.grid.spacing_mm, work.model.network.levels - 1
    stride = total_stride(spacing, levels)
    while True:
        windows = plan_windows(body_box(aligned), stride, work.largest_voxels)
        canvas = Canvas.empty(aligned, work.model.network.config.channels[1], pool_strides(spacing, levels)[0])
        try:
            for n, window in enumerate(windows):
                weight = window_weight(window, windows)
                for done, (visit, part) in enumerate(run_visits(work, aligned, drawn, order, window, stride), start=1):
                    canvas.add(visit, window, part, weight, keep_features=visit == len(aligned.days) - 1)
                    yield start + (end - start) * (n + done / len(order)) / len(windows)
            canvas.probability /= np.maximum(canvas.weight, np.float32(1e-6))
            return canvas
        except torch.OutOfMemoryError:
            largest = max(math.prod(w.stop - w.start for w in window) for window in windows)
            if work.device.type == "cpu":
                raise
        work.give_way(largest)  # after the except clause: the error's traceback holds the tensors of the pass


def expected_speed(
    prediction: Prediction,
    phi: FloatVolume,
    phi_before: FloatVolume,
    mean_speed: float,
    gap_days: int,
    horizon_days: int,
    settings: Settings,
) -> FloatVolume:
    """Front speed (I, J, K) in mm per month that is expected over ``horizon_days`` after the last visit.

    Half-way between the mean speed of the front and what the network expects at each place.
    phi, phi_before: signed distance mm of the last two masks, ``gap_days`` apart; mean_speed: of their front.
    """
    device = pick_device(settings.device)
    network = cached_model(settings.model, device).network
    look = prediction.look
    assert look is not None and prediction.features is not None
    stride = pool_strides(looks.look_grid(look, prediction.grid).spacing_mm, network.levels - 1)[0]
    geometry = forecast_geometry(
        torch.from_numpy(looks.shrink(phi, look))[None],
        torch.from_numpy(looks.shrink(phi_before, look))[None],
        torch.tensor(gap_days / DAYS_PER_MONTH),
        torch.tensor([mean_speed]),
        torch.tensor([float(horizon_days)]),
    )
    sizes = look.shape
    pad = [a for n, s in zip(reversed(sizes), reversed(stride), strict=True) for a in (0, -n % s)]
    features = torch.from_numpy(prediction.features)[None].float().to(device)
    with torch.inference_mode(), fast_precision(device):
        speed = network.speed(features, F.pad(geometry, pad, mode="replicate").to(device), stride)
    i, j, k = sizes
    believed = torch.lerp(torch.full_like(speed, mean_speed), speed, FORECAST_SHARE)
    return looks.grow(believed[0, 0, :i, :j, :k].float().cpu().numpy(), look, prediction.grid, beyond=mean_speed)
