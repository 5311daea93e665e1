"""Whole simulated heads to train on, made once and kept as a person's own patients are (training/own).

The crops that training/dataset paints at every step are always new, but simpler than a patient: these heads are what
`convlstm-tumor simulate` writes (operations, mass effect, lesions that merge, split, come and go), brought to the
network by prepare/ as any patient is.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch

from napari_convlstm_tumor.errors import SettingsError, TumorError
from napari_convlstm_tumor.prepare.preprocess import align
from napari_convlstm_tumor.settings import Settings
from napari_convlstm_tumor.training.anatomy import Anatomy
from napari_convlstm_tumor.training.dataset import HETEROGENEOUS_SHARE, PLAIN_SHARE, THIN_RIM_SHARE
from napari_convlstm_tumor.training.kept import simulated_series
from napari_convlstm_tumor.training.own import META_FILE, OwnPatient, keep_aligned, load_kept
from napari_convlstm_tumor.training.patients import PatientPlan
from napari_convlstm_tumor.training.testsets import result_of

# Far from the seeds of training/testsets (5000 and up): no patient is on both sides.
FIRST_HEAD_SEED, HEADS_PER_RUN = 1_000_000, 10_000
TEMPLATE_SHARE = 0.4  # of the heads are of the template, the others of the real brains, where there are any
VOXEL_MM = (1.3, 2.0)
THICK_SHARE, THICK_MM = 0.2, (3.0, 6.0)
STRIPPED_SHARE = 0.35  # of the heads show the brain alone
# What happens, and what a patient comes with, and how often.
COURSE_SHARES = (("any", 0.46), ("mixed", 0.18), ("large", 0.22), ("tumor-free", 0.14))
# Beside T1c often others, as a glioma's visit has them: with FLAIR and T2 there the outline took in oedema.
SEQUENCES = (
    (("t1c",), 0.34),
    (("flair",), 0.31),
    (("t1", "t1c", "t2", "flair"), 0.1),
    (("t1", "t1c"), 0.06),
    (("t1c", "flair"), 0.06),
    (("t2",), 0.07),
    (("t1",), 0.06),
)


def simulated_heads(anatomies: Sequence[Anatomy], count: int, seeds: Sequence[int], cache: Path) -> list[OwnPatient]:
    """``count`` heads of each of ``seeds`` in the brains among ``anatomies``: from ``cache``, or made there.

    One whose course finds no room in its brain is left out.
    """
    if count > HEADS_PER_RUN:
        raise SettingsError(f"A run makes at most {HEADS_PER_RUN} heads of a seed, got {count}.")
    brains = [a for a in anatomies if a.tissue is not None]
    plans = [_plan(brains, seed, n) for seed in seeds for n in range(count)]
    folders = [cache / f"head-{plan.seed}-{brains[brain].name}" for plan, brain in plans]  # other --data, other brains
    missing = [n for n, folder in enumerate(folders) if not folder.is_dir()]
    if missing:
        with ProcessPoolExecutor(
            os.cpu_count(), multiprocessing.get_context("spawn"), _start_worker, (brains,)
        ) as pool:
            for _ in pool.map(_make, [plans[n] for n in missing], [folders[n] for n in missing]):
                pass
    return [load_kept(folder) for folder in folders if (folder / META_FILE).exists()]


def _plan(brains: Sequence[Anatomy], seed: int, n: int) -> tuple[PatientPlan, int]:
    """Head n of a run: its plan, and which of the brains it has."""
    number = FIRST_HEAD_SEED + HEADS_PER_RUN * seed + n
    rng = np.random.default_rng([number, 5])
    brain = 0 if rng.random() < TEMPLATE_SHARE else int(rng.integers(len(brains)))
    choice = int(rng.choice(len(SEQUENCES), p=[share for _, share in SEQUENCES]))
    fine = float(rng.uniform(*VOXEL_MM))
    through = float(rng.uniform(*THICK_MM)) if rng.random() < THICK_SHARE else fine
    course = COURSE_SHARES[int(rng.choice(len(COURSE_SHARES), p=[share for _, share in COURSE_SHARES]))][0]
    visits = int(rng.integers(3, 6))
    stripped = bool(rng.random() < STRIPPED_SHARE)
    return PatientPlan(
        seed=number,
        visits=visits,
        course=course,
        modalities=SEQUENCES[choice][0],
        spacing_mm=(fine, fine, through),
        motion=False,
        skull_stripped=stripped,
        thin_rim=bool(rng.random() < THIN_RIM_SHARE),
        heterogeneous=bool(rng.random() < HETEROGENEOUS_SHARE),
        enhancing=False if course != "mixed" and rng.random() < PLAIN_SHARE else None,
    ), brain


_brains: list[Anatomy] = []


def _start_worker(brains: list[Anatomy]) -> None:
    torch.set_num_threads(1)
    _brains[:] = brains


def _make(plan_and_brain: tuple[PatientPlan, int], folder: Path) -> None:
    plan, brain = plan_and_brain
    try:
        aligned = result_of(align(simulated_series(plan, _brains[brain]), Settings(register=False)))
        keep_aligned(aligned, frozenset(), folder)
    except TumorError:
        folder.mkdir(parents=True)  # so that it is not tried again
