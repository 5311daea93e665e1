"""The stack: pieces, gaps, absent visits and images, long streams, bad input, export, the usage example."""

import subprocess
import sys
import textwrap

import pytest
import torch
from torch import nn

from napari_convlstm_tumor.errors import InputError, SettingsError
from napari_convlstm_tumor.model import convlstm
from napari_convlstm_tumor.model.convlstm import CELLS, ConvRecurrent, ModalityStem
from napari_convlstm_tumor.model.network import GrowthNet, NetworkConfig, pool_strides

KINDS = {
    "lstm": {},
    "peephole": {"peephole": True},
    "gru": {},
    "attention": {"slots": 2},
    "attention over gru": {"inner": "gru", "slots": 3},
}
DAYS = torch.tensor([[0.0, 40, 41, 200, 230], [0.0, 10, 90, 91, 400]], dtype=torch.float64)
PRESENT = torch.tensor([[True, True, False, True, True], [False, True, False, False, True]])


def shaken(module):
    """Random parameters: what starts at zero (peepholes, attention's projection) takes part."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module.double()


def stack_of(kind, dimensions=2, hidden=(4, 3)):
    name = kind if kind in CELLS else ("lstm" if kind == "peephole" else "attention")
    return shaken(ConvRecurrent(2, hidden, name, dimensions=dimensions, **KINDS[kind]))


def visits(dimensions=2, seed=1):
    torch.manual_seed(seed)
    return torch.randn(2, 5, 2, *(6, 5, 4)[:dimensions], dtype=torch.float64)


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cuts", [(2,), (1, 2, 3, 4), (3,)])
def test_a_sequence_in_pieces_equals_one_pass(kind, dimensions, cuts):
    stack, x, memory, pieces = stack_of(kind, dimensions), visits(dimensions), None, []
    whole, end = stack(x, DAYS, present=PRESENT)
    for a, b in zip((0, *cuts), (*cuts, 5), strict=True):
        piece, memory = stack(x[:, a:b], DAYS[:, a:b], memory, PRESENT[:, a:b])
        pieces.append(piece)
    torch.testing.assert_close(torch.cat(pieces, 1), whole)
    torch.testing.assert_close(memory, end)


@pytest.mark.parametrize("kind", KINDS)
def test_an_absent_visit_is_as_if_it_were_not_in_the_list(kind):
    stack, x = stack_of(kind), visits()
    x[~PRESENT] = torch.nan  # whatever stands there
    output, _ = stack(x, DAYS, present=PRESENT)
    for sample, there in enumerate(PRESENT):
        alone, _ = stack(x[sample : sample + 1, there], DAYS[sample : sample + 1, there])
        torch.testing.assert_close(output[sample, there], alone[0])
    assert torch.equal(output[0, 2], output[0, 1]), "the output stands still"
    assert not output[1, 0].any(), "nothing was seen yet"
    output.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in stack.parameters())


def test_presence_may_be_given_once_for_all_samples():
    stack, x = stack_of("gru"), visits()
    torch.testing.assert_close(
        stack(x, DAYS, present=PRESENT[0])[0], stack(x, DAYS, present=PRESENT[:1].expand(2, 5))[0]
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_gap_changes_what_is_remembered_and_only_the_gap(kind):
    stack, x = stack_of(kind), visits()
    first, later = stack(x, DAYS)[0], stack(x, DAYS + 1000)[0]
    torch.testing.assert_close(first, later)
    longer = DAYS + torch.tensor([0, 0, 0, 300, 300.0])
    other = stack(x, longer)[0]
    torch.testing.assert_close(other[:, :3], first[:, :3])
    assert (other[:, 3] - first[:, 3]).abs().amax() > 1e-4
    no_time = stack(x, None)[0]
    torch.testing.assert_close(no_time, stack(x, torch.zeros_like(DAYS))[0])


@pytest.mark.parametrize("kind", KINDS)
def test_after_a_very_long_time_the_first_visit_is_forgotten(kind):
    stack, x, other = stack_of(kind), visits(seed=1), visits(seed=2)
    other[:, 1] = x[:, 1]
    days = torch.tensor([[0.0, 1e7], [0.0, 1e7]])
    if kind in ("lstm", "peephole", "attention"):  # h is the last output, not faded; c is: cut h as a reset would
        with torch.no_grad():
            for module in stack.modules():
                if isinstance(module, convlstm.ConvLSTMCell):
                    module.gates.weight[:, -module.hidden :] = 0
    a, b = (stack(v[:, :2], days)[0][:, 1] for v in (x, other))
    torch.testing.assert_close(a, b)


def test_an_absent_image_has_no_influence_and_present_ones_are_averaged():
    stem = shaken(ModalityStem(3, 4, dimensions=2))
    x = torch.randn(2, 3, 6, 5, dtype=torch.float64)
    present = torch.tensor([[True, False, True], [False, False, False]])
    x[~present] = torch.nan
    features = stem(x, present)
    one, three = (
        nn.functional.conv2d(x[:1, m : m + 1], w, b, padding=1)
        for m, w, b in [(m, stem.each.weight[4 * m : 4 * m + 4], stem.each.bias[4 * m : 4 * m + 4]) for m in (0, 2)]
    )
    torch.testing.assert_close(features[:1], (one + three) / 2)
    assert not features[1].any()
    features.sum().backward()
    assert torch.isfinite(stem.each.weight.grad).all()


PROBE = """
import pathlib, sys, torch
from napari_convlstm_tumor.model.convlstm import ConvRecurrent

def peak():  # not getrusage: that begins with the peak of the process that started this one
    return int(pathlib.Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])

stack = ConvRecurrent(1, (8,), sys.argv[1], dimensions=2)
states, peaks = None, []
with torch.set_grad_enabled(sys.argv[2] == "gradients"):
    for t in range(200):
        output, states = stack.step(torch.randn(1, 1, 64, 64), states, torch.tensor([30.0]))
        peaks.append(peak())
assert torch.isfinite(output).all()
print(peaks[-1] - peaks[19], sum(t.numel() for s in states for t in s) * 4 // 1024)
"""


def growth_of_200_visits(cell, gradients):
    """KiB by which the peak of a fresh process grew from visit 20 to 200, and KiB of the state."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, cell, gradients], capture_output=True, text=True, timeout=120, check=True
    )
    return map(int, done.stdout.split())


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize("cell", CELLS)
def test_memory_does_not_grow_over_200_visits(cell):
    grown, state = growth_of_200_visits(cell, "none")
    assert grown < 5 * 1024, "180 kept states would be 22 MB or more"
    assert state == {"lstm": 2, "gru": 1, "attention": 2 + 4}[cell] * 8 * 64 * 64 * 4 // 1024


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_the_measurement_would_see_memory_that_grows():
    grown, _ = growth_of_200_visits("gru", "gradients")
    assert grown > 22 * 1024


class OneStep(nn.Module):
    def __init__(self, stack):
        super().__init__()
        self.stack = stack

    def forward(self, x, states, gap_days):
        return self.stack.step(x, states, gap_days)


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_one_step_can_be_exported(kind, dimensions, tmp_path):
    stack, x = stack_of(kind, dimensions).float().eval(), visits(dimensions).float()
    _, memory = stack(x[:, :1], DAYS[:, :1].float())
    inputs = (x[:, 1], memory.states, torch.tensor([30.0, 90.0]))
    torch.export.save(torch.export.export(OneStep(stack), inputs), tmp_path / "step.pt2")
    loaded = torch.export.load(tmp_path / "step.pt2").module()
    torch.testing.assert_close(loaded(*inputs), stack.step(*inputs))


def test_export_with_any_batch_and_map_size():
    stack, x = stack_of("attention").float().eval(), visits().float()
    inputs = (x[:, 0], stack.start(x[:, 0]).states, torch.tensor([30.0, 90.0]))
    batch, height, width = (torch.export.Dim(n, min=2, max=512) for n in ("batch", "height", "width"))

    def free(tensor):
        return {0: batch, tensor.dim() - 2: height, tensor.dim() - 1: width} if tensor.dim() > 2 else {0: batch}

    program = torch.export.export(
        OneStep(stack), inputs, dynamic_shapes=torch.utils._pytree.tree_map(free, inputs)
    ).module()
    other = torch.randn(3, 2, 11, 9)
    wide = (other, stack.start(other).states, torch.zeros(3))
    torch.testing.assert_close(program(*wide), stack.step(*wide))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(2, 0, 2, 6, 5)}, "at least one visit"),
        ({"x": torch.zeros(2, 5)}, r"\(B, T, C, \*space\)"),
        ({"days": DAYS[:, :4]}, r"days has shape \(2, 4\)"),
        ({"days": DAYS.flip(1)}, "days fall"),
        ({"days": DAYS * torch.nan}, "are no numbers"),
        ({"present": torch.ones(2, 5)}, "bool"),
        ({"present": torch.ones(4, dtype=torch.bool)}, "bool"),
    ],
)
def test_bad_input_is_refused(change, message):
    given = {"x": visits(), "days": DAYS, "present": PRESENT, **change}
    with pytest.raises(InputError, match=message):
        stack_of("gru")(given["x"], given["days"], present=given["present"])


def test_a_piece_from_before_the_memory_is_refused():
    stack, x = stack_of("gru"), visits()
    _, memory = stack(x, DAYS)
    with pytest.raises(InputError, match="days fall"):
        stack(x, DAYS, memory)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cell": "rnn"}, "cell is 'rnn'.*lstm, gru, attention"),
        ({"hidden": ()}, ">= 1 layer"),
        ({"dimensions": 4}, "dimensions is 4"),
        ({"kernel_size": 2}, "must be odd"),
        ({"cell": "attention", "inner": "rnn"}, "inner is 'rnn'"),
        ({"cell": "attention", "slots": 0}, "slots 0"),
    ],
)
def test_sizes_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(SettingsError, match=message):
        ConvRecurrent(**{"in_channels": 2, "hidden": (4,), **arguments})


def test_the_usage_example_runs():
    example = convlstm.__doc__.split("3-D:\n")[1].split("\ncell is")[0]
    assert len(example.strip().splitlines()) <= 11
    exec(textwrap.dedent(example), {})


def test_it_is_pure_torch():
    code = "import sys, napari_convlstm_tumor.model.convlstm; print(*{'monai', 'scipy', 'nibabel'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("cell", CELLS)
def test_the_network_takes_every_cell_in_bf16_too(cell):
    torch.manual_seed(0)
    network = GrowthNet(NetworkConfig(modalities=("ct",), channels=(4, 6, 8), hidden=(3, 4), cell=cell)).eval()
    network.to(memory_format=torch.channels_last_3d)
    image, prompt, state, seen = torch.randn(1, 1, 16, 16, 8), torch.zeros(1, 4, 16, 16, 8), None, []
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for gap in (None, torch.tensor([30.0]), torch.tensor([400.0])):
            logits, *_, state = network(image, image, [True], prompt, pool_strides((1, 1, 2), 2), state, gap)
            seen.append(logits.float())
    assert all(torch.isfinite(s).all() for s in seen)
    assert (seen[1] - seen[0]).abs().max() > 0, "the same image again is not the same: it is remembered"
