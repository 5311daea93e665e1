"""Simulated patients as folders: PATIENT/day-000/t1c.nii.gz, mask.nii.gz ..., and the truth beside them in truth.json.

The same functions that feed the training, on a whole head. Visits differ by a small rigid motion of the head, so that
registration has something to do. Made from the ICBM152 maps alone: no patient's data is in them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_convlstm_tumor.errors import SettingsError
from napari_convlstm_tumor.series import DAYS_PER_MONTH
from napari_convlstm_tumor.training import simulate
from napari_convlstm_tumor.training.anatomy import AIR, HEAD_MM, Anatomy, template_brain
from napari_convlstm_tumor.training.dataset import sample_at
from napari_convlstm_tumor.training.simulate import Course

# Raw intensity = (normalised - AIR) * RAW_PER_SIGMA, so that air is 0 as in a scanner's image.
RAW_PER_SIGMA = 120.0
LARGEST_TURN_DEGREES = 3.0
LARGEST_SHIFT_MM = 3.0
SIMULATED_MODALITIES = ("t1", "t1c", "t2", "flair")
# Speeds in mm per month of the named courses (low, high).
COURSES = {"growing": (1.2, 3.0), "shrinking": (-2.5, -1.2)}


@dataclass(frozen=True)
class PatientPlan:
    """One patient: same plan, same patient. course: any, growing or shrinking."""

    seed: int
    visits: int = 4
    course: str = "any"
    modalities: tuple[str, ...] = ("t1c", "flair")
    spacing_mm: tuple[float, ...] = (1.0, 1.0, 1.0)
    motion: bool = True

    def __post_init__(self) -> None:
        unknown = [m for m in self.modalities if m not in SIMULATED_MODALITIES]
        if unknown or not self.modalities:
            raise SettingsError(f"modalities are of {', '.join(SIMULATED_MODALITIES)}; got {self.modalities}.")
        if not 2 <= self.visits <= 8:
            raise SettingsError(f"visits is 2 to 8; got {self.visits}.")
        if len(self.spacing_mm) != 3 or not all(0.5 <= s <= 10 for s in self.spacing_mm):
            raise SettingsError(f"spacing is three numbers between 0.5 and 10 mm; got {self.spacing_mm}.")


@dataclass(frozen=True, eq=False)
class SimulatedPatient:
    """days (T,), images: modality -> (T, I, J, K) raw intensities, masks (T, I, J, K), each visit on its own affine.

    still: masks (T, I, J, K) in the head's own frame (no motion), for the truth of front speed and forecast.
    """

    days: tuple[int, ...]
    images: dict[str, npt.NDArray[np.float32]]
    masks: npt.NDArray[np.uint8]
    still: npt.NDArray[np.uint8]
    affine: npt.NDArray[np.float64]
    motions: tuple[npt.NDArray[np.float64], ...]
    course: Course


def simulate_patient(plan: PatientPlan, anatomy: Anatomy | None = None) -> SimulatedPatient:
    """The patient of a plan, in a given brain (default: the ICBM152 template)."""
    rng = np.random.default_rng([plan.seed, 77])
    brain = anatomy or template_brain()
    assert brain.tissue is not None and brain.outside is not None
    window = _head_window(brain)
    tissue = brain.tissue[:, *window]
    seeds = [simulate.seed_in(tissue, rng) for _ in range(1 + int(rng.random() < 0.3 and plan.course == "any"))]
    arrival = np.stack([simulate.arrival_field(tissue, seed, rng) for seed in seeds])
    scene = simulate.scene_of(brain, arrival, window)
    course, look = _course(plan, rng, len(seeds)), simulate.draw_look(rng)
    if plan.course != "any":
        look = replace(look, enhancing=True)
    levels = simulate.level_fields(scene, course, rng)
    backgrounds = {m: simulate.head_background(scene, m, rng, scalp=True) for m in plan.modalities}
    textures = {m: simulate.smooth_noise(levels.shape[1:], 3, rng) for m in plan.modalities}
    grid = _Frame.make(levels.shape[1:], plan.spacing_mm)
    motions = [_motion(rng, grid, moved=plan.motion and t > 0) for t in range(plan.visits)]
    masks, still = [], []
    images: dict[str, list[npt.NDArray[np.float32]]] = {m: [] for m in plan.modalities}
    for level, motion in zip(levels, motions, strict=True):
        truth = simulate.target_mask(level, scene, look, plan.modalities).float()
        masks.append(grid.read(truth, motion) > 0.5)
        still.append(grid.read(truth, np.eye(4)) > 0.5)
        for m in plan.modalities:
            painted = simulate.paint(backgrounds[m], level, scene, look, m, textures[m])
            image = simulate.scanner(grid.read(painted, motion), rng, strength=0.5)
            images[m].append(((image - AIR).clamp(min=0) * RAW_PER_SIGMA).round().numpy())
    return SimulatedPatient(
        course.days,
        {m: np.stack(frames) for m, frames in images.items()},
        torch.stack(masks).numpy().astype(np.uint8),
        torch.stack(still).numpy().astype(np.uint8),
        np.diag([*plan.spacing_mm, 1.0]),
        tuple(motions),
        course,
    )


def write_patient(plan: PatientPlan, folder: Path, anatomy: Anatomy | None = None) -> Path:
    """Write the patient of a plan as a folder that the reader takes; returns the folder."""
    patient = simulate_patient(plan, anatomy)
    for t, day in enumerate(patient.days):
        visit = folder / f"day-{day:03d}"
        visit.mkdir(parents=True, exist_ok=True)
        for modality, frames in patient.images.items():
            _write(visit / f"{modality}.nii.gz", frames[t].astype(np.int16), patient.affine)
        _write(visit / "mask.nii.gz", patient.masks[t], patient.affine)
    truth = {
        "seed": plan.seed,
        "days": list(patient.days),
        "volume_mm3": [float(m.sum() * np.prod(plan.spacing_mm)) for m in patient.masks],
        "radii_mm": patient.course.radii_mm.round(3).tolist(),
        "speeds_mm_per_month": list(patient.course.speeds),
        "head_motion": [m.round(6).tolist() for m in patient.motions],
        "made_by": "convlstm-tumor simulate (simulated on ICBM152 maps; no patient)",
    }
    (folder / "truth.json").write_text(json.dumps(truth, indent=1) + "\n", encoding="utf-8")
    return folder


# ---- small helpers ----


@dataclass(frozen=True)
class _Frame:
    """The image grid that looks at the 1 mm head."""

    sizes: tuple[int, int, int]
    spacing: tuple[float, ...]
    thin: int  # points averaged along k for a thick slice

    @classmethod
    def make(cls, head: torch.Size | tuple[int, ...], spacing: tuple[float, ...]) -> _Frame:
        i, j, k = (max(1, int(n // s)) for n, s in zip(head, spacing, strict=True))
        return cls((i, j, k), spacing, max(1, round(spacing[2])))

    def read(self, volume: Tensor, motion: npt.NDArray[np.float64]) -> Tensor:
        """The 1 mm volume as this grid sees it after the head moved; thick slices average what lies in them."""
        i, j, k = self.sizes
        steps = (self.spacing[0], self.spacing[1], self.spacing[2] / self.thin)
        axes = [torch.arange(n).float() * float(s) for n, s in zip((i, j, k * self.thin), steps, strict=True)]
        points = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
        points[..., 2] -= (self.thin - 1) / 2 * steps[2]
        moved = points @ torch.from_numpy(motion[:3, :3]).float().T + torch.from_numpy(motion[:3, 3]).float()
        read = sample_at(volume[None], moved)[0]
        return read.reshape(i, j, k, self.thin).mean(-1)


def _head_window(brain: Anatomy) -> tuple[slice, ...]:
    assert brain.outside is not None
    near = np.argwhere(brain.outside < HEAD_MM)
    return tuple(slice(int(a), int(b) + 1) for a, b in zip(near.min(0), near.max(0), strict=True))


def _course(plan: PatientPlan, rng: np.random.Generator, lesions: int) -> Course:
    if plan.course == "any":
        return simulate.draw_course(rng, plan.visits, lesions)
    low, high = COURSES[plan.course]
    start = (6.0, 10.0) if plan.course == "growing" else (14.0, 18.0)
    gaps = rng.integers(35, 95, plan.visits - 1)
    days = np.concatenate([[0], np.cumsum(gaps)])
    speed = float(rng.uniform(low, high))
    radii = np.clip(rng.uniform(*start) + speed * days / DAYS_PER_MONTH, 4, 40)
    return Course(tuple(int(d) for d in days), radii[None].astype(np.float32), (speed,))


def _motion(rng: np.random.Generator, grid: _Frame, moved: bool) -> npt.NDArray[np.float64]:
    """Rigid motion of the head (4, 4), image mm -> head mm, about the image's centre."""
    from scipy.spatial.transform import Rotation

    turn = rng.uniform(-LARGEST_TURN_DEGREES, LARGEST_TURN_DEGREES, 3)
    shift = rng.uniform(-LARGEST_SHIFT_MM, LARGEST_SHIFT_MM, 3)
    motion = np.eye(4)
    if moved:
        centre = np.array([n * s / 2 for n, s in zip(grid.sizes, grid.spacing, strict=True)])
        motion[:3, :3] = Rotation.from_euler("xyz", turn, degrees=True).as_matrix()
        motion[:3, 3] = centre + shift - motion[:3, :3] @ centre
    return motion


def _write(path: Path, array: npt.NDArray[np.generic], affine: npt.NDArray[np.float64]) -> None:
    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
