"""The inside of a worker process: memory bounded, the model loaded once, one patient after the other."""

from __future__ import annotations

import signal
from collections.abc import Generator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

from napari_convlstm_tumor.batch.fingerprint import needs_network
from napari_convlstm_tumor.batch.outcome import Outcome
from napari_convlstm_tumor.batch.patient import Task, run_patient
from napari_convlstm_tumor.errors import SettingsError
from napari_convlstm_tumor.model.device import pick_device
from napari_convlstm_tumor.model.segmenters import segmenter_of
from napari_convlstm_tumor.pipeline import Segmenter
from napari_convlstm_tumor.series import AlignedSeries, Prediction, Prompt
from napari_convlstm_tumor.settings import Settings

Gate = AbstractContextManager[Any]


@dataclass(frozen=True)
class WorkerSetup:
    """What a worker is told once. threads: for the network on the CPU. memory_limit: bytes, or None."""

    threads: int = 0
    memory_limit: int | None = None


def serve(pipe: Connection, gate: Gate, setup: WorkerSetup) -> None:
    """Take tasks from the pipe and send Steps and Outcomes back until it closes.

    When the batch is killed, the next word to it fails and ends this process; the patient's lock goes with it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the batch ends its workers itself
    prepare_process(setup)
    with suppress(EOFError, OSError):
        while True:
            task: Task = pipe.recv()
            for event in run_patient(task, segmenter_for(task, gate)):
                pipe.send(event.slim() if isinstance(event, Outcome) else replace(event, analysis=None))


def prepare_process(setup: WorkerSetup) -> None:
    """Threads and memory of this process, for good."""
    import torch

    if setup.threads:
        torch.set_num_threads(min(setup.threads, torch.get_num_threads()))
    if setup.memory_limit is not None:
        limit_memory(setup.memory_limit)


def limit_memory(limit: int) -> None:
    """Let Linux refuse this process more than ``limit`` bytes of private memory: that becomes a MemoryError."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def segmenter_for(task: Task, gate: Gate) -> Segmenter | None:
    """On a GPU one worker at a time has the network at work, so that its memory holds one patient; else the usual."""
    if not needs_network(task.files, task.settings):
        return None
    try:
        on_gpu = pick_device(task.settings.device).type == "cuda"
    except SettingsError:
        return None  # said again, in its place, when the patient is analysed
    return gated(segmenter_of(task.settings.model), gate) if on_gpu else None


def gated(segmenter: Segmenter, gate: Gate) -> Segmenter:
    """The same segmenter, at work only while it holds ``gate``."""

    def segment(
        aligned: AlignedSeries, prompts: tuple[Prompt, ...], settings: Settings
    ) -> Generator[float, None, Prediction]:
        with gate:
            return (yield from segmenter(aligned, prompts, settings))

    return segment
