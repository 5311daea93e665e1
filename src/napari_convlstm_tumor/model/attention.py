"""A recurrent cell that also looks back: at each voxel its output attends over the kept earlier states. Pure torch.

A ConvLSTM or ConvGRU squeezes the past into one map. Here the query comes from the current hidden state, keys and
values from the current and the last ``slots`` earlier ones (dot product, Vaswani et al. 2017, arXiv 1706.03762, at one
voxel over the visits), and the days gone by since each count against it (a linear bias, as in ALiBi, Press et al. 2022,
arXiv 2108.12409, on days instead of positions).

Memory: a visit's key and value are kept, hidden / 2 channels each, for ``slots`` visits; the state has its full size
from the start and never grows. The oldest visit drops out (the recurrent cell inside still remembers it). One tensor a
visit: what is kept moves to the next slot without being copied.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from napari_convlstm_tumor.errors import SettingsError
from napari_convlstm_tumor.model.cells import (
    DAYS_PER_UNIT,
    START_DECAY,
    ConvGRUCell,
    ConvLSTMCell,
    State,
    convolution,
)

# Earlier visits looked back at: most patients here have 2 to 8 visits, and the recurrent state covers the older ones.
DEFAULT_SLOTS = 4
INNER: dict[str, type[ConvLSTMCell] | type[ConvGRUCell]] = {"lstm": ConvLSTMCell, "gru": ConvGRUCell}
# An empty slot is infinitely old: it stays so as days are added, and gets no attention.
NEVER = math.inf


class ConvAttentionCell(nn.Module):
    """A recurrent cell (inner: "lstm" or "gru") whose output adds what it finds in the kept earlier states.

    State: that of the inner cell, for each slot (B, hidden, *space) with key and value, the last visit first, and the
    ages (B, slots) in days.
    It starts as the plain inner cell: the projection of what was found is zero at first.
    """

    def __init__(
        self,
        in_channels: int,
        hidden: int,
        kernel_size: int = 3,
        dimensions: int = 3,
        inner: str = "lstm",
        slots: int = DEFAULT_SLOTS,
    ) -> None:
        super().__init__()
        if inner not in INNER or slots < 1:
            raise SettingsError(f"inner is '{inner}', slots {slots}; take inner lstm or gru, and at least 1 slot.")
        self.slots, self.width = slots, max(1, hidden // 2)
        self.cell = INNER[inner](in_channels, hidden, kernel_size, dimensions)
        self.query_key_value = convolution(hidden, 3 * self.width, 1, dimensions)
        self.found = convolution(self.width, hidden, 1, dimensions)
        self.raw_rate = nn.Parameter(torch.tensor(START_DECAY))
        self.recency = nn.Parameter(torch.zeros(slots + 1))  # the order is known even where the days are not
        nn.init.zeros_(self.found.weight)
        nn.init.zeros_(self.found.bias)  # type: ignore[arg-type]

    def start(self, x: Tensor) -> State:
        """The empty state for inputs like x."""
        empty = x.new_zeros(x.shape[0], 2 * self.width, *x.shape[2:])
        ages = torch.full((x.shape[0], self.slots), NEVER, device=x.device)
        return (*self.cell.start(x), *[empty] * self.slots, ages)

    def forward(self, x: Tensor, state: State | None = None, days: Tensor | None = None) -> tuple[Tensor, State]:
        """One step; ``days`` since the step before fade the inner memory and age what is kept."""
        state = self.start(x) if state is None else state
        inner, kept, ages = state[: -self.slots - 1], state[-self.slots - 1 : -1], state[-1]
        h, inner = self.cell(x, inner, days)
        query, now = self.query_key_value(h).split([self.width, 2 * self.width], dim=1)
        ages = torch.cat([torch.zeros_like(ages[:, :1]), ages if days is None else ages + days[:, None]], dim=1)
        keys, values = zip(*(k.chunk(2, dim=1) for k in (now, *kept)), strict=True)
        weights = self.weights(query, keys, ages).to(h.dtype)
        found = sum(w * v for w, v in zip(weights.split(1, dim=1), values, strict=True))
        return h + self.found(found), (*inner, now, *kept[:-1], ages[:, :-1])

    def weights(self, query: Tensor, keys: Sequence[Tensor], ages: Tensor) -> Tensor:
        """Attention (B, slots + 1, *space), sums to 1 over its axis 1, of which entry 0 is the current state.

        query and each key (B, D, *space), ages (B, slots + 1) in days, NEVER where empty.
        """
        kept = torch.isfinite(ages)
        age = torch.where(kept, ages, 0.0) / DAYS_PER_UNIT  # no infinity may reach the rate's gradient
        bias = (self.recency - nn.functional.softplus(self.raw_rate) * age).masked_fill(~kept, -math.inf)
        likeness = torch.stack([(query * key).sum(dim=1) for key in keys], dim=1) / math.sqrt(self.width)
        return torch.softmax(likeness + bias.reshape(*bias.shape, *[1] * (query.dim() - 2)), dim=1)
