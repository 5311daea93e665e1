"""Simulated patients made once and kept, and made ahead by a thread while another is scored."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from napari_convlstm_tumor.series import Series, Visit
from napari_convlstm_tumor.training.anatomy import Anatomy
from napari_convlstm_tumor.training.patients import PatientPlan, SimulatedPatient, simulate_patient
from napari_convlstm_tumor.training.warped import simulate_warped
from napari_convlstm_tumor.volume import Grid, Volume

Item = TypeVar("Item")
Arrays = dict[str, npt.NDArray[Any]]
# A kept patient is made anew when one of these changed, as it might be another one then.
SIMULATOR = (
    *("anatomy", "appearance", "courses", "deform", "frame", "head", "patients", "scene", "simulate", "surgery"),
    "truth",
)


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items, each next one made by a thread in the meantime (numpy, torch and SimpleITK let threads run)."""
    with ThreadPoolExecutor(1) as maker:
        coming = maker.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = maker.submit(next, items, None)
            yield item


def simulated_series(plan: PatientPlan, anatomy: Anatomy | None, cache: Path | None = None) -> Series:
    """The patient of a plan with its masks, from ``cache`` where it is kept."""
    path = None if cache is None else cache / f"sim-{plan.seed}-{_key(plan, anatomy)}.npz"
    if path is None or not path.exists():
        arrays = _arrays(simulate_patient(plan, anatomy))
        if path is None:
            return _series(plan.seed, plan.modalities, arrays)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part.npz")
        np.savez_compressed(part, allow_pickle=False, **arrays)
        part.replace(path)
    with np.load(path) as kept:
        return _series(plan.seed, plan.modalities, {name: kept[name] for name in kept})


def warped_series(anatomy: Anatomy, seed: int, visits: int) -> Series:
    """The real tumor of ``anatomy`` with other visits made by a known warp (training/warped), and its masks."""
    return _series(seed, tuple(anatomy.images), _arrays(simulate_warped(anatomy, seed, visits)))


def _arrays(patient: SimulatedPatient) -> Arrays:
    whole = {name: frames.astype(np.int16) for name, frames in patient.images.items()}  # as a scanner's file has them
    return {"days": np.array(patient.days), "masks": patient.masks, "affine": patient.affine, **whole}


def _series(seed: int, modalities: Sequence[str], arrays: Arrays) -> Series:
    i, j, k = arrays["masks"].shape[1:]
    grid = Grid((i, j, k), arrays["affine"].astype(np.float64))
    images = {m: arrays[m].astype(np.float32) for m in modalities}
    visits = tuple(
        Visit(
            f"visit-{t + 1}",
            int(day),
            {m: Volume(frames[t], grid) for m, frames in images.items()},
            Volume(arrays["masks"][t].astype(np.uint8), grid),
        )
        for t, day in enumerate(arrays["days"])
    )
    return Series(f"sim-{seed}", visits)


def _key(plan: PatientPlan, anatomy: Anatomy | None) -> str:
    """Changes with the plan, the brain and the simulator."""
    here = Path(__file__).parent
    sources = b"".join((here / f"{name}.py").read_bytes() for name in SIMULATOR)
    what = f"{asdict(plan)} {'icbm152' if anatomy is None else anatomy.name}".encode()
    return hashlib.sha256(what + sources).hexdigest()[:16]
