"""Growth of lung nodules: BTS and NELSON by volume and doubling time, Lung-RADS and Fleischner by mean diameter.

This is about nodules under surveillance, not about response to treatment: the categories are words of their own.
Every nodule is compared with its own smallest earlier size (argued: a nodule that shrank and grows again is growing;
for one that only grows this is its first visit), Lung-RADS within the last 12 months. The visit's category is that of
the worst nodule.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from napari_convlstm_tumor.measure.response.criteria import BASELINE, BEFORE_BASELINE, NE, LungCriterion
from napari_convlstm_tumor.measure.response.inputs import LesionMeasure, Response, VisitMeasure
from napari_convlstm_tumor.measure.response.sizes import Origins, follow, ratio_interval, relative_error, sum_error
from napari_convlstm_tumor.measure.response.words import NAMES, UNITS, WITHIN_ERROR, beside, number, percent, reaches

FAST, GROWING, NEW, STABLE, SMALLER, GONE = "fast growth", "growth", "new nodule", "stable", "smaller", "resolved"
# From worst to best; NE stands between what is growing and what is not, for a nodule that is cut may grow.
ORDER = (FAST, NEW, GROWING, NE, STABLE, SMALLER, GONE)
# Diameters of the equivalent spheres at which guidelines change their advice: 113, 268 and 1767 mm3.
SIZE_STEPS_MM = (6.0, 8.0, 15.0)


@dataclass(frozen=True)
class Nodule:
    """One nodule on one visit: its category and why; size and what it was compared with, where there is any."""

    category: str
    words: str
    size: float | None = None
    reference: int | None = None
    change: float | None = None


@dataclass(frozen=True)
class Nodules:
    """All nodules of one patient under one definition of growth; visits count from 0, base is the first that counts."""

    visits: tuple[VisitMeasure, ...]
    rule: LungCriterion
    dated: bool
    base: int

    @cached_property
    def origins(self) -> tuple[Origins, ...]:
        """Per visit: nodule -> first nodules it goes back to."""
        return follow(self.visits)

    def same(self, ids: frozenset[int], j: int) -> list[LesionMeasure]:
        """The nodules of visit j that share an origin with ids."""
        here = self.origins[j]
        return [item for item in self.visits[j].present if not ids.isdisjoint(here[item.lesion])]

    def size(self, ids: frozenset[int], j: int) -> float | None:
        """Volume in mm3, or mean diameter in mm, on visit j; None when it was not there or cannot be measured."""
        found = self.same(ids, j)
        if not found or self.visits[j].not_evaluable or any(item.cut for item in found):
            return None
        if self.rule.quantity == "volume":
            return sum(item.volume_mm3 for item in found)
        return max((item.longest_axial_mm + item.perpendicular_axial_mm) / 2 for item in found) or None

    def error(self, ids: frozenset[int], j: int) -> float | None:
        """One standard error of that size as a fraction; None when a volume has no interval."""
        found = self.same(ids, j)
        errors = [relative_error(item, self.rule.quantity) for item in found]
        return sum_error(errors, [item.volume_mm3 for item in found])

    def when(self, i: int) -> str:
        """ "day 41", or "visit 2" without dates."""
        return f"day {self.visits[i].day}" if self.dated else f"visit {i + 1}"


def classify_lung(
    visits: tuple[VisitMeasure, ...], rule: LungCriterion, dated: bool, base: int
) -> tuple[Response, ...]:
    """Growth on every visit; base is the 0-based first visit that counts."""
    nodules = Nodules(visits, rule, dated, base)
    return tuple(_response(nodules, i) for i in range(len(visits)))


def size_class(volume_mm3: float) -> str:
    """The size of a nodule as guidelines group it: below 6, 6 to 8, 8 to 15 mm, or from 15 mm on."""
    steps = [d for d in SIZE_STEPS_MM if reaches(volume_mm3, math.pi / 6 * d**3)]
    if not steps:
        return f"below {SIZE_STEPS_MM[0]:g} mm"
    above = [d for d in SIZE_STEPS_MM if d > steps[-1]]
    return f"{steps[-1]:g} to below {above[0]:g} mm" if above else f"{steps[-1]:g} mm or more"


def doubling_days(volume_before: float, volume_now: float, days: float) -> float | None:
    """ln 2 x days / ln(V2/V1) (Mehrara 2007); None unless it grew."""
    return math.log(2) * days / math.log(volume_now / volume_before) if volume_now > volume_before > 0 else None


# ---- one visit ----


def _response(nodules: Nodules, i: int) -> Response:
    judged = _judge_visit(nodules, i)
    worst = min(judged, key=lambda n: ORDER.index(n.category) if n.category in ORDER else 0)
    unit = UNITS[nodules.rule.quantity]
    return Response(
        visit=i + 1,
        day=nodules.visits[i].day if nodules.dated else None,
        criterion=nodules.rule.key,
        category=worst.category,
        confirmed=None,
        reason=f"{worst.category}: " + "; ".join(n.words for n in judged),
        missing=_missing(nodules) if i > nodules.base else (),
        sum_used=worst.size,
        unit="" if worst.size is None else unit,
        baseline_visit=nodules.base + 1 if i >= nodules.base else None,
        nadir_visit=None if worst.reference is None else worst.reference + 1,
        change_from_nadir=worst.change,
    )


def _judge_visit(nodules: Nodules, i: int) -> list[Nodule]:
    if i < nodules.base:
        return [Nodule(BEFORE_BASELINE, f"not compared: the baseline is {nodules.when(nodules.base)}")]
    visit = nodules.visits[i]
    if visit.not_evaluable:
        return [Nodule(NE, visit.not_evaluable)]
    if i == nodules.base:
        return [Nodule(BASELINE, _sizes(nodules, i) or "no nodule")]
    found = [_judge(nodules, item, i) for item in visit.present] + _resolved(nodules, i)
    return found or [Nodule(STABLE, "no nodule before and none now")]


def _judge(nodules: Nodules, lesion: LesionMeasure, i: int) -> Nodule:
    ids = nodules.origins[i][lesion.lesion]
    name, now = f"nodule {lesion.lesion}", nodules.size(ids, i)
    if now is None:
        cut = any(item.cut for item in nodules.same(ids, i))
        why = "reaches beyond the field of view, its size is a lower bound" if cut else "has no diameter"
        return Nodule(NE, f"{name} {why}")
    earlier = [j for j in range(i) if nodules.same(ids, j)]
    if not earlier and lesion.state == "first seen":
        return Nodule(NE, f"{name} lies where no earlier image reaches: whether it is new is not known", now)
    if not earlier:
        return Nodule(NEW, f"{name} is new ({_size_words(nodules, ids, i)})", now)
    reference = _reference(nodules, ids, i)
    if reference is None:
        limit = f" within the {nodules.rule.within_days} days before" if nodules.rule.within_days else ""
        return Nodule(NE, f"{name} has no size to be compared with{limit}", now)
    return _compare(nodules, name, ids, i, reference)


def _reference(nodules: Nodules, ids: frozenset[int], i: int) -> int | None:
    """The earlier visit since the baseline, and in the time that counts, on which the nodule was smallest."""
    sizes = {j: nodules.size(ids, j) for j in range(nodules.base, i) if _in_time(nodules, j, i)}
    known = {j: size for j, size in sizes.items() if size is not None}
    return min(known, key=lambda j: known[j]) if known else None


def _in_time(nodules: Nodules, j: int, i: int) -> bool:
    limit = nodules.rule.within_days
    return limit is None or not nodules.dated or nodules.visits[i].day - nodules.visits[j].day <= limit


def _compare(nodules: Nodules, name: str, ids: frozenset[int], i: int, reference: int) -> Nodule:
    rule = nodules.rule
    before, now = nodules.size(ids, reference) or 0.0, nodules.size(ids, i) or 0.0
    change = now / before - 1
    rise = change if rule.quantity == "volume" else now - before
    unit = UNITS[rule.quantity]
    limits = (rule.rise, -rule.rise)
    shown = percent(change, limits) if rule.quantity == "volume" else f"{beside(rise, limits, 1, signed=True)} mm"
    words = f"{name} {NAMES[rule.quantity]} {shown} against {nodules.when(reference)}"
    words += f" ({number(before)} -> {number(now)} {unit})"
    words += _error_words(rule, before, now, (nodules.error(ids, reference), nodules.error(ids, i)))
    category = _grown(rule, rise)
    if category == GROWING and rule.fast_days is not None:
        category, speed = _speed(nodules, before, now, i, reference)
        words += f", {speed}"
    return Nodule(category, f"{words}, as a sphere {size_class(_volume(nodules, ids, i))}", now, reference, change)


def _error_words(rule: LungCriterion, before: float, now: float, errors: tuple[float | None, float | None]) -> str:
    """Whether the 95 % interval of the change holds the limit of growth or of shrinkage."""
    error_before, error_now = errors
    if error_before is None or error_now is None:
        return ""
    scale = 1.0 if rule.quantity == "volume" else before
    low, high = (scale * x for x in ratio_interval(now / before, error_now, error_before))
    held = [limit for limit in (rule.rise, -rule.rise) if low <= limit <= high]
    if not held:
        return ""
    shown = [percent(x) if rule.quantity == "volume" else f"{x:+.1f} mm" for x in (low, high, held[0])]
    return f", {WITHIN_ERROR} (95 % interval {shown[0]} to {shown[1]} holds {shown[2]})"


def _grown(rule: LungCriterion, rise: float) -> str:
    on_limit = reaches(rise, rule.rise) and reaches(-rise, -rule.rise)
    if reaches(rise, rule.rise) and not (rule.over and on_limit):
        return GROWING
    return SMALLER if reaches(-rise, rule.rise) else STABLE


def _speed(nodules: Nodules, before: float, now: float, i: int, reference: int) -> tuple[str, str]:
    """Fast growth or growth, by the doubling time."""
    limit = nodules.rule.fast_days
    if not nodules.dated or limit is None:
        return GROWING, "doubling time not known without dates"
    days = nodules.visits[i].day - nodules.visits[reference].day
    doubling = doubling_days(before, now, days)
    if doubling is None:
        return GROWING, "no doubling time"
    fast = not reaches(doubling, limit)
    said = f"doubling time {beside(doubling, [limit])} days ({'' if fast else 'not '}below {limit:g})"
    return (FAST if fast else GROWING), said


def _resolved(nodules: Nodules, i: int) -> list[Nodule]:
    """Nodules of earlier visits that are gone, or that visit i does not show."""
    here = frozenset[int]().union(*nodules.origins[i].values())
    earlier = {lesion: ids for before in nodules.origins[:i] for lesion, ids in before.items()}
    gone = [lesion for lesion, ids in earlier.items() if ids.isdisjoint(here)]
    hidden = set(nodules.visits[i].not_covered)
    return [
        Nodule(NE, f"the images do not show the place of nodule {lesion}")
        if lesion in hidden
        else Nodule(GONE, f"nodule {lesion} is gone", 0.0, change=-1.0)
        for lesion in gone
    ]


def _volume(nodules: Nodules, ids: frozenset[int], i: int) -> float:
    return sum(item.volume_mm3 for item in nodules.same(ids, i))


def _size_words(nodules: Nodules, ids: frozenset[int], i: int) -> str:
    size = nodules.size(ids, i)
    shown = "cut by the field of view" if size is None else f"{number(size)} {UNITS[nodules.rule.quantity]}"
    return f"{shown}, as a sphere {size_class(_volume(nodules, ids, i))}"


def _sizes(nodules: Nodules, i: int) -> str:
    here = nodules.origins[i]
    return "; ".join(f"nodule {n} {_size_words(nodules, ids, i)}" for n, ids in here.items())


def _missing(nodules: Nodules) -> tuple[str, ...]:
    found = ["whether a nodule is solid, part-solid or ground-glass"]
    if not nodules.dated:
        found.append("dates: doubling time and intervals")
    return tuple(found)
