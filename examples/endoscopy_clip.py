"""Track a growing lesion in an endoscopy-like clip: the 2-D cells on video, frame by frame, on the CPU.

A textured mucosa drifts under the camera, light falls off to the rim, highlights flash and hide what lies under them,
and a lesion, barely redder than its surroundings, grows at its own speed. A small network with a ConvLSTM learns on
such clips in about a minute and then follows a new, longer clip frame by frame: one state goes on, so the memory needed
does not grow with the clip. The outlined area is printed against the truth, beside the same network with its memory
cleared at every frame; --plot writes the curves and three frames. The clip is a toy: it shows the cells, no accuracy.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_convlstm_tumor.model.convlstm import ConvRecurrent

SIZE = 48  # pixels a side
CONTRAST, NOISE = 0.16, 0.10  # of a picture in 0..1: one frame alone does not show the lesion's edge
HIGHLIGHTS, HIGHLIGHT_SHARPNESS = 6, 12.0
MUCOSA, REDDER = (torch.tensor(c)[:, None, None] for c in ([0.62, 0.36, 0.32], [0.6, -0.5, -0.3]))
RADIUS = (3.0, 13.0)  # pixels in the first frame
FIRST_RADIUS = 4.0  # of the clip that is followed
SWAY = 6  # pixels by which the camera moves
GROWTH = (0.05, 0.25)  # pixels per frame
BATCH, FRAMES = 4, 10  # of training


# ---- the clip ----


@dataclass(frozen=True)
class Clip:
    """frames (T, 3, SIZE, SIZE) in 0..1, lesion (T, 1, SIZE, SIZE) in {0, 1}."""

    frames: Tensor
    lesion: Tensor


def smooth_noise(shape: Sequence[int], cells: int, random: torch.Generator) -> Tensor:
    """Noise (N, C, H, W) whose blobs are about 1 / cells of the picture."""
    n, channels, height, width = shape
    coarse = torch.randn(n, channels, cells, cells, generator=random)
    return F.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)


def uniform(low: float, high: float, random: torch.Generator) -> float:
    """One number."""
    return low + (high - low) * torch.rand((), generator=random).item()


def make_clip(frames: int, random: torch.Generator, radius: float | None = None) -> Clip:
    """A clip; the same generator state gives the same clip. radius: in the first frame, drawn when None."""
    mucosa = texture(random)
    place = torch.tensor([uniform(-8, 8, random), uniform(-8, 8, random)])
    dent = 1.5 * smooth_noise((1, 1, 2 * SIZE, 2 * SIZE), 10, random)[0, 0]  # the lesion is no circle
    radius = uniform(*RADIUS, random) if radius is None else radius
    growth, drift = uniform(*GROWTH, random), (uniform(0.05, 0.2, random), uniform(0.05, 0.2, random))
    pictures, masks = [], []
    for t in range(frames):
        row, column = (round(SWAY * math.sin(speed * t + n)) for n, speed in enumerate(drift))
        window = (slice(SIZE // 2 + row, SIZE // 2 + row + SIZE), slice(SIZE // 2 + column, SIZE // 2 + column + SIZE))
        centre = place - torch.tensor([row, column])
        depth = radius + growth * t - dent[window] - from_point(centre)
        pictures.append(photograph(mucosa[:, *window] + CONTRAST * REDDER * torch.sigmoid(depth), random))
        masks.append((depth > 0).float()[None])
    return Clip(torch.stack(pictures), torch.stack(masks))


def from_point(point: Tensor) -> Tensor:
    """Distance (SIZE, SIZE) in pixels from a point given from the picture's centre."""
    grid = torch.stack(torch.meshgrid(*[torch.arange(SIZE) - (SIZE - 1) / 2] * 2, indexing="ij"))
    return (grid - point[:, None, None]).square().sum(0).sqrt()


def texture(random: torch.Generator) -> Tensor:
    """Mucosa (3, 2 SIZE, 2 SIZE) with blotches and fine folds, larger than the picture: the camera moves over it."""
    wide = (1, 3, 2 * SIZE, 2 * SIZE)
    return MUCOSA + 0.06 * (smooth_noise(wide, 12, random)[0] + smooth_noise((1, 1, *wide[2:]), 32, random)[0])


def photograph(scene: Tensor, random: torch.Generator) -> Tensor:
    """Light that falls off, highlights that saturate, noise."""
    light = 1 - 0.35 * (from_point(torch.zeros(2)) / (SIZE / 2)).square()
    blobs = smooth_noise((1, 1, SIZE, SIZE), HIGHLIGHTS, random)[0]
    flash = torch.sigmoid(HIGHLIGHT_SHARPNESS * (blobs - 1.3))
    noise = NOISE * torch.randn(scene.shape, generator=random)
    return (scene * light * (1 - flash) + flash + noise).clamp(0, 1)


# ---- the network ----


class Tracker(nn.Module):
    """Features at half size, one recurrent layer, and back."""

    def __init__(self, cell: str = "lstm", channels: int = 12) -> None:
        super().__init__()
        self.encode = nn.Sequential(
            nn.Conv2d(3, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, 2 * channels, 3, 2, 1), nn.ReLU()
        )
        self.memory = ConvRecurrent(2 * channels, (2 * channels,), cell, kernel_size=5, dimensions=2)
        self.decode = nn.Sequential(nn.Conv2d(4 * channels, 4 * channels, 3, padding=1), nn.ReLU())
        self.logits = nn.Conv2d(channels, 1, 3, padding=1)

    def forward(self, frame: Tensor, states: object = None) -> tuple[Tensor, object]:
        """frame (B, 3, H, W) -> logits (B, 1, H, W) and the state for the next frame."""
        features = self.encode(2 * frame - 1)
        remembered, states = self.memory.step(features, states)
        return self.logits(F.pixel_shuffle(self.decode(torch.cat([features, remembered], 1)), 2)), states


def train(tracker: Tracker, seconds: float, random: torch.Generator) -> int:
    """Adam on fresh clips until the time is up; returns the number of steps."""
    optimiser = torch.optim.Adam(tracker.parameters(), 3e-3)
    start, steps = time.monotonic(), 0
    while steps == 0 or (spent := time.monotonic() - start) < seconds:
        share = 0.0 if steps == 0 else spent / seconds
        optimiser.param_groups[0]["lr"] = 3e-3 * (1 - share)  # down to nothing at the end
        clips = [make_clip(FRAMES, random) for _ in range(BATCH)]
        frames, lesion = (torch.stack([getattr(c, n) for c in clips], 1) for n in ("frames", "lesion"))
        states, loss = None, torch.zeros(())
        for frame, truth in zip(frames, lesion, strict=True):
            logits, states = tracker(frame, states)
            loss = loss + F.binary_cross_entropy_with_logits(logits, truth) + soft_dice_loss(logits, truth)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(tracker.parameters(), 1.0)
        optimiser.step()
        steps += 1
    return steps


def soft_dice_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """1 - Dice over the batch."""
    p = torch.sigmoid(logits)
    return 1 - (2 * (p * truth).sum() + 1) / (p.sum() + truth.sum() + 1)


@torch.no_grad()
def follow(tracker: Tracker, frames: Tensor, remember: bool = True) -> Tensor:
    """Masks (T, 1, H, W) of a clip, frame by frame."""
    states, masks = None, []
    for frame in frames:
        logits, states = tracker(frame[None], states if remember else None)
        masks.append(logits[0] > 0)
    return torch.stack(masks)


def dice(a: Tensor, b: Tensor) -> float:
    """Over all frames."""
    return (2 * (a.bool() & b.bool()).sum() / (a.bool().sum() + b.bool().sum()).clamp(min=1)).item()


def plot(path: Path, clip: Clip, curves: dict[str, Tensor]) -> None:
    """Areas over frames, and three frames with truth (green) and outline (white)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 4, figsize=(14, 3.4), width_ratios=[1.6, 1, 1, 1], layout="constrained")
    for name, masks in curves.items():
        axes[0].plot(masks.flatten(1).sum(1), label=name)
    axes[0].set(xlabel="frame", ylabel="area, pixels")
    axes[0].legend()
    found = curves["with memory"].float()
    for axis, t in zip(axes[1:], (0, len(found) // 2, len(found) - 1), strict=True):
        axis.imshow(clip.frames[t].permute(1, 2, 0))
        axis.contour(clip.lesion[t, 0], [0.5], colors="lime")
        axis.contour(found[t, 0], [0.5], colors="white") if found[t].any() else None
        axis.set(title=f"frame {t}", xticks=[], yticks=[])
    figure.savefig(path, dpi=110)


def report(steps: int, curves: dict[str, Tensor]) -> None:
    """Areas of every few frames as a markdown table."""
    print(f"{steps} training steps. Area in pixels:\n\n| frame | {' | '.join(curves)} |\n|{'---|' * (1 + len(curves))}")
    frames = len(curves["truth"])
    for t in range(0, frames, max(1, frames // 10)):
        print(f"| {t} | {' | '.join(str(int(m[t].sum())) for m in curves.values())} |")


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Train, follow a new clip, print; returns Dice with and without memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="of training")
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--cell", default="lstm")
    parser.add_argument("--plot", type=Path, help="a PNG to write")
    chosen = parser.parse_args(arguments)
    torch.manual_seed(0)
    tracker = Tracker(chosen.cell)
    steps = train(tracker, chosen.seconds, torch.Generator().manual_seed(1))
    clip = make_clip(chosen.frames, torch.Generator().manual_seed(2), FIRST_RADIUS)
    curves = {
        "truth": clip.lesion.bool(),
        "with memory": follow(tracker, clip.frames),
        "cleared at every frame": follow(tracker, clip.frames, remember=False),
    }
    report(steps, curves)
    scores = {name: dice(masks, clip.lesion) for name, masks in curves.items() if name != "truth"}
    print("\nDice over the clip: " + ", ".join(f"{name} {score:.2f}" for name, score in scores.items()))
    if chosen.plot:
        plot(chosen.plot, clip, curves)
    return scores


if __name__ == "__main__":
    main()
