"""The moving-digits benchmark, the endoscopy example and the tables of cells run, tiny; their own maths is right."""

import importlib.util
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[2]


def script(path):
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def digits():
    pytest.importorskip("sklearn", reason="moving digits are scikit-learn's")
    return script("benchmarks/moving_digits.py")


@pytest.fixture(scope="module")
def clip():
    return script("examples/endoscopy_clip.py")


def test_the_benchmark_prints_a_row_for_each_model(digits, capsys):
    results = digits.main(["--quick"])
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(table) == 2 + len(results) == 10
    assert all(np.isfinite([*s.loss.values(), *s.ssim.values()]).all() for s in results.values())


@pytest.mark.parametrize(
    ("start", "speed", "expected"),
    [(0, 2, [0, 2, 4, 6]), (17, 2, [17, 17, 15, 13]), (1, -2, [1, 1, 3, 5]), (18, 1, [18, 17, 16, 15])],
)
def test_digits_bounce_at_the_walls(digits, start, speed, expected):
    assert digits.SIZE - digits.DIGIT == 18
    assert digits.bounce(torch.tensor([start]), torch.tensor([speed]), 4).tolist() == [expected]


def test_movies_are_the_digits_moved_and_the_same_for_the_same_seed(digits):
    images = digits.digit_images(training=False)
    a, b = (digits.movies(images, 3, 5, torch.Generator().manual_seed(0), 1) for _ in range(2))
    assert torch.equal(a, b)
    torch.testing.assert_close(a.sum((2, 3, 4)), a.sum((2, 3, 4))[:, :1].expand(3, 5))
    assert (a[:, 1] != a[:, 0]).any((1, 2, 3)).all()


def test_training_and_test_digits_differ(digits):
    assert len(digits.digit_images(True)) + len(digits.digit_images(False)) == 1797


def test_the_compared_models_are_as_large_as_they_say(digits):
    models = digits.all_models([32], torch.zeros(1, 32, 32))
    sizes = {name: digits.count(model) for name, model in models.items()}
    for name in ("FC-LSTM", "CNN, no memory"):
        assert 1 <= sizes[name] / sizes["ConvLSTM"] < 1.1
    assert sizes["ConvGRU"] < 0.85 * sizes["ConvLSTM"]
    assert sizes["FC-LSTM x 10"] >= 10 * sizes["ConvLSTM"]


def test_a_roll_out_sees_no_frame_after_the_given_ones(digits):
    images = digits.digit_images(training=True)
    movie = digits.movies(images, 2, 10, torch.Generator().manual_seed(0), 1)
    last = digits.predict(digits.Fixed(), movie[:, :4], 6)
    shown = torch.sigmoid(last)[:, 3:]
    assert torch.allclose(shown, movie[:, 3:4].expand_as(shown), atol=2 * digits.CERTAIN)


def test_the_lesion_of_the_clip_grows_and_is_barely_seen(clip):
    made = clip.make_clip(30, torch.Generator().manual_seed(0), radius=5)
    area = made.lesion.flatten(1).sum(1)
    assert area[-1] > 1.3 * area[0]
    assert made.frames.min() >= 0
    assert made.frames.max() <= 1
    redness = made.frames[:, 0] - made.frames[:, 1]
    near = made.lesion[:, 0].bool(), nn.functional.max_pool2d(made.lesion, 9, 1, 4)[:, 0].bool()
    inside, around = redness[near[0]].median(), redness[near[1] & ~near[0]].median()
    assert 0.05 < inside - around < 0.2, "redder than its surroundings, by about twice the noise"


@pytest.mark.parametrize("cell", ["lstm", "attention"])
def test_the_example_runs(clip, cell, capsys, tmp_path):
    plot = [] if cell == "lstm" else ["--plot", str(tmp_path / "clip.png")]
    if plot:
        pytest.importorskip("matplotlib", reason="--plot draws with it")
    scores = clip.main(["--seconds", "0", "--frames", "10", "--cell", cell, *plot])
    assert set(scores) == {"with memory", "cleared at every frame"}
    assert "| 9 |" in capsys.readouterr().out
    assert not plot or (tmp_path / "clip.png").stat().st_size > 1000


def test_the_table_of_cells_prints(capsys, monkeypatch):
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)
    table = script("benchmarks/recurrent_cells.py")
    table.ROUNDS = 1
    table.memory = lambda kind, size, gradients: 1.0  # a process for each is for the benchmark
    table.main(["--size", "8"])
    assert capsys.readouterr().out.count("\n| ") == len(table.KINDS)


@pytest.mark.slow
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_the_benchmark_of_a_gpu_runs(device, capsys, monkeypatch):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU here")
    gpu = script("benchmarks/gpu.py")
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", device, "--shape", "32,32,32", "--visits", "2"])
    monkeypatch.setattr(gpu.seconds, "__defaults__", (1,))
    try:
        gpu.main()
    finally:
        torch.set_default_device("cpu")
        gpu.fused.choose("off")
    printed = capsys.readouterr().out
    assert "recurrent gates, GB/s" in printed
    assert "2 visits through the network" in printed
    assert "conv" in printed, "the profile"


@pytest.mark.slow
def test_the_benchmark_of_the_recurrent_core_prints_its_tables(capsys, monkeypatch):
    core = script("benchmarks/recurrence.py")
    monkeypatch.setattr(core, "CASES", {name: replace(c, space=(8,) * c.dimensions) for name, c in core.CASES.items()})
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)
    core.main(["--rounds", "1", "--quick", "--shared"])
    printed = capsys.readouterr().out
    assert printed.count("| ours, bf16 |") == 3
    assert printed.count("| ours, bf16, going on |") == 2


@pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="the peak is set back and read in /proc, as Linux has it"
)
def test_memory_is_flat_over_many_visits_and_checkpoints_of_16_take_less_than_6_without():
    peak = script("benchmarks/recurrence.py").in_fresh_process
    assert peak("--visits", "streaming", "60") < 1.05 * peak("--visits", "streaming", "5")
    assert peak("--visits", "training, checkpoints", "16") < peak("--visits", "training", "6")
