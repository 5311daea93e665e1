"""Moving digits: what a recurrent memory over maps is for, as a markdown table. `python benchmarks/moving_digits.py`.

A digit of scikit-learn's moves and bounces in 32 x 32 frames, made on the fly; training and test use different digits.
Every model sees 8 frames and then goes on from its own predictions: up to 8 in training (none for the first 30 % of the
steps, then more and more), 100 in the test. Compared: ConvLSTM, ConvGRU, attention; a fully connected LSTM of as many
parameters and one of ten times as many; a CNN without memory of as many parameters; the last frame kept; the mean frame
of the training. After Srivastava et al. 2015 (arXiv 1502.04681) and Shi et al. 2015 (arXiv 1506.04214).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from monai.metrics.regression import SSIMMetric
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from napari_convlstm_tumor.model.convlstm import ConvRecurrent

SIZE, DIGIT, FASTEST = 32, 14, 2  # pixels, pixels, pixels per frame
GIVEN, BATCH = 8, 16
HORIZONS = (1, 10, 50, 100)
TRAINING_DIGITS = 1200  # of 1797; the others are for the test
PATCH, FEATURES = 4, 32  # pixels folded into channels, as in Shi et al.
CERTAIN = 0.01  # persistence says 0 or 1: kept this far from both, or its loss is infinite
# Share of the steps at which a model begins to go on by itself, and does so for all frames.
OWN_FROM, OWN_ALL = 0.3, 0.6
TIMED_ROUNDS = 7


# ---- movies ----


def digit_images(training: bool) -> Tensor:
    """(N, DIGIT, DIGIT) in 0..1."""
    images = torch.from_numpy(load_digits().images).float()[:, None] / 16
    images = F.interpolate(images, (DIGIT, DIGIT), mode="bilinear", align_corners=False)[:, 0]
    return images[:TRAINING_DIGITS] if training else images[TRAINING_DIGITS:]


def bounce(start: Tensor, speed: Tensor, frames: int) -> Tensor:
    """Position (N, frames) of what moves between two walls, pixels."""
    free = SIZE - DIGIT
    way = (start[:, None] + speed[:, None] * torch.arange(frames)) % (2 * free)
    return torch.minimum(way, 2 * free - way)


def movies(digits: Tensor, count: int, frames: int, random: torch.Generator, each: int) -> Tensor:
    """(count, frames, 1, SIZE, SIZE) in 0..1; where digits overlap the brighter is seen."""
    n = count * each
    which = torch.randint(len(digits), (n,), generator=random)
    start = torch.randint(SIZE - DIGIT, (2, n), generator=random)
    speed = torch.randint(1, FASTEST + 1, (2, n), generator=random) * (
        2 * torch.randint(2, (2, n), generator=random) - 1
    )
    rows, columns = (bounce(s, v, frames) for s, v in zip(start, speed, strict=True))
    made = torch.zeros(count, frames, 1, SIZE, SIZE)
    for m in range(n):
        for t in range(frames):
            r, c = int(rows[m, t]), int(columns[m, t])
            window = made[m // each, t, 0, r : r + DIGIT, c : c + DIGIT]
            torch.maximum(window, digits[which[m]], out=window)
    return made


# ---- models: (frame, state) -> (logits of the next frame, state) ----


class Maps(nn.Module):
    """A convolution into features, the library's stack or more convolutions over them, and out again with a skip."""

    def __init__(self, cell: str | None, hidden: Sequence[int]) -> None:
        """cell None: no memory."""
        super().__init__()
        self.encode = nn.Conv2d(PATCH**2, FEATURES, 3, padding=1)
        self.stack = ConvRecurrent(FEATURES, hidden, cell, dimensions=2) if cell else Plain(FEATURES, hidden)
        self.decode = nn.Conv2d(FEATURES + hidden[-1], PATCH**2, 3, padding=1)

    def forward(self, frame: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """One frame."""
        features = F.relu(self.encode(F.pixel_unshuffle(frame, PATCH)))
        hidden, state = self.stack.step(features, state)
        return F.pixel_shuffle(self.decode(torch.cat([features, hidden], dim=1)), PATCH), state


class Plain(nn.Module):
    """Convolutions where the others have cells."""

    def __init__(self, in_channels: int, hidden: Sequence[int]) -> None:
        super().__init__()
        pairs = pairwise([in_channels, *hidden])
        self.layers = nn.Sequential(*(nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.ReLU()) for a, b in pairs))

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, None]:
        """One frame; nothing is remembered."""
        return self.layers(x), None


class FullyConnected(nn.Module):
    """An LSTM for which the frame is a row of numbers."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(SIZE**2, hidden)
        self.head = nn.Linear(hidden, SIZE**2)

    def forward(self, frame: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """One frame."""
        state = self.cell(frame.flatten(1), state)
        return self.head(state[0]).unflatten(1, (1, SIZE, SIZE)), state


class Fixed(nn.Module):
    """Nothing learned: the last frame, or always the same one."""

    def __init__(self, always: Tensor | None = None) -> None:
        super().__init__()
        self.always = always

    def forward(self, frame: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """One frame."""
        shown = frame if self.always is None else self.always.expand_as(frame)
        return torch.logit(shown, eps=CERTAIN), None


def count(model: nn.Module) -> int:
    """Parameters."""
    return sum(p.numel() for p in model.parameters())


def as_large_as(target: int, make: Callable[[int], nn.Module]) -> nn.Module:
    """The smallest model of this kind with at least ``target`` parameters."""
    return next(m for m in map(make, range(4, 4096)) if count(m) >= target)


def all_models(hidden: Sequence[int], mean: Tensor) -> dict[str, nn.Module]:
    """Name -> model, ConvLSTM first."""
    lstm = Maps("lstm", hidden)
    return {
        "ConvLSTM": lstm,
        "ConvGRU": Maps("gru", hidden),
        "attention": Maps("attention", hidden),
        "FC-LSTM": as_large_as(count(lstm), FullyConnected),
        "FC-LSTM x 10": as_large_as(10 * count(lstm), FullyConnected),
        "CNN, no memory": as_large_as(count(lstm), lambda n: Maps(None, (n, n))),
        "last frame": Fixed(),
        "mean frame": Fixed(mean),
    }


# ---- training and test ----


def predict(model: nn.Module, given: Tensor, ahead: int) -> Tensor:
    """Logits (B, given - 1 + ahead, 1, H, W) of the frames after the first; after ``given`` it feeds on itself."""
    logits, state = [], None
    frame = given[:, 0]
    for t in range(given.shape[1] - 1 + ahead):
        prediction, state = model(frame, state)
        logits.append(prediction)
        frame = given[:, t + 1] if t + 1 < given.shape[1] else torch.sigmoid(prediction)
    return torch.stack(logits, dim=1)


def loss_of(model: nn.Module, batch: Tensor, own: int) -> Tensor:
    """Binary cross-entropy per pixel, the last ``own`` frames predicted from the model's own."""
    given = batch.shape[1] - max(1, own)
    return F.binary_cross_entropy_with_logits(predict(model, batch[:, :given], batch.shape[1] - given), batch[:, 1:])


def train(model: nn.Module, steps: int, rate: float, each: int) -> None:
    """Adam, one cycle of the learning rate; the same movies in the same order for every model."""
    random, digits = torch.Generator().manual_seed(1), digit_images(training=True)
    optimiser = torch.optim.Adam(model.parameters(), rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps, pct_start=0.1)
    for step in range(steps):
        share = (step / steps - OWN_FROM) / (OWN_ALL - OWN_FROM)
        own = round(GIVEN * min(1.0, max(0.0, share)))
        optimiser.zero_grad()
        loss_of(model, movies(digits, BATCH, 2 * GIVEN, random, each), own).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()


@dataclass(frozen=True)
class Score:
    """{frames ahead: mean over the test movies} of cross-entropy per pixel and structural similarity."""

    loss: dict[int, float]
    ssim: dict[int, float]


@torch.no_grad()
def score(model: nn.Module, test: Tensor) -> Score:
    """Roll-out over the test movies, longer than any in training."""
    logits = predict(model, test[:, :GIVEN], test.shape[1] - GIVEN)
    similarity = SSIMMetric(spatial_dims=2, data_range=1.0)
    loss, ssim = {}, {}
    for ahead in HORIZONS:
        said, truth = logits[:, GIVEN + ahead - 2], test[:, GIVEN + ahead - 1]
        loss[ahead] = F.binary_cross_entropy_with_logits(said, truth).item()
        ssim[ahead] = similarity(torch.sigmoid(said), truth).mean().item()
    return Score(loss, ssim)


def step_seconds(models: Sequence[nn.Module], each: int) -> list[float]:
    """Median processor seconds of one training step; in turns, so that other work falls on all alike."""
    batch = movies(digit_images(training=True), BATCH, 2 * GIVEN, torch.Generator().manual_seed(2), each)
    seconds: list[list[float]] = [[] for _ in models]
    for _ in range(TIMED_ROUNDS):
        for model, taken in zip(models, seconds, strict=True):
            start = time.process_time()
            if count(model):
                loss_of(model, batch, GIVEN).backward()
            taken.append(time.process_time() - start)
    return [statistics.median(taken) for taken in seconds]


def row(name: str, model: nn.Module, ratio: float, result: Score) -> str:
    """One line of the table."""
    ahead = " | ".join(f"{value:.3f}" for value in (*result.loss.values(), *result.ssim.values()))
    return f"| {name} | {f'{count(model):,} | {ratio:.2f}' if count(model) else '- | -'} | {ahead} |"


def run(arguments: argparse.Namespace) -> dict[str, Score]:
    """Train and score every model, printing the table as it grows."""
    torch.manual_seed(0)
    digits, each, random = digit_images(training=True), arguments.digits, torch.Generator().manual_seed(3)
    mean = movies(digits, 64, 2 * GIVEN, random, each).mean(dim=(0, 1))
    test = movies(digit_images(training=False), arguments.test_movies, GIVEN + max(HORIZONS), random, each)
    models = {n: m for n, m in all_models(arguments.hidden, mean).items() if n in (arguments.only or [n])}
    taken = step_seconds(list(models.values()), each)
    columns = ["model", "parameters", "time per step", *(f"{w} at {h}" for w in ("loss", "SSIM") for h in HORIZONS)]
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    results = {}
    for (name, model), seconds in zip(models.items(), taken, strict=True):
        if count(model):
            train(model, arguments.steps, arguments.rate, each)
        results[name] = score(model, test)
        print(row(name, model, seconds / taken[0], results[name]), flush=True)
    return results


def main(arguments: Sequence[str] | None = None) -> dict[str, Score]:
    """Print the table and how long it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--digits", type=int, default=1, help="in a movie")
    parser.add_argument("--hidden", type=int, nargs="+", default=[48])
    parser.add_argument("--rate", type=float, default=6e-3)
    parser.add_argument("--test-movies", type=int, default=64)
    parser.add_argument("--only", nargs="+", help="names of models")
    parser.add_argument("--quick", action="store_true", help="a few steps, to see that it runs")
    chosen = parser.parse_args(arguments)
    if chosen.quick:
        chosen.steps, chosen.hidden, chosen.test_movies = 3, [4], 2
    start = time.perf_counter()
    results = run(chosen)
    print(
        f"\n{(time.perf_counter() - start) / 60:.1f} min, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    return results


if __name__ == "__main__":
    main()
