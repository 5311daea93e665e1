"""One step of convolutional recurrent memory: ConvLSTM, ConvGRU, and the fading of a memory with the days. Pure torch.

A CNN sees one picture; an LSTM remembers but flattens space away; these cells keep the map and remember.

ConvLSTM: Shi et al. 2015, arXiv 1506.04214. ConvGRU: Ballas et al. 2016, arXiv 1511.06432. The decay of the memory with
the time between two visits follows GRU-D (Che et al. 2018, doi 10.1038/s41598-018-24271-9).

Every cell: ``cell(x, state, days) -> (output, state)`` with x (B, in_channels, *space), output (B, hidden, *space),
days (B,) since the step before or None, and as state a tuple of tensors whose first axis is the batch. The empty state
is ``cell.start(x)``; None means the same.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from napari_convlstm_tumor.errors import SettingsError
from napari_convlstm_tumor.model import fused

State = tuple[Tensor, ...]
Convolution = nn.Conv2d | nn.Conv3d
CONVOLUTIONS: dict[int, type[Convolution]] = {2: nn.Conv2d, 3: nn.Conv3d}
CONVOLVE: dict[int, Callable[..., Tensor]] = {2: nn.functional.conv2d, 3: nn.functional.conv3d}
IN_PLACE: tuple[Callable[..., Tensor], ...] = (torch.sigmoid_, torch.tanh_, Tensor.mul_)
# Days are divided by this before they meet a learned rate, so that rates are of order one.
DAYS_PER_UNIT = 100.0
# The memory starts out losing 5 % in DAYS_PER_UNIT: softplus(-3) = 0.049.
START_DECAY = -3.0


def convolution(in_channels: int, out_channels: int, kernel_size: int, dimensions: int, groups: int = 1) -> Convolution:
    """A convolution that keeps the size of the map. Raises SettingsError for an even kernel or no 2-D or 3-D map."""
    if dimensions not in CONVOLUTIONS:
        raise SettingsError(f"dimensions is {dimensions}; a recurrent cell works on maps (2) or volumes (3).")
    if kernel_size % 2 == 0:
        raise SettingsError(f"kernel_size is {kernel_size}; it must be odd, or the map would change its size.")
    return CONVOLUTIONS[dimensions](in_channels, out_channels, kernel_size, padding=kernel_size // 2, groups=groups)


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
    """One ConvLSTM step (Shi et al. 2015, eq. 3), state (h, c), each (B, hidden, *space).

    peephole: the gates also see c, as in the paper, but by one weight a channel where the paper has one a pixel: the
    same weights serve every size of map.
    """

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
        self.gates = convolution(in_channels + hidden, 4 * hidden, kernel_size, dimensions)
        self.peephole = nn.Parameter(torch.zeros(3, hidden, *[1] * dimensions)) if peephole else None
        self.decay = TimeDecay(hidden)
        with torch.no_grad():  # a forget gate that starts open: Jozefowicz et al. 2015
            self.gates.bias[hidden : 2 * hidden] = 1.0  # type: ignore[index]

    def start(self, x: Tensor) -> State:
        """The empty state for inputs like x."""
        empty = x.new_zeros(x.shape[0], self.hidden, *x.shape[2:])
        return empty, empty

    def forward(self, x: Tensor, state: State | None = None, days: Tensor | None = None) -> tuple[Tensor, State]:
        """One step; ``days`` since the step before fade the memory c."""
        if state is None:
            h, c = None, x.new_zeros(()).expand(x.shape[0], self.hidden, *x.shape[2:])
        else:
            h, c = state[0], self.decay(state[1], days)
        if self.peephole is None and fused.wanted(x):
            h, c = fused.lstm_gates(self._convolved(fused.joined(x, h)), c)
            return h, (h, c)
        i, f, o, g = self._convolved(x if h is None else torch.cat([x, h], dim=1)).chunk(4, dim=1)
        if self.peephole is not None:
            i, f = i + self.peephole[0] * c, f + self.peephole[1] * c
        # Without gradients the gates are overwritten: fewer volumes at a time, and a peak that stays where it is.
        keep = torch.is_grad_enabled()
        sigmoid, tanh, times = (torch.sigmoid, torch.tanh, torch.mul) if keep else IN_PLACE
        c = sigmoid(f) * c
        c += times(sigmoid(i), tanh(g))
        if self.peephole is not None:
            o = o + self.peephole[2] * c
        h = times(torch.tanh(c), sigmoid(o))
        return h, (h, c)

    def _convolved(self, x: Tensor) -> Tensor:
        """The gates before their functions. x: [x, h], or x alone where h is zero: half of the work is left out."""
        if x.shape[1] == self.gates.in_channels:
            return self.gates(x)
        weight = self.gates.weight[:, : x.shape[1]]
        return CONVOLVE[x.dim() - 2](x, weight, self.gates.bias, padding=self.gates.padding)


class ConvGRUCell(nn.Module):
    """One ConvGRU step (Ballas et al. 2016, eq. 1-4), state (h,) with (B, hidden, *space).

    It has three quarters of the gate parameters of a ConvLSTM and half its state.
    """

    def __init__(self, in_channels: int, hidden: int, kernel_size: int = 3, dimensions: int = 3) -> None:
        super().__init__()
        self.hidden = hidden
        self.gates = convolution(in_channels + hidden, 2 * hidden, kernel_size, dimensions)
        self.candidate = convolution(in_channels + hidden, hidden, kernel_size, dimensions)
        self.decay = TimeDecay(hidden)

    def start(self, x: Tensor) -> State:
        """The empty state for inputs like x."""
        return (x.new_zeros(x.shape[0], self.hidden, *x.shape[2:]),)

    def forward(self, x: Tensor, state: State | None = None, days: Tensor | None = None) -> tuple[Tensor, State]:
        """One step; ``days`` since the step before fade the memory h."""
        (h,) = self.start(x) if state is None else state
        h = self.decay(h, days)
        update, reset = torch.sigmoid(self.gates(torch.cat([x, h], dim=1))).chunk(2, dim=1)
        candidate = torch.tanh(self.candidate(torch.cat([x, reset * h], dim=1)))
        h = torch.lerp(h, candidate.to(h.dtype), update.to(h.dtype))  # (1 - update) * h + update * candidate
        return h, (h,)
