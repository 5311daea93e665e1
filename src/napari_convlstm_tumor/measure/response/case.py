"""One patient under one criterion: targets fixed at the baseline, every visit measured against them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from napari_convlstm_tumor.measure.response.criteria import EARLY_PROGRESSION_DAYS, Criterion
from napari_convlstm_tumor.measure.response.inputs import Clinical, LesionMeasure, VisitMeasure
from napari_convlstm_tumor.measure.response.sizes import (
    Origins,
    Size,
    choose_targets,
    follow,
    is_disease,
    is_measurable,
    measure,
)


@dataclass(frozen=True)
class Part:
    """Targets that are classified together. name: "" or the kind of tumor; minor: fall that is a minor response."""

    name: str
    minor: float | None
    targets: frozenset[int]
    sizes: tuple[Size, ...]


@dataclass(frozen=True)
class Case:
    """Visits counted from 0 in here; base is that of the baseline."""

    rule: Criterion
    visits: tuple[VisitMeasure, ...]
    dated: bool
    base: int
    clinical: tuple[Clinical | None, ...]
    radiotherapy_end_day: int | None
    confirm_progression: bool

    @cached_property
    def origins(self) -> tuple[Origins, ...]:
        """Per visit: lesion -> first lesions it goes back to."""
        return follow(self.visits)

    @cached_property
    def known(self) -> frozenset[int]:
        """First lesions seen up to the baseline; what does not go back to one of them is new."""
        return frozenset(i for here in self.origins[: self.base + 1] for ids in here.values() for i in ids)

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """One part, or two where enhancing and other tumor are classified apart and both have targets."""
        kinds, most = self._kinds(), self.rule.most_targets
        if len(kinds) > 1 and self.rule.most_of_each_kind is not None:
            most = self.rule.most_of_each_kind
        found = []
        for name, minor, lesions in kinds:
            chosen = choose_targets(lesions, self.rule, most)
            targets = frozenset(i for item in chosen for i in self.origins[self.base][item.lesion])
            sizes = (measure(v, o, targets, self.rule) for v, o in zip(self.visits, self.origins, strict=True))
            found.append(Part(name, minor, targets, tuple(sizes)))
        return tuple(found)

    @property
    def is_limited(self) -> bool:
        """Whether the number of targets kept a measurable lesion from being one."""
        return sum(len(lesions) for *_, lesions in self._kinds()) > sum(
            len(part.sizes[self.base].parts) for part in self.parts
        )

    def _kinds(self) -> list[tuple[str, float | None, list[LesionMeasure]]]:
        """Kinds of tumor measurable at the baseline: name, fall that is a minor response, the lesions."""
        measurable = [
            item for item in self.visits[self.base].present if self.counts(item) and self.measurable(item, self.base)
        ]
        if not self.rule.separate_enhancement:
            kinds = [("", self.rule.minor, measurable)]
        else:
            other = [item for item in measurable if item.enhancing is False]
            enhancing = [item for item in measurable if item.enhancing is not False]
            kinds = [("enhancing", None, enhancing), ("non-enhancing", self.rule.minor, other)]
        return [kind for kind in kinds if kind[2]]

    @cached_property
    def unclear(self) -> frozenset[int]:
        """First lesions that came where no earlier image reaches: whether they are new is not known."""
        return frozenset(
            ids
            for i, here in enumerate(self.origins)
            for item in self.visits[i].present
            for ids in here[item.lesion]
            if item.state == "first seen"
        )

    # ---- lesions of one visit ----

    def counts(self, lesion: LesionMeasure) -> bool:
        """False for tumor that the criterion does not add up."""
        return not (self.rule.enhancing_only and lesion.enhancing is False)

    def new(self, i: int) -> list[LesionMeasure]:
        """Lesions of visit i that came after the baseline, for certain."""
        return [item for item in self.late(i) if self.unclear.isdisjoint(self.origins[i][item.lesion])]

    def late(self, i: int) -> list[LesionMeasure]:
        """Lesions of visit i that were not seen up to the baseline, new or not."""
        here = self.origins[i]
        return [
            item
            for item in self.visits[i].present
            if self.known.isdisjoint(here[item.lesion]) and is_disease(item, self.rule)
        ]

    def hidden(self, i: int) -> list[int]:
        """Lesions known at the baseline, and last seen there or later, whose place visit i does not show."""
        return [n for n in self.visits[i].not_covered if not self.known.isdisjoint(self._last_origin(n, i))]

    def _last_origin(self, lesion: int, i: int) -> frozenset[int]:
        return next((here[lesion] for here in reversed(self.origins[:i]) if lesion in here), frozenset())

    def first_seen(self, lesion: LesionMeasure, i: int) -> int:
        """The visit on which a lesion of visit i was first there."""
        ids = self.origins[i][lesion.lesion]
        return next(j for j, here in enumerate(self.origins) if any(not ids.isdisjoint(o) for o in here.values()))

    def measurable(self, lesion: LesionMeasure, i: int) -> bool:
        """Whether a lesion of visit i could be a target."""
        return is_measurable(lesion, self.rule, self.visits[i].slice_mm)

    def old(self, i: int) -> list[LesionMeasure]:
        """Disease of visit i that goes back to the baseline or before, and counts."""
        here = self.origins[i]
        return [
            item
            for item in self.visits[i].present
            if self.counts(item) and is_disease(item, self.rule) and not self.known.isdisjoint(here[item.lesion])
        ]

    def non_target(self, i: int) -> list[LesionMeasure]:
        """Disease of visit i that counts, goes back to the baseline and is no target."""
        targets = frozenset[int]().union(*(part.targets for part in self.parts))
        return [item for item in self.old(i) if targets.isdisjoint(self.origins[i][item.lesion])]

    def nothing_left(self, i: int) -> bool:
        """True when no disease that counts is there on visit i."""
        late = any(self.counts(item) for item in self.late(i))
        return not self.old(i) and not late and not self.hidden(i)

    # ---- visits ----

    def trouble(self, i: int) -> str:
        """Why the sizes of visit i cannot be used; empty when they can."""
        if self.visits[i].not_evaluable:
            return self.visits[i].not_evaluable
        cut = sorted({c for part in self.parts for c in part.sizes[i].cut})
        if cut:
            return f"target {', '.join(map(str, cut))} reaches beyond the field of view, its size is a lower bound"
        targets = frozenset[int]().union(*(part.targets for part in self.parts))
        hidden = [n for n in self.hidden(i) if not targets.isdisjoint(self._last_origin(n, i))]
        return f"the images do not show the place of target {', '.join(map(str, hidden))}" if hidden else ""

    def usable(self, visits: Iterable[int]) -> list[int]:
        """Those of the visits that can be evaluated."""
        return [i for i in visits if not self.trouble(i)]

    def compared(self, i: int) -> list[int]:
        """Visits that a progression on visit i is measured against: those since the baseline that can be evaluated;
        under RANO 2010 those since radiotherapy, where there is one (PMC4530825 table I)."""
        since, end = self.usable(range(self.base, i)), self.radiotherapy_end_day
        if not self.rule.since_radiotherapy or end is None:
            return since
        return [j for j in since if self.visits[j].day >= end] or since

    def nadir(self, part: Part, i: int) -> int:
        """The visit to compare with on which the part was smallest; the first of equals."""
        return min(self.compared(i), key=lambda j: part.sizes[j].total)

    def nadir_name(self, i: int) -> str:
        """What to call it: not every visit since the baseline may count."""
        return "nadir" if self.compared(i) == self.usable(range(self.base, i)) else "nadir since radiotherapy"

    def total(self, i: int) -> float:
        """Sum over all targets."""
        return sum(part.sizes[i].total for part in self.parts)

    def when(self, i: int) -> str:
        """ "day 41", or "visit 2" without dates."""
        return f"day {self.visits[i].day}" if self.dated else f"visit {i + 1}"

    def entered(self, i: int) -> Clinical | None:
        """What a person entered for the visit."""
        return self.clinical[i] if self.clinical else None

    def is_early(self, i: int) -> bool:
        """Whether progression on visit i may be an effect of radiotherapy; False when its end is not known."""
        if self.rule.early_confirms is None or self.radiotherapy_end_day is None or not self.dated:
            return False
        return 0 <= self.visits[i].day - self.radiotherapy_end_day < EARLY_PROGRESSION_DAYS


def baseline_of(rule: Criterion, days: Sequence[int], chosen: int | None, radiotherapy_end_day: int | None) -> int:
    """0-based: the chosen visit (1-based), else for RANO 2.0 the first after radiotherapy, else the first."""
    if chosen is not None:
        return chosen - 1
    if rule.separate_enhancement and radiotherapy_end_day is not None:
        return next((i for i, day in enumerate(days) if day >= radiotherapy_end_day), 0)
    return 0
