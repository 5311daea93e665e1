"""One process or many (started by torchrun): who am I, whose turn is it, and the mean of all gradients.

The loop of training/train is the same for one and for many. The gradients are averaged after the backward pass and not
by DistributedDataParallel: a step calls the network once per visit, and which of its parts have a gradient differs from
sample to sample (images that are absent, samples without a forecast), which that wrapper forbids or pays for.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn

from napari_convlstm_tumor.errors import SettingsError

# The first process reads and simulates while the others wait; many large patients take a while.
LONGEST_WAIT = timedelta(hours=4)


@dataclass(frozen=True)
class Team:
    """This process's number among ``size``, and its device."""

    rank: int
    size: int
    device: torch.device

    @contextlib.contextmanager
    def first_alone(self) -> Iterator[None]:
        """The first process does what is inside, then all others do it (and find the files that it kept)."""
        if self.size > 1 and self.rank:
            distributed.barrier()
        yield
        if self.size > 1 and not self.rank:
            distributed.barrier()

    def average_gradients(self, network: nn.Module) -> None:
        """Each gradient becomes its mean over the processes; one message of all of them. No gradient counts as zero."""
        if self.size == 1:
            return
        parameters = [p for p in network.parameters() if p.requires_grad]
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters])
        distributed.all_reduce(flat)
        flat /= self.size
        for parameter, mean in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
            parameter.grad = mean.view_as(parameter)

    def share_weights(self, network: nn.Module) -> None:
        """All processes begin with the weights of the first."""
        if self.size > 1:
            for tensor in _tensors(network):
                distributed.broadcast(tensor, 0)

    def leave(self) -> None:
        """The end of the work together."""
        if self.size > 1:
            distributed.destroy_process_group()


def join(device: str) -> Team:
    """The team that torchrun started, or this process alone. device: "cpu" or "cuda" (one GPU per process).

    Raises SettingsError when cuda is asked for and there is no GPU for this process.
    """
    size, rank, local = (int(os.getenv(n, d)) for n, d in (("WORLD_SIZE", 1), ("RANK", 0), ("LOCAL_RANK", 0)))
    if device == "cuda" and local >= torch.cuda.device_count():
        raise SettingsError(
            f"Training process {local} has no GPU: {torch.cuda.device_count()} found. "
            "Start as many processes as there are GPUs (torchrun --nproc-per-node), or take --device cpu."
        )
    place = torch.device(device, local) if device == "cuda" else torch.device(device)
    if size > 1 and not distributed.is_initialized():
        distributed.init_process_group("nccl" if device == "cuda" else "gloo", timeout=LONGEST_WAIT)
    if device == "cuda":
        torch.cuda.set_device(place)
    return Team(rank, size, place)


def _tensors(network: nn.Module) -> Iterator[Tensor]:
    for tensor in (*network.parameters(), *network.buffers()):
        yield tensor.data
