"""Patients by kind: where lesions begin and how large each is at every visit, so that what is asked for happens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_convlstm_tumor.errors import SettingsError
from napari_convlstm_tumor.series import DAYS_PER_MONTH
from napari_convlstm_tumor.training import simulate
from napari_convlstm_tumor.training.simulate import UNREACHED_MM, Course
from napari_convlstm_tumor.training.surgery import Operation, draw_operation

Tissue = npt.NDArray[np.uint8]
Arrival = npt.NDArray[np.float16]
MIXED = ("growing", "stable", "shrinking", "resection", "new", "vanishing", "merge", "split")
COURSES = ("any", "mixed", *MIXED, "large", "tumor-free")
# Speeds in mm per month and first radii in mm of the courses of one lesion.
SPEEDS = {
    "growing": (1.2, 3.0),
    "stable": (-0.1, 0.1),
    "shrinking": (-2.5, -1.2),
    "resection": (0.8, 2.5),
    "large": (-3.0, 4.0),
}
STARTS = {
    "growing": (6.0, 10.0),
    "stable": (8.0, 16.0),
    "shrinking": (14.0, 18.0),
    "resection": (12.0, 17.0),
    "large": (16.0, 32.0),
}
GAP_DAYS = (35, 95)
# Fronts are followed this far (voxels of 1 mm) to each side of a seed; radii end at 42 mm.
FIELD_REACH = 64
# Two lesions that meet: how much of the meeting radius they have at the end that is apart, and at the other.
APART, TOGETHER = 0.62, 1.5
# Arrival, mm, of the second lesion's seed: near enough to meet the first, or far enough never to.
MEETING_MM, STRANGER_MM = (13.0, 24.0), 45.0
TRIES = 60
# So far from reaching any voxel that there is no oedema either.
NO_TUMOR_MM = -200.0
DEEP_SEEDS = 6


@dataclass(frozen=True, eq=False)
class Growth:
    """arrival: (L, I, J, K) mm. wobble: how unevenly the fronts are pushed (see simulate.level_fields).

    meeting: True when the lesions merge or split, so that what they look like must not hide it.
    """

    arrival: Arrival
    course: Course
    operation: Operation | None = None
    wobble: float = 0.15
    meeting: bool = False


def draw_growth(kind: str, tissue: Tissue, visits: int, rng: np.random.Generator) -> Growth:
    """Lesions and their radii for one of COURSES. Raises SettingsError when the brain has no room for it."""
    if kind == "mixed":
        kind = MIXED[int(rng.integers(len(MIXED)))]
    if kind == "any":
        return _any(tissue, visits, rng)
    first = _arrival(tissue, _deep_seed(tissue, rng), rng)
    gaps = rng.integers(*GAP_DAYS, visits - 1)
    days = np.concatenate([[0], np.cumsum(gaps)])
    if kind == "tumor-free":
        return Growth(first[None], _course(days, [np.full(visits, NO_TUMOR_MM)]))
    if kind in SPEEDS:
        return _one(kind, first, days, rng)
    return (
        _two_that_meet(kind, tissue, first, days, rng)
        if kind in ("merge", "split")
        else _two_apart(kind, tissue, first, days, rng)
    )


def _any(tissue: Tissue, visits: int, rng: np.random.Generator) -> Growth:
    """One lesion or two, of whatever course."""
    lesions = 1 + int(rng.random() < 0.3)
    arrival = np.stack([_lesion(tissue, rng) for _ in range(lesions)])
    return Growth(arrival, simulate.draw_course(rng, visits, lesions))


def _one(kind: str, first: Arrival, days: npt.NDArray[np.int64], rng: np.random.Generator) -> Growth:
    speed, start = float(rng.uniform(*SPEEDS[kind])), float(rng.uniform(*STARTS[kind]))
    operation = draw_operation(len(days), rng) if kind == "resection" else None
    radii = np.clip(start + speed * days / DAYS_PER_MONTH, 4, 40)
    return Growth(first[None], _course(days, [radii]), operation)


def _two_that_meet(
    kind: str, tissue: Tissue, first: Arrival, days: npt.NDArray[np.int64], rng: np.random.Generator
) -> Growth:
    """Two lesions that grow into one, or one of two hearts that shrinks into two pieces."""
    second = _second(tissue, first, MEETING_MM, rng)
    meeting = float(np.maximum(first, second).min())
    share = days / days[-1]
    share = share if kind == "merge" else 1 - share
    radii = meeting * (APART + (TOGETHER - APART) * share)
    return Growth(np.stack([first, second]), _course(days, [radii, radii]), wobble=0.05, meeting=True)


def _two_apart(
    kind: str, tissue: Tissue, first: Arrival, days: npt.NDArray[np.int64], rng: np.random.Generator
) -> Growth:
    """One lesion that stays, and one that comes or goes at a visit in between."""
    second = _second(tissue, first, (STRANGER_MM, UNREACHED_MM), rng)
    visit = int(rng.integers(1, len(days)))
    steady = np.clip(rng.uniform(8, 14) + rng.uniform(-0.3, 1.0) * days / DAYS_PER_MONTH, 5, 25)
    there = 5 + 2 * np.abs(np.arange(len(days)) - visit) * rng.uniform(0.3, 1.0)
    present = np.arange(len(days)) >= visit if kind == "new" else np.arange(len(days)) < visit
    return Growth(np.stack([first, second]), _course(days, [steady, np.where(present, there, -6.0)]))


def _course(days: npt.NDArray[np.int64], radii: list[npt.NDArray[np.float64]]) -> Course:
    months = days[-1] / DAYS_PER_MONTH
    speeds = tuple(float((r[-1] - r[0]) / months) for r in radii)
    return Course(tuple(int(d) for d in days), np.array(radii, np.float32), speeds)


def _second(tissue: Tissue, first: Arrival, apart: tuple[float, float], rng: np.random.Generator) -> Arrival:
    """A lesion whose seed the first one's front reaches within these mm."""
    for _ in range(TRIES):
        seed = simulate.seed_in(tissue, rng)
        if apart[0] <= first[seed] <= apart[1]:
            return _arrival(tissue, seed, rng)
    reachable = (first >= apart[0]) & (first <= apart[1]) & (tissue[:2].sum(axis=0) >= 128)
    places = np.argwhere(reachable)
    if not len(places):
        raise SettingsError("This brain has no room for a second lesion. Choose another seed or course.")
    i, j, k = places[int(rng.integers(len(places)))]
    return _arrival(tissue, (int(i), int(j), int(k)), rng)


def _deep_seed(tissue: Tissue, rng: np.random.Generator) -> tuple[int, int, int]:
    """Of some seeds the one with most white matter around it: a lesion there reaches the size that is asked for."""
    seeds = [simulate.seed_in(tissue, rng) for _ in range(DEEP_SEEDS)]
    return max(seeds, key=lambda s: float(tissue[1][tuple(slice(max(0, n - 8), n + 9) for n in s)].mean()))


def _lesion(tissue: Tissue, rng: np.random.Generator) -> Arrival:
    return _arrival(tissue, simulate.seed_in(tissue, rng), rng)


def _arrival(tissue: Tissue, seed: tuple[int, int, int], rng: np.random.Generator) -> Arrival:
    """The arrival field (I, J, K) of a seed, followed in a box around it only: that is most of the time."""
    box = tuple(
        slice(max(0, s - FIELD_REACH), min(n, s + FIELD_REACH)) for s, n in zip(seed, tissue.shape[1:], strict=True)
    )
    i, j, k = (s - b.start for s, b in zip(seed, box, strict=True))
    field = np.full(tissue.shape[1:], UNREACHED_MM, np.float16)
    field[box] = simulate.arrival_field(tissue[:, *box], (i, j, k), rng)
    return field
