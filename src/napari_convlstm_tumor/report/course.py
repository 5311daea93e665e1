"""Sizes of the tumor, or of one lesion, over the visits: changes, growth rates, and where they cannot be known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from napari_convlstm_tumor.measure.growth import DAYS_PER_YEAR, Rate, diameter_rate, specific_growth_rate
from napari_convlstm_tumor.measure.lesions import Lesion
from napari_convlstm_tumor.measure.uncertainty import (
    Interval,
    LesionSize,
    Size,
    change_percent,
    changes_from_baseline,
    changes_from_nadir,
)


@dataclass(frozen=True, eq=False)
class LesionCourse:
    """One lesion over T visits: how it was followed, its sizes on each visit's own voxels, the speed of its front.

    sizes: None where there is nothing of it. front_speeds: medians since the visit before, in mm/month (mm/visit when
    not dated), None where undefined. cut: where it reaches the end of the image. warnings: per visit, what is known.
    """

    lesion: Lesion
    sizes: tuple[LesionSize | None, ...]
    front_speeds: tuple[Interval | None, ...]
    cut: tuple[bool, ...]
    warnings: tuple[tuple[str, ...], ...]

    def is_known(self, visit: int) -> bool:
        """False at a 0-based visit whose images do not tell: out of view, or part of another lesion."""
        states = self.lesion.states
        if states[visit] == "not covered" or states[visit].startswith("merged into"):
            return False
        arrives = next((s for s in states if s not in ("absent", "not covered")), "")
        return not (states[visit] == "absent" and arrives == "first seen")


@dataclass(frozen=True)
class Course:
    """Volumes over T visits: None = no tumor; ``known`` is False where a visit cannot tell. baseline: 0-based.

    with_errors: False when the sizes have no known errors; nothing then has an interval, but rates over three or more
    visits, which show their own scatter. cut: where the image ends in the tumor (empty = nowhere): how much of it lies
    beyond is no measurement error, so a change to or from there has no interval.
    """

    days: Sequence[int]
    dated: bool
    sizes: Sequence[Size | None]
    known: Sequence[bool]
    baseline: int = 0
    with_errors: bool = True
    cut: Sequence[bool] = ()

    def change(self, before: int, after: int) -> Interval | None:
        """Change in percent between two visits."""
        return self._told(change_percent(self.sizes[before], self.sizes[after]), before, after)

    def from_baseline(self, visit: int) -> Interval | None:
        """Change in percent against the baseline."""
        return self._told(changes_from_baseline(self.sizes, self.baseline)[visit], self.baseline, visit)

    def from_nadir(self, visit: int) -> Interval | None:
        """Change in percent against the smallest size since the baseline."""
        return self._told(changes_from_nadir(self.sizes, self.baseline)[visit], self.baseline, visit)

    def growth_rate(self, first: int, last: int) -> Rate | None:
        """Specific growth rate per day (per visit when not dated) over the visits first to last."""
        return self._rate(specific_growth_rate, first, last)

    def expansion(self, first: int, last: int) -> Rate | None:
        """Velocity of diametric expansion in mm per year (per visit when not dated)."""
        rate = self._rate(diameter_rate, first, last)
        return rate.times(DAYS_PER_YEAR) if rate is not None and self.dated else rate

    def is_cut(self, first: int, last: int) -> bool:
        """True where the image ends in the tumor at one of the visits first to last."""
        return any(self.cut[first : last + 1])

    def _rate(self, slope: Callable[..., Rate | None], first: int, last: int) -> Rate | None:
        visits = range(first, last + 1)
        if not all(self.known[t] for t in visits):
            return None
        sizes = [self.sizes[t] for t in visits]
        errors = [0.0 if s is None else s.repeat_log_sd for s in sizes] if self.with_errors else None
        rate = slope([0.0 if s is None else s.value for s in sizes], [self.days[t] for t in visits], errors)
        return Rate(rate.value) if rate is not None and self.is_cut(first, last) else rate

    def _told(self, change: Interval | None, before: int, after: int) -> Interval | None:
        if change is None or not (self.known[before] and self.known[after]):
            return None
        return change if self.with_errors and not self.is_cut(before, after) else Interval(change.value)
