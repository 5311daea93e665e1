"""Cells against plain numpy references in float64: outputs, and gradients by finite differences of the reference."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from napari_convlstm_tumor.model.convlstm import CELLS, ConvAttentionCell, ConvGRUCell, ConvLSTMCell, TimeDecay

SPACE = {2: (3, 4), 3: (2, 3, 2)}
GAPS = (None, (30.0, 0.0), (100.0, 365.0), (5.0, 7.0))
CASES = {
    "lstm": (ConvLSTMCell, {}),
    "lstm with peepholes": (ConvLSTMCell, {"peephole": True}),
    "gru": (ConvGRUCell, {}),
    "attention": (ConvAttentionCell, {"slots": 2}),
    "attention over gru": (ConvAttentionCell, {"slots": 2, "inner": "gru"}),
}


# ---- the references: numpy, written from the papers, one sample (C, *space) at a time ----


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def convolve(x, weight, bias):
    """Cross-correlation with zeros around, voxel by voxel."""
    space, reach = x.shape[1:], weight.shape[2] // 2
    padded = np.pad(x, [(0, 0)] + [(reach, reach)] * len(space))
    out = np.empty((len(weight), *space))
    for voxel in itertools.product(*map(range, space)):
        patch = padded[(slice(None), *(slice(v, v + 2 * reach + 1) for v in voxel))]
        out[(slice(None), *voxel)] = np.tensordot(weight, patch, patch.ndim) + bias
    return out


def fade(raw_rate, state, days):
    rate = np.log1p(np.exp(raw_rate))
    return state if days is None else state * np.exp(-rate * days / 100).reshape(-1, *[1] * (state.ndim - 1))


def plain_lstm(p, x, state, days):
    """Shi et al. 2015, eq. 3."""
    h, c = state
    c = fade(p["decay.raw_rate"], c, days)
    w = p.get("peephole", np.zeros((3, *c.shape)))
    i, f, o, g = np.split(convolve(np.concatenate([x, h]), p["gates.weight"], p["gates.bias"]), 4)
    new = sigmoid(f + w[1] * c) * c + sigmoid(i + w[0] * c) * np.tanh(g)
    h = sigmoid(o + w[2] * new) * np.tanh(new)
    return h, (h, new)


def plain_gru(p, x, state, days):
    """Ballas et al. 2016, eq. 1-4."""
    h = fade(p["decay.raw_rate"], state[0], days)
    z, r = np.split(sigmoid(convolve(np.concatenate([x, h]), p["gates.weight"], p["gates.bias"])), 2)
    new = np.tanh(convolve(np.concatenate([x, r * h]), p["candidate.weight"], p["candidate.bias"]))
    h = (1 - z) * h + z * new
    return h, (h,)


def plain_attention(p, x, state, days, slots=2):
    """Softmax over the current and the kept visits at each voxel, the past as a plain list of [key, value, age]."""
    inner, past = state
    inner_p = {k.removeprefix("cell."): v for k, v in p.items()}
    h, inner = (plain_lstm if len(inner) == 2 else plain_gru)(inner_p, x, inner, days)
    query, key, value = np.split(convolve(h, p["query_key_value.weight"], p["query_key_value.bias"]), 3)
    past = [[key, value, 0.0]] + [[k, v, age + (days or 0.0)] for k, v, age in past]
    found = np.zeros_like(value)
    for voxel in itertools.product(*map(range, h.shape[1:])):
        at = (slice(None), *voxel)
        score = [query[at] @ k[at] / np.sqrt(len(query)) for k, _, _ in past]
        score = [s + p["recency"][n] for n, s in enumerate(score)]
        score = np.array([s - np.log1p(np.exp(p["raw_rate"])) * e[2] / 100 for s, e in zip(score, past, strict=True)])
        weight = np.exp(score) / np.exp(score).sum()
        found[at] = sum(w * e[1][at] for w, e in zip(weight, past, strict=True))
    return h + convolve(found, p["found.weight"], p["found.bias"]), (inner, past[:slots])


def reference(name, p, xs, gaps):
    """Last output of a sample (T, C, *space), each step with its gap."""
    empty = np.zeros((4, *xs.shape[2:]))
    if name.startswith("attention"):
        step, state = plain_attention, ((empty,) if "gru" in name else (empty, empty), [])
    else:
        step, state = (plain_gru, (empty,)) if name == "gru" else (plain_lstm, (empty, empty))
    for x, days in zip(xs, gaps, strict=True):
        output, state = step(p, x, state, days)
    return output


# ---- tests ----


def made(name, dimensions):
    kind, options = CASES[name]
    torch.manual_seed(0)
    cell = kind(3, 4, dimensions=dimensions, **options).double()
    for parameter in cell.parameters():
        nn.init.normal_(parameter, std=0.4)
    xs = torch.randn(len(GAPS), 2, 3, *SPACE[dimensions], dtype=torch.float64)
    return cell, xs


def last_output(cell, xs):
    state = None
    for x, gap in zip(xs, GAPS, strict=True):
        output, state = cell(x, state, None if gap is None else torch.tensor(gap, dtype=torch.float64))
    return output


def reference_outputs(name, parameters, xs):
    gaps = [[None if g is None else g[b] for g in GAPS] for b in range(2)]
    return np.stack([reference(name, parameters, xs[:, b], gaps[b]) for b in range(2)])


def as_numpy(cell):
    return {k: v.detach().numpy().copy() for k, v in cell.named_parameters()}


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("name", CASES)
def test_outputs_agree(name, dimensions):
    cell, xs = made(name, dimensions)
    expected = reference_outputs(name, as_numpy(cell), xs.numpy())
    np.testing.assert_allclose(last_output(cell, xs).detach().numpy(), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("name", CASES)
def test_gradients_agree(name, dimensions):
    """Along three random directions of all parameters and inputs together: autograd against central differences."""
    cell, xs = made(name, dimensions)
    xs.requires_grad_()
    pull = torch.randn(2, 4, *SPACE[dimensions], dtype=torch.float64)
    (last_output(cell, xs) * pull).sum().backward()
    parameters, random = as_numpy(cell), np.random.default_rng(0)
    for _ in range(3):
        way = {k: random.normal(size=v.shape) for k, v in parameters.items()}
        way_x = random.normal(size=xs.shape)

        def pulled(step, way=way, way_x=way_x):
            moved = {k: v + step * way[k] for k, v in parameters.items()}
            outputs = reference_outputs(name, moved, xs.detach().numpy() + step * way_x)
            return (outputs * pull.numpy()).sum()

        expected = (pulled(1e-6) - pulled(-1e-6)) / 2e-6
        got = sum((p.grad.numpy() * way[k]).sum() for k, p in cell.named_parameters()) + (xs.grad.numpy() * way_x).sum()
        assert got == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_every_parameter_takes_part(dimensions):
    for name in CASES:
        cell, xs = made(name, dimensions)
        last_output(cell, xs).square().sum().backward()
        assert all(p.grad.abs().sum() > 0 for p in cell.parameters()), name


def gate_parameters(cell):
    return sum(p.numel() for n, p in cell.named_parameters() if "decay" not in n)


def test_gru_has_three_quarters_of_the_gate_parameters():
    assert gate_parameters(ConvGRUCell(8, 16)) * 4 == gate_parameters(ConvLSTMCell(8, 16)) * 3


def test_attention_adds_little():
    assert gate_parameters(ConvAttentionCell(16, 16)) < 1.02 * gate_parameters(ConvLSTMCell(16, 16))


def test_attention_starts_as_the_cell_inside():
    torch.manual_seed(0)
    cell = ConvAttentionCell(3, 4, dimensions=2)
    x = torch.randn(4, 2, 3, 5, 6)
    torch.testing.assert_close(last_output(cell.float(), x.float()), last_output(cell.cell, x.float()))


def test_attention_turns_from_what_is_old():
    cell = ConvAttentionCell(3, 4, dimensions=2, slots=2)
    alike, never = torch.ones(1, 2, 1, 1), float("inf")
    recent, old, empty = (
        cell.weights(alike, [alike] * 3, torch.tensor([ages])).flatten()
        for ages in ([0.0, 10.0, 20.0], [0.0, 10.0, 900.0], [0.0, 10.0, never])
    )
    assert recent[0] > recent[1] > recent[2] > old[2] > empty[2] == 0
    torch.testing.assert_close(empty.sum(), torch.tensor(1.0))


@pytest.mark.parametrize("name", CELLS)
def test_a_state_never_grows(name):
    cell, state = CELLS[name](2, 4, dimensions=2), None
    sizes = []
    for _ in range(10):
        _, state = cell(torch.zeros(1, 2, 5, 5), state, torch.tensor([30.0]))
        sizes.append(sum(t.numel() for t in state))
    assert set(sizes) == {sum(t.numel() for t in cell.start(torch.zeros(1, 2, 5, 5)))}


def test_a_longer_gap_remembers_less():
    decay = TimeDecay(3)
    state = torch.ones(2, 3, 4, 4)
    kept = decay(state, torch.tensor([10.0, 300.0]))
    assert torch.all(kept[0] > kept[1])
    torch.testing.assert_close(decay(state, torch.zeros(2)), state)
    torch.testing.assert_close(decay(state, None), state)
