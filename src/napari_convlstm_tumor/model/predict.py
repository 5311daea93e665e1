"""The shipped network on one patient: device, precision, windows, prompts carried over the visits.

The memory needed does not grow with the number of visits: one visit is in the network at a time and only the
recurrent state goes on. A body that fits is taken in one pass; a larger one in overlapping windows.
"""

from __future__ import annotations

import functools
from collections.abc import Generator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from napari_convlstm_tumor.errors import InputError, SettingsError
from napari_convlstm_tumor.model import prompts as channels
from napari_convlstm_tumor.model.card import Model, load_model
from napari_convlstm_tumor.model.network import (
    INTENSITY_LIMIT,
    forecast_geometry,
    pool_strides,
    total_stride,
)
from napari_convlstm_tumor.model.windows import Box, Canvas, body_box, plan_windows, window_weight
from napari_convlstm_tumor.series import DAYS_PER_MONTH, AlignedSeries, FloatVolume, Prediction, Prompt
from napari_convlstm_tumor.settings import Settings

# Pieces of one lesion, and a lesion before and after registration, lie within this of each other.
JOIN_MM = 4.0
CLICK_REACH = 0.3  # of the near map: within 6 mm of a click


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
    aligned: AlignedSeries, prompts: tuple[Prompt, ...], settings: Settings
) -> Generator[float, None, Prediction]:
    """Tumor probability at every visit; yields the fraction done after each visit.

    prompts: in the space of the common grid (pipeline brings them there). Masks in ``aligned`` are prompts too, and
    stand as they are in the answer. Raises InputError when the network cannot work without a prompt on these images.
    """
    device = pick_device(settings.device)
    model = cached_model(settings.model, device)
    _refuse_blind_run(model, aligned, prompts)
    spacing, levels = aligned.grid.spacing_mm, model.network.levels - 1
    stride = total_stride(spacing, levels)
    windows = plan_windows(body_box(aligned), stride)
    canvas = Canvas.empty(aligned, model.network.config.channels[1], pool_strides(spacing, levels)[0])
    drawn = _draw_prompts(aligned, prompts)
    order = visit_order(len(aligned.days), sorted(drawn))
    for n, window in enumerate(windows):
        weight = window_weight(window, windows)
        for done, (visit, part) in enumerate(_run(model, aligned, drawn, order, window, stride, device), start=1):
            canvas.add(visit, window, part, weight, keep_features=visit == len(aligned.days) - 1)
            yield (n + done / (len(order))) / len(windows)
    canvas.probability /= np.maximum(canvas.weight, np.float32(1e-6))
    return _answer(aligned, canvas, model, _follow(canvas, aligned, drawn, order), prompts)


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
    stride = pool_strides(prediction.grid.spacing_mm, network.levels - 1)[0]
    geometry = forecast_geometry(
        torch.from_numpy(phi)[None],
        torch.from_numpy(phi_before)[None],
        torch.tensor(gap_days / DAYS_PER_MONTH),
        torch.tensor([mean_speed]),
        torch.tensor([float(horizon_days)]),
    )
    sizes = phi.shape
    pad = [a for n, s in zip(reversed(sizes), reversed(stride), strict=True) for a in (0, -n % s)]
    features = torch.from_numpy(prediction.features)[None].float().to(device)
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16):
        speed = network.speed(features, F.pad(geometry, pad, mode="replicate").to(device), stride)
    i, j, k = sizes
    answer: FloatVolume = speed[0, 0, :i, :j, :k].float().cpu().numpy()
    return answer


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
            core |= channels.add_mask(canvas, torch.from_numpy(mask))
        for prompt in here:
            core |= _draw_one(canvas, prompt, aligned)
        values = torch.from_numpy(aligned.data[visit])
        mean = torch.stack([v[core].mean() if bool(core.any()) else v.new_tensor(torch.inf) for v in values])
        drawn[visit] = (canvas, mean)
    return drawn


def _draw_one(canvas: Tensor, prompt: Prompt, aligned: AlignedSeries) -> Tensor:
    if prompt.type == "mask":
        assert prompt.mask is not None
        return channels.add_mask(canvas, torch.from_numpy(prompt.mask.data))
    assert prompt.ras_mm is not None
    index = aligned.grid.to_index(prompt.ras_mm)
    if prompt.type == "point":
        return channels.add_point(canvas, index.tolist(), aligned.grid.spacing_mm)
    return channels.add_box(canvas, index.min(axis=0).tolist(), index.max(axis=0).tolist())


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
    for visit in lost:
        found.append(
            f"At visit {visit + 1} the network outlined something, but nothing that continues the lesion pointed at: "
            "it was left out. Click the tumor at that visit if it is still there."
        )
    return tuple(found)


# ---- which lesions were meant ----


def _follow(
    canvas: Canvas,
    aligned: AlignedSeries,
    drawn: dict[int, tuple[Tensor, Tensor]],
    order: list[tuple[int, int | None]],
) -> npt.NDArray[np.bool_] | None:
    """(T, I, J, K): the lesions a person pointed at, at that visit and followed to the others; None without prompts.

    A lesion is meant when it touches a prompt, or a meant lesion of the visits it was carried from (the last of them
    that shows it: a tumor may be gone and come back); fragments within JOIN_MM count as one. Other bright structures,
    and lesions nobody pointed at, are left out.
    """
    if not any(bool(prompt.any()) for prompt, _ in drawn.values()):
        return None
    kept = np.zeros(canvas.probability.shape, dtype=bool)
    seen: dict[int, npt.NDArray[np.bool_]] = {}  # where the lesions were last seen, per visit
    for visit, before in order:
        given = aligned.masks[visit]
        found = canvas.probability[visit] >= 0.5 if given is None else given > 0
        carried = np.zeros(aligned.grid.shape, dtype=bool) if before is None else seen[before]
        kept[visit] = touching(found, carried | _pointed_at(drawn.get(visit), carried.shape), aligned.grid.spacing_mm)
        here = kept[visit] & found
        seen[visit] = here if here.any() else carried
    return kept


def _pointed_at(drawn: tuple[Tensor, Tensor] | None, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Where the prompts of one visit are, (I, J, K)."""
    if drawn is None:
        return np.zeros(shape, dtype=bool)
    prompt = drawn[0]
    place = (prompt[[channels.BOX, channels.MASK]] > 0).any(dim=0) | (prompt[channels.NEAR] > CLICK_REACH)
    pointed: npt.NDArray[np.bool_] = place.numpy()
    return pointed


def touching(
    mask: npt.NDArray[np.bool_], seeds: npt.NDArray[np.bool_], spacing_mm: Sequence[float]
) -> npt.NDArray[np.bool_]:
    """The voxels within JOIN_MM (along each axis) of those lesions of ``mask`` that come as near to ``seeds``."""
    size = [2 * round(JOIN_MM / s) + 1 for s in spacing_mm]
    wide = ndimage.maximum_filter(mask.astype(np.uint8), size) > 0
    labels, _ = ndimage.label(wide)
    meant = np.unique(labels[seeds & wide])
    return np.isin(labels, meant[meant > 0])


def _answer(
    aligned: AlignedSeries,
    canvas: Canvas,
    model: Model,
    kept: npt.NDArray[np.bool_] | None,
    prompts: tuple[Prompt, ...],
) -> Prediction:
    probability, lost = canvas.probability, []
    for visit, mask in enumerate(aligned.masks):
        allowed = aligned.inside[visit] if kept is None else aligned.inside[visit] & kept[visit]
        if mask is None and (probability[visit] >= 0.5).any() and not (probability[visit] * allowed >= 0.5).any():
            lost.append(visit)
        probability[visit] = probability[visit] * allowed if mask is None else mask
    warnings = _cautions(aligned, prompts, lost)
    return Prediction(probability, aligned.days, aligned.grid, model.id, warnings=warnings, features=canvas.features)
