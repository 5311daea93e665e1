"""What a person chose for a batch: which patients, how many at once, how much memory, whose computers."""

from __future__ import annotations

import fnmatch
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from napari_convlstm_tumor.errors import SettingsError
from napari_convlstm_tumor.series import PatientFiles

UNITS = {"": 1, "K": 1000, "M": 1000**2, "G": 1000**3, "T": 1000**4}
BINARY_UNITS = {"KI": 1024, "MI": 1024**2, "GI": 1024**3, "TI": 1024**4}
# A worker with all its libraries and the weights holds 0.4 GB before it sees a patient (measured).
LEAST_MEMORY = 1000**3
LOCAL = "local"


@dataclass(frozen=True)
class BatchPlan:
    """jobs: worker processes, 0 = work in this process. overwrite: do finished patients again, too.

    memory_limit: bytes of private memory a worker may hold. scheduler: "" = processes of this program, "local" = a Dask
    cluster on this machine, "tcp://host:port" = workers that wait there.
    """

    jobs: int = 0
    overwrite: bool = False
    memory_limit: int | None = None
    scheduler: str = ""

    def __post_init__(self) -> None:
        if self.jobs < 0:
            raise SettingsError(f"--jobs is at least 1, got {self.jobs}.")
        if self.memory_limit is not None and self.memory_limit < LEAST_MEMORY:
            raise SettingsError(
                f"--memory-limit is {shown(self.memory_limit)}; a worker needs at least {shown(LEAST_MEMORY)}, most "
                "patients 2 GB or more."
            )
        if self.scheduler and self.scheduler != LOCAL and "://" not in self.scheduler:
            raise SettingsError(f"--scheduler is 'local' or an address like tcp://host:8786, got '{self.scheduler}'.")

    def fitted(self, memory: int | None) -> BatchPlan:
        """With no more jobs than ``memory`` bytes hold at the limit.

        Raises SettingsError when not even one fits, or when nothing here could hold the limit.
        """
        if self.memory_limit is None:
            return self
        if self.scheduler not in ("", LOCAL):
            raise SettingsError("--memory-limit is the workers' own there: dask worker --memory-limit.")
        if sys.platform != "linux" and not self.scheduler:
            raise SettingsError("--memory-limit needs Linux, or --scheduler local. Leave it out and use fewer --jobs.")
        if memory is None or not self.jobs:
            return self
        jobs = min(self.jobs, memory // self.memory_limit)
        if not jobs:
            raise SettingsError(
                f"--memory-limit is {shown(self.memory_limit)} per worker, and {shown(memory)} are free here. "
                "Give a lower limit."
            )
        return replace(self, jobs=jobs)


def choose(
    patients: Sequence[PatientFiles],
    only: Sequence[str] = (),
    exclude: Sequence[str] = (),
    part: tuple[int, int] = (1, 1),
) -> list[PatientFiles]:
    """The patients of one part: those that match any of ``only`` (none given: all) and none of ``exclude``.

    only, exclude: patterns like ``GBM-*``. part: (K, N), every N-th patient beginning with the K-th.
    """
    chosen = [
        p
        for p in patients
        if (not only or any(fnmatch.fnmatchcase(p.patient, pattern) for pattern in only))
        and not any(fnmatch.fnmatchcase(p.patient, pattern) for pattern in exclude)
    ]
    number, parts = part
    return chosen[number - 1 :: parts]


def parse_part(text: str) -> tuple[int, int]:
    """'3/8' -> (3, 8). Raises SettingsError."""
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text.strip())
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise SettingsError(f"--part is K/N with K from 1 to N, like 3/8; got '{text}'.")
    return int(found[1]), int(found[2])


def parse_bytes(text: str) -> int:
    """'6GB', '512MiB' or plain bytes -> bytes. Raises SettingsError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT]I?)?B?", text.strip().upper())
    if found is None:
        raise SettingsError(f"--memory-limit is a number with a unit, like 6GB; got '{text}'.")
    return int(float(found[1]) * (UNITS | BINARY_UNITS)[found[2] or ""])


def shown(size: int) -> str:
    """Bytes for a person."""
    return f"{size / 1000**3:.1f} GB"


def cores() -> int:
    """Cores this process may use: those a job scheduler gave it, not those of the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def free_memory() -> int | None:
    """Bytes that can still be taken here, within the container when there is one; None where nothing says so."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    limits = [Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory.current")]
    try:
        most, used = (path.read_text(encoding="ascii").strip() for path in limits)
        return free if most == "max" else min(free, int(most) - int(used))
    except (OSError, ValueError):
        return free
