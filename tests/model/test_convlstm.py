"""Cells against plain float64 references, streaming, gaps, sizes."""

import pytest
import torch
from torch.nn import functional as F

from napari_convlstm_tumor.model.convlstm import ConvGRUCell, ConvLSTMCell, ConvRecurrent, TimeDecay

CONV = {2: F.conv2d, 3: F.conv3d}
SPACE = {2: (5, 6), 3: (4, 5, 3)}


def plain_lstm(x, h, c, weight, bias, peephole, dimensions):
    """Shi et al. 2015, eq. 3, written out gate by gate."""
    gates = CONV[dimensions](torch.cat([x, h], 1), weight, bias, padding=1)
    hidden = h.shape[1]
    i, f, o, g = (gates[:, n * hidden : (n + 1) * hidden] for n in range(4))
    if peephole is not None:
        i, f = i + peephole[0] * c, f + peephole[1] * c
    c = 1 / (1 + torch.exp(-f)) * c + 1 / (1 + torch.exp(-i)) * torch.tanh(g)
    if peephole is not None:
        o = o + peephole[2] * c
    return 1 / (1 + torch.exp(-o)) * torch.tanh(c), c


def plain_gru(x, h, cell, dimensions):
    """Ballas et al. 2016, eq. 1-4."""
    hidden, conv = h.shape[1], CONV[dimensions]
    gates = 1 / (1 + torch.exp(-conv(torch.cat([x, h], 1), cell.gates.weight, cell.gates.bias, padding=1)))
    update, reset = gates[:, :hidden], gates[:, hidden:]
    new = torch.tanh(conv(torch.cat([x, reset * h], 1), cell.candidate.weight, cell.candidate.bias, padding=1))
    return (1 - update) * h + update * new


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("peephole", [False, True])
def test_lstm_forward_and_gradients_agree_with_the_paper(dimensions, peephole):
    torch.manual_seed(0)
    cell = ConvLSTMCell(3, 4, dimensions=dimensions, peephole=peephole).double()
    if peephole:
        torch.nn.init.normal_(cell.peephole)
    xs = torch.randn(3, 2, 3, *SPACE[dimensions], dtype=torch.float64)
    state, h = None, torch.zeros(2, 4, *SPACE[dimensions], dtype=torch.float64)
    c = h.clone()
    for x in xs:
        mine, state = cell(x, state)
        h, c = plain_lstm(x, h, c, cell.gates.weight, cell.gates.bias, cell.peephole, dimensions)
    torch.testing.assert_close(mine, h, rtol=1e-10, atol=1e-12)
    parameters = [p for n, p in cell.named_parameters() if "decay" not in n]
    for a, b in zip(torch.autograd.grad(mine.sum(), parameters), torch.autograd.grad(h.sum(), parameters), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_gru_agrees_with_the_paper(dimensions):
    torch.manual_seed(0)
    cell = ConvGRUCell(3, 4, dimensions=dimensions).double()
    state, h = None, torch.zeros(2, 4, *SPACE[dimensions], dtype=torch.float64)
    for x in torch.randn(3, 2, 3, *SPACE[dimensions], dtype=torch.float64):
        mine, state = cell(x, state)
        h = plain_gru(x, h, cell, dimensions)
    torch.testing.assert_close(mine, h, rtol=1e-10, atol=1e-12)


def test_gru_has_three_quarters_of_the_gate_parameters():
    def count(cell):
        return sum(p.numel() for n, p in cell.named_parameters() if "decay" not in n)

    assert count(ConvGRUCell(8, 16)) * 4 == count(ConvLSTMCell(8, 16)) * 3


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_sequence_in_pieces_equals_one_pass(cell):
    torch.manual_seed(0)
    stack = ConvRecurrent(2, (4, 3), cell, dimensions=2).double()
    x, days = torch.randn(1, 5, 2, 6, 6, dtype=torch.float64), torch.tensor([[0.0, 40.0, 41.0, 200.0, 230.0]])
    whole, _ = stack(x, days)
    first, state = stack(x[:, :2], days[:, :2])
    second, _ = stack(x[:, 2:], days[:, 2:], state, days_before=days[:, 1])
    torch.testing.assert_close(whole, torch.cat([first, second], 1))


def test_an_absent_visit_is_skipped_not_zero_filled():
    torch.manual_seed(0)
    stack = ConvRecurrent(2, (4,), dimensions=2)
    x, days = torch.randn(1, 3, 2, 6, 6), torch.tensor([[0.0, 30.0, 90.0]])
    with_gap, _ = stack(x, days, present=[True, False, True])
    without, _ = stack(x[:, [0, 2]], days[:, [0, 2]])
    torch.testing.assert_close(with_gap[:, 2], without[:, 1])
    torch.testing.assert_close(with_gap[:, 1], with_gap[:, 0])


def test_a_longer_gap_remembers_less():
    decay = TimeDecay(3)
    state = torch.ones(2, 3, 4, 4)
    kept = decay(state, torch.tensor([10.0, 300.0]))
    assert torch.all(kept[0] > kept[1])
    torch.testing.assert_close(decay(state, torch.zeros(2)), state)
    torch.testing.assert_close(decay(state, None), state)


def test_memory_of_a_long_stream_is_that_of_one_step():
    stack = ConvRecurrent(1, (2,), dimensions=2)
    state = None
    with torch.inference_mode():
        for _ in range(200):
            _, state = stack.step(torch.randn(1, 1, 8, 8), state, torch.tensor([30.0]))
    assert sum(t.numel() for s in state for t in s) == 2 * 2 * 64
    assert all(torch.isfinite(t).all() for s in state for t in s)
