"""The numbers after a stroke: only what depends on it is measured again, by the very functions of the pipeline.

A stroke at visit n changes that visit's native mask and sizes, the growth maps of n and n + 1, and through the
components of tumor perhaps the lesions of any visit. All of it lies in the box around the tumor of all visits: there,
and nowhere else, it is measured again; the rest of the arrays stays as it is. The forecast takes seconds: ``update``
leaves it out (the reason stands in its place), ``ahead`` makes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from napari_convlstm_tumor import pipeline
from napari_convlstm_tumor.analysis import Analysis
from napari_convlstm_tumor.edit.case import CORRECTED, Case, Mask, case_of
from napari_convlstm_tumor.edit.near import Box, cropped, painted_visit, reach, widened
from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.io.links import Link, links_text
from napari_convlstm_tumor.measure.front import FrontMotion
from napari_convlstm_tumor.measure.growth import front_speed
from napari_convlstm_tumor.measure.lesions import Tracking, track
from napari_convlstm_tumor.measure.maps import log_growth, reliable_speed
from napari_convlstm_tumor.results import LINKS_FILE
from napari_convlstm_tumor.series import AlignedSeries, FloatVolume, Prediction
from napari_convlstm_tumor.steps import measuring
from napari_convlstm_tumor.steps.forecasting import Outlook, look_ahead
from napari_convlstm_tumor.steps.measuring import Measured
from napari_convlstm_tumor.steps.native import NativeVisit, native_visit, tracking_mask
from napari_convlstm_tumor.volume import Volume

PENDING = "No forecast yet: it follows when the corrections rest for a moment."


class Numbers:
    """What was measured of one analysis, kept so that a correction measures only what depends on it.

    analysis: the latest. Its arrays are changed in place by the next correction, so that no hundred megabytes are
    copied after a stroke; those of the analysis it was made of stay as they were. links: in force. corrected: 0-based
    visits painted by hand. Not for two threads at once.
    """

    def __init__(self, analysis: Analysis, corrected: Sequence[int] = ()) -> None:
        self.case: Case = case_of(analysis)
        self.analysis = _own_arrays(analysis)
        self.links = self.case.links
        self.corrected: frozenset[int] = frozenset()
        self._tracked = np.zeros_like(analysis.masks)
        self._boxes: dict[int, Box | None] = {}
        self._visits: dict[int, NativeVisit] = {}
        self._places: dict[int, Box] = {}  # where the (cropped) masks of painted visits lie in their images
        self._sizes: dict[int, measuring.VisitSizes] = {}
        self._labels: npt.NDArray[np.uint16] = np.zeros_like(analysis.masks, dtype=np.uint16)
        self._lesions = np.zeros_like(self._labels)
        self._sds: list[float] = []
        self._fronts: dict[int, FrontMotion] = {}  # by voxels of the whole grid
        self._stale = set(range(1, len(analysis.days))) if analysis.reliable is None else set()
        self._measured: Measured | None = None
        self._take({t: analysis.prediction.probability[t] for t in corrected}, frozenset(corrected), self.links)

    def update(self, masks: Mapping[int, Mask], links: Sequence[Link] | None = None) -> Analysis:
        """The analysis with new masks (I, J, K) at some 0-based visits, and other links; without its forecast.

        masks: painted on the common grid and counted on its voxels. A link whose lesion was erased is dropped. Raises
        InputError for a shape that is not the grid's and for links that cannot be; nothing is changed then.
        """
        painted = {t: (np.asarray(mask) != 0).astype(np.float32) for t, mask in masks.items()}
        return self.replace(painted, self.corrected | set(masks), self.links if links is None else links)

    def replace(
        self, probabilities: Mapping[int, FloatVolume], corrected: Iterable[int], links: Sequence[Link]
    ) -> Analysis:
        """The analysis with other probabilities (I, J, K) at some 0-based visits; without its forecast.

        corrected: the visits whose probability is a painted mask. Raises InputError as ``update``.
        """
        self._check(probabilities)
        chance = self.analysis.prediction.probability
        old, before = {t: chance[t].copy() for t in probabilities}, (self.corrected, self.links)
        self._take(probabilities, frozenset(corrected), tuple(links))
        try:
            return self._measure()
        except InputError:
            self._take(old, *before)
            raise

    def prepare(self) -> Analysis:
        """Measure what the first correction will need; an analysis that has its lesions stays as it is."""
        known = self.analysis
        self._measure()
        if known.lesions is not None:
            self.analysis = known
        return self.analysis

    def ahead(self) -> Analysis:
        """The latest analysis with its forecast."""
        if self._measured is None:
            self._measure()
        assert self._measured is not None
        volumes = self._measured.volumes_mm3
        outlook = look_ahead(self.case.aligned, self.analysis.prediction, volumes, self.analysis.settings)
        self.analysis = self._analysis(self._measured, outlook)
        return self.analysis

    # ---- what is new ----

    def _check(self, masks: Mapping[int, FloatVolume]) -> None:
        for t, mask in masks.items():
            if mask.shape != self.analysis.grid.shape:
                raise InputError(f"The mask of visit {t + 1} has shape {mask.shape}, not {self.analysis.grid.shape}.")

    def _take(self, masks: Mapping[int, FloatVolume], corrected: frozenset[int], links: tuple[Link, ...]) -> None:
        self.corrected, self.links = corrected, links
        for t, mask in masks.items():
            self.analysis.prediction.probability[t] = mask
            self.analysis.masks[t] = mask >= 0.5
            self._forget(t)
            if t in corrected:
                self._tracked[t] = self.analysis.masks[t]
                self._boxes[t] = reach(self._tracked[t])

    def _forget(self, t: int) -> None:
        for known in (self._visits, self._sizes, self._boxes):
            known.pop(t, None)
        self._stale |= {t, t + 1} & set(range(1, len(self.analysis.days)))

    # ---- one after the other ----

    def _measure(self) -> Analysis:
        old, case, count = self.analysis, self.case, range(len(self.analysis.days))
        for t in count:
            if t not in self.corrected and t not in self._visits:
                self._find_visit(t)
        box = widened([self._boxes[t] for t in count], old.grid)
        aligned, prediction = cropped(case.aligned, old.prediction, box)
        for t in self.corrected - set(self._visits):
            painted = old.masks[t][box]
            self._visits[t], self._places[t] = painted_visit(painted, aligned, t, case.aligned.native_grids[t])
        self.links = tuple(k for k in self.links if self._fits(k))
        whole, qualities = case.aligned, [r.quality for r in aligned.registrations]
        tracking = track(self._tracked, whole.grid, qualities, self.links, whole.inside, box=box)
        near = replace(tracking, labels=tracking.labels[(slice(None), *box)])
        self._size(tracking, near, aligned, box)
        maps = self._map(aligned, prediction, box)
        visits, sizes = [self._visits[t] for t in count], [self._sizes[t] for t in count]
        measured = measuring.together(visits, sizes, near, maps, aligned, prediction)
        self._measured = self._whole(measured, box)
        waiting = replace(old.prediction, forecast=None, forecast_day=None, forecast_note=PENDING)
        self.analysis = self._analysis(self._measured, Outlook(waiting))
        return self.analysis

    def _find_visit(self, t: int) -> None:
        """A visit as it came, on its own voxels; slow, but done once."""
        visit = native_visit(self.case.series, self.case.aligned, self.analysis.prediction, t)
        self._visits[t] = visit
        self._tracked[t] = tracking_mask(visit, self.case.aligned, self.analysis.prediction, t)
        self._boxes[t] = reach(self._tracked[t])

    def _fits(self, link: Link) -> bool:
        """Whether there still is tumor where a link points."""
        place = np.rint(self.analysis.grid.to_index(link.ras_mm)).astype(int)
        return bool(self._tracked[(link.visit - 1, *place)])

    def _size(self, tracking: Tracking, near: Tracking, aligned: AlignedSeries, box: Box) -> None:
        """Sizes by lesion: again where the tumor, or the number of a lesion in it, is another."""
        for t, visit in self._visits.items():
            painted = t in self.corrected
            if t in self._sizes and np.array_equal(self._labels[t][box], near.labels[t]):
                continue
            self._sizes[t] = (
                measuring.measure_visit(visit, near.labels[t], aligned, t)
                if painted
                else measuring.measure_visit(visit, tracking.labels[t], self.case.aligned, t)
            )
        self._labels = tracking.labels

    def _map(self, aligned: AlignedSeries, prediction: Prediction, box: Box) -> measuring.Maps:
        """Growth maps near the tumor: again for visits with a new mask, or with another error of its boundary."""
        sds = [self._sizes[t].boundary_sd_mm for t in range(len(prediction.days))]
        for t in range(1, len(sds)):
            if t in self._stale or (self._sds and self._sds[t - 1 : t + 1] != sds[t - 1 : t + 1]):
                self._map_pair(t, aligned, prediction, sds, box)
            if t in self._stale or t not in self._fronts:
                front = measuring.front_of_pair(aligned, prediction, self._visits, t)
                self._fronts[t] = front.shifted([s.start for s in box])
        self._sds = sds
        self._stale.clear()
        near = {t: front.shifted([-s.start for s in box]) for t, front in self._fronts.items()}
        return replace(self._maps((slice(None), *box)), fronts=near)

    def _map_pair(self, t: int, aligned: AlignedSeries, prediction: Prediction, sds: Sequence[float], box: Box) -> None:
        if not (aligned.inside[t - 1] & aligned.inside[t]).all():  # distances then run through the whole grid
            aligned, prediction, box = self.case.aligned, self.analysis.prediction, (slice(None),) * 3
        pair, maps = measuring.pair_of_visits(aligned, prediction, sds, t), self._maps((t,))
        maps.growth[:], maps.reliable[:] = np.nan, False
        speed = front_speed(pair.before, pair.after, pair.spacing_mm, pair.days, pair.valid, aligned.dated)
        maps.growth[box], maps.reliable[box] = speed, reliable_speed(speed, pair)
        if maps.log_growth is not None and maps.log_growth_reliable is not None:
            maps.log_growth[:], maps.log_growth_reliable[:] = np.nan, False
            maps.log_growth[box], maps.log_growth_reliable[box] = log_growth(pair)

    def _maps(self, at: tuple[int | slice, ...]) -> measuring.Maps:
        """The maps of the analysis, or a part of them; no copies."""
        now = self.analysis
        assert now.reliable is not None
        return measuring.Maps(
            now.growth[at],
            now.reliable[at],
            self._fronts,
            None if now.log_growth is None else now.log_growth[at],
            None if now.log_growth_reliable is None else now.log_growth_reliable[at],
        )

    # ---- the answer ----

    def _whole(self, measured: Measured, box: Box) -> Measured:
        """What was measured in a box, in its place."""
        labels = self._lesions
        labels[:] = 0
        labels[(slice(None), *box)] = measured.labels
        masks, lesions = list(measured.native_masks), list(measured.native_labels)
        for t in self.corrected:
            grid = self.case.aligned.native_grids[t]
            for volumes in (masks, lesions):
                data = np.zeros(grid.shape, dtype=volumes[t].data.dtype)
                data[self._places[t]] = volumes[t].data
                volumes[t] = Volume(data, grid)
        return replace(
            measured,
            labels=labels,
            native_masks=tuple(masks),
            native_labels=tuple(lesions),
            maps=self._maps((slice(None),)),
        )

    def _analysis(self, measured: Measured, outlook: Outlook) -> Analysis:
        case, old = self.case, self.analysis
        inputs = pipeline.Inputs(old.prompts, self.links, case.clinical)
        files = replace(case.files, warnings=(*case.files.warnings, *_said(self.corrected)))
        quiet = replace(outlook, prediction=replace(outlook.prediction, warnings=()))  # they are among those of files
        report = pipeline.report_of(case.aligned, measured, quiet, inputs, old.settings, files)
        attachments = {name: text for name, text in old.attachments.items() if name != LINKS_FILE}
        if self.links:
            attachments[LINKS_FILE] = links_text(self.links)
        return replace(
            old,
            prediction=outlook.prediction,
            native_masks=measured.native_masks,
            native_lesions=measured.native_labels,
            report=report,
            lesions=measured.labels,
            forecast_band=outlook.band,
            attachments=attachments,
        )


def recompute(
    analysis: Analysis, masks: Mapping[int, Mask], corrected: Sequence[int] = (), links: Sequence[Link] | None = None
) -> Analysis:
    """An analysis with new masks at some 0-based visits, everything measured anew, the forecast too.

    corrected: visits painted before. For one correction; ``Numbers`` is for one after the other.
    """
    unknown = replace(analysis, reliable=None, growth=np.full_like(analysis.growth, np.nan))
    numbers = Numbers(unknown, corrected)
    numbers.update(masks, links)
    return numbers.ahead()


def _own_arrays(analysis: Analysis) -> Analysis:
    """The analysis with copies of the arrays that corrections change."""
    masks, growth, reliable = analysis.masks, analysis.growth, analysis.reliable
    wants_log = analysis.settings.log_growth
    log_map, log_reliable = analysis.log_growth, analysis.log_growth_reliable
    if wants_log and log_map is None:
        log_map, log_reliable = np.full_like(growth, np.nan), np.zeros(masks.shape, dtype=bool)
    return replace(
        analysis,
        masks=masks.copy(),
        growth=growth.copy(),
        reliable=np.zeros(masks.shape, dtype=bool) if reliable is None else reliable.copy(),
        log_growth=None if log_map is None else log_map.copy(),
        log_growth_reliable=None if log_reliable is None else log_reliable.copy(),
        prediction=replace(analysis.prediction, probability=analysis.prediction.probability.copy()),
    )


def _said(corrected: frozenset[int]) -> list[str]:
    """What a report must say of an analysis that a person corrected."""
    if not corrected:
        return []
    visits = ", ".join(str(t + 1) for t in sorted(corrected))
    return [f"{CORRECTED}the mask of visit {visits}; its volume is counted on the voxels that were painted."]
