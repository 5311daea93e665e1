"""Training: one plain loop, bf16 where it can, resumable to the step; on the CPU, a GPU, or many by torchrun.

The caller seeds torch.

`convlstm-tumor train --data ../shared/data --steps 8000 --run runs/first` starts or goes on with a run;
the run folder holds last.pt (network, averaged weights, optimiser, step), TensorBoard curves, and what it trained on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from napari_convlstm_tumor import RESEARCH_USE
from napari_convlstm_tumor.errors import SettingsError
from napari_convlstm_tumor.model.card import load_model, save_model
from napari_convlstm_tumor.model.device import fast_precision
from napari_convlstm_tumor.model.network import GrowthNet, NetworkConfig
from napari_convlstm_tumor.series import FED
from napari_convlstm_tumor.training import leakage
from napari_convlstm_tumor.training.baseline import VisitUNet, load_baseline
from napari_convlstm_tumor.training.losses import sequence_losses
from napari_convlstm_tumor.training.material import (
    FORECAST_STAGE,
    LAST_STAGE,
    STAGES,
    Stages,
    about,
    load_material,
    stage_loader,
)
from napari_convlstm_tumor.training.parallel import Team, join

# What the card of exported weights says besides the numbers of the run.
CARD = {
    "what": "ConvLSTM U-Net: tumor probability at every visit from t1, t1c, t2, flair, ct; click, box, mask prompts",
    "outlines": "the enhancing core with its necrosis on T1c or CT, else all that is abnormal on T2 or FLAIR",
    "fed": FED,
    "automatic": ["t1c", "flair", "t2"],
    "licence": "BSD-3-Clause; attribution as in trained_on",
    "use": RESEARCH_USE,
}
# What material.about tells of a run goes into the card as it is.
TOLD = ("trained_on", "held_out", "core_on", "outline_at")
GRADIENT_LIMIT = 1.0
SAVE_EVERY = 250
RECORD_EVERY = 50
CHECKPOINT = "last.pt"


@dataclass(frozen=True)
class TrainOptions:
    """One run. data: folder with brains/, sarcoma/, glioblastoma/ (or None: simulated template brains only).

    start: a shipped model or a .safetensors file whose weights a new run begins with; the network is then the card's,
    and there is no curriculum. patients: a person's own patients, ``own_share`` of the sequences. baseline: train the
    per-visit U-Net of training/baseline. heads: whole simulated heads to make and keep
    (training/heads) of each of head_seeds (empty: the seed of the run).
    forecast_only: train the forecast head, all else stays as ``start`` has it. averaging: how slowly the exported
    average follows the weights. threads: of the network; by default one core is left to the worker drawing the samples.
    """

    run: Path
    steps: int = 8000
    data: Path | None = None
    learning_rate: float = 7e-4
    seed: int = 1
    fields: int = 160
    heads: int = 0
    head_seeds: tuple[int, ...] = ()
    forecast_only: bool = False
    network: NetworkConfig = field(default_factory=NetworkConfig)
    start: str | None = None
    device: str = "cpu"
    threads: int = field(default_factory=lambda: max(1, (os.cpu_count() or 2) - 1))
    workers: int = 1
    patients: Path | None = None
    own_share: float = 0.7
    baseline: bool = False
    averaging: float = 0.998

    def __post_init__(self) -> None:
        if not 0 < self.own_share <= 1:
            raise SettingsError(f"The share of your own patients is above 0 and at most 1, got {self.own_share}.")
        if self.steps < 1:
            raise SettingsError(f"steps is at least 1, got {self.steps}.")
        if self.forecast_only and (self.start is None or self.baseline):
            raise SettingsError("Training the forecast alone needs the weights of a network with memory (--start).")


def train(options: TrainOptions) -> Iterator[dict[str, float]]:
    """Run to options.steps from where the run folder stands; yields running means now and then (first process only).

    seconds: of a step; waited: of it, for the next sample.
    """
    torch.set_num_threads(options.threads)
    team = join(options.device)
    kept = options.run.parent
    with team.first_alone():
        heads = options.heads, options.head_seeds or (options.seed,)
        material = load_material(
            options.data, options.patients, options.own_share, options.fields, heads, options.seed, kept
        )
    network, start = _network(options)
    network.to(team.device).to(memory_format=torch.channels_last_3d)
    stages = _stages(options)
    if options.forecast_only:
        network.requires_grad_(False).forecast.requires_grad_(True)
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(options.averaging))
    optimiser = torch.optim.AdamW(network.parameters(), lr=options.learning_rate, weight_decay=1e-4)
    step = _resume(options.run, network, average, optimiser)
    if step == 0:
        team.share_weights(network)
    told = about(options.data is not None, len(material.own), start, options.baseline)
    records = None
    if team.rank == 0:
        leakage.record(options.run, material.images, start)
        records = Records(options.run)
    while step < options.steps:
        until, loader = stage_loader(material, step, options.steps, options.seed, options.workers, team, stages)
        ended = time.perf_counter()
        for sample in loader:
            waited = time.perf_counter() - ended
            _set_rate(optimiser, options, step)
            losses = training_step(network, _to(sample, team.device), optimiser, team)
            average.update_parameters(network)
            step += 1
            if team.rank == 0 and (step % SAVE_EVERY == 0 or step == options.steps):
                _save(options.run, network, average, optimiser, step, told)
            seconds, ended = time.perf_counter() - ended, time.perf_counter()
            if records is not None:
                yield from records.add(step, {**losses, "seconds": seconds, "waited": waited})
            if step >= until:
                break
    team.leave()


class Records:
    """Running means of what a step tells, to TensorBoard and to the caller every RECORD_EVERY steps."""

    def __init__(self, run: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer, self.values = SummaryWriter(run), dict[str, list[float]]()

    def add(self, step: int, values: Mapping[str, float]) -> Iterator[dict[str, float]]:
        """Take the numbers of a step; the means, when it is time for them."""
        for name, value in values.items():
            self.values.setdefault(name, []).append(value)
        if step % RECORD_EVERY:
            return
        means = {name: float(np.mean(kept)) for name, kept in self.values.items()}
        self.values.clear()
        for name, mean in means.items():
            self.writer.add_scalar(name, mean, step)
        self.writer.flush()
        yield {"step": step, **means}


def _network(options: TrainOptions) -> tuple[Any, Mapping[str, Any] | None]:
    """The network to train, and the card of the weights it starts with (None: it starts from nothing)."""
    if options.start is None:
        return (VisitUNet if options.baseline else GrowthNet)(options.network), None
    model = load_baseline(Path(options.start)) if options.baseline else load_model(options.start)
    return model.network, model.card


def _stages(options: TrainOptions) -> Stages:
    """What the run draws when; a network that has no memory knows nothing of what another visit showed."""
    if options.forecast_only:
        return FORECAST_STAGE
    stages: Stages = STAGES if options.start is None else LAST_STAGE
    if options.baseline:
        return [(share, replace(stage, carried_share=0.0)) for share, stage in stages]
    return stages


def training_step(
    network: GrowthNet, sample: Mapping[str, Any], optimiser: torch.optim.Optimizer, team: Team | None = None
) -> dict[str, float]:
    """One sequence (of each process) forward and back; returns the losses as numbers."""
    with fast_precision(sample["images"].device):
        losses = sequence_losses(network, sample)
    total = losses["segmentation"] + losses.get("forecast", torch.zeros(()))
    optimiser.zero_grad(set_to_none=True)
    if total.requires_grad:
        total.backward()
    if team is not None:
        team.average_gradients(network)
    norm = torch.nn.utils.clip_grad_norm_(network.parameters(), GRADIENT_LIMIT)
    if bool(torch.isfinite(norm)):
        optimiser.step()
    return {name: float(value.detach()) for name, value in losses.items()}


# ---- keeping and going on ----


def _set_rate(optimiser: torch.optim.Optimizer, options: TrainOptions, step: int) -> None:
    """A short warm-up, then a cosine to zero at the last step."""
    share = step / options.steps
    rate = options.learning_rate * min(1.0, (step + 1) / 100) * 0.5 * (1 + float(np.cos(np.pi * share)))
    for group in optimiser.param_groups:
        group["lr"] = rate


def _to(sample: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: value.to(device, non_blocking=True) for name, value in sample.items()}


def _save(run: Path, network: Any, average: Any, optimiser: Any, step: int, told: Mapping[str, Any]) -> None:
    run.mkdir(parents=True, exist_ok=True)
    state = {
        "network": network.state_dict(),
        "average": average.state_dict(),
        "optimiser": optimiser.state_dict(),
        "step": step,
        "config": network.config.to_dict(),
        "about": dict(told),
    }
    torch.save(state, run / f"{CHECKPOINT}.part")
    (run / f"{CHECKPOINT}.part").replace(run / CHECKPOINT)


def _resume(run: Path, network: Any, average: Any, optimiser: Any) -> int:
    path = run / CHECKPOINT
    if not path.exists():
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    network.load_state_dict(state["network"])
    average.load_state_dict(state["average"])
    optimiser.load_state_dict(state["optimiser"])
    return int(state["step"])


def export(run: Path, target: Path) -> None:
    """The averaged weights of a run as a model: safetensors and a card beside it, with what it was trained on.

    Raises SettingsError when the run has saved nothing yet.
    """
    if not (run / CHECKPOINT).exists():
        raise SettingsError(f"The run {run.name} has no {CHECKPOINT} yet; nothing to export.")
    state = torch.load(run / CHECKPOINT, map_location="cpu", weights_only=True)
    told = state.get("about") or about(data=True, own=0, start=None, baseline=False)  # of a run older than this key
    network: Any = (VisitUNet if told["baseline"] else GrowthNet)(NetworkConfig.from_dict(state["config"]))
    averaged = {name.removeprefix("module."): v for name, v in state["average"].items() if name != "n_averaged"}
    network.load_state_dict(averaged)
    card = {**CARD, **{key: told[key] for key in TOLD if key in told}}
    card["steps"] = told.get("steps_before", 0) + state["step"]
    if told["baseline"]:
        card["what"] = "per-visit MONAI U-Net without memory, to compare with (training/baseline)"
    if (run / leakage.TRAINED_FILE).exists():
        card[leakage.CARD_KEY] = sorted(leakage.recorded(run))
    save_model(network, target, card)
