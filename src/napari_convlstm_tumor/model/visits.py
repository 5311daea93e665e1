"""The network over the visits of one window: in which order, with what memory, and what it sees of each visit."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from napari_convlstm_tumor.model import prompts as channels
from napari_convlstm_tumor.model.device import Workplace, fast_precision
from napari_convlstm_tumor.model.network import INTENSITY_LIMIT, pool_strides
from napari_convlstm_tumor.model.windows import Box
from napari_convlstm_tumor.series import AlignedSeries


def visit_order(visits: int, prompted: Sequence[int]) -> list[tuple[int, int | None]]:
    """(visit, the visit whose state it goes on from): the first prompted visit to the last, then back to the first.

    A prompt at any visit thus reaches all of them.
    """
    start = prompted[0] if prompted else 0
    ahead: list[tuple[int, int | None]] = [(start, None)] + [(v, v - 1) for v in range(start + 1, visits)]
    return ahead + [(v, v + 1) for v in range(start - 1, -1, -1)]


def run_visits(
    work: Workplace,
    aligned: AlignedSeries,
    drawn: dict[int, tuple[Tensor, Tensor]],
    order: list[tuple[int, int | None]],
    window: Box,
    stride: tuple[int, int, int],
) -> Generator[tuple[int, tuple[npt.NDArray[np.float32], npt.NDArray[np.float16]]], None, None]:
    """Probability and level-1 features of one window, visit by visit, in ``order``.

    A later visit that is pointed at itself is seen with the memory and without, and where that is no box or mask also
    with the memory alone, as if nobody had pointed: the mean of several estimates is often better than each (a click
    in a tumor's dark middle misleads, a memory goes astray). Clicked at every visit, Dice rose from 0.788 with the
    first two to 0.805 on 31 simulated heads and from 0.720 to 0.738 on 28 warped sarcomas, and did not change on
    glioblastoma (growthnet-10; docs/training-log.md).
    """
    model, device = work.model, work.device
    names = model.network.config.modalities
    strides = pool_strides(aligned.grid.spacing_mm, model.network.levels - 1)
    seen = partial(_visit_input, aligned, window=window, names=names, stride=stride, device=device)
    tissues = _tissues(drawn, order, work.carried)
    first_state = state = None
    for n, (visit, before) in enumerate(order):
        image, alike, prompt = seen(drawn, tissues, visit)
        if before is not None and before != order[n - 1][0]:
            state = first_state  # the way back starts again from the prompted visit
        gap = None  # at the first visit, and when there are no dates: nothing is known to have faded
        if before is not None and aligned.dated:
            gap = torch.tensor([float(abs(aligned.days[visit] - aligned.days[before]))], device=device)
        present = [m in aligned.modalities and bool(aligned.present[visit, aligned.modalities.index(m)]) for m in names]
        with torch.inference_mode(), fast_precision(device):
            logits, _, features, after = model.network(image, alike, present, prompt, strides, state, gap)
            answers = [logits]
            if n > 0 and visit in drawn and aligned.masks[visit] is None and model.network.remembers:
                answers.append(model.network(image, alike, present, prompt, strides)[0])
                if not bool(prompt[0, [channels.BOX, channels.MASK]].any()):
                    untold = {v: shown for v, shown in drawn.items() if v != visit}
                    _, alike, prompt = seen(untold, _tissues(untold, order, work.carried), visit)
                    answers.append(model.network(image, alike, present, prompt, strides, state, gap)[0])
        state = after
        first_state = state if n == 0 else first_state
        size = tuple(slice(0, w.stop - w.start) for w in window)
        probability = torch.sigmoid(torch.cat(answers)[:, 0].float()).mean(dim=0).cpu().numpy()[size]
        yield visit, (probability, features[0].half().cpu().numpy())


def _tissues(
    drawn: dict[int, tuple[Tensor, Tensor]], order: list[tuple[int, int | None]], carried: float
) -> dict[int, tuple[Tensor, float]]:
    """0-based visit -> mean intensities (P, C) of the tissue pointed at there or last on the way, and weight.

    A mask that is empty points at nothing, so what was known before goes on.
    """
    tissues: dict[int, tuple[Tensor, float]] = {}
    for visit, before in order:
        if visit in drawn and bool(drawn[visit][1].isfinite().any()):
            tissues[visit] = drawn[visit][1], 1.0
        elif carried and before in tissues:
            tissues[visit] = tissues[before][0], carried
    return tissues


def _visit_input(
    aligned: AlignedSeries,
    drawn: dict[int, tuple[Tensor, Tensor]],
    tissues: dict[int, tuple[Tensor, float]],
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
    if visit in tissues:
        references, weight = tissues[visit]
        for c, modality in enumerate(aligned.modalities):
            if aligned.present[visit, c]:
                n = names.index(modality)
                alike[n] = weight * channels.likeness(images[n], references[:, c])
    pad = [a for n, s in zip(reversed(sizes), reversed(stride), strict=True) for a in (0, -n % s)]
    padded = (F.pad(images[None], pad, mode="replicate"), F.pad(alike[None], pad), F.pad(prompt[None], pad))
    on_device = [x.to(device) for x in padded]
    return on_device[0], on_device[1], on_device[2]
