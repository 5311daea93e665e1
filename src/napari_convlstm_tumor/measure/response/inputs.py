"""What a response is classified from, and what comes out: plain numbers per visit and lesion, no pixels."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, Protocol

from napari_convlstm_tumor.errors import InputError

# The words of lesion tracking. What makes a difference here: "not covered" (no image shows its place: neither there
# nor gone), "first seen" (no earlier image shows its place: perhaps not new), "speck" (perhaps noise: not counted),
# "split", "merged" and "merged into N".
STATES = ("baseline", "new", "first seen", "persistent", "split", "merged", "reappeared", "speck")
GONE_STATES = ("absent", "vanished", "not covered")
MERGED_INTO = "merged into "
ClinicalStatus = Literal["better", "stable", "worse"]


@dataclass(frozen=True)
class LesionMeasure:
    """One lesion at one visit. Millimetres and mm3; a vanished lesion has zeros, or simply no row, but one that is
    "not covered" needs its row.

    Of the two diameters the longer one is the longest. slices: number it is seen on; measurable_slices: those on
    which both diameters reach 10 mm (None = not counted). product_mm2: of the diameters, summed over parts that lie
    apart (None = longest times perpendicular). follows: for a split or merged lesion under a new id, the ids it
    came from. volume_interval_mm3: 95 % interval of the volume. organ, node, enhancing: where known. cut: by the field
    of view.
    """

    lesion: int
    volume_mm3: float
    longest_axial_mm: float
    perpendicular_axial_mm: float
    slices: int
    state: str = "persistent"
    follows: tuple[int, ...] = ()
    enhancing: bool | None = None
    node: bool = False
    organ: str | None = None
    cut: bool = False
    measurable_slices: int | None = None
    product_mm2: float | None = None
    volume_interval_mm3: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        for name in ("volume_mm3", "longest_axial_mm", "perpendicular_axial_mm", "slices"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"Lesion {self.lesion}: {name} is finite and not negative, got {value}.")
        if self.product_mm2 is not None and not (math.isfinite(self.product_mm2) and self.product_mm2 >= 0):
            raise InputError(f"Lesion {self.lesion}: product_mm2 is finite and not negative, got {self.product_mm2}.")
        # Measured across voxels the perpendicular of a round lesion may come out the longer by part of a voxel.
        short, long = sorted((self.longest_axial_mm, self.perpendicular_axial_mm))
        object.__setattr__(self, "longest_axial_mm", long)
        object.__setattr__(self, "perpendicular_axial_mm", short)
        gone = self.state in GONE_STATES or self.merged_into is not None
        if not gone and self.state not in STATES:
            raise InputError(f"Lesion {self.lesion}: unknown state {self.state!r}; choose one of {', '.join(STATES)}.")
        if gone and self.volume_mm3 > 0:
            raise InputError(f"Lesion {self.lesion} is {self.state} but has a volume of {self.volume_mm3} mm3.")
        _check_interval(self)

    @property
    def present(self) -> bool:
        """True when there is anything of it at this visit that is more than a speck."""
        return self.volume_mm3 > 0 and self.state != "speck"

    @property
    def merged_into(self) -> int | None:
        """The lesion that it has become part of."""
        number = self.state.removeprefix(MERGED_INTO)
        return int(number) if number != self.state and number.isdecimal() else None


@dataclass(frozen=True)
class VisitMeasure:
    """The lesions of one visit. day: since the first visit, or the visit's position when undated.

    slice_mm: distance of the slices the diameters were measured on. not_evaluable: why sizes of this visit cannot be
    used (no contrast given, images missing); empty = usable.
    """

    day: int
    lesions: tuple[LesionMeasure, ...]
    slice_mm: float = 1.0
    not_evaluable: str = ""

    def __post_init__(self) -> None:
        ids = [lesion.lesion for lesion in self.lesions]
        if len(set(ids)) < len(ids):
            twice = next(i for i in ids if ids.count(i) > 1)
            raise InputError(f"Lesion {twice} stands twice in the visit of day {self.day}.")
        if not (math.isfinite(self.slice_mm) and self.slice_mm > 0):
            raise InputError(f"The slice distance is a positive number of mm, got {self.slice_mm}.")

    @property
    def present(self) -> tuple[LesionMeasure, ...]:
        """Lesions that are there."""
        return tuple(lesion for lesion in self.lesions if lesion.present)

    @property
    def not_covered(self) -> tuple[int, ...]:
        """Lesions whose place no image of this visit shows."""
        return tuple(lesion.lesion for lesion in self.lesions if lesion.state == "not covered")


class Clinical(Protocol):
    """What a person entered for one visit; None = not known. ``io.clinical.ClinicalState`` is one."""

    @property
    def steroid_mg_per_day(self) -> float | None:
        """Dexamethasone equivalent above physiological replacement."""

    @property
    def status(self) -> ClinicalStatus | None:
        """Clinical state against the baseline; "worse" = clearly, by the tumor and nothing else."""

    @property
    def non_target_progression(self) -> bool | None:
        """A reader's judgement: non-target disease has unequivocally progressed."""


@dataclass(frozen=True)
class Response:
    """The answer for one visit, visits counted from 1.

    confirmed: None where nothing is to be confirmed, or cannot be judged (the reason says which).
    reason: in words with numbers and days. missing: what the criterion asks and images cannot tell.
    sum_used in ``unit``; changes are fractions of the baseline and of the nadir, None where undefined.
    """

    visit: int
    day: int | None
    criterion: str
    category: str
    confirmed: bool | None
    reason: str
    missing: tuple[str, ...] = ()
    sum_used: float | None = None
    unit: str = ""
    baseline_visit: int | None = None
    nadir_visit: int | None = None
    change_from_baseline: float | None = None
    change_from_nadir: float | None = None

    def row(self) -> dict[str, Any]:
        """The fields in order, ``missing`` as one text: a row of Report.responses."""
        return {**dataclasses.asdict(self), "missing": "; ".join(self.missing)}


def check_visits(visits: Sequence[VisitMeasure], baseline: int | None, clinical: Sequence[Clinical | None]) -> None:
    """InputError unless days rise, split lesions say where they come from, and the choices fit the visits."""
    if not visits:
        raise InputError("There are no visits to classify.")
    for number, (before, after) in enumerate(pairwise(visits), start=2):
        if after.day <= before.day:
            raise InputError(f"Days must rise: visit {number} is on day {after.day}, the one before on {before.day}.")
    if baseline is not None and not 1 <= baseline <= len(visits):
        raise InputError(f"The baseline is one of the visits 1 to {len(visits)}, got {baseline}.")
    if clinical and len(clinical) != len(visits):
        raise InputError(f"{len(clinical)} clinical entries for {len(visits)} visits; give one, or None, per visit.")
    _check_parents(visits)


def _check_parents(visits: Sequence[VisitMeasure]) -> None:
    """A split or merged lesion under a new id without its parents would be taken for a new lesion."""
    seen: set[int] = set()
    for number, visit in enumerate(visits, start=1):
        for lesion in visit.present:
            told = {lesion.lesion, *lesion.follows}
            if lesion.state in ("split", "merged") and number > 1 and not seen & told:
                raise InputError(
                    f"Lesion {lesion.lesion} of visit {number} is {lesion.state} but does not follow a lesion of an "
                    "earlier visit; name the lesions it came from."
                )
        seen |= {lesion.lesion for lesion in visit.present}


def _check_interval(lesion: LesionMeasure) -> None:
    if lesion.volume_interval_mm3 is None:
        return
    low, high = lesion.volume_interval_mm3
    if not (math.isfinite(high) and 0 <= low <= lesion.volume_mm3 <= high):
        raise InputError(
            f"Lesion {lesion.lesion}: its volume {lesion.volume_mm3} mm3 is not in its interval {low} to {high} mm3."
        )
