"""Simulated patients as folders: PATIENT/day-000/t1c.nii.gz ..., and the truth in PATIENT/derivatives/truth.

The same functions that feed the training, on a whole head. Visits differ by a small rigid motion of the head, so that
registration has something to do. Made from the ICBM152 maps alone: no patient's data is in them. docs/simulator.md
describes the folder.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor

from napari_convlstm_tumor.errors import SettingsError
from napari_convlstm_tumor.training import simulate
from napari_convlstm_tumor.training.anatomy import AIR, HEAD_MM, Anatomy, template_brain
from napari_convlstm_tumor.training.appearance import Cavity, draw_look, heterogeneous, with_thin_rim
from napari_convlstm_tumor.training.courses import COURSES, Growth, draw_growth
from napari_convlstm_tumor.training.deform import push_aside, push_mm
from napari_convlstm_tumor.training.frame import Frame, Motion, draw_motion
from napari_convlstm_tumor.training.simulate import Course, Look, Scene
from napari_convlstm_tumor.training.surgery import operate
from napari_convlstm_tumor.training.truth import TrueEvent, follow, front_speeds, without_specks

# Raw MR intensity = (normalised - AIR) * RAW_PER_SIGMA, so that air is 0 as in a scanner's image. CT is in HU.
RAW_PER_SIGMA = 120.0
HU_CENTRE, HU_PER_UNIT, LOWEST_HU = 40.0, 100.0, -1024
SIMULATED_MODALITIES = ("t1", "t1c", "t2", "flair", "ct")
# Share of the tumor's radius by which its edge pushes the brain: some infiltrate, some displace.
MASS_EFFECT = (0.0, 0.35)
BRAIN_ENDS_MM = 0.5  # outside the brain's edge; skull stripping leaves nothing beyond it
CAVITY_VOLUME_SHARE = 0.5  # a cavity falls in, so that it pushes less than the tumor did
# Tries for a course to show its event at the resolution of the truth.
ATTEMPTS = 8
EXPECTED_EVENT = {"new": "new", "vanishing": "vanished", "merge": "merged", "split": "split"}
TRUTH_FOLDER = Path("derivatives") / "truth"
GIVEN_MASKS = ("none", "first", "all")


@dataclass(frozen=True)
class PatientPlan:
    """One patient: same plan, same patient. course: one of courses.COURSES. missing: share of images left out.

    skull_stripped: images are 0 outside the brain, as many public sets have them. thin_rim: a hollow tumor.
    heterogeneous: hollow in several places, uneven, in part without contrast, as gliomas are.
    enhancing: whether the tumor takes up contrast; drawn where None.
    """

    seed: int
    visits: int = 4
    course: str = "any"
    modalities: tuple[str, ...] = ("t1c", "flair")
    spacing_mm: tuple[float, ...] = (1.0, 1.0, 1.0)
    motion: bool = True
    mass_effect: bool = True
    missing: float = 0.0
    skull_stripped: bool = False
    thin_rim: bool = False
    heterogeneous: bool = False
    enhancing: bool | None = None

    def __post_init__(self) -> None:
        unknown = [m for m in self.modalities if m not in SIMULATED_MODALITIES]
        if unknown or not self.modalities:
            raise SettingsError(f"modalities are of {', '.join(SIMULATED_MODALITIES)}; got {self.modalities}.")
        if not 2 <= self.visits <= 8:
            raise SettingsError(f"visits is 2 to 8; got {self.visits}.")
        if len(self.spacing_mm) != 3 or not all(0.5 <= s <= 10 for s in self.spacing_mm):
            raise SettingsError(f"spacing is three numbers between 0.5 and 10 mm; got {self.spacing_mm}.")
        if self.course not in COURSES:
            raise SettingsError(f"course is one of {', '.join(COURSES)}; got {self.course!r}.")
        if not 0 <= self.missing < 1:
            raise SettingsError(f"missing is a share from 0 to below 1; got {self.missing}.")


@dataclass(frozen=True, eq=False)
class SimulatedPatient:
    """days (T,), images: modality -> (T, I, J, K) raw intensities, masks (T, I, J, K), each visit on its own affine.

    still: masks (T, I, J, K) in the head's own frame (no motion), for the truth of front speed and forecast.
    lesions (T, I, J, K) ids and front_speed (T, I, J, K) mm per month (NaN away from the front), in each visit's frame.
    missing: (visit 0-based, modality) that a scanner did not take.
    """

    days: tuple[int, ...]
    images: dict[str, npt.NDArray[np.float32]]
    masks: npt.NDArray[np.uint8]
    still: npt.NDArray[np.uint8]
    affine: npt.NDArray[np.float64]
    motions: tuple[Motion, ...]
    course: Course
    lesions: npt.NDArray[np.uint16]
    front_speed: npt.NDArray[np.float32]
    events: tuple[TrueEvent, ...]
    missing: frozenset[tuple[int, str]] = frozenset()


@dataclass(frozen=True, eq=False)
class _Head:
    """One patient at 1 mm in one still frame, before any scanner; levels, truth and lesions are (T, I, J, K).

    pushes: mm, per visit, by which the tumor's edge has moved its surroundings.
    """

    scene: Scene
    growth: Growth
    look: Look
    levels: Tensor
    cavities: list[Cavity | None]
    pushes: list[float]
    truth: npt.NDArray[np.bool_]
    lesions: npt.NDArray[np.uint16]
    events: tuple[TrueEvent, ...]


def simulate_patient(plan: PatientPlan, anatomy: Anatomy | None = None) -> SimulatedPatient:
    """The patient of a plan, in a given brain (default: the ICBM152 template).

    Raises SettingsError when the brain is too small for the course asked for.
    """
    head, rng = _head(plan, anatomy or template_brain())
    days = head.growth.course.days
    frame = Frame.make(head.levels.shape[1:], plan.spacing_mm)
    motions = tuple(draw_motion(rng, frame, moved=plan.motion and t > 0) for t in range(plan.visits))
    masks = _seen(head.truth, frame, motions)
    speeds = front_speeds(head.levels, days, head.scene.spacing_mm).numpy()
    return SimulatedPatient(
        days=days,
        images=_images(plan, head, frame, motions, rng),
        masks=masks,
        still=_seen(head.truth, frame, (np.eye(4),) * plan.visits),
        affine=np.diag([*plan.spacing_mm, 1.0]),
        motions=motions,
        course=head.growth.course,
        lesions=_named(masks, head.lesions, frame, motions),
        front_speed=np.stack([frame.pick(s, motion) for s, motion in zip(speeds, motions, strict=True)]),
        events=head.events,
        missing=_draw_missing(plan, rng),
    )


# ---- the head ----


def _head(plan: PatientPlan, brain: Anatomy) -> tuple[_Head, np.random.Generator]:
    """The first attempt in which the course's event can be seen, and the generator to go on with."""
    expected = EXPECTED_EVENT.get(plan.course)
    for attempt in range(ATTEMPTS):
        rng = np.random.default_rng([plan.seed, 77, attempt])
        head = _grown(plan, brain, rng)
        if expected is None or any(e.kind == expected for e in head.events):
            return head, rng
    raise SettingsError(f"Seed {plan.seed} gives no patient of course {plan.course!r}. Choose another seed.")


def _grown(plan: PatientPlan, brain: Anatomy, rng: np.random.Generator) -> _Head:
    assert brain.tissue is not None
    window = _head_window(brain)
    growth = draw_growth(plan.course, brain.tissue[:, *window], plan.visits, rng)
    scene, look = simulate.scene_of(brain, growth.arrival, window), _look(plan, growth, rng)
    levels = simulate.level_fields(scene, growth.course, rng, growth.wobble)
    cavities: list[Cavity | None] = [None] * plan.visits
    if growth.operation is not None:
        levels, cavities = operate(levels, growth.course.days, scene, growth.operation, rng)
    strength = float(rng.uniform(*MASS_EFFECT)) if plan.mass_effect else 0.0
    pushes = [push_mm(_pushing_mm3(level, c), strength) for level, c in zip(levels, cavities, strict=True)]
    truth = np.stack([_outlined(scene, *v, look, plan) for v in zip(levels, cavities, pushes, strict=True)])
    lesions, events = follow(truth)
    return _Head(scene, growth, look, levels, cavities, pushes, truth, lesions, _told(events, growth, lesions))


def _look(plan: PatientPlan, growth: Growth, rng: np.random.Generator) -> Look:
    """Small named courses enhance unless the plan says otherwise.

    Lesions that meet have no oedema, which would have met before them.
    """
    small = plan.course not in ("any", "large")
    look = draw_look(rng, enhancing=True if small and plan.enhancing is None else plan.enhancing)
    look = with_thin_rim(look, rng) if plan.thin_rim else look
    look = heterogeneous(look, rng) if plan.heterogeneous else look
    return replace(look, oedema_mm=0.0) if growth.meeting else look


def _pushing_mm3(level: Tensor, cavity: Cavity | None) -> float:
    """Volume of what pushes at a visit (1 mm voxels)."""
    hollow = 0.0 if cavity is None else float((cavity.level < 0).sum())
    return float((level < 0).sum()) + CAVITY_VOLUME_SHARE * hollow


def _pushed(scene: Scene, level: Tensor, push: float, *images: Tensor) -> tuple[Scene, list[Tensor]]:
    """The scene's tissue, and these images of it (I, J, K), with what was in the tumor's way moved aside."""
    assert scene.tissue is not None
    moved = push_aside(torch.stack([*scene.tissue, *images]), level, scene, push)
    return replace(scene, tissue=moved[:3]), list(moved[3:])


def _outlined(
    scene: Scene, level: Tensor, cavity: Cavity | None, push: float, look: Look, plan: PatientPlan
) -> npt.NDArray[np.bool_]:
    """What a reader outlines at a visit, (I, J, K); never the cavity."""
    pushed, _ = _pushed(scene, level, push)
    target = simulate.target_mask(level, pushed, look, plan.modalities)
    if cavity is not None:
        target &= cavity.level > 0
    return without_specks(target.numpy(), 1.0)


def _told(events: tuple[TrueEvent, ...], growth: Growth, lesions: npt.NDArray[np.uint16]) -> tuple[TrueEvent, ...]:
    """The events with the operation before what it caused."""
    if growth.operation is None:
        return events
    there = np.unique(lesions[growth.operation.visit - 1])
    done = TrueEvent(growth.operation.visit + 1, "resection", tuple(int(n) for n in there if n))
    return tuple(sorted([done, *events], key=lambda e: e.visit))


def _head_window(brain: Anatomy) -> tuple[slice, ...]:
    assert brain.outside is not None
    near = np.argwhere(brain.outside < HEAD_MM)
    return tuple(slice(int(a), int(b) + 1) for a, b in zip(near.min(0), near.max(0), strict=True))


# ---- through the scanner ----


def _seen(truth: npt.NDArray[np.bool_], frame: Frame, motions: Sequence[Motion]) -> npt.NDArray[np.uint8]:
    """Masks (T, I, J, K) on the images' grid: voxels that are tumor for the greater part."""
    seen = [frame.read(torch.from_numpy(m).float(), motion) > 0.5 for m, motion in zip(truth, motions, strict=True)]
    return torch.stack(seen).numpy().astype(np.uint8)


def _named(
    masks: npt.NDArray[np.uint8], lesions: npt.NDArray[np.uint16], frame: Frame, motions: Sequence[Motion]
) -> npt.NDArray[np.uint16]:
    """Lesion ids (T, I, J, K) of the voxels of masks: that of the nearest 1 mm voxel which has one."""
    named = []
    for mask, labels, motion in zip(masks, lesions, motions, strict=True):
        picked = frame.pick(labels, motion)
        if labels.any():
            place = ndimage.distance_transform_edt(picked == 0, frame.spacing, False, True)
            picked = picked[tuple(place)] if picked.any() else np.full_like(picked, labels.max())
        named.append(np.where(mask > 0, picked, 0))
    return np.stack(named).astype(np.uint16)


def _images(
    plan: PatientPlan, head: _Head, frame: Frame, motions: Sequence[Motion], rng: np.random.Generator
) -> dict[str, npt.NDArray[np.float32]]:
    """modality -> (T, I, J, K) raw intensities."""
    backgrounds = [simulate.head_background(head.scene, m, rng, scalp=True) for m in plan.modalities]
    textures = [simulate.smooth_noise(head.scene.arrival.shape[1:], 3, rng) for _ in plan.modalities]
    images: dict[str, list[npt.NDArray[np.float32]]] = {m: [] for m in plan.modalities}
    for level, cavity, push, motion in zip(head.levels, head.cavities, head.pushes, motions, strict=True):
        scene, moved = _pushed(head.scene, level, push, *backgrounds)
        for modality, background, texture in zip(plan.modalities, moved, textures, strict=True):
            painted = simulate.paint(background, level, scene, head.look, modality, texture, cavity)
            image = taken(frame.read(painted, motion), modality, rng)
            if plan.skull_stripped:
                image = np.where(_brain(head.scene, frame, motion), image, 0)
            images[modality].append(image)
    return {m: np.stack(frames) for m, frames in images.items()}


def _brain(scene: Scene, frame: Frame, motion: Motion) -> npt.NDArray[np.bool_]:
    """(I, J, K): what skull stripping leaves of an image."""
    assert scene.outside is not None
    brain: npt.NDArray[np.bool_] = (frame.read(scene.outside, motion) <= BRAIN_ENDS_MM).numpy()
    return brain


def taken(image: Tensor, modality: str, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Raw intensities of one acquisition, whole numbers."""
    if modality == "ct":
        raw = (simulate.ct_scanner(image, rng) * HU_PER_UNIT + HU_CENTRE).clamp(min=LOWEST_HU)
    else:
        raw = (simulate.scanner(image, rng, strength=0.5) - AIR).clamp(min=0) * RAW_PER_SIGMA
    taken: npt.NDArray[np.float32] = raw.round().numpy()
    return taken


def _draw_missing(plan: PatientPlan, rng: np.random.Generator) -> frozenset[tuple[int, str]]:
    """Images that were not taken; every visit keeps one."""
    missing: set[tuple[int, str]] = set()
    for t in range(plan.visits):
        out = [m for m in plan.modalities if rng.random() < plan.missing]
        kept = plan.modalities[int(rng.integers(len(plan.modalities)))] if len(out) == len(plan.modalities) else None
        missing |= {(t, m) for m in out if m != kept}
    return frozenset(missing)


# ---- the folder ----


def write_patient(plan: PatientPlan, folder: Path, anatomy: Anatomy | None = None, given: str = "all") -> Path:
    """Write the patient of a plan as a folder that the reader takes; returns the folder.

    given: at which visits the true mask lies beside the images, as if a person had drawn it: none, first or all.
    """
    if given not in GIVEN_MASKS:
        raise SettingsError(f"Given masks are one of {', '.join(GIVEN_MASKS)}; got {given!r}.")
    write_simulated(simulate_patient(plan, anatomy), folder, {"plan": asdict(plan)}, given)
    return folder


def write_simulated(patient: SimulatedPatient, folder: Path, about: dict[str, Any], given: str = "none") -> None:
    """Images and truth of a patient; ``about`` goes into truth.json."""
    shown = {"none": 0, "first": 1, "all": len(patient.days)}[given]
    for t, day in enumerate(patient.days):
        visit, truth = folder / f"day-{day:03d}", folder / TRUTH_FOLDER / f"day-{day:03d}"
        for modality, frames in patient.images.items():
            if (t, modality) not in patient.missing:
                _write(visit / f"{modality}.nii.gz", frames[t].astype(np.int16), patient.affine)
        if t < shown:
            _write(visit / "mask.nii.gz", patient.masks[t], patient.affine)
        _write(truth / "mask.nii.gz", patient.masks[t], patient.affine)
        _write(truth / "lesions.nii.gz", patient.lesions[t], patient.affine)
        if t:
            _write(truth / "front-speed_mm-per-month.nii.gz", patient.front_speed[t].astype(np.float32), patient.affine)
    _write_json(folder / "truth.json", _summary(patient) | about)
    _write_json(folder / "events.json", {"events": [e.as_dict() for e in patient.events]})


def _summary(patient: SimulatedPatient) -> dict[str, Any]:
    voxel_mm3 = abs(float(np.linalg.det(patient.affine[:3, :3])))
    return {
        "days": list(patient.days),
        "volume_mm3": [float(m.sum() * voxel_mm3) for m in patient.masks],
        "lesion_mm3": {
            str(n): [float((labels == n).sum() * voxel_mm3) for labels in patient.lesions]
            for n in range(1, int(patient.lesions.max()) + 1)
        },
        "radii_mm": patient.course.radii_mm.round(3).tolist(),
        "speeds_mm_per_month": list(patient.course.speeds),
        "head_motion": [m.round(6).tolist() for m in patient.motions],
        "missing": sorted([t + 1, m] for t, m in patient.missing),
        "made_by": "convlstm-tumor simulate (simulated on ICBM152 maps; no patient)",
    }


def _write(path: Path, array: npt.NDArray[np.generic], affine: npt.NDArray[np.float64]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
