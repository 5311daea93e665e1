"""A person's own patients as training sequences: any layout the reader takes, masks at some of the visits.

Every patient is read, registered and laid on one grid once, and kept in the run's folder as plain arrays at three
resolutions that are read in parts (.npy, memory-mapped: a crop costs milliseconds, any number of patients no memory).
The folder of a patient is named by the fingerprint of the images, so a changed file is read anew and no name is kept.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from napari_convlstm_tumor.errors import InputError, TumorError
from napari_convlstm_tumor.io.discover import find_patients
from napari_convlstm_tumor.io.read import read_series
from napari_convlstm_tumor.measure.distance import signed_distance_mm, tumor_box
from napari_convlstm_tumor.model.follow import touching
from napari_convlstm_tumor.prepare.preprocess import align
from napari_convlstm_tumor.series import MODALITIES, AlignedSeries, PatientFiles
from napari_convlstm_tumor.settings import Settings
from napari_convlstm_tumor.training import leakage, simulate
from napari_convlstm_tumor.training.anatomy import AIR
from napari_convlstm_tumor.training.crops import (
    COARSE,
    away_from,
    crop_points,
    draw_crop,
    head_crop,
    in_view,
    sample_at,
)
from napari_convlstm_tumor.training.dataset import Stage, draw_patches
from napari_convlstm_tumor.training.sequences import PROMPT_MODES, WHOLE_TUMOR, distances, sequence_of, with_prompts
from napari_convlstm_tumor.training.testsets import result_of

META_FILE = "patient.json"
LEVELS = 3  # own voxels, twice and four times as long: a coarse crop is an average, not every fourth voxel
AUTOMATIC = ("t1c", "flair", "t2")  # whole heads without a prompt are learned for these
SCANNER_STRENGTH = 0.5  # noise, contrast and bias added to images that have their own
CENTRE_SPREAD = 0.2  # the crop's middle lies this far off the lesion's, in its own sizes
# A patient of whom some visit is free of tumor is drawn so much more often, and so many of the sequences come to such a
# visit where they can: that is hardest to learn.
GONE_WEIGHT, GONE_SHARE = 8.0, 0.7
WIDE_SHARE = 0.3  # of the sequences with a click show about a whole head, as the first look of model/looks does
WIDE_SPREAD_MM = 8.0
# So many of the sequences with T1c get patches of other tissue, so strong: necrosis may be dark on one side and
# grey on the other, and a click outlined a part of it.
PATCHED_SHARE, PATCHES = 0.35, 0.6
SMALLEST_WIDE_MM = 8.0  # a lesion smaller than this has hardly a voxel of its own on such a look

Maps = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float64]
Spacing = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class OwnPatient:
    """One patient kept in ``folder``: data{level}.npy (T, C, I, J, K) float16, mask{level}.npy (T, I, J, K) 0..255.

    judged: visits that have a mask (an empty one counts). shows_tumor: visits whose mask has a tumor.
    images: fingerprints of the image files, for the leakage check.
    """

    folder: Path
    days: tuple[int, ...]
    modalities: tuple[str, ...]
    present: tuple[tuple[bool, ...], ...]
    judged: tuple[bool, ...]
    shows_tumor: tuple[bool, ...]
    spacing_mm: tuple[Spacing, ...]
    images: tuple[str, ...]

    def data(self, level: int) -> Maps:
        """(T, C, I, J, K) at a level, not yet read."""
        return np.load(self.folder / f"data{level}.npy", mmap_mode="r")

    def mask(self, level: int) -> Maps:
        """(T, I, J, K) share of tumor 0..255 at a level, not yet read."""
        return np.load(self.folder / f"mask{level}.npy", mmap_mode="r")


# ---- reading ----


def own_patients(folder: Path, cache: Path, settings: Settings | None = None) -> list[OwnPatient]:
    """Every patient of a folder (or manifest) that has a tumor mask at some visit, ready for OwnDataset.

    cache: where the aligned patients are kept. Raises InputError when none is usable, with the reason of each.
    """
    settings = settings or Settings()
    usable, reasons = [], []
    for files in find_patients(folder, settings):
        try:
            usable.append(own_patient(files, cache, settings))
        except TumorError as error:
            reasons.append(f"{files.patient}: {error}")
    if not usable:
        raise InputError(f"No patient in {folder.name} can be trained on. " + " ".join(reasons))
    return usable


def own_patient(files: PatientFiles, cache: Path, settings: Settings) -> OwnPatient:
    """One patient from the cache, or read, aligned and put there. Raises TumorError when it cannot be used."""
    if files.problems:
        raise InputError(" ".join(files.problems))
    if not any(visit.mask is not None for visit in files.visits):
        raise InputError("no visit has a mask, and a mask at one visit at least is what there is to learn.")
    images = leakage.of_patient(files)
    folder = cache / _key(files, images, settings)
    if not (folder / META_FILE).exists():
        keep_aligned(_aligned(files, settings), images, folder)
    return load_kept(folder)


def _key(files: PatientFiles, images: frozenset[str], settings: Settings) -> str:
    """Changes with every image, mask, day and setting that changes the aligned patient."""
    masks = sorted(leakage.fingerprints(v.mask for v in files.visits if v.mask is not None))
    what = [sorted(images), masks, list(files.days), list(settings.modality), list(settings.spacing), settings.register]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[: leakage.DIGITS]


def _aligned(files: PatientFiles, settings: Settings) -> AlignedSeries:
    return result_of(align(read_series(files, settings), settings))


def keep_aligned(aligned: AlignedSeries, images: frozenset[str], folder: Path) -> None:
    """Write the levels and the description; whole or not at all.

    Raises InputError when no mask has a tumor on images that are not searched without a prompt.
    """
    masks = [np.zeros(aligned.grid.shape, np.uint8) if m is None else m for m in aligned.masks]
    if not any(m.any() for m in masks) and not _searched(aligned.modalities):
        kinds = ", ".join(aligned.modalities)
        raise InputError(f"every mask is empty, and on {kinds} the network is taught only what a person points at.")
    part = folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    spacings: list[tuple[float, ...]] = [aligned.grid.spacing_mm]
    data = np.where(aligned.inside[:, None], aligned.data, AIR).clip(-20, 20).astype(np.float16)
    mask = np.stack(masks) * np.uint8(255)
    for level in range(LEVELS):
        np.save(part / f"data{level}.npy", data)
        np.save(part / f"mask{level}.npy", mask)
        steps = tuple(2 if s < 1.5 * min(spacings[-1]) else 1 for s in spacings[-1])
        data, mask = _pooled(data, steps), _pooled(mask[:, None], steps)[:, 0]
        spacings.append(tuple(s * n for s, n in zip(spacings[-1], steps, strict=True)))
    meta = {
        "days": aligned.days,
        "modalities": aligned.modalities,
        "present": aligned.present.tolist(),
        "judged": [m is not None for m in aligned.masks],
        "shows_tumor": [bool(m.any()) for m in masks],
        "spacing_mm": spacings[:LEVELS],
        "images": sorted(images),
    }
    (part / META_FILE).write_text(json.dumps(meta) + "\n", encoding="utf-8")
    part.replace(folder)


def _pooled(maps: Maps, steps: tuple[int, ...]) -> Maps:
    """(T, C, I, J, K) averaged to coarser voxels, one visit at a time."""
    frames = [F.avg_pool3d(torch.from_numpy(m.astype(np.float32)), steps, steps, ceil_mode=True).numpy() for m in maps]
    return np.stack(frames).astype(maps.dtype)


def load_kept(folder: Path) -> OwnPatient:
    """What keep_aligned wrote."""
    meta = json.loads((folder / META_FILE).read_text(encoding="utf-8"))

    def frozen(value: Any) -> Any:
        return tuple(frozen(v) for v in value) if isinstance(value, list) else value

    return OwnPatient(folder=folder, **{name: frozen(value) for name, value in meta.items()})


# ---- sequences ----


class OwnDataset(Dataset[dict[str, Tensor]]):
    """Sequence n of a person's own patients, as GrowthDataset gives them, and ``judged`` (T,) bool: visits with a mask.

    A sequence is a run of consecutive visits, forward or backward, that starts where a mask shows a tumor, cropped
    around one lesion; or, without a prompt (then from any visit that has a mask) and now and then with a click, about a
    whole head. A click, box or scribble shows that lesion, and only it, followed over the visits, is the truth; a whole
    mask, or no prompt, stands for all lesions. Only the first visit (or all, for "click all") is shown.
    """

    def __init__(self, patients: Sequence[OwnPatient], seed: int, stage: Stage, length: int = 1_000_000) -> None:
        self.patients, self.seed, self.stage, self.length = list(patients), seed, stage, length
        heavy = GONE_WEIGHT if stage.vanishing else 1.0
        weights = np.array([heavy if _comes_or_goes(p) else 1.0 for p in self.patients])
        self.shares = weights / weights.sum()

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, n: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([self.seed, n, 1])
        patient = self.patients[int(rng.choice(len(self.patients), p=self.shares))]
        mode = self._mode(patient, rng)
        visits = _draw_visits(patient, patient.judged if mode == "none" else patient.shows_tumor, self.stage, rng)
        sequence = _crop(patient, visits, mode, rng)
        judged = torch.tensor([patient.judged[t] for t in visits])
        sample = {**with_prompts(sequence, mode, rng, self.stage.carried_share), "judged": judged}
        forward = len(visits) > 1 and visits[0] < visits[1]
        if forward and bool(judged.all()) and rng.random() < self.stage.distance_share:
            sample |= distances(sample["mask"], sample["days"], sample["spacing_mm"])
        return sample

    def _mode(self, patient: OwnPatient, rng: np.random.Generator) -> str:
        if not any(patient.shows_tumor):
            return "none"
        blind = _searched(patient.modalities)
        pairs = zip(PROMPT_MODES, self.stage.prompt_weights, strict=True)
        weights = {m: w for m, w in pairs if blind or m != "none"}
        share = np.array(list(weights.values()))
        return list(weights)[int(rng.choice(len(share), p=share / share.sum()))]


class MixedDataset(Dataset[dict[str, Tensor]]):
    """Sample n of ``own`` with probability ``share``, else of ``simulated``; sample n is always the same."""

    def __init__(
        self, own: Dataset[dict[str, Tensor]], simulated: Dataset[dict[str, Tensor]], share: float, seed: int
    ) -> None:
        if not 0 <= share <= 1:
            raise InputError(f"The share of a person's own patients is between 0 and 1, got {share}.")
        self.own, self.simulated, self.share, self.seed = own, simulated, share, seed

    def __len__(self) -> int:
        return len(self.simulated)  # type: ignore[arg-type]

    def __getitem__(self, n: int) -> dict[str, Tensor]:
        mine = np.random.default_rng([self.seed, n, 2]).random() < self.share
        return (self.own if mine else self.simulated)[n]


def _searched(modalities: Sequence[str]) -> bool:
    """Whether the network is taught to find a tumor on one of these by itself."""
    return any(m in AUTOMATIC for m in modalities)


def _comes_or_goes(patient: OwnPatient) -> bool:
    """Whether some visit shows a tumor and another is known to be free of it (one without a mask may have any)."""
    free = any(judged and not shown for shown, judged in zip(patient.shows_tumor, patient.judged, strict=True))
    return free and any(patient.shows_tumor)


def _draw_visits(patient: OwnPatient, begins: Sequence[bool], stage: Stage, rng: np.random.Generator) -> list[int]:
    """As many consecutive visits as the stage draws (or there are) from one of ``begins``, where there is room.

    Where a tumor is gone at some visit they often come to it (GONE_SHARE). They end before a visit without any kind of
    image that all of them share. The truth of a course backward in time is known as well, and a prompt at the last
    visit is carried that way.
    """
    count = int(rng.integers(stage.visits[0], stage.visits[1] + 1))
    order = np.arange(len(patient.days))
    if rng.random() < stage.backward_share:
        order = order[::-1]
    starts = np.flatnonzero(np.array(begins)[order])
    roomy = starts[starts + count <= len(order)]
    free = (np.array(patient.judged) & ~np.array(patient.shows_tumor))[order]
    goes = [start for start in roomy if free[start + 1 : start + count].any()]
    if goes and stage.vanishing and rng.random() < GONE_SHARE:
        roomy = np.array(goes)
    start = int(rng.choice(roomy if len(roomy) else starts))
    chosen = order[start : start + count]
    present = np.logical_and.accumulate(np.array(patient.present)[chosen]).any(axis=1)
    return [int(t) for t in chosen[: int(present.sum())]]


def _crop(patient: OwnPatient, visits: list[int], mode: str, rng: np.random.Generator) -> dict[str, Tensor]:
    """A drawn crop around a lesion of the first of these visits: images, masks and what with_prompts needs."""
    native = patient.spacing_mm[0]
    lesion = _one_lesion(patient.mask(0)[visits[0]] > 127, native, rng)
    points, spacing, average, level = _draw_points(patient, lesion, mode, rng)
    masks = _read(patient.mask(level), visits, points, average, outside=0.0) > 127.5
    if mode not in WHOLE_TUMOR:
        zoom = torch.tensor(patient.spacing_mm[level]) / torch.tensor(native)
        meant = _read(lesion[None], [0], (points + 0.5) * zoom - 0.5, average, outside=0.0)[0] > 0
        masks = _followed(masks, meant & masks[0], spacing)
    shared = [c for c in range(len(patient.modalities)) if all(patient.present[t][c] for t in visits)]
    images = torch.zeros(len(visits), len(MODALITIES), *masks.shape[1:])
    for c in shared:
        read = _read(patient.data(level)[:, c], visits, points, average, outside=AIR)
        scanner = simulate.ct_scanner if patient.modalities[c] == "ct" else simulate.scanner
        scanned = [scanner(image, rng, SCANNER_STRENGTH) for image in read]
        images[:, MODALITIES.index(patient.modalities[c])] = torch.stack(scanned)
    days = tuple(abs(patient.days[t] - patient.days[visits[0]]) for t in visits)
    levels = torch.stack([torch.from_numpy(signed_distance_mm(m.numpy(), spacing)).float() for m in masks])
    if "t1c" in (patient.modalities[c] for c in shared) and rng.random() < PATCHED_SHARE:
        images[:, MODALITIES.index("t1c")] += PATCHES * draw_patches(masks.shape[1:], rng) * torch.sigmoid(-levels)
    return sequence_of(images, tuple(patient.modalities[c] for c in shared), masks, days, spacing, levels)


def _one_lesion(tumor: npt.NDArray[np.bool_], spacing_mm: Spacing, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """One of the lesions of a mask, each as likely; pieces near to each other are one, as in model/predict.

    Empty where the mask is.
    """
    if not tumor.any():
        return tumor
    box = tumor_box(tumor)
    labels, found = ndimage.label(tumor[box], np.ones((3, 3, 3)))
    one = np.zeros_like(tumor)
    one[box] = touching(tumor[box], labels == int(rng.integers(found)) + 1, spacing_mm) & tumor[box]
    return one


def _draw_points(
    patient: OwnPatient, lesion: npt.NDArray[np.bool_], mode: str, rng: np.random.Generator
) -> tuple[Tensor, Spacing, int, int]:
    """Points of a crop in voxels of the level they are read at, the crop's spacing, slices averaged, and the level."""
    native = np.array(patient.spacing_mm[0])
    inside = np.argwhere(lesion if lesion.any() else np.ones_like(lesion))
    extent = np.ptp(inside, axis=0) + 1.0
    middle = (inside.mean(axis=0) + 0.5) * native  # mm from the image's first corner
    extent_mm = float(np.mean(extent * native))
    wide = mode.startswith("click") and extent_mm >= SMALLEST_WIDE_MM and rng.random() < WIDE_SHARE
    if mode == "none" or wide:
        size, spacing, average = head_crop(rng, search=mode == "none")
        half, whole = np.array(size) * spacing / 2, np.array(lesion.shape) * native
        if mode == "none":
            middle = away_from(middle if lesion.any() else None, half, whole, rng)
        middle = in_view(middle, half, whole) + rng.normal(0, WIDE_SPREAD_MM, 3)
    else:
        size, spacing, average = draw_crop(extent_mm, rng, patient.spacing_mm[0])
        middle = middle + rng.normal(0, CENTRE_SPREAD, 3) * extent * native
    level = sum(spacing[0] > COARSE * s[0] for s in patient.spacing_mm[: LEVELS - 1])
    centre = torch.from_numpy(middle / np.array(patient.spacing_mm[level]) - 0.5).float()
    return crop_points(size, spacing, average, centre, patient.spacing_mm[level], rng), spacing, average, level


def _followed(masks: Tensor, meant: Tensor, spacing_mm: Spacing) -> Tensor:
    """(T, I, J, K): of each visit's mask the lesions that continue ``meant``, as model/predict follows them."""
    kept, carried = [], meant.numpy()
    for mask in masks.numpy():
        here = touching(mask, carried, spacing_mm) & mask
        kept.append(here)
        carried = here if here.any() else carried
    return torch.from_numpy(np.stack(kept))


def _read(maps: Maps, frames: Sequence[int], points: Tensor, average: int, outside: float) -> Tensor:
    """Frames (T) of maps (., I, J, K) at points (I, J, K * average, 3) -> (T, I, J, K) float32.

    Reads only what the points touch.
    """
    sizes = torch.tensor(maps.shape[1:])
    flat = points.reshape(-1, 3)
    low = torch.minimum(flat.amin(0).floor().clamp(min=0), sizes - 1.0).int()
    high = torch.maximum(torch.minimum(flat.amax(0).ceil() + 1, sizes), low + 1.0).int()
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    part = torch.from_numpy(np.stack([maps[t][box] for t in frames]).astype(np.float32))
    read = sample_at(part, points - low)
    read[:, ~((points >= 0) & (points <= sizes - 1)).all(dim=-1)] = outside
    return read.reshape(*read.shape[:3], -1, average).mean(-1)
