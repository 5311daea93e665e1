"""Convolutional recurrent cells for maps (2-D) and volumes (3-D) seen at uneven times. Pure torch, usable alone.

A CNN sees one picture; an LSTM remembers but flattens space away; these cells keep the map and remember.

ConvLSTM: Shi et al. 2015, arXiv 1506.04214. ConvGRU: Ballas et al. 2016, arXiv 1511.06432. The decay of the memory with
the time between two visits follows GRU-D (Che et al. 2018, doi 10.1038/s41598-018-24271-9).

Shapes: x (B, C, *space), state per layer a tuple of tensors (B, H, *space), days (B,) since the step before.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

State = tuple[Tensor, ...]
CONVOLUTIONS: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
# Days are divided by this before they meet a learned rate, so that rates are of order one.
DAYS_PER_UNIT = 100.0
# The memory starts out losing 5 % in DAYS_PER_UNIT: softplus(-3) = 0.049.
START_DECAY = -3.0


class TimeDecay(nn.Module):
    """Shrinks a state by exp(-rate * days), one learned, non-negative rate a channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.raw_rate = nn.Parameter(torch.full((channels,), START_DECAY))

    def forward(self, state: Tensor, days: Tensor | None) -> Tensor:
        """state (B, H, *space), days (B,) or None (no time known: nothing is lost)."""
        if days is None:
            return state
        rate = nn.functional.softplus(self.raw_rate)
        kept = torch.exp(-rate[None, :] * (days[:, None] / DAYS_PER_UNIT))
        return state * kept.to(state.dtype).reshape(*kept.shape, *[1] * (state.dim() - 2))


class ConvLSTMCell(nn.Module):
    """One ConvLSTM step (Shi et al. 2015, eq. 3); peepholes are optional, as in the paper's.

    Input (B, in_channels, *space), state (h, c) each (B, hidden, *space) or None. Returns (h, (h, c)).
    """

    states = 2

    def __init__(
        self,
        in_channels: int,
        hidden: int,
        kernel_size: int = 3,
        dimensions: int = 3,
        peephole: bool = False,
    ) -> None:
        super().__init__()
        self.hidden = hidden
        convolution = CONVOLUTIONS[dimensions]
        self.gates = convolution(in_channels + hidden, 4 * hidden, kernel_size, padding=kernel_size // 2)
        self.peephole = nn.Parameter(torch.zeros(3, hidden, *[1] * dimensions)) if peephole else None
        self.decay = TimeDecay(hidden)
        with torch.no_grad():  # a forget gate that starts open: Jozefowicz et al. 2015
            self.gates.bias[hidden : 2 * hidden] = 1.0  # type: ignore[index]

    def forward(self, x: Tensor, state: State | None = None, days: Tensor | None = None) -> tuple[Tensor, State]:
        """One step; ``days`` since the step before fade the memory c."""
        h, c = state if state is not None else _zeros(x, self.hidden, 2)
        c = self.decay(c, days)
        i, f, o, g = self.gates(torch.cat([x, h], dim=1)).chunk(4, dim=1)
        if self.peephole is not None:
            i, f = i + self.peephole[0] * c, f + self.peephole[1] * c
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        if self.peephole is not None:
            o = o + self.peephole[2] * c
        h = torch.sigmoid(o) * torch.tanh(c)
        return h, (h, c)


class ConvGRUCell(nn.Module):
    """One ConvGRU step (Ballas et al. 2016, eq. 1-4): three quarters of the gate parameters of a ConvLSTM.

    Input (B, in_channels, *space), state (h,) with (B, hidden, *space) or None. Returns (h, (h,)).
    """

    states = 1

    def __init__(self, in_channels: int, hidden: int, kernel_size: int = 3, dimensions: int = 3) -> None:
        super().__init__()
        self.hidden = hidden
        convolution = CONVOLUTIONS[dimensions]
        self.gates = convolution(in_channels + hidden, 2 * hidden, kernel_size, padding=kernel_size // 2)
        self.candidate = convolution(in_channels + hidden, hidden, kernel_size, padding=kernel_size // 2)
        self.decay = TimeDecay(hidden)

    def forward(self, x: Tensor, state: State | None = None, days: Tensor | None = None) -> tuple[Tensor, State]:
        """One step; ``days`` since the step before fade the memory h."""
        (h,) = state if state is not None else _zeros(x, self.hidden, 1)
        h = self.decay(h, days)
        update, reset = torch.sigmoid(self.gates(torch.cat([x, h], dim=1))).chunk(2, dim=1)
        candidate = torch.tanh(self.candidate(torch.cat([x, reset * h], dim=1)))
        h = (1 - update) * h + update * candidate
        return h, (h,)


CELLS: dict[str, type[ConvLSTMCell] | type[ConvGRUCell]] = {"lstm": ConvLSTMCell, "gru": ConvGRUCell}


class ConvRecurrent(nn.Module):
    """A stack of cells over a sequence of any length and any gaps; the state goes in and out (streaming).

    Input x (B, T, C, *space) and days (B, T) since the first visit, or None. A step with present (T,) False is
    skipped: its output is that of the step before (zeros at the start) and the memory is only faded by the days.
    Returns (output (B, T, hidden[-1], *space), state), where the state may be given back for the next piece
    together with ``days_before`` (B,), the day of the last step of the piece before.
    """

    def __init__(
        self,
        in_channels: int,
        hidden: Sequence[int],
        cell: str = "lstm",
        kernel_size: int = 3,
        dimensions: int = 3,
    ) -> None:
        super().__init__()
        sizes = [in_channels, *hidden]
        self.hidden = tuple(hidden)
        make = CELLS[cell]
        self.cells = nn.ModuleList(make(a, b, kernel_size, dimensions) for a, b in pairwise(sizes))

    def step(
        self, x: Tensor, state: Sequence[State | None] | None = None, gap_days: Tensor | None = None
    ) -> tuple[Tensor, list[State]]:
        """One visit through the stack: x (B, C, *space), gap_days (B,) since the visit before."""
        states: list[State] = []
        for cell, old in zip(self.cells, state or [None] * len(self.cells), strict=True):
            x, new = cell(x, old, gap_days)
            states.append(new)
        return x, states

    def forward(
        self,
        x: Tensor,
        days: Tensor | None = None,
        state: Sequence[State] | None = None,
        days_before: Tensor | None = None,
        present: Sequence[bool] | None = None,
    ) -> tuple[Tensor, Sequence[State] | None]:
        """The whole sequence."""
        outputs: list[Tensor] = []
        last_day = days_before
        output = x.new_zeros(x.shape[0], self.hidden[-1], *x.shape[3:]) if state is None else state[-1][0]
        for t in range(x.shape[1]):
            if present is None or present[t]:
                gap = None if days is None or last_day is None else days[:, t] - last_day
                output, state = self.step(x[:, t], state, gap)
                last_day = None if days is None else days[:, t]
            outputs.append(output)
        return torch.stack(outputs, dim=1), state


def _zeros(x: Tensor, hidden: int, count: int) -> State:
    empty = x.new_zeros(x.shape[0], hidden, *x.shape[2:])
    return tuple(empty for _ in range(count))
