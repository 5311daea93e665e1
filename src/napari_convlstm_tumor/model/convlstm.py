"""Recurrent memory over maps (2-D) and volumes (3-D) seen at uneven times: ConvLSTM, ConvGRU, attention, stacked.

Pure torch; usable without the rest of the package. Two patients, five visits, one channel, 3-D:

    import torch
    from napari_convlstm_tumor.model.convlstm import ConvRecurrent

    memory = ConvRecurrent(in_channels=1, hidden=(8, 8), cell="lstm", dimensions=3)
    visits = torch.randn(2, 5, 1, 16, 16, 8)
    days = torch.tensor([[0.0, 41, 97, 160, 300], [0, 90, 180, 270, 360]])
    seen = torch.tensor([[True, True, False, True, True], [True] * 5])
    features, state = memory(visits, days, present=seen)
    assert features.shape == (2, 5, 8, 16, 16, 8)
    next_features, state = memory(visits[:, :1], days[:, -1:] + 30, state)

cell is "lstm" (``peephole=True`` for Shi's peepholes), "gru" or "attention" (``inner="gru"``, ``slots=4``). The cells
alone are ``ConvLSTMCell``, ``ConvGRUCell`` and ``ConvAttentionCell``; ``ModalityStem`` feeds them images of which some
are absent. Equations and sources: model/cells.py, model/attention.py; measurements: docs/recurrent-cells.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as work_out_again

from napari_convlstm_tumor.errors import InputError, SettingsError
from napari_convlstm_tumor.model import fused
from napari_convlstm_tumor.model.attention import ConvAttentionCell
from napari_convlstm_tumor.model.cells import ConvGRUCell, ConvLSTMCell, State, TimeDecay, convolution

__all__ = [
    "CELLS",
    "ConvAttentionCell",
    "ConvGRUCell",
    "ConvLSTMCell",
    "ConvRecurrent",
    "Memory",
    "ModalityStem",
    "State",
    "TimeDecay",
]

CELLS: dict[str, Callable[..., nn.Module]] = {
    "lstm": ConvLSTMCell,
    "gru": ConvGRUCell,
    "attention": ConvAttentionCell,
}


# Of one to four, two took the least memory over 16 visits (docs/performance.md).
VISITS_A_CHECKPOINT = 2
Worked = TypeVar("Worked")


class Memory(NamedTuple):
    """What a stack takes on to its next piece: each sample as it was after the last visit that was present."""

    states: tuple[State, ...]  # none before the first visit
    output: Tensor  # (B, hidden[-1], *space), zeros before the first visit
    day: Tensor | None  # (B,) of that visit, None when no days were given


class ConvRecurrent(nn.Module):
    """A stack of cells over a sequence of any length and any gaps; the memory goes in and out (streaming)."""

    def __init__(
        self,
        in_channels: int,
        hidden: Sequence[int],
        cell: str = "lstm",
        kernel_size: int = 3,
        dimensions: int = 3,
        checkpoint: bool = False,
        **options: Any,
    ) -> None:
        """hidden: channels of each layer; options go to the cell (peephole, inner, slots).

        checkpoint: with gradients, keep what goes into each ``step``, or into every second visit of a series, and work
        out the rest again in the backward pass: a third more time for a fraction of the memory
        (docs/performance.md; in a program of your own call ``cli.allocator.keep_memory_flat()`` first).

        Raises SettingsError for an unknown cell, an empty stack, or sizes that no cell can have.
        """
        super().__init__()
        if cell not in CELLS or not hidden:
            raise SettingsError(f"cell is '{cell}', hidden {tuple(hidden)}; take {', '.join(CELLS)}, and >= 1 layer.")
        self.hidden, self.checkpoint = tuple(hidden), checkpoint
        sizes = pairwise([in_channels, *hidden])
        self.cells = nn.ModuleList(CELLS[cell](a, b, kernel_size, dimensions, **options) for a, b in sizes)

    def start(self, x: Tensor, day: Tensor | None = None) -> Memory:
        """The empty memory for visits like x (B, C, *space)."""
        output = x.new_zeros(x.shape[0], self.hidden[-1], *x.shape[2:])
        return Memory((), output, day)

    def step(
        self, x: Tensor, states: Sequence[State] | None = None, gap_days: Tensor | None = None
    ) -> tuple[Tensor, tuple[State, ...]]:
        """One visit through the stack: x (B, C, *space), gap_days (B,) >= 0 since the visit before."""
        return self._run(self._layers, x, states, gap_days)

    def _run(self, work: Callable[..., Worked], *arguments: Any) -> Worked:
        """``work`` done now, and with checkpoints once more in the backward pass."""
        if not (self.checkpoint and torch.is_grad_enabled()):
            return work(*arguments)
        done: Worked = work_out_again(work, *arguments, use_reentrant=False, preserve_rng_state=False)
        return done

    def _layers(
        self, x: Tensor, states: Sequence[State] | None, gap_days: Tensor | None
    ) -> tuple[Tensor, tuple[State, ...]]:
        new_states: list[State] = []
        olds: Sequence[State | None] = states or [None] * len(self.cells)
        for cell, old in zip(self.cells, olds, strict=True):
            x, new = cell(x, old, gap_days)
            new_states.append(new)
        return x, tuple(new_states)

    def forward(
        self,
        x: Tensor,
        days: Tensor | None = None,
        memory: Memory | None = None,
        present: Tensor | None = None,
    ) -> tuple[Tensor, Memory]:
        """The sequence x (B, T, C, *space) -> output (B, T, hidden[-1], *space) and the memory for what follows.

        days: (B, T) at which the visits were, from any first day, never falling; None: no time is known, nothing fades.
        present: (B, T) or (T,) bool. An absent visit is skipped, whatever x holds there: that sample's output is that
        of its visit before (zeros at the start), its memory stays, and the days go on counting.
        Raises InputError when shapes do not fit or days fall.
        """
        present = _presence(x, present)
        memory = self.start(x[:, 0]) if memory is None else memory
        memory = memory._replace(day=_day_before(x, days, memory))
        outputs: list[Tensor] = []
        for first in range(0, x.shape[1], VISITS_A_CHECKPOINT):
            piece = range(first, min(first + VISITS_A_CHECKPOINT, x.shape[1]))
            new, memory = self._run(self._piece, piece, x, days, memory, present)
            outputs += new
        return _over_visits(outputs), memory

    def _piece(
        self, visits: Sequence[int], x: Tensor, days: Tensor | None, memory: Memory, present: Tensor
    ) -> tuple[list[Tensor], Memory]:
        """The outputs of some visits of the sequence, and the memory after them."""
        outputs = []
        for t in visits:
            memory = self._visit(x[:, t], None if days is None else days[:, t], memory, present[:, t])
            outputs.append(memory.output)
        return outputs, memory

    def _visit(self, x: Tensor, day: Tensor | None, memory: Memory, present: Tensor) -> Memory:
        """The memory after one visit; only the samples that are present go through the cells."""
        rows = present.nonzero().squeeze(1)
        if len(rows) == 0:
            return memory
        if len(rows) < len(x):
            states = memory.states or tuple(cell.start(x) for cell in self.cells)  # type: ignore[operator]
            memory = memory._replace(states=states)
            part = self._visit(x[rows], None if day is None else day[rows], _take(memory, rows), present[rows])
            return _put(memory, rows, part)
        gap = None if day is None or memory.day is None else day - memory.day
        output, states = self._layers(x, memory.states, gap)
        return Memory(states, output, day)


class ModalityStem(nn.Module):
    """Features of whichever images of a visit there are: a convolution for each kind, averaged over those present."""

    def __init__(self, modalities: int, channels: int, kernel_size: int = 3, dimensions: int = 3) -> None:
        super().__init__()
        self.modalities, self.channels = modalities, channels
        self.each = convolution(modalities, modalities * channels, kernel_size, dimensions, groups=modalities)

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        """x (B, M, *space), present (B, M) bool -> (B, channels, *space); what x holds where absent has no influence.

        A sample without any image gives zeros: mark its visit as absent.
        """
        mask = present.reshape(*present.shape, *[1] * (x.dim() - 2))
        features = self.each(torch.where(mask, x, 0.0)).unflatten(1, (self.modalities, self.channels))
        count = mask.sum(dim=1, keepdim=True).clamp(min=1)
        return (features * (mask[:, :, None] / count[:, :, None])).sum(dim=1)


def _over_visits(outputs: Sequence[Tensor]) -> Tensor:
    """(B, T, C, *space), the channels lying where they lie in the outputs: a plain stack would turn them round."""
    layout = fused.CHANNELS_LAST.get(outputs[0].dim())
    if layout is None or not outputs[0].is_contiguous(memory_format=layout):
        return torch.stack(list(outputs), dim=1)
    return torch.stack([o.movedim(1, -1) for o in outputs], dim=1).movedim(-1, 2)


def _presence(x: Tensor, present: Tensor | None) -> Tensor:
    """(B, T) bool on the CPU, where the choice of rows is made."""
    if x.dim() < 4 or x.shape[1] == 0:
        raise InputError(f"x has shape {tuple(x.shape)}; take (B, T, C, *space) with at least one visit.")
    if present is None:
        return torch.ones(x.shape[:2], dtype=torch.bool, device="cpu")
    if present.dtype != torch.bool or present.shape not in (x.shape[:2], x.shape[1:2]):
        raise InputError(
            f"present is {present.dtype} of shape {tuple(present.shape)}; take bool, {tuple(x.shape[:2])} or (T,)."
        )
    return present.expand(x.shape[:2]).cpu()


def _day_before(x: Tensor, days: Tensor | None, memory: Memory) -> Tensor | None:
    """Day (B,) from which the first gap counts. Where it was not known, nothing is known to have faded."""
    if days is None:
        return None
    if days.shape != x.shape[:2]:
        raise InputError(f"days has shape {tuple(days.shape)}; take one day a visit, {tuple(x.shape[:2])}.")
    before = days[:, 0] if memory.day is None else memory.day
    gaps = torch.cat([before[:, None], days], dim=1).diff(dim=1)
    if not bool((torch.isfinite(gaps) & (gaps >= 0)).all()):
        raise InputError("days fall or are no numbers within a series; sort the visits by day (absent visits too).")
    return before


def _take(memory: Memory, rows: Tensor) -> Memory:
    states = tuple(tuple(t[rows] for t in state) for state in memory.states)
    return Memory(states, memory.output[rows], None if memory.day is None else memory.day[rows])


def _put(memory: Memory, rows: Tensor, now: Memory) -> Memory:
    """``memory`` with some rows replaced."""

    def put(old: Tensor, new: Tensor) -> Tensor:
        return old.to(new.dtype).index_copy(0, rows.to(old.device), new)

    states = tuple(tuple(map(put, *pair)) for pair in zip(memory.states, now.states, strict=True))
    day = None if memory.day is None or now.day is None else put(memory.day, now.day)
    return Memory(states, put(memory.output, now.output), day)
