"""What each part is worth after the same small training: ablation.py --steps N, a row at a time.

Rows: the recurrent cells (ConvLSTM, ConvGRU, attention), no memory (state thrown away before every visit, in training
and test), a per-visit MONAI U-Net, no days, no prompts. Every row: the same network sizes, steps, sequences and seeds;
simulated brains of the ICBM152 template, tested on growth fields that no row trains on. Each row runs in a process of
its own, so that its peak memory is its own, and is kept, so that a run that was cut off goes on with the next one.
--steps sets the budget. A second table has each row's Dice minus that of the first one on the same test sequences, a
third what each takes against the first one, measured in turns: other work on the machine slows all of them alike.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from napari_convlstm_tumor.io.write import write_json
from napari_convlstm_tumor.model.device import fast_precision
from napari_convlstm_tumor.model.network import GrowthNet, NetworkConfig, pool_strides
from napari_convlstm_tumor.training.anatomy import template_brain
from napari_convlstm_tumor.training.baseline import ForgetfulNet, VisitUNet
from napari_convlstm_tumor.training.dataset import GrowthDataset, Stage, make_fields
from napari_convlstm_tumor.training.scores import dice
from napari_convlstm_tumor.training.sequences import PROMPT_MODES
from napari_convlstm_tumor.training.train import training_step

SIZES: dict[str, Any] = {"channels": (8, 16, 24, 32, 48), "hidden": (8, 12, 16, 24)}
TRAIN_SEED, TEST_SEED = 31, 32
LEARNING_RATE = 1e-3
# Shares of click, click all, box, mask, none, scribble, mask all in training: few steps learn few modes.
TRAIN_WEIGHTS = (0.6, 0.0, 0.1, 0.1, 0.2, 0.0, 0.0)
VISITS = 3
TIMED_VOXELS, TIMED_VISITS, TIMED_ROUNDS = (64, 64, 64), 4, 7
BOOTSTRAP_DRAWS = 1000
CPU = torch.device("cpu")

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
    """What one variant holds and reaches; the three Dice are of every test sequence."""

    name: str
    parameters: int
    state_mb: float
    peak_mb: float
    first: list[float]
    later: list[float]
    blind: list[float]


def main() -> None:
    """Print the table, a line as soon as it is there, then the differences and what each takes."""
    options = _options()
    names = [name.strip().replace(";", ",") for name in options.variants.split(",")]
    dices = f"Dice, clicked visit | Dice, visits 2-{VISITS} after it | Dice, visits 2-{VISITS}, no prompt |\n"
    print("| variant | parameters | state MB, 64^3 | peak MB | " + dices + "|---" * 7 + "|")
    rows = []
    for name in names:
        rows.append(_kept_row(name, options))
        print(_line(rows[-1]), flush=True)
    print(f"\n{options.steps} steps each, {options.test} test sequences, {SIZES}\n")
    print(f"| minus {rows[0].name} | " + dices + "|---" * 4 + "|")
    for row in rows[1:]:
        pairs = zip(_dice_of(row), _dice_of(rows[0]), strict=True)
        print(" | ".join([f"| {row.name}", *(_told(np.subtract(mine, first)) for mine, first in pairs)]) + " |")
    print(f"\n| against {names[0]}, median of {TIMED_ROUNDS} | a training step | a visit, 64^3 |\n" + "|---" * 3 + "|")
    for name, (step, visit) in _times(names, options).items():
        print(f"| {name} | {step:.2f} | {visit:.2f} |")


def _kept_row(name: str, options: argparse.Namespace) -> Row:
    """The row of this variant: as it was kept, or measured in a process of its own."""
    budget = f"{options.steps}-steps-{options.train_fields}-fields-{options.test}-tests"
    kept = options.keep / "rows" / f"{name.replace(' ', '-').replace(',', '')}-{budget}.json"
    if kept.exists():
        return Row(**json.loads(kept.read_text()))
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        row = pool.submit(run, name, options).result()
    write_json(kept, asdict(row))
    return row


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000, help="of every row: the budget")
    parser.add_argument("--test", type=int, default=40, help="test sequences of each kind")
    parser.add_argument("--train-fields", type=int, default=40)
    parser.add_argument("--keep", type=Path, default=Path("runs/ablation"), help="finished rows; another for new code")
    parser.add_argument("--variants", default=",".join(v.replace(",", ";") for v in VARIANTS), help="; for , in names")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def run(name: str, options: argparse.Namespace) -> Row:
    """Train and test one variant; in a process of its own."""
    torch.set_num_threads(options.threads)
    variant, network = VARIANTS[name], _network(name)
    optimiser = _optimiser(network)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, options.steps)
    for sample in _training_samples(options, options.steps):
        training_step(network, _shown(sample, variant), optimiser)
        schedule.step()
    network.eval()
    clicked, blind = (_test(network, variant, mode, options) for mode in ("click", "none"))
    kept = [tensor for level in _visits(network)[1] for tensor in level]
    return Row(
        name,
        sum(p.numel() for p in network.parameters()),
        sum(t.numel() * t.element_size() for t in kept) / 2**20,
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        [dices[0] for dices in clicked],
        [float(np.mean(dices[1:])) for dices in clicked],
        [float(np.mean(dices[1:])) for dices in blind],
    )


def _network(name: str) -> Any:
    torch.manual_seed(0)
    variant = VARIANTS[name]
    return variant.build(NetworkConfig(cell=variant.cell, **SIZES)).to(memory_format=torch.channels_last_3d)


def _optimiser(network: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=1e-4)


def _dataset(seed: int, stage: Stage, fields: int, folder: Path) -> GrowthDataset:
    brain = template_brain()
    return GrowthDataset([brain], make_fields([brain], fields, seed, folder), seed, stage)


def _shown(sample: Sample, variant: Variant) -> Sample:
    """The sample as this variant may see it."""
    hidden = {} if variant.prompted else {name: torch.zeros_like(sample[name]) for name in ("prompt", "alike")}
    return {**sample, **hidden}


def _training_samples(options: argparse.Namespace, count: int) -> DataLoader[Sample]:
    """The same sequences for every variant."""
    stage = Stage((2, VISITS), TRAIN_WEIGHTS, distance_share=0.0)
    dataset = _dataset(TRAIN_SEED, stage, options.train_fields, options.keep / "fields")
    return DataLoader(dataset, batch_size=1, sampler=range(count), num_workers=1, worker_init_fn=_use_one_thread)


def _use_one_thread(worker: int) -> None:
    torch.set_num_threads(1)


def _test(network: Any, variant: Variant, mode: str, options: argparse.Namespace) -> list[list[float]]:
    """Dice of every visit of every test sequence; only the first visit is shown."""
    stage = Stage((VISITS, VISITS), tuple(float(m == mode) for m in PROMPT_MODES), distance_share=0.0)
    dataset = _dataset(TEST_SEED, stage, max(4, options.test // 2), options.keep / "fields")
    return [_dices(network, _shown(dataset[n], variant)) for n in range(options.test)]


@torch.no_grad()
def _dices(network: Any, sample: Sample) -> list[float]:
    strides = pool_strides(sample["spacing_mm"].tolist(), network.levels - 1)
    present, state, found = sample["present"].tolist(), None, []
    for t, truth in enumerate(sample["mask"]):
        gap = None if t == 0 else (sample["days"][t] - sample["days"][t - 1])[None]
        inputs = (sample["images"][t, None], sample["alike"][t, None], present, sample["prompt"][t, None])
        with fast_precision(CPU):
            logits, _, _, state = network(*inputs, strides, state, gap_days=gap)
        found.append(dice(logits[0, 0].float().numpy(), truth.numpy()))
    return found


def _times(names: list[str], options: argparse.Namespace) -> dict[str, tuple[float, float]]:
    """Seconds of a training step and of a visit as shares of the first variant's, every round all of them in turn."""
    torch.set_num_threads(options.threads)
    networks = {name: _network(name) for name in names}
    optimisers = {name: _optimiser(network) for name, network in networks.items()}
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for sample in list(_training_samples(options, TIMED_ROUNDS + 1)):
        for name, network in networks.items():
            started = time.perf_counter()
            training_step(network.train(), _shown(sample, VARIANTS[name]), optimisers[name])
            stepped = time.perf_counter() - started
            spent[name].append((stepped, float(np.median(_visits(network.eval())[0][1:]))))
    seconds = {name: np.array(pairs[1:]) for name, pairs in spent.items()}  # the first round warms up
    shares = {name: np.median(mine / seconds[names[0]], axis=0) for name, mine in seconds.items()}
    return {name: (float(step), float(visit)) for name, (step, visit) in shares.items()}


@torch.no_grad()
def _visits(network: Any) -> tuple[list[float], Any]:
    """Seconds of each of several visits on 64^3 voxels, and the state after the last."""
    images, prompt = torch.zeros(1, 6, *TIMED_VOXELS), torch.zeros(1, 4, *TIMED_VOXELS)
    strides = pool_strides((1, 1, 1), network.levels - 1)
    state, spent = None, []
    for _ in range(TIMED_VISITS):
        started = time.perf_counter()
        with fast_precision(CPU):
            gap = None if state is None else torch.tensor([30.0])
            *_, state = network(images, images, [True] * 6, prompt, strides, state, gap_days=gap)
        spent.append(time.perf_counter() - started)
    return spent, state


def _told(values: npt.ArrayLike) -> str:
    """Mean over test sequences, with its bootstrap 95 % interval."""
    found = np.asarray(values)
    draws = np.random.default_rng(0).choice(found, size=(BOOTSTRAP_DRAWS, len(found))).mean(axis=1)
    low, high = np.percentile(draws, (2.5, 97.5))
    return f"{found.mean():.3f} ({low:.3f} to {high:.3f})"


def _dice_of(row: Row) -> tuple[list[float], list[float], list[float]]:
    return row.first, row.later, row.blind


def _line(row: Row) -> str:
    costs = [f"{row.parameters:,}", f"{row.state_mb:.1f}", f"{row.peak_mb:.0f}"]
    return "| " + " | ".join([row.name, *costs, *map(_told, _dice_of(row))]) + " |"


if __name__ == "__main__":
    main()
