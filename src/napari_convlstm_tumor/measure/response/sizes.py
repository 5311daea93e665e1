"""Which lesions are measured, how they are followed through splits and merges, and what they add up to."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from napari_convlstm_tumor.measure.response.criteria import (
    NODE_TARGET_MM,
    NORMAL_NODE_MM,
    THICK_SLICE_MM,
    TOO_SMALL_MM,
    Criterion,
)
from napari_convlstm_tumor.measure.response.inputs import LesionMeasure, VisitMeasure
from napari_convlstm_tumor.measure.response.words import reaches

Origins = Mapping[int, frozenset[int]]
# A boundary that moves by a fraction e of the diameter changes a sphere's area by 2 e and its volume by 3 e.
POWER = {"diameter": 1 / 3, "mean diameter": 1 / 3, "area": 2 / 3, "volume": 1.0}
NORMAL_95 = 1.96
NODES = "lymph nodes"  # one organ, wherever they lie (EORTC questions and clarifications)


# ---- one lesion ----


def is_disease(lesion: LesionMeasure, rule: Criterion) -> bool:
    """False when it is gone, or a node of normal size."""
    normal_node = rule.nodes and lesion.node and lesion.perpendicular_axial_mm < NORMAL_NODE_MM
    return lesion.present and not normal_node


def is_measurable(lesion: LesionMeasure, rule: Criterion, slice_mm: float) -> bool:
    """True when it is large enough to be a target at the baseline."""
    if rule.nodes and lesion.node:
        return reaches(lesion.perpendicular_axial_mm, NODE_TARGET_MM)
    longest, perpendicular = (_thick(mm, slice_mm) for mm in (rule.longest_mm, rule.perpendicular_mm))
    return (
        reaches(lesion.longest_axial_mm, longest)
        and reaches(lesion.perpendicular_axial_mm, perpendicular)
        and _slices(lesion, rule) >= rule.slices
    )


def _slices(lesion: LesionMeasure, rule: Criterion) -> int:
    """Slices that count: those that are measurable themselves where that was counted and both diameters are asked."""
    counted = lesion.measurable_slices is not None and rule.perpendicular_mm >= rule.longest_mm
    return lesion.measurable_slices if counted and lesion.measurable_slices is not None else lesion.slices


def _thick(limit_mm: float, slice_mm: float) -> float:
    """The limit of 10 mm becomes two slices when those are thick; the 5 mm of RANO-BM's perpendicular stays."""
    return max(limit_mm, 2 * slice_mm) if limit_mm >= 2 * THICK_SLICE_MM and slice_mm > THICK_SLICE_MM else limit_mm


def size_of(lesion: LesionMeasure, rule: Criterion) -> float:
    """What it adds to the sum: mm, mm2 or mm3."""
    if not lesion.present:
        return 0.0
    if rule.quantity == "volume":
        return lesion.volume_mm3
    if rule.quantity == "area":
        product = lesion.longest_axial_mm * lesion.perpendicular_axial_mm
        return product if lesion.product_mm2 is None else lesion.product_mm2
    shown = lesion.perpendicular_axial_mm if rule.nodes and lesion.node else lesion.longest_axial_mm
    return shown or TOO_SMALL_MM


def relative_error(lesion: LesionMeasure, quantity: str) -> float | None:
    """One standard error of its size as a fraction, from the interval of its volume; None without one."""
    if lesion.volume_interval_mm3 is None or not lesion.present:
        return None
    low, high = lesion.volume_interval_mm3
    reach = max(math.log(high / lesion.volume_mm3), math.log(lesion.volume_mm3 / low) if low > 0 else math.inf)
    return POWER[quantity] * reach / NORMAL_95


# ---- following ----


def follow(visits: Sequence[VisitMeasure]) -> tuple[Origins, ...]:
    """Per visit: lesion -> the ids of the first lesions it goes back to; a lesion never seen before is its own."""
    known: dict[int, frozenset[int]] = {}
    found: list[Origins] = []
    for visit in visits:
        here = {}
        absorbed = [(item.merged_into, item.lesion) for item in visit.lesions if item.merged_into is not None]
        for lesion in visit.present:
            parents = (lesion.lesion, *lesion.follows, *(old for heir, old in absorbed if heir == lesion.lesion))
            before = [known[i] for i in parents if i in known]
            here[lesion.lesion] = frozenset().union(*before) if before else frozenset({lesion.lesion})
        known.update(here)
        found.append(here)
    return tuple(found)


# ---- targets and their sum ----


def choose_targets(measurable: Iterable[LesionMeasure], rule: Criterion, most: int) -> tuple[LesionMeasure, ...]:
    """The largest of the measurable lesions: at most ``most``, and per organ, where it is known, as the criterion has
    it."""
    chosen: list[LesionMeasure] = []
    for lesion in sorted(measurable, key=lambda item: (-size_of(item, rule), item.lesion)):
        organ = organ_of(lesion)
        same_organ = sum(organ_of(c) == organ for c in chosen) if organ else 0
        full = rule.most_per_organ is not None and same_organ >= rule.most_per_organ
        if len(chosen) < most and not full:
            chosen.append(lesion)
    return tuple(chosen)


def organ_of(lesion: LesionMeasure) -> str | None:
    """Its organ, all nodes being one; None = not known."""
    if lesion.node:
        return NODES
    return lesion.organ.strip().lower() if lesion.organ and lesion.organ.strip() else None


@dataclass(frozen=True)
class Size:
    """The targets of one visit together. total in mm, mm2 or mm3; gone: no target is disease any more.

    error: one standard error of total as a fraction, None when a lesion has no interval.
    cut: lesions that reach beyond the field of view; total is then a lower bound.
    """

    total: float
    gone: bool
    error: float | None
    cut: tuple[int, ...]
    parts: tuple[tuple[LesionMeasure, frozenset[int]], ...]


def measure(visit: VisitMeasure, origins: Origins, targets: Collection[int], rule: Criterion) -> Size:
    """Size of all lesions of this visit that go back to one of the targets (ids of first lesions)."""
    parts = tuple(
        (item, origins[item.lesion]) for item in visit.present if not origins[item.lesion].isdisjoint(targets)
    )
    sizes = [size_of(item, rule) for item, _ in parts]
    return Size(
        total=sum(sizes),
        gone=not any(is_disease(item, rule) for item, _ in parts),
        error=sum_error([relative_error(item, rule.quantity) for item, _ in parts], sizes),
        cut=tuple(item.lesion for item, _ in parts if item.cut),
        parts=parts,
    )


def change_interval(now: Size, before: Size) -> tuple[float, float] | None:
    """95 % interval of the change from before to now, as fractions; None when an error is unknown.

    Errors of one visit are taken as fully shared by its lesions (the same reader and scan: the wider choice), those
    of two visits as independent; both act on the logarithm.
    """
    if now.error is None or before.error is None or now.total == 0 or before.total == 0:
        return None
    return ratio_interval(now.total / before.total, now.error, before.error)


def ratio_interval(ratio: float, error_now: float, error_before: float) -> tuple[float, float]:
    """95 % interval of ratio - 1 for two independent standard errors, given as fractions."""
    reach = NORMAL_95 * math.hypot(error_now, error_before)
    return (ratio * math.exp(-reach) - 1, ratio * math.exp(reach) - 1) if math.isfinite(reach) else (-1.0, math.inf)


def lesion_rises(now: Size, before: Size, rule: Criterion) -> list[float]:
    """By how much each lesion of now is larger than what it came from."""
    return [
        size_of(item, rule)
        - sum(size_of(old, rule) for old, old_origins in before.parts if not old_origins.isdisjoint(origins))
        for item, origins in now.parts
    ]


def sum_error(errors: Sequence[float | None], sizes: Sequence[float]) -> float | None:
    """One standard error, as a fraction, of a sum whose parts share theirs; None when one is not known."""
    known = [e for e in errors if e is not None]
    if len(known) < len(errors) or not sizes or sum(sizes) == 0:
        return None
    return sum(e * s for e, s in zip(known, sizes, strict=True)) / sum(sizes)
