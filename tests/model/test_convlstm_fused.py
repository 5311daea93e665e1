"""The compiled gates against the plain ones: numbers, gradients, layouts, when they are used, no compiler."""

import copy

import pytest
import torch

from napari_convlstm_tumor.model import fused
from napari_convlstm_tumor.model.convlstm import ConvLSTMCell, ConvRecurrent

SPACE = {2: (48, 46), 3: (16, 14, 12)}
AT_FIRST = dict(fused._state)
GPU = pytest.param("cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")])
DEVICES = ["cpu", GPU]
needs_compiler = pytest.mark.skipif(not fused.compiler_at_hand("cpu"), reason="no C++ compiler here")


@pytest.fixture(autouse=True)
def as_in_a_fresh_process(monkeypatch):
    monkeypatch.setattr(fused, "_state", dict(AT_FIRST))


def passes(mode, dimensions, autocast, hidden=8, layout=False, device="cpu"):
    """Output, memory and gradients of three visits, on the CPU. On a GPU float32 is float32, not TF32."""
    fused.choose(mode)
    torch.manual_seed(0)
    stack = ConvRecurrent(3, (hidden,), dimensions=dimensions).to(device)
    x = (2 * torch.randn(1, 3, 3, *SPACE[dimensions])).to(device).requires_grad_()
    given = x[:, :, :].movedim(2, -1).contiguous().movedim(-1, 2) if layout else x
    days = torch.tensor([[0.0, 40, 200]], device=device)
    with torch.backends.cudnn.flags(allow_tf32=False), torch.autocast(device, torch.bfloat16, enabled=autocast):
        output, memory = stack(given, days)
        (output.float().square().sum() + memory.states[0][1].sum()).backward()
    results = output.float(), memory.states[0][1], x.grad, *(p.grad for p in stack.parameters())
    return [r.cpu() for r in results]


@needs_compiler
@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("layout", [False, True])
@pytest.mark.parametrize("device", DEVICES)
def test_fused_gates_give_the_same_numbers_and_gradients(device, dimensions, layout):
    plain, quick = (passes(mode, dimensions, False, layout=layout, device=device) for mode in ("off", "on"))
    assert not fused._state["broken"]
    for n, (a, b) in enumerate(zip(plain, quick, strict=True)):
        scale = 1.0 if n < 2 else a.abs().max().item()
        assert (a - b).abs().max() < 2e-6 * max(1.0, scale), n


@needs_compiler
@pytest.mark.parametrize("hidden", [8, 12])
@pytest.mark.parametrize("device", DEVICES)
def test_in_bf16_they_are_as_near_to_float32_as_the_plain_ones(device, hidden):
    exact = passes("off", 3, False, hidden)
    plain, quick = (passes(mode, 3, True, hidden, device=device) for mode in ("off", "on"))
    assert not fused._state["broken"]
    for n, (e, a, b) in enumerate(zip(exact, plain, quick, strict=True)):
        off = [((v - e).abs().mean() / e.abs().mean()).item() for v in (a, b)]
        assert off[1] < 0.02, n
        assert off[1] < 1.5 * off[0] + 1e-3, n


@needs_compiler
def test_they_are_really_used_and_keep_the_channels_last():
    fused.choose("on")
    h, (_, c) = ConvLSTMCell(2, 8)(torch.randn(2, 2, *SPACE[3]))  # torch lays one float32 volume channels first
    assert any("Gates" in type(f).__name__ for f in ancestors(h.grad_fn))
    assert h.is_contiguous(memory_format=torch.channels_last_3d)
    assert c.is_contiguous(memory_format=torch.channels_last_3d)


@needs_compiler
@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("samples", [1, 2])
def test_what_is_joined_lies_as_the_fast_convolution_wants_it(dimensions, samples):
    x, h = (torch.randn(samples, 3, channels, *SPACE[dimensions])[:, 1] for channels in (5, 8))
    x.requires_grad_(), h.requires_grad_()
    got = fused.joined(x, h)
    expected = torch.cat([x, h], dim=1)
    assert torch.equal(got, expected)
    # suggested formats are what convolutions go by, and they look at the stride of a batch of one, too
    assert got.stride() == expected.contiguous(memory_format=fused.CHANNELS_LAST[x.dim()]).stride()
    weights = torch.randn_like(got)
    for a, b in zip(*(torch.autograd.grad((j * weights).sum(), (x, h)) for j in (got, expected)), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("mode", ["off", pytest.param("on", marks=needs_compiler)])
@pytest.mark.parametrize("autocast", [False, True])
def test_no_memory_is_the_same_as_an_empty_one(mode, autocast):
    """Where there is none, the convolution leaves out the half that would see zeros."""
    fused.choose(mode)
    torch.manual_seed(0)
    cell, x = ConvLSTMCell(3, 8), torch.randn(1, 3, *SPACE[3])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        (h, (_, c)), (expected_h, (_, expected_c)) = cell(x), cell(x, cell.start(x))
    assert (h.dtype, c.dtype) == (expected_h.dtype, expected_c.dtype)
    tolerance = 1e-2 if autocast else 1e-6
    torch.testing.assert_close(h, expected_h, atol=tolerance, rtol=0)
    torch.testing.assert_close(c, expected_c, atol=tolerance, rtol=0)


def ancestors(node, depth=4):
    """The functions of autograd behind a tensor."""
    yield node
    if depth:
        for parent, _ in node.next_functions:
            if parent is not None:
                yield from ancestors(parent, depth - 1)


@pytest.mark.parametrize("rough", [False, True])
def test_the_activations_are_exact_enough(rough):
    x = torch.linspace(-30, 30, 60001)
    off = (fused._tanh(x, rough) - torch.tanh(x.double())).abs().max()
    assert off < (6e-5 if rough else 3e-7)
    off = (fused._sigmoid(x, rough) - torch.sigmoid(x.double())).abs().max()
    assert off < (3e-5 if rough else 3e-7)


def test_nothing_is_compiled_unless_asked_for(monkeypatch):
    monkeypatch.setattr(fused, "compiler_at_hand", lambda device: True)
    assert not fused.wanted(torch.zeros(1, 2, 64, 64))


def test_small_maps_float64_and_tracing_stay_plain(monkeypatch):
    monkeypatch.setattr(fused, "compiler_at_hand", lambda device: True)
    fused.choose("on")
    assert fused.wanted(torch.zeros(1, 2, 64, 64))
    assert not fused.wanted(torch.zeros(1, 2, 8, 8))
    assert not fused.wanted(torch.zeros(1, 2, 64, 64, dtype=torch.float64))
    fused.choose("off")
    assert not fused.wanted(torch.zeros(1, 2, 64, 64))


@pytest.mark.parametrize("gradients", [False, True])
def test_where_compiling_fails_the_plain_operations_go_on(monkeypatch, gradients):
    def fails(*_):
        raise OSError("no compiler")

    monkeypatch.setattr(fused, "compiler_at_hand", lambda device: True)
    monkeypatch.setattr(fused, "_compiled", fails)
    cell, x = ConvLSTMCell(2, 4), torch.randn(1, 2, *SPACE[3])
    with torch.set_grad_enabled(gradients):
        expected = cell(x)
        fused.choose("on")
        got = cell(x)
        torch.testing.assert_close(got, expected)
        if gradients:
            a, b = (torch.autograd.grad(h.square().sum(), cell.gates.weight)[0] for h, _ in (expected, got))
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
        assert fused._state["broken"]
        assert not fused.wanted(x), "it is not tried again"


def test_no_compiler_is_no_error(monkeypatch):
    monkeypatch.setattr(fused.shutil, "which", lambda name: None)
    fused.compiler_at_hand.cache_clear()
    try:
        fused.choose("on")
        assert not fused.wanted(torch.zeros(1, 2, 64, 64))
    finally:
        fused.compiler_at_hand.cache_clear()


@pytest.mark.parametrize("cell", ["lstm", "gru", "attention"])
def test_checkpointing_changes_no_number(cell):
    torch.manual_seed(0)
    plain = ConvRecurrent(2, (4, 3), cell, dimensions=2)
    saving = ConvRecurrent(2, (4, 3), cell, dimensions=2, checkpoint=True)
    saving.load_state_dict(copy.deepcopy(plain.state_dict()))
    x, days = torch.randn(2, 5, 2, 9, 8), torch.tensor([[0.0, 30, 31, 200, 290]] * 2)
    present = torch.tensor([[True, False, True, True, True], [True] * 5])
    for stack in (plain, saving):
        output, memory = stack(x, days, present=present)
        after, _ = stack.step(x[:, 0], memory.states, torch.tensor([60.0, 60.0]))
        (output.square().sum() + memory.states[0][0].sum() + after.square().sum()).backward()
    for a, b in zip(plain.parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)
