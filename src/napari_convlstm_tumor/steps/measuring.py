"""Measuring: lesions followed over the visits, their sizes with errors on each visit's own voxels, growth maps."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_convlstm_tumor.io.links import Link
from napari_convlstm_tumor.measure.front import FrontMotion, front_motion
from napari_convlstm_tumor.measure.growth import front_speed, volume_mm3
from napari_convlstm_tumor.measure.lesion_story import Event
from napari_convlstm_tumor.measure.lesions import Tracking, track
from napari_convlstm_tumor.measure.maps import VisitPair, log_growth, reliable_speed
from napari_convlstm_tumor.measure.uncertainty import (
    BOUNDARY_SD_MM,
    Interval,
    LesionSize,
    Size,
    measure_lesion,
    measure_volume,
)
from napari_convlstm_tumor.report import cautions
from napari_convlstm_tumor.report.course import LesionCourse
from napari_convlstm_tumor.series import DAYS_PER_MONTH, AlignedSeries, FloatVolume, Prediction, Series
from napari_convlstm_tumor.steps.native import NativeVisit, native_labels, native_visit, tracking_mask
from napari_convlstm_tumor.volume import Grid, Volume

# A given mask whose volume changes by more than this on the image's voxels is remarked upon.
SAME_VOLUME = 0.02
# Shares of the time at which native masks, tracking and sizes end; the maps take the rest.
NATIVE_ENDS, SIZES_END = 0.35, 0.6
Labels = npt.NDArray[np.uint16]


@dataclass(frozen=True, eq=False)
class Maps:
    """Growth maps (T, I, J, K) and where they can be trusted; nothing at the first visit. See Analysis.

    fronts: how the front moved since the visit before, by 0-based visit from the second on.
    """

    growth: FloatVolume
    reliable: npt.NDArray[np.bool_]
    fronts: Mapping[int, FrontMotion]
    log_growth: FloatVolume | None
    log_growth_reliable: npt.NDArray[np.bool_] | None


@dataclass(frozen=True, eq=False)
class Measured:
    """All that is measured of T visits.

    labels: (T, I, J, K) lesion ids on the common grid. native_masks, native_labels: per visit, on its image's grid.
    totals, front_speeds, cut, warnings, slice_mm (distance of the axial slices): per visit. events: rows of Report.
    """

    maps: Maps
    labels: Labels
    native_masks: tuple[Volume, ...]
    native_labels: tuple[Volume, ...]
    totals: tuple[Size | None, ...]
    front_speeds: tuple[Interval | None, ...]
    lesions: tuple[LesionCourse, ...]
    events: tuple[dict[str, Any], ...]
    cut: tuple[bool, ...]
    warnings: tuple[tuple[str, ...], ...]
    slice_mm: tuple[float, ...]

    @property
    def volumes_mm3(self) -> list[float]:
        """Volume of all tumor per visit, 0 where there is none."""
        return [0.0 if s is None else s.value for s in self.totals]


def measure(
    series: Series,
    aligned: AlignedSeries,
    prediction: Prediction,
    links: Sequence[Link] = (),
    with_log_growth: bool = False,
) -> Generator[float, None, Measured]:
    """Everything measured of the masks; yields the fraction done. InputError for links that fit no tumor."""
    count = len(aligned.days)
    visits = []
    for t in range(count):
        visits.append(native_visit(series, aligned, prediction, t))
        yield NATIVE_ENDS * (t + 1) / count
    masks = np.stack([tracking_mask(visits[t], aligned, prediction, t) for t in range(count)])
    qualities = [r.quality for r in aligned.registrations]
    tracking = track(masks, aligned.grid, qualities, links, aligned.inside)
    found = []
    for t, visit in enumerate(visits):
        found.append(measure_visit(visit, tracking.labels[t], aligned, t))
        yield NATIVE_ENDS + (SIZES_END - NATIVE_ENDS) * (t + 1) / count
    maps = yield from _maps(aligned, prediction, visits, found, with_log_growth)
    return together(visits, found, tracking, maps, aligned, prediction)


def together(
    visits: Sequence[NativeVisit],
    found: Sequence[VisitSizes],
    tracking: Tracking,
    maps: Maps,
    aligned: AlignedSeries,
    prediction: Prediction,
) -> Measured:
    """All that was measured of visits and pairs of visits, as one; ``found`` are the sizes of each visit."""
    count = range(len(visits))
    labels = np.stack([np.where(prediction.mask(t), tracking.labels[t], 0) for t in count])
    return Measured(
        maps=maps,
        labels=labels.astype(np.uint16),
        native_masks=tuple(v.mask for v in visits),
        native_labels=tuple(Volume(f.native_labels, v.mask.grid) for v, f in zip(visits, found, strict=True)),
        totals=tuple(f.total for f in found),
        front_speeds=tuple(_front_speed(maps.fronts, found, aligned, t) for t in count),
        lesions=_courses(found, tracking, labels, maps.fronts, aligned),
        events=tuple(asdict(event) for event in tracking.events),
        cut=tuple(bool(f.cut) for f in found),
        warnings=tuple((*_visit_warnings(v), *_uncovered(tracking, t)) for t, v in enumerate(visits)),
        slice_mm=tuple(v.measured.grid.spacing_mm[axial_axis(v.measured.grid)] for v in visits),
    )


def axial_axis(grid: Grid) -> int:
    """The axis of a grid that runs most nearly from foot to head; slices across it are axial."""
    return int(np.argmax(np.abs(grid.affine[2, :3]) / np.array(grid.spacing_mm)))


# ---- one visit ----


@dataclass(frozen=True, eq=False)
class VisitSizes:
    """Sizes of one visit: by lesion, in all; the lesions cut by the field of view; labels on the image's grid."""

    lesions: dict[int, LesionSize]
    total: Size | None
    cut: frozenset[int]
    native_labels: Labels

    @property
    def boundary_sd_mm(self) -> float:
        """Repeat error of the boundary: that of the least sure lesion."""
        return max((s.boundary_sd_mm for s in self.lesions.values()), default=BOUNDARY_SD_MM)

    def boundary_sd_of(self, lesion: int | None) -> float | None:
        """The same of one lesion, of the whole tumor for None.

        None where the image cuts it: the error of its registration then is on one side only.
        """
        if lesion is None:
            return None if self.cut else self.boundary_sd_mm
        return None if lesion in self.cut else self.lesions[lesion].boundary_sd_mm


def measure_visit(visit: NativeVisit, labels: Labels, aligned: AlignedSeries, t: int) -> VisitSizes:
    """Sizes of every lesion and of the whole tumor at visit t (0-based), on the visit's own voxels."""
    measured = visit.measured
    own = native_labels(measured, visit.box, labels, aligned, t)
    same = measured is visit.mask
    on_image = own if same else native_labels(visit.mask, (slice(0, None),) * 3, labels, aligned, t)
    cut = _at_the_edge(
        on_image
    )  # where the mask's own voxels end says nothing: SEG and NRRD often hold the tumor alone
    if not visit.given:
        cut |= {int(n) for n in np.unique(labels[_edge(aligned.inside[t])])} - {0}
    spacing = measured.grid.spacing_mm
    total = measure_volume(measured.data[visit.box], spacing, visit.probability)
    return VisitSizes(_sizes(own, visit), total, frozenset(cut), on_image)


def _sizes(own: Labels, visit: NativeVisit) -> dict[int, LesionSize]:
    """Sizes of every lesion of a visit by id, measured in the visit's box."""
    grid, axis = visit.measured.grid, axial_axis(visit.measured.grid)
    labels = own[visit.box]
    measured = {
        int(n): measure_lesion(labels == n, grid.spacing_mm, visit.probability, axis) for n in np.unique(labels) if n
    }
    return {n: size for n, size in measured.items() if size is not None}


def _at_the_edge(labels: Labels) -> set[int]:
    """Lesions that reach the first or last plane along any axis that has more than one."""
    sides = [np.take(labels, index, axis) for axis in range(3) if labels.shape[axis] > 1 for index in (0, -1)]
    return {int(n) for side in sides for n in np.unique(side)} - {0}


def _edge(inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Voxels next to the end of what both the common grid and the visit's images show."""
    edge = np.zeros(inside.shape, dtype=bool)
    for axis in (a for a in range(3) if inside.shape[a] > 1):
        for step in (-1, 1):
            beyond = np.roll(inside, step, axis)
            np.moveaxis(beyond, axis, 0)[0 if step == 1 else -1] = False
            edge |= ~beyond
    return edge


def _visit_warnings(visit: NativeVisit) -> list[str]:
    """A given mask on other voxels than the image's, or beyond the common grid."""
    own = volume_mm3(visit.measured.data, visit.measured.grid.voxel_mm3)
    written = volume_mm3(visit.mask.data, visit.mask.grid.voxel_mm3)
    found = []
    if abs(own - written) > SAME_VOLUME * own:
        found.append(
            f"The mask lies on other voxels than the image: {own / 1000:.2f} mL on its own (used here), "
            f"{written / 1000:.2f} mL on the image's (in native/)."
        )
    if visit.outside_mm3 > 0:
        found.append(
            f"{visit.outside_mm3 / 1000:.2f} mL of the mask lie beyond the common grid: they are counted, but neither "
            "shown nor in the growth map. Choose a reference visit whose images show all of it."
        )
    return found


def _uncovered(tracking: Tracking, t: int) -> list[str]:
    return cautions.of_coverage([one.id for one in tracking.lesions if one.states[t] == "not covered"])


# ---- lesions over the visits ----


def _courses(
    found: Sequence[VisitSizes],
    tracking: Tracking,
    labels: Labels,
    fronts: Mapping[int, FrontMotion],
    aligned: AlignedSeries,
) -> tuple[LesionCourse, ...]:
    pieces = {t: labels[(t, *front.voxels.T)] for t, front in fronts.items()}
    mergers = [e for e in tracking.events if e.kind == "merged" and len(e.lesions) > 1]
    return tuple(
        LesionCourse(
            lesion=one,
            sizes=tuple(f.lesions.get(one.id) for f in found),
            front_speeds=tuple(
                _front_speed(fronts, found, aligned, t, one.id, pieces.get(t)) for t in range(len(found))
            ),
            cut=tuple(one.id in f.cut for f in found),
            warnings=tuple(_merged(mergers, one.id, t) for t in range(len(found))),
        )
        for one in tracking.lesions
    )


def _merged(mergers: Sequence[Event], lesion: int, t: int) -> tuple[str, ...]:
    """What a lesion has taken in up to a 0-based visit, in words."""
    own = [e for e in mergers if e.lesions[0] == lesion and e.visit <= t + 1]
    return tuple(cautions.of_merger(lesion, e.lesions[1:], e.visit) for e in own)


def _front_speed(
    fronts: Mapping[int, FrontMotion],
    found: Sequence[VisitSizes],
    aligned: AlignedSeries,
    t: int,
    lesion: int | None = None,
    pieces: Labels | None = None,
) -> Interval | None:
    """Median speed since the visit before t, of all tumor or of a lesion, to which ``pieces`` (N,) of the front belong.

    None where no front was followed, and for a lesion that is not at both visits: the nearest front before is another
    lesion's. No interval where a visit is registered badly, or where the end of the image cuts the tumor.
    """
    front = fronts.get(t)
    if front is None or (lesion is not None and not all(lesion in f.lesions for f in found[t - 1 : t + 1])):
        return None
    sds = [found[v].boundary_sd_of(lesion) if aligned.registrations[v].good else None for v in (t - 1, t)]
    among = None if pieces is None else pieces == lesion
    days = aligned.days[t] - aligned.days[t - 1]
    return front.median_speed(days / DAYS_PER_MONTH if aligned.dated else days, sds, among)


# ---- maps ----


def _maps(
    aligned: AlignedSeries,
    prediction: Prediction,
    visits: Sequence[NativeVisit],
    found: Sequence[VisitSizes],
    with_log_growth: bool,
) -> Generator[float, None, Maps]:
    """Front speed since the visit before, and on request log-growth, each with where it is reliable."""
    shape, count = prediction.probability.shape, len(aligned.days)
    growth = np.full(shape, np.nan, dtype=np.float32)
    reliable = np.zeros(shape, dtype=bool)
    log_map, log_reliable = (growth.copy(), reliable.copy()) if with_log_growth else (None, None)
    boundary_sds, fronts = [f.boundary_sd_mm for f in found], {}
    for t in range(1, count):
        pair = pair_of_visits(aligned, prediction, boundary_sds, t)
        growth[t] = front_speed(pair.before, pair.after, pair.spacing_mm, pair.days, pair.valid, aligned.dated)
        reliable[t] = reliable_speed(growth[t], pair)
        fronts[t] = front_of_pair(aligned, prediction, visits, t)
        if log_map is not None and log_reliable is not None:
            log_map[t], log_reliable[t] = log_growth(pair)
        yield SIZES_END + (1 - SIZES_END) * t / count
    return Maps(growth, reliable, fronts, log_map, log_reliable)


def pair_of_visits(aligned: AlignedSeries, prediction: Prediction, boundary_sds: Sequence[float], t: int) -> VisitPair:
    """Visits t - 1 and t on the common grid, as measure/maps takes them."""
    return VisitPair(
        prediction.mask(t - 1),
        prediction.mask(t),
        aligned.grid.spacing_mm,
        aligned.days[t] - aligned.days[t - 1],
        dated=aligned.dated,
        valid=aligned.inside[t - 1] & aligned.inside[t],
        boundary_sds_mm=(boundary_sds[t - 1], boundary_sds[t]),
        registered=aligned.registrations[t - 1].good and aligned.registrations[t].good,
    )


def front_of_pair(
    aligned: AlignedSeries, prediction: Prediction, visits: Mapping[int, NativeVisit] | Sequence[NativeVisit], t: int
) -> FrontMotion:
    """How the front moved from visit t - 1 to t on the common grid."""
    chance = prediction.probability
    valid = aligned.inside[t - 1] & aligned.inside[t]
    given = (visits[t - 1].given, visits[t].given)
    return front_motion(chance[t - 1], chance[t], aligned.grid.spacing_mm, valid, given)
