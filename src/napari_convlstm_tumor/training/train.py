"""Training: one plain loop, bf16, resumable to the step, on the CPU or one GPU. The caller seeds torch.

`convlstm-tumor train --data ../shared/data --steps 8000 --run runs/first` starts or goes on with a run;
the run folder holds last.pt (network, averaged weights, optimiser, step) and TensorBoard curves.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.losses import DiceLoss
from torch import Tensor
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from napari_convlstm_tumor import RESEARCH_USE
from napari_convlstm_tumor.model.card import load_model, save_model
from napari_convlstm_tumor.model.network import (
    GrowthNet,
    NetworkConfig,
    forecast_geometry,
    pool_strides,
)
from napari_convlstm_tumor.series import DAYS_PER_MONTH
from napari_convlstm_tumor.training.anatomy import Anatomy, real_brains, real_glioblastomas, real_tumors, template_brain
from napari_convlstm_tumor.training.dataset import GrowthDataset, Stage, make_fields

# Patients never trained on, so that the numbers in docs are about patients not seen: every fourth sarcoma.
HELD_OUT_SARCOMAS = ("STS-003", "STS-013", "STS-023", "STS-031", "STS-039", "STS-047", "STS-051")
HELD_OUT_GLIOBLASTOMAS = ("GBM-05", "GBM-09")
HELD_OUT = (*HELD_OUT_SARCOMAS, *HELD_OUT_GLIOBLASTOMAS)
# A curriculum: clicks on single visits first, then sequences, then everything (lessons: it went much faster).
STAGES = (
    (0.0, Stage((1, 1), (0.8, 0.0, 0.1, 0.1, 0.0, 0.0))),
    (0.03, Stage((2, 3), (0.4, 0.2, 0.15, 0.1, 0.1, 0.05))),
    (0.12, Stage((2, 4), (0.36, 0.12, 0.16, 0.1, 0.2, 0.06))),
)
# What the card of exported weights says besides the numbers of the run.
CARD = {
    "what": "ConvLSTM U-Net: tumor probability at every visit from t1, t1c, t2, flair, ct; click, box, mask prompts",
    "outlines": "the enhancing core with its necrosis on T1c or CT, else all that is abnormal on T2 or FLAIR",
    "fed": "AlignedSeries.data: MR (raw - median) / robust sigma in the body; CT (HU - 40) / 100; days between visits",
    "automatic": ["t1c", "flair", "t2"],
    "trained_on": [
        "growth simulated on ICBM152 2009a tissue maps (Fonov et al. 2011) and on 3 brains of the 3D MR image database "
        "of MS patients (Lesjak et al. 2017, CC BY)",
        "19 of 26 tumors of the IBSI validation set from TCIA Soft-tissue-Sarcoma (CC BY 3.0), with warped visits",
        "6 visits of 3 of 5 patients of TCIA Brain-Tumor-Progression (doi 10.7937/K9/TCIA.2018.15quzvnb, CC BY 3.0), "
        "with warped visits",
    ],
    "held_out": "sarcomas " + ", ".join(HELD_OUT_SARCOMAS) + "; glioblastomas " + ", ".join(HELD_OUT_GLIOBLASTOMAS),
    "licence": "BSD-3-Clause; attribution as in trained_on",
    "use": RESEARCH_USE,
}
GRADIENT_LIMIT = 1.0
FRONT_BAND_MM = 8.0  # the speed is judged this near to the front
SAVE_EVERY = 250


@dataclass(frozen=True)
class TrainOptions:
    """One run. data: folder with brains/ and sarcoma/ (or None: simulated template brains only).

    start: a shipped model or a .safetensors file whose weights a new run begins with; the network is then the card's.
    """

    run: Path
    steps: int = 8000
    data: Path | None = None
    learning_rate: float = 7e-4
    seed: int = 1
    fields: int = 160
    network: NetworkConfig = field(default_factory=NetworkConfig)
    start: str | None = None
    device: str = "cpu"
    threads: int = 2
    workers: int = 1


def load_anatomies(data: Path | None) -> list[Anatomy]:
    """The template, and where data has them the real brains and the sarcomas that are not held out."""
    anatomies = [template_brain()]
    if data is not None:
        anatomies += real_brains(data / "brains")
        real = [*real_tumors(data / "sarcoma"), *real_glioblastomas(data / "glioblastoma")]
        anatomies += [a for a in real if a.name.rsplit("-", 1)[0] not in HELD_OUT]
    return anatomies


def train(options: TrainOptions) -> Iterator[dict[str, float]]:
    """Run to options.steps from where the run folder stands; yields the running losses now and then."""
    from torch.utils.tensorboard import SummaryWriter

    torch.set_num_threads(options.threads)
    anatomies = load_anatomies(options.data)
    fields = make_fields(anatomies, options.fields, options.seed, options.run.parent / "fields")
    device = torch.device(options.device)
    network = (GrowthNet(options.network) if options.start is None else load_model(options.start).network).to(device)
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.998))
    optimiser = torch.optim.AdamW(network.parameters(), lr=options.learning_rate, weight_decay=1e-4)
    step = _resume(options.run, network, average, optimiser)
    writer = SummaryWriter(options.run)
    losses: dict[str, list[float]] = {}
    while step < options.steps:
        until, loader = _stage_loader(options, step, anatomies, fields)
        for sample in loader:
            started = time.perf_counter()
            _set_rate(optimiser, options, step)
            for name, value in training_step(network, _to(sample, device), optimiser).items():
                losses.setdefault(name, []).append(value)
            average.update_parameters(network)
            losses.setdefault("seconds", []).append(time.perf_counter() - started)
            step += 1
            if step % SAVE_EVERY == 0 or step == options.steps:
                _save(options.run, network, average, optimiser, step)
            if step % 50 == 0:
                means = {name: float(np.mean(values)) for name, values in losses.items()}
                losses.clear()
                for name, value in means.items():
                    writer.add_scalar(name, value, step)
                writer.flush()
                yield {"step": step, **means}
            if step >= until:
                break


def training_step(network: GrowthNet, sample: Mapping[str, Any], optimiser: torch.optim.Optimizer) -> dict[str, float]:
    """One sequence forward and back; returns the losses as numbers."""
    device_type = sample["images"].device.type
    with torch.autocast(device_type, torch.bfloat16):
        losses = sequence_losses(network, sample)
    total = losses["segmentation"] + losses.get("forecast", torch.zeros(()))
    optimiser.zero_grad(set_to_none=True)
    total.backward()
    norm = torch.nn.utils.clip_grad_norm_(network.parameters(), GRADIENT_LIMIT)
    if bool(torch.isfinite(norm)):
        optimiser.step()
    return {name: float(value.detach()) for name, value in losses.items()}


def sequence_losses(network: GrowthNet, sample: Mapping[str, Any]) -> dict[str, Tensor]:
    """Segmentation loss over all visits, and the forecast loss where the sample has distance maps."""
    spacing = [float(s) for s in sample["spacing_mm"][0]]
    strides = pool_strides(spacing, network.levels - 1)
    present = [bool(p) for p in sample["present"][0]]
    days, state = sample["days"], None
    segmentation, forecasts, dices = [], [], []
    for t in range(days.shape[1]):
        gap = None if t == 0 else days[:, t] - days[:, t - 1]
        logits, coarse, features, state = network(
            sample["images"][:, t],
            sample["alike"][:, t],
            present,
            sample["prompt"][:, t],
            strides,
            state,
            gap,
        )
        truth = sample["mask"][:, t, None].float()
        segmentation.append(_mask_loss(logits, truth) + 0.4 * _mask_loss(coarse, F.avg_pool3d(truth, strides[0])))
        dices.append(_dice(logits, truth))
        if "phi" in sample and t + 1 < days.shape[1]:
            forecasts.append(_forecast_loss(network, features, sample, t, strides[0]))
    losses = {"segmentation": torch.stack(segmentation).mean(), "dice": torch.stack(dices).mean()}
    losses["dice_" + ("prompted" if bool(sample["prompt"].any()) else "none")] = losses["dice"]
    if forecasts:
        losses["forecast"] = torch.stack(forecasts).mean()
    return losses


_soft_dice = DiceLoss(sigmoid=True, smooth_nr=1.0, smooth_dr=1.0)


def _mask_loss(logits: Tensor, truth: Tensor) -> Tensor:
    logits = logits.float()
    dice: Tensor = _soft_dice(logits, truth)
    return dice + F.binary_cross_entropy_with_logits(logits, truth, pos_weight=logits.new_tensor(2.0))


@torch.no_grad()
def _dice(logits: Tensor, truth: Tensor) -> Tensor:
    guess = (logits > 0).float()
    return (2 * (guess * truth).sum() + 1) / (guess.sum() + truth.sum() + 1)


def _forecast_loss(
    network: GrowthNet, features: Tensor, sample: Mapping[str, Any], t: int, stride: tuple[int, int, int]
) -> Tensor:
    phi, days = sample["phi"], sample["days"]
    before = phi[:, t - 1] if t > 0 else None
    months = (days[:, t] - days[:, t - 1 if t > 0 else t]).clamp(min=1).reshape(-1, 1, 1, 1) / DAYS_PER_MONTH
    horizon = days[:, t + 1] - days[:, t]
    geometry = forecast_geometry(phi[:, t], before, months, sample["mean_speed"][:, t], horizon)
    speed = network.speed(features, geometry, stride)[:, 0]
    ahead = horizon.reshape(-1, 1, 1, 1) / DAYS_PER_MONTH
    expected = phi[:, t] - speed * ahead
    band = ((phi[:, t].abs() < FRONT_BAND_MM) | (phi[:, t + 1].abs() < FRONT_BAND_MM)).float()
    error = F.smooth_l1_loss(expected, phi[:, t + 1], reduction="none") * band
    overlap: Tensor = _soft_dice(-expected[:, None], sample["mask"][:, t + 1, None].float())
    return 0.3 * error.sum() / band.sum().clamp(min=1) + overlap


# ---- keeping and going on ----


def _stage_loader(
    options: TrainOptions, step: int, anatomies: list[Anatomy], fields: list[Any]
) -> tuple[int, DataLoader[dict[str, Tensor]]]:
    """The loader for the stage that ``step`` lies in, starting at sample ``step``, and the step that ends the stage."""
    starts = [round(share * options.steps) for share, _ in STAGES] + [options.steps]
    index = max(n for n in range(len(STAGES)) if starts[n] <= step)
    dataset = GrowthDataset(anatomies, fields, options.seed, STAGES[index][1])
    loader = DataLoader(
        dataset,
        batch_size=1,
        sampler=range(step, starts[index + 1]),
        num_workers=options.workers,
        prefetch_factor=4 if options.workers else None,
        worker_init_fn=lambda _: torch.set_num_threads(1),
    )
    return starts[index + 1], loader


def _set_rate(optimiser: torch.optim.Optimizer, options: TrainOptions, step: int) -> None:
    """A short warm-up, then a cosine to zero at the last step."""
    share = step / options.steps
    rate = options.learning_rate * min(1.0, (step + 1) / 100) * 0.5 * (1 + float(np.cos(np.pi * share)))
    for group in optimiser.param_groups:
        group["lr"] = rate


def _to(sample: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: value.to(device, non_blocking=True) for name, value in sample.items()}


def _save(run: Path, network: Any, average: Any, optimiser: Any, step: int) -> None:
    run.mkdir(parents=True, exist_ok=True)
    state = {
        "network": network.state_dict(),
        "average": average.state_dict(),
        "optimiser": optimiser.state_dict(),
        "step": step,
        "config": network.config.to_dict(),
    }
    torch.save(state, run / "last.tmp")
    (run / "last.tmp").replace(run / "last.pt")


def _resume(run: Path, network: Any, average: Any, optimiser: Any) -> int:
    path = run / "last.pt"
    if not path.exists():
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    network.load_state_dict(state["network"])
    average.load_state_dict(state["average"])
    optimiser.load_state_dict(state["optimiser"])
    return int(state["step"])


def export(run: Path, target: Path) -> None:
    """The averaged weights of a run as a shipped model: safetensors and a card beside it."""
    state = torch.load(run / "last.pt", map_location="cpu", weights_only=True)
    network = GrowthNet(NetworkConfig.from_dict(state["config"]))
    averaged = {name.removeprefix("module."): v for name, v in state["average"].items() if name != "n_averaged"}
    network.load_state_dict(averaged)
    save_model(network, target, {**CARD, "steps": state["step"]})
