"""The shipped network on one patient: device, precision, looks, windows, prompts carried over the visits.

The network works where the lesion is, on voxels that suit its size (model/looks). Without a prompt it looks over the
whole grid first and then at each thing it found, as if a person had clicked there. The memory needed does not grow with
the number of visits: one visit is in the network at a time and only the recurrent state goes on.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from napari_convlstm_tumor.errors import InputError, SettingsError
from napari_convlstm_tumor.model import looks
from napari_convlstm_tumor.model import prompts as channels
from napari_convlstm_tumor.model.card import Model, load_model
from napari_convlstm_tumor.model.follow import follow, places_found
from napari_convlstm_tumor.model.network import (
    INTENSITY_LIMIT,
    forecast_geometry,
    pool_strides,
    total_stride,
)
from napari_convlstm_tumor.model.windows import Box, Canvas, body_box, plan_windows, window_weight
from napari_convlstm_tumor.series import DAYS_PER_MONTH, AlignedSeries, FloatVolume, Look, Prediction, Prompt
from napari_convlstm_tumor.settings import Settings
from napari_convlstm_tumor.volume import FloatArray, Grid, Volume

# Without a prompt, something smaller than this is not taken for a lesion, and at most so many are.
SMALLEST_FOUND_MM3 = 150.0
MOST_FOUND = 4
# A given mask that grows by more than this when its holes are filled is another kind of outline than the network's.
HOLES = 1.1
# How sharply the ellipsoid in a box ends, per its radius.
BOX_EDGE = 12.0
# A scribbled line is drawn as clicks this far apart.
SCRIBBLE_STEP_MM = 4.0


def pick_device(name: str) -> torch.device:
    """auto: the GPU when there is one. Raises SettingsError when cuda is asked for and absent."""
    if name == "cuda" and not torch.cuda.is_available():
        raise SettingsError("device is 'cuda', but torch finds no CUDA GPU here. Use --device auto or cpu.")
    use_gpu = name == "cuda" or (name == "auto" and torch.cuda.is_available())
    return torch.device("cuda" if use_gpu else "cpu")


@functools.lru_cache(maxsize=2)
def cached_model(name: str, device: torch.device) -> Model:
    """The model on its device, loaded once for all patients of a batch."""
    model = load_model(name)
    model.network.to(device).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return model


def segment(
    aligned: AlignedSeries, prompts: tuple[Prompt, ...], settings: Settings, model: Model | None = None
) -> Generator[float, None, Prediction]:
    """Tumor probability at every visit; yields the fraction done after each visit of each look.

    prompts: in the space of the common grid (pipeline brings them there). Masks in ``aligned`` are prompts too, and
    stand as they are in the answer. model: instead of the one that the settings name. Raises InputError when the
    network cannot work without a prompt on these images.
    """
    device = pick_device(settings.device)
    model = model or cached_model(settings.model, device)
    _refuse_blind_run(model, aligned, prompts)
    if _is_prompted(aligned, prompts):
        answer = yield from _prompted(model, aligned, prompts, device, 0.0, 1.0)
    else:
        answer = yield from _automatic(model, aligned, device)
    probability = answer.probability
    for visit, mask in enumerate(aligned.masks):
        if mask is None:
            probability[visit] *= aligned.inside[visit]
        else:
            probability[visit] = mask
    warnings = _cautions(aligned, prompts, answer.lost)
    return Prediction(
        probability,
        aligned.days,
        aligned.grid,
        model.id,
        warnings=warnings,
        features=answer.features,
        look=answer.look,
    )


@dataclass(frozen=True, eq=False)
class _Answer:
    """What one look (or several) gave: probability on the common grid, and 0-based visits where the lesion was lost."""

    probability: FloatVolume
    features: npt.NDArray[np.float16]
    look: Look
    lost: tuple[int, ...] = ()


def _prompted(
    model: Model, aligned: AlignedSeries, prompts: tuple[Prompt, ...], device: torch.device, start: float, end: float
) -> Generator[float, None, _Answer]:
    """The lesions that prompts and given masks point at, looked at until the look suits their size."""
    look = looks.first_look(aligned.grid)
    known = _prompted_bounds(aligned, prompts)
    if known is not None:
        look = looks.look_at(aligned.grid, *known)
    points = [_from_corner(p.ras_mm, aligned.grid) for p in prompts if p.type == "point" and p.ras_mm is not None]
    for n in range(looks.LOOKS):
        low, high = (start + (end - start) * (1 - 0.4**m) for m in (n, n + 1))
        answer, found = yield from _one_look(model, aligned, prompts, look, device, low, high)
        better = looks.next_look(look, aligned.grid, found, points) if n + 1 < looks.LOOKS else None
        if better is None:
            break
        look = better
    if any(p.type == "box" for p in prompts):
        prompts = tuple(_box_as_mask(p, answer.probability, aligned.grid) if p.type == "box" else p for p in prompts)
        answer, _ = yield from _one_look(model, aligned, prompts, look, device, high, end)
    return answer


def _box_as_mask(box: Prompt, probability: FloatVolume, grid: Grid) -> Prompt:
    """A box as a mask of its visit: where the network and the ellipsoid that fills the box agree on average.

    A person's box says more than the network makes of it: on seven sarcomas the mean of the two is nearer the truth
    than the network (docs/accuracy.md). As a mask it leads the network at every visit, so volumes stay comparable.
    """
    assert box.ras_mm is not None
    low, high = np.sort(grid.to_index(box.ras_mm), axis=0)
    middle, half = (low + high) / 2, np.maximum((high - low) / 2, channels.SMALLEST_HALF_WIDTH)
    axes = np.ogrid[tuple(slice(0, n) for n in grid.shape)]
    radius = np.sqrt(sum(((x - m) / h) ** 2 for x, m, h in zip(axes, middle, half, strict=True)))
    ellipsoid = 1 / (1 + np.exp(np.clip(BOX_EDGE * (radius - 1), -30, 30)))
    mask = probability[box.visit - 1] + ellipsoid >= 1
    if not mask.any():  # the network saw nothing there
        mask = radius <= 1
    return Prompt(box.visit, "mask", mask=Volume(mask.astype(np.uint8), grid))


def _automatic(model: Model, aligned: AlignedSeries, device: torch.device) -> Generator[float, None, _Answer]:
    """A wide look without a prompt, then a look at every place it found."""
    wide = looks.first_look(aligned.grid)
    answer, found = yield from _one_look(model, aligned, (), wide, device, 0.0, 0.3)
    small = looks.seen_through(wide, aligned)
    places = places_found(found.astype(np.float32), small.grid.spacing_mm, SMALLEST_FOUND_MM3, MOST_FOUND)
    answers = []
    for n, (visit, voxel) in enumerate(places):
        click = Prompt(visit + 1, "point", small.grid.to_mm(voxel))
        low, high = (0.3 + 0.7 * (n + m) / len(places) for m in (0, 1))
        answers.append((yield from _prompted(model, aligned, (click,), device, low, high)))
    if not answers:
        return replace(answer, probability=np.zeros_like(answer.probability))
    best = np.max([a.probability for a in answers], axis=0)
    return replace(answers[0], probability=best)  # the largest lesion's features serve the forecast


def _one_look(
    model: Model,
    aligned: AlignedSeries,
    prompts: tuple[Prompt, ...],
    look: Look,
    device: torch.device,
    start: float,
    end: float,
) -> Generator[float, None, tuple[_Answer, npt.NDArray[np.bool_]]]:
    """The network over all visits through one look; also what it found there, (T, *look.shape) bool."""
    small = looks.seen_through(look, aligned)
    drawn = _draw_prompts(small, looks.prompts_through(look, prompts, aligned.grid))
    order = visit_order(len(aligned.days), sorted(drawn))
    canvas = yield from _fill_canvas(model, small, drawn, order, device, start, end)
    kept = follow(canvas.probability, small, drawn, order)
    allowed = small.inside if kept is None else small.inside & kept
    lost = [
        visit
        for visit, mask in enumerate(aligned.masks)
        if mask is None
        and (canvas.probability[visit] >= 0.5).any()
        and not (canvas.probability[visit] * allowed[visit] >= 0.5).any()
    ]
    answer = canvas.probability * allowed
    found = np.stack([a >= 0.5 if m is None else m > 0 for a, m in zip(answer, small.masks, strict=True)])
    whole = np.stack([looks.grow(frame, look, aligned.grid) for frame in answer])
    return _Answer(whole, canvas.features, look, tuple(lost)), found


def _fill_canvas(
    model: Model,
    aligned: AlignedSeries,
    drawn: dict[int, tuple[Tensor, Tensor]],
    order: list[tuple[int, int | None]],
    device: torch.device,
    start: float,
    end: float,
) -> Generator[float, None, Canvas]:
    """The network's answer for every visit, window by window."""
    spacing, levels = aligned.grid.spacing_mm, model.network.levels - 1
    stride = total_stride(spacing, levels)
    windows = plan_windows(body_box(aligned), stride)
    canvas = Canvas.empty(aligned, model.network.config.channels[1], pool_strides(spacing, levels)[0])
    for n, window in enumerate(windows):
        weight = window_weight(window, windows)
        for done, (visit, part) in enumerate(_run(model, aligned, drawn, order, window, stride, device), start=1):
            canvas.add(visit, window, part, weight, keep_features=visit == len(aligned.days) - 1)
            yield start + (end - start) * (n + done / len(order)) / len(windows)
    canvas.probability /= np.maximum(canvas.weight, np.float32(1e-6))
    return canvas


def expected_speed(
    prediction: Prediction,
    phi: FloatVolume,
    phi_before: FloatVolume,
    mean_speed: float,
    gap_days: int,
    horizon_days: int,
    settings: Settings,
) -> FloatVolume:
    """Front speed (I, J, K) in mm per month that the network expects over ``horizon_days`` after the last visit.

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
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16):
        speed = network.speed(features, F.pad(geometry, pad, mode="replicate").to(device), stride)
    i, j, k = sizes
    return looks.grow(speed[0, 0, :i, :j, :k].float().cpu().numpy(), look, prediction.grid, beyond=mean_speed)


# ---- order of the visits ----


def visit_order(visits: int, prompted: Sequence[int]) -> list[tuple[int, int | None]]:
    """(visit, the visit whose state it goes on from): the first prompted visit to the last, then back to the first.

    A prompt at any visit thus reaches all of them.
    """
    start = prompted[0] if prompted else 0
    ahead: list[tuple[int, int | None]] = [(start, None)] + [(v, v - 1) for v in range(start + 1, visits)]
    return ahead + [(v, v + 1) for v in range(start - 1, -1, -1)]


def _run(
    model: Model,
    aligned: AlignedSeries,
    drawn: dict[int, tuple[Tensor, Tensor]],
    order: list[tuple[int, int | None]],
    window: Box,
    stride: tuple[int, int, int],
    device: torch.device,
) -> Generator[tuple[int, tuple[npt.NDArray[np.float32], npt.NDArray[np.float16]]], None, None]:
    """Probability and level-1 features of one window, visit by visit, in ``order``."""
    names = model.network.config.modalities
    strides = pool_strides(aligned.grid.spacing_mm, model.network.levels - 1)
    first_state = state = None
    for n, (visit, before) in enumerate(order):
        image, alike, prompt = _visit_input(aligned, drawn, visit, window, names, stride, device)
        if before is not None and before != order[n - 1][0]:
            state = first_state  # the way back starts again from the prompted visit
        gap = None  # at the first visit, and when there are no dates: nothing is known to have faded
        if before is not None and aligned.dated:
            gap = torch.tensor([float(abs(aligned.days[visit] - aligned.days[before]))], device=device)
        present = [m in aligned.modalities and bool(aligned.present[visit, aligned.modalities.index(m)]) for m in names]
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16):
            logits, _, features, state = model.network(image, alike, present, prompt, strides, state, gap)
        first_state = state if n == 0 else first_state
        size = tuple(slice(0, w.stop - w.start) for w in window)
        probability = torch.sigmoid(logits[0, 0].float()).cpu().numpy()[size]
        yield visit, (probability, features[0].half().cpu().numpy())


def _visit_input(
    aligned: AlignedSeries,
    drawn: dict[int, tuple[Tensor, Tensor]],
    visit: int,
    window: Box,
    names: Sequence[str],
    stride: tuple[int, int, int],
    device: torch.device,
) -> tuple[Tensor, Tensor, Tensor]:
    """Images, similarity and prompt channels of one visit in one window, padded to the stride, with a batch axis."""
    inside = torch.from_numpy(aligned.inside[visit][window])
    sizes = [w.stop - w.start for w in window]
    images = torch.zeros(len(names), *sizes)
    alike = torch.zeros_like(images)
    prompt = channels.empty_prompt(sizes)
    for c, modality in enumerate(aligned.modalities):
        if aligned.present[visit, c]:
            image = torch.from_numpy(aligned.data[visit, c][window])
            images[names.index(modality)] = torch.where(inside, image, -INTENSITY_LIMIT)
    if visit in drawn:
        prompt = drawn[visit][0][:, *window]
        reference = drawn[visit][1]
        for c, modality in enumerate(aligned.modalities):
            if aligned.present[visit, c]:
                n = names.index(modality)
                alike[n] = channels.likeness(images[n], reference[c])
    pad = [a for n, s in zip(reversed(sizes), reversed(stride), strict=True) for a in (0, -n % s)]
    padded = (F.pad(images[None], pad, mode="replicate"), F.pad(alike[None], pad), F.pad(prompt[None], pad))
    on_device = [x.to(device) for x in padded]
    return on_device[0], on_device[1], on_device[2]


# ---- prompts ----


def _draw_prompts(aligned: AlignedSeries, prompts: tuple[Prompt, ...]) -> dict[int, tuple[Tensor, Tensor]]:
    """0-based visit -> (prompt channels on the common grid, mean intensity (C,) of the prompted tissue)."""
    drawn: dict[int, tuple[Tensor, Tensor]] = {}
    for visit, mask in enumerate(aligned.masks):
        here = [p for p in prompts if p.visit == visit + 1]
        if mask is None and not here:
            continue
        canvas = channels.empty_prompt(aligned.grid.shape)
        core = torch.zeros(aligned.grid.shape, dtype=torch.bool)
        if mask is not None:
            core |= channels.add_mask(canvas, torch.from_numpy(closed(mask, aligned.grid.spacing_mm)))
        for prompt in here:
            core |= _draw_one(canvas, prompt, aligned)
        values = torch.from_numpy(aligned.data[visit])
        mean = torch.stack([v[core].mean() if bool(core.any()) else v.new_tensor(torch.inf) for v in values])
        drawn[visit] = (canvas, mean)
    return drawn


def closed(mask: npt.NDArray[np.generic], spacing_mm: Sequence[float]) -> npt.NDArray[np.bool_]:
    """A mask with the holes of every slice filled: the network outlines a core with the necrosis that its rim encloses.

    Slices lie across the axis of the longest voxels, the last one of equals.
    """
    axis = 2 - int(np.argmax(np.round(spacing_mm, 2)[::-1]))
    slices = [ndimage.binary_fill_holes(piece) for piece in np.moveaxis(mask != 0, axis, 0)]
    return np.ascontiguousarray(np.moveaxis(np.stack(slices), 0, axis))


def _draw_one(canvas: Tensor, prompt: Prompt, aligned: AlignedSeries) -> Tensor:
    if prompt.type == "mask":
        assert prompt.mask is not None
        return channels.add_mask(canvas, torch.from_numpy(closed(prompt.mask.data, aligned.grid.spacing_mm)))
    assert prompt.ras_mm is not None
    index = aligned.grid.to_index(prompt.ras_mm)
    if prompt.type == "point":
        return channels.add_point(canvas, index.tolist(), aligned.grid.spacing_mm)
    if prompt.type == "scribble":
        core = torch.zeros(aligned.grid.shape, dtype=torch.bool)
        for place in aligned.grid.to_index(_along(prompt.ras_mm)):
            core |= channels.add_point(canvas, place.tolist(), aligned.grid.spacing_mm)
        return core
    return channels.add_box(canvas, index.min(axis=0).tolist(), index.max(axis=0).tolist())


def _along(line_mm: FloatArray) -> FloatArray:
    """Points (M, 3) at most SCRIBBLE_STEP_MM apart along a line of corners (N, 3)."""
    places = [line_mm[:1]]
    for a, b in pairwise(line_mm):
        steps = max(1, math.ceil(float(np.linalg.norm(b - a)) / SCRIBBLE_STEP_MM))
        places.append(a + (b - a) * np.linspace(0, 1, steps + 1)[1:, None])
    return np.concatenate(places)


def _prompted_bounds(
    aligned: AlignedSeries, prompts: tuple[Prompt, ...]
) -> tuple[FloatArray, FloatArray, float] | None:
    """(low, high) in mm from the grid's first corner, and the typical extent, of the boxes and masks that are given.

    None when only clicks are: they do not tell the size.
    """
    masks = [m > 0 for m in aligned.masks if m is not None and m.any()]
    masks += [p.mask.data > 0 for p in prompts if p.mask is not None and p.mask.data.any()]
    spacing = np.array(aligned.grid.spacing_mm)
    lows, highs, extents = [], [], []
    if masks:
        extents.append(looks.lesion_extent_mm(np.stack(masks), aligned.grid.spacing_mm))
        inside = np.argwhere(np.any(masks, axis=0))
        lows.append(inside.min(axis=0) * spacing)
        highs.append((inside.max(axis=0) + 1) * spacing)
    for prompt in prompts:
        if prompt.ras_mm is None:
            continue
        corners = np.atleast_2d(_from_corner(prompt.ras_mm, aligned.grid))
        lows.append(corners.min(axis=0))
        highs.append(corners.max(axis=0))
        if prompt.type == "box":
            extents.append(float(np.exp(np.mean(np.log(np.maximum(highs[-1] - lows[-1], spacing))))))
    if not extents:
        return None
    return np.min(lows, axis=0), np.max(highs, axis=0), float(np.mean(extents))


def _from_corner(ras_mm: FloatArray, grid: Grid) -> FloatArray:
    """Millimetres from the grid's first corner, along its axes."""
    return (grid.to_index(ras_mm) + 0.5) * np.array(grid.spacing_mm)


def _refuse_blind_run(model: Model, aligned: AlignedSeries, prompts: tuple[Prompt, ...]) -> None:
    """Without any prompt the network works only on the kinds of image its card names, at every visit."""
    if _is_prompted(aligned, prompts):
        return
    automatic = model.card.get("automatic", [])
    for visit, present in enumerate(aligned.present):
        kinds = [m for m, there in zip(aligned.modalities, present, strict=True) if there]
        if not any(m in automatic for m in kinds):
            raise InputError(
                f"The network {model.name} cannot find a tumor by itself on {', '.join(kinds)} (visit {visit + 1}; "
                f"it can on {', '.join(automatic) or 'nothing'}). Click the tumor in the viewer, or give --prompts "
                "with a point or a box, or a mask at one visit."
            )


def _is_prompted(aligned: AlignedSeries, prompts: tuple[Prompt, ...]) -> bool:
    return bool(prompts) or any(mask is not None and bool(mask.any()) for mask in aligned.masks)


def _cautions(aligned: AlignedSeries, prompts: tuple[Prompt, ...], lost: Sequence[int]) -> tuple[str, ...]:
    """What a person must know about this answer."""
    found = [
        "Volumes and growth come from the network's outlines, which are often wrong by a third and more "
        "(docs/accuracy.md): look at the outlines before using the numbers."
    ]
    if not _is_prompted(aligned, prompts):
        found.append(
            "Outlined without a prompt: this automatic mode is not reliable yet. Click the tumor and run again, "
            "or check every outline by eye."
        )
    for visit in sorted({p.visit for p in prompts if aligned.masks[p.visit - 1] is not None}):
        found.append(f"The prompts at visit {visit} changed nothing there: it has a mask, which stands as it is.")
    for visit, mask in enumerate(aligned.masks):
        whole = 0 if mask is None else np.count_nonzero(closed(mask, aligned.grid.spacing_mm))
        if mask is not None and whole > HOLES * np.count_nonzero(mask):
            found.append(
                f"The mask given at visit {visit + 1} leaves out what its rim encloses; the network's outlines take it "
                "in. Do not compare their volumes: fill the holes of the mask, or give masks at every visit."
            )
    for visit in lost:
        found.append(
            f"At visit {visit + 1} the network outlined something, but nothing that continues the lesion pointed at: "
            "it was left out. Click the tumor at that visit if it is still there."
        )
    return tuple(found)
