"""What each part is worth after the same small training: ablation.py, a row in about 6 minutes on two cores.

Rows: the recurrent cells (ConvLSTM, ConvGRU, attention), no memory (state thrown away before every visit, in training
and test), a per-visit MONAI U-Net, no days, no prompts. Every row: the same network sizes, steps, sequences and seeds;
simulated brains of the ICBM152 template, tested on growth fields that no row trains on. Each row runs in a process of
its own, so that its peak memory is its own. --steps sets the budget. A second table has each row's Dice minus that of
the first one on the same test sequences.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from napari_convlstm_tumor.model.network import GrowthNet, NetworkConfig, pool_strides
from napari_convlstm_tumor.training.anatomy import template_brain
from napari_convlstm_tumor.training.baseline import ForgetfulNet, VisitUNet
from napari_convlstm_tumor.training.dataset import GrowthDataset, Stage, make_fields
from napari_convlstm_tumor.training.sequences import PROMPT_MODES
from napari_convlstm_tumor.training.train import training_step

SIZES: dict[str, Any] = {"channels": (8, 16, 24, 32, 48), "hidden": (8, 12, 16, 24)}
TRAIN_SEED, TEST_SEED = 31, 32
LEARNING_RATE = 1e-3
# Shares of click, click all, box, mask, none, scribble, mask all in training: few steps learn few modes.
TRAIN_WEIGHTS = (0.6, 0.0, 0.1, 0.1, 0.2, 0.0, 0.0)
VISITS = 3
TIMED_VOXELS, TIMED_VISITS = (64, 64, 64), 4
BOOTSTRAP_DRAWS = 1000

Sample = dict[str, Tensor]


class TimelessNet(GrowthNet):
    """The network that is never told how many days passed."""

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """As GrowthNet.forward with gap_days None."""
        return super().forward(*inputs[:6], **{**named, "gap_days": None})


@dataclass(frozen=True)
class Variant:
    """One row: how its network is made, and whether it is shown prompts."""

    build: Callable[[NetworkConfig], Any]
    cell: str = "lstm"
    prompted: bool = True


VARIANTS: Mapping[str, Variant] = {
    "ConvLSTM": Variant(GrowthNet),
    "ConvGRU": Variant(GrowthNet, "gru"),
    "attention": Variant(GrowthNet, "attention"),
    "no memory": Variant(ForgetfulNet),
    "U-Net per visit": Variant(VisitUNet),
    "ConvLSTM, no days": Variant(TimelessNet),
    "ConvLSTM, no prompts": Variant(GrowthNet, prompted=False),
}


@dataclass(frozen=True)
class Row:
    """What one variant costs and reaches; the three Dice are of every test sequence."""

    name: str
    parameters: int
    seconds_a_step: float
    ms_a_visit: float
    state_mb: float
    peak_mb: float
    first: list[float]
    later: list[float]
    blind: list[float]


def main() -> None:
    """Print the table, a line as soon as it is there."""
    options = _options()
    dices = f"Dice, clicked visit | Dice, visits 2-{VISITS} after it | Dice, visits 2-{VISITS}, no prompt |\n"
    print(
        "| variant | parameters | s a step | ms a visit, 64^3 | state MB, 64^3 | peak MB | " + dices + "|---" * 9 + "|"
    )
    rows = []
    for name in options.variants.split(","):
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, context) as pool:
            rows.append(pool.submit(run, name.strip(), options).result())
        print(_line(rows[-1]), flush=True)
    print(f"\n{options.steps} steps each, {options.test} test sequences, {SIZES}\n")
    print(f"| minus {rows[0].name} | " + dices + "|---" * 4 + "|")
    for row in rows[1:]:
        pairs = zip(_dice_of(row), _dice_of(rows[0]), strict=True)
        print(" | ".join([f"| {row.name}", *(_told(np.subtract(mine, first)) for mine, first in pairs)]) + " |")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000, help="of every row: the budget")
    parser.add_argument("--test", type=int, default=40, help="test sequences of each kind")
    parser.add_argument("--train-fields", type=int, default=40)
    parser.add_argument("--fields", type=Path, default=Path("runs/ablation/fields"), help="keeps growth fields")
    parser.add_argument("--variants", default=",".join(v.replace(",", ";") for v in VARIANTS), help="; for , in names")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def run(name: str, options: argparse.Namespace) -> Row:
    """Train and test one variant; in a process of its own."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    name = name.replace(";", ",")
    variant = VARIANTS[name]
    network = variant.build(NetworkConfig(cell=variant.cell, **SIZES)).to(memory_format=torch.channels_last_3d)
    seconds = _train(network, variant, options)
    network.eval()
    ms, state_mb = _cost(network)
    clicked, blind = (_test(network, variant, mode, options) for mode in ("click", "none"))
    return Row(
        name,
        sum(p.numel() for p in network.parameters()),
        seconds,
        ms,
        state_mb,
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        [dices[0] for dices in clicked],
        [float(np.mean(dices[1:])) for dices in clicked],
        [float(np.mean(dices[1:])) for dices in blind],
    )


def _dataset(seed: int, stage: Stage, fields: int, folder: Path) -> GrowthDataset:
    brain = template_brain()
    return GrowthDataset([brain], make_fields([brain], fields, seed, folder), seed, stage)


def _shown(sample: Sample, variant: Variant) -> Sample:
    """The sample as this variant may see it."""
    hidden = {} if variant.prompted else {name: torch.zeros_like(sample[name]) for name in ("prompt", "alike")}
    return {**sample, **hidden}


def _train(network: Any, variant: Variant, options: argparse.Namespace) -> float:
    """Seconds a step; the sequences are the same for every variant."""
    dataset = _dataset(
        TRAIN_SEED, Stage((2, VISITS), TRAIN_WEIGHTS, distance_share=0.0), options.train_fields, options.fields
    )
    loader = DataLoader(
        dataset, batch_size=1, sampler=range(options.steps), num_workers=1, worker_init_fn=_use_one_thread
    )
    optimiser = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, options.steps)
    spent = 0.0
    for sample in loader:
        started = time.perf_counter()
        training_step(network, _shown(sample, variant), optimiser)
        schedule.step()
        spent += time.perf_counter() - started
    return spent / options.steps


def _use_one_thread(worker: int) -> None:
    torch.set_num_threads(1)


def _test(network: Any, variant: Variant, mode: str, options: argparse.Namespace) -> list[list[float]]:
    """Dice of every visit of every test sequence; only the first visit is shown."""
    stage = Stage((VISITS, VISITS), tuple(float(m == mode) for m in PROMPT_MODES), distance_share=0.0)
    dataset = _dataset(TEST_SEED, stage, max(4, options.test // 2), options.fields)
    return [_dices(network, _shown(dataset[n], variant)) for n in range(options.test)]


@torch.no_grad()
def _dices(network: Any, sample: Sample) -> list[float]:
    strides = pool_strides(sample["spacing_mm"].tolist(), network.levels - 1)
    present, state, found = sample["present"].tolist(), None, []
    for t, truth in enumerate(sample["mask"]):
        gap = None if t == 0 else (sample["days"][t] - sample["days"][t - 1])[None]
        inputs = (sample["images"][t, None], sample["alike"][t, None], present, sample["prompt"][t, None])
        with torch.autocast("cpu", torch.bfloat16):
            logits, _, _, state = network(*inputs, strides, state, gap_days=gap)
        guess = logits[0, 0] > 0
        total = int(guess.sum()) + int(truth.sum())
        found.append(1.0 if total == 0 else 2 * int((guess & truth).sum()) / total)
    return found


@torch.no_grad()
def _cost(network: Any) -> tuple[float, float]:
    """Median milliseconds a visit and megabytes of state carried on, on 64^3 voxels in bf16."""
    images, prompt = torch.zeros(1, 6, *TIMED_VOXELS), torch.zeros(1, 4, *TIMED_VOXELS)
    strides = pool_strides((1, 1, 1), network.levels - 1)
    state, spent = None, []
    for _ in range(TIMED_VISITS):
        started = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16):
            gap = None if state is None else torch.tensor([30.0])
            *_, state = network(images, images, [True] * 6, prompt, strides, state, gap_days=gap)
        spent.append(1000 * (time.perf_counter() - started))
    kept = [tensor for level in state for tensor in level]
    return float(np.median(spent[1:])), sum(t.numel() * t.element_size() for t in kept) / 2**20


def _told(values: npt.ArrayLike) -> str:
    """Mean over test sequences, with its bootstrap 95 % interval."""
    found = np.asarray(values)
    draws = np.random.default_rng(0).choice(found, size=(BOOTSTRAP_DRAWS, len(found))).mean(axis=1)
    low, high = np.percentile(draws, (2.5, 97.5))
    return f"{found.mean():.3f} ({low:.3f} to {high:.3f})"


def _dice_of(row: Row) -> tuple[list[float], list[float], list[float]]:
    return row.first, row.later, row.blind


def _line(row: Row) -> str:
    costs = [f"{row.parameters:,}", f"{row.seconds_a_step:.2f}", f"{row.ms_a_visit:.0f}", f"{row.state_mb:.1f}"]
    return "| " + " | ".join([row.name, *costs, f"{row.peak_mb:.0f}", *map(_told, _dice_of(row))]) + " |"


if __name__ == "__main__":
    main()
