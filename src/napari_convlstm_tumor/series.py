"""The central types: what one patient is, from files found to a report.

folder -> PatientFiles -> Series -> AlignedSeries -> Prediction -> Report.
T visits, C modalities, I x J x K voxels; arrays are (T, C, I, J, K), (T, I, J, K) or (I, J, K).
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from napari_convlstm_tumor.errors import InputError, SeriesError
from napari_convlstm_tumor.volume import Grid, Volume

MODALITIES = ("t1", "t1c", "t2", "flair", "ct", "other")
# Said by whoever notices first; the same words, so that a person reads them once.
ONE_VISIT = "Only one visit: the tumor's volume can be given, its growth cannot."
NO_DATES = "No dates found: growth is per visit, never per day or month."
DAYS_PER_MONTH = 30.44
# How AlignedSeries.data is normalised, as the card of a network says what it was trained on: change one, change both.
FED = (
    "AlignedSeries.data: MR (raw - median) / 1.5 robust sigmas of what lies 15 mm under the skin or deeper; "
    "CT (HU - 40) / 100; days between visits"
)
PromptType = Literal["point", "box", "mask", "scribble"]
FloatVolume = npt.NDArray[np.float32]


# ---- files found, no pixels read ----


@dataclass(frozen=True)
class VisitFiles:
    """One visit as found on disk.

    label: the name it was found under (may hold a date: private, never in shared output).
    images: modality -> files (one NIfTI-like file, or the slices of one DICOM series).
    mask: one label file (NIfTI-like, DICOM SEG or RTSTRUCT), or None.
    date or day: when it was; both None when nothing says so.
    notes: what a person should know (a rule applied, a file left out).
    """

    label: str
    images: Mapping[str, tuple[Path, ...]]
    mask: Path | None = None
    date: datetime.date | None = None
    day: int | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PatientFiles:
    """One patient as found on disk: visits in the order of time, first visit = day 0 when dated.

    problems: why this patient cannot be analysed as it lies (empty = usable).
    warnings: rules applied and things left out, in sentences without dates or full paths.
    left_out: (file or folder name, reason).
    """

    patient: str
    visits: tuple[VisitFiles, ...]
    layout: str = ""
    warnings: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()

    @property
    def dated(self) -> bool:
        """True when every visit has a day."""
        return bool(self.visits) and all(v.day is not None for v in self.visits)

    @property
    def days(self) -> tuple[int, ...]:
        """Day of every visit; the visit's position when nothing is dated."""
        if not self.dated:
            return tuple(range(len(self.visits)))
        return tuple(v.day for v in self.visits if v.day is not None)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities found at any visit, in the order of MODALITIES."""
        found = {m for v in self.visits for m in v.images}
        return tuple(m for m in MODALITIES if m in found)


# ---- pixels in their own space ----


@dataclass(frozen=True, eq=False)
class Visit:
    """One visit in its own scanner space: images {modality: Volume}, mask on any grid (uint8, 0/1) or None."""

    label: str
    day: int
    images: Mapping[str, Volume]
    mask: Volume | None = None


@dataclass(frozen=True, eq=False)
class Series:
    """The visits of one patient in the order of time. Refuses equal or falling days and a visit without images.

    dated: False when only the order is known; then ``days`` are positions 0, 1, 2 and growth is per visit.
    """

    patient: str
    visits: tuple[Visit, ...]
    dated: bool = True

    def __post_init__(self) -> None:
        if not self.visits:
            raise SeriesError("The series has no visits.")
        for number, visit in enumerate(self.visits, start=1):
            if not visit.images:
                raise SeriesError(f"Visit {number} has no image.")
        for number, (a, b) in enumerate(zip(self.days, self.days[1:], strict=False), start=2):
            if b <= a:
                raise SeriesError(
                    f"Visit {number} is on day {b}, not after visit {number - 1} on day {a}. "
                    "Give every visit its own day, for example in a manifest CSV."
                )

    @property
    def days(self) -> tuple[int, ...]:
        """Day of every visit."""
        return tuple(v.day for v in self.visits)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities of any visit, in the order of MODALITIES."""
        found = {m for v in self.visits for m in v.images}
        return tuple(m for m in MODALITIES if m in found)


@dataclass(frozen=True, eq=False)
class Prompt:
    """A person's hint where the tumor is.

    visit: 1-based, in the order of time. ras_mm: (3,) for a point, (2, 3) for a box, (N, 3) for the corners of a
    scribbled line, in that visit's own scanner space. mask: for type "mask", on any grid in that visit's scanner space.
    """

    visit: int
    type: PromptType
    ras_mm: npt.NDArray[np.float64] | None = None
    mask: Volume | None = None


# ---- one grid ----


@dataclass(frozen=True)
class Registration:
    """How one visit was laid on the reference.

    ref_to_visit: (4, 4), RAS mm of the reference -> RAS mm of the visit (identity for the reference itself).
    quality: 0..1, agreement of the two images' fine structure within the body; 1 for the reference, NaN when the visit
    shares no kind of image with it. good: quality at or above the threshold of prepare/register.
    """

    ref_to_visit: npt.NDArray[np.float64]
    quality: float
    good: bool
    note: str = ""


@dataclass(frozen=True, eq=False)
class AlignedSeries:
    """All visits on one axis-aligned grid in the scanner space of the reference visit.

    data: (T, C, I, J, K) float32, normalised: value = (raw - centre) / scale with centre, scale (T, C);
      0 where a modality is absent, the image's darkest value where it does not reach.
    present: (T, C) bool. inside: (T, I, J, K) bool, voxels that the visit's images cover.
    masks: per visit (I, J, K) uint8 given by the person, or None.
    registrations, native_grids: per visit; together they are the way back.
    """

    patient: str
    data: FloatVolume
    present: npt.NDArray[np.bool_]
    inside: npt.NDArray[np.bool_]
    modalities: tuple[str, ...]
    days: tuple[int, ...]
    dated: bool
    grid: Grid
    centre: npt.NDArray[np.float32]
    scale: npt.NDArray[np.float32]
    masks: tuple[npt.NDArray[np.uint8] | None, ...]
    registrations: tuple[Registration, ...]
    native_grids: tuple[Grid, ...]
    reference: int = 0

    def __post_init__(self) -> None:
        t, c = len(self.days), len(self.modalities)
        if self.data.shape != (t, c, *self.grid.shape):
            raise SeriesError(f"Data of shape {self.data.shape} is not ({t}, {c}, {self.grid.shape}).")
        if not self.grid.is_axis_aligned:
            raise SeriesError("The common grid is not axis-aligned.")

    def raw(self, visit: int, channel: int) -> FloatVolume:
        """Image (I, J, K) in the scanner's own intensities (HU for CT), 0-based visit and channel."""
        return self.data[visit, channel] * self.scale[visit, channel] + self.centre[visit, channel]

    def only(self, kinds: Collection[str]) -> AlignedSeries:
        """The same visits with these kinds of image alone; itself where it has no others."""
        kept = [c for c, modality in enumerate(self.modalities) if modality in kinds]
        if len(kept) == len(self.modalities):
            return self
        return replace(
            self,
            data=self.data[:, kept],
            present=self.present[:, kept],
            modalities=tuple(self.modalities[c] for c in kept),
            centre=self.centre[:, kept],
            scale=self.scale[:, kept],
        )


@dataclass(frozen=True)
class Look:
    """The part of the common grid that the network worked on (voxels), and the voxels (I, J, K) it was averaged to."""

    box: tuple[slice, slice, slice]
    shape: tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a segmenter answers for an AlignedSeries.

    probability: (T, I, J, K) float32 in 0..1. forecast: (I, J, K) float32 probability of tumor at forecast_day, or
    None with the reason in forecast_note. model: name and sha256 of the weights, or "masks given".
    features: what the network's forecast head needs of the last visit, on the grid of look; only model/ reads them.
    unfollowed: (T, I, J, K) what the network outlined before only what continues the lesions was kept, when asked for.
    """

    probability: FloatVolume
    days: tuple[int, ...]
    grid: Grid
    model: str
    forecast: FloatVolume | None = None
    forecast_day: int | None = None
    forecast_note: str = ""
    warnings: tuple[str, ...] = ()
    features: npt.NDArray[np.float16] | None = None
    look: Look | None = None
    unfollowed: FloatVolume | None = None

    def mask(self, visit: int) -> npt.NDArray[np.uint8]:
        """Mask (I, J, K) of a 0-based visit: probability at least 0.5."""
        return (self.probability[visit] >= 0.5).astype(np.uint8)


@dataclass(frozen=True)
class Report:
    """Numbers of one patient: rows (dicts in column order) per visit and per lesion, warnings and provenance.

    lesions: one row per lesion and visit. events: one per thing that befell a lesion (new, vanished, split, merged).
    responses: criterion -> one row per visit with its category, reason and what the images cannot tell.
    forecasts: one row per model, the one to trust first: method, day, volume with its band, and why there is none.
    """

    patient: str
    visits: tuple[Mapping[str, Any], ...]
    warnings: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    lesions: tuple[Mapping[str, Any], ...] = ()
    events: tuple[Mapping[str, Any], ...] = ()
    responses: Mapping[str, tuple[Mapping[str, Any], ...]] = field(default_factory=dict)
    forecasts: tuple[Mapping[str, Any], ...] = ()


def parse_modality(name: str) -> str:
    """The modality called ``name``, or InputError that lists the choices."""
    lowered = name.strip().lower()
    if lowered not in MODALITIES:
        raise InputError(f"Unknown modality '{name}'. Choose one of: {', '.join(MODALITIES)}.")
    return lowered
