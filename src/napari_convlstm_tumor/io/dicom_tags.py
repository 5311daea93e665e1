"""DICOM files grouped into series from their headers; no pixels are read.

A series counts when it is an MR or CT volume as the scanner made it. Left out with the reason: localisers and
scouts, projections (MIP), reformatted and derived maps, screenshots and colour images, other modalities, and
series of fewer than MIN_SLICES slices. SEG and RTSTRUCT objects are masks of the images they refer to.
"""

from __future__ import annotations

import datetime
import math
import re
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from napari_convlstm_tumor.io.headers import is_readable_dicom
from napari_convlstm_tumor.io.names import modality_of, plain, shown

# Fewer slices are a sample or a localiser, and have no thickness to measure a volume with.
MIN_SLICES = 3
MASK_MODALITIES = ("SEG", "RTSTRUCT")
# fmt: off
_TAGS = [
    "Modality", "PatientID", "StudyDate", "SeriesDate", "AcquisitionDate", "SeriesDescription",
    "ProtocolName", "ContrastBolusAgent", "SequenceName", "ScanningSequence", "RepetitionTime", "EchoTime",
    "InversionTime", "ImageType", "SeriesNumber", "NumberOfFrames", "SamplesPerPixel", "StudyInstanceUID",
    "SeriesInstanceUID", "SOPInstanceUID", "ImagePositionPatient", "FrameOfReferenceUID",
]
# fmt: on
_REFERENCES = ["ReferencedSeriesSequence", "ReferencedFrameOfReferenceSequence", "FrameOfReferenceUID"]
_LOCALISER = re.compile(
    r"\b(?:loc|locali[sz]er|scout|survey|topogram|surview|scanogram|3 ?plane|smart ?brain|aahead)\b"
)
_PROJECTION = re.compile(r"\bm(?:in)?ip\b|projection")
_REFORMAT = re.compile(r"\b(?:mpr|reformat\w*|reformatted|curved|vrt|volume ?rendering|3d ?render\w*)\b")
_DERIVED = re.compile(
    r"\b(?:e?adc|fa|trace\w*|exp|subtract\w*|sub|r?cbv|cbf|mtt|ttp|perf\w*|tensor|colfa|t[12] ?map|ivim)\b"
)
_SCREEN = re.compile(r"screen ?(?:shot|save)|\bdose (?:report|info)|patient protocol|\bsecondary capture\b")
_NO_AGENT = ("", "none", "no", "n", "without", "nativ", "native")
# Echo, repetition and inversion times (ms) that tell spin-echo weightings apart where no name does: a T2-like
# echo is at least 70 ms; a T1-like one at most 30 ms with a repetition under 1.2 s or an inversion near 1 s;
# FLAIR adds an inversion of at least 1.3 s to a T2-like echo (1.4 s at 0.064 T, 2-2.8 s at 1.5-3 T).
T2_ECHO_MS, T1_ECHO_MS = 70.0, 30.0
T2_REPETITION_MS, T1_REPETITION_MS = 2000.0, 1200.0
FLAIR_INVERSION_MS = 1300.0
MPRAGE_INVERSION_MS = (500.0, 1300.0)


@dataclass(frozen=True)
class Header:
    """The tags of one DICOM file that discovery needs; texts as they stand, "" where absent.

    instance: what tells it from the others of its series, the same for a copy: its UID and its place. Some programs
    give several slices one UID; by the UID alone all but one of them would be lost.
    """

    path: Path
    modality: str
    patient_id: str
    date: datetime.date | None
    study: str
    series: str
    instance: tuple[str, str]
    frame: str
    number: str
    frames: int
    samples: int
    image_type: str
    texts: tuple[str, ...]
    agent: str
    echo_planar: bool
    times_ms: tuple[float | None, float | None, float | None]


@dataclass(frozen=True)
class DicomSeries:
    """Images of one SeriesInstanceUID (or one SEG or RTSTRUCT object): the first header stands for all.

    modality: one of MODALITIES, "" when nothing says it; from_times: True when only TR, TE and TI said it.
    reason: why it is left out, "" when it counts. refers_to: for masks, (series UIDs, frame of reference).
    """

    header: Header
    paths: tuple[Path, ...]
    slices: int
    modality: str = ""
    from_times: bool = False
    reason: str = ""
    refers_to: frozenset[str] = frozenset()

    @property
    def is_mask(self) -> bool:
        """True for SEG and RTSTRUCT."""
        return self.header.modality in MASK_MODALITIES

    @property
    def name(self) -> str:
        """What a person is told: no description, which may carry a name."""
        files = shown(self.paths[0]) + (f" and {len(self.paths) - 1} more" if len(self.paths) > 1 else "")
        return f"{self.header.modality} series {self.header.number or '?'} ({files})"


def read_header(path: Path) -> Header | None:
    """The tags of one file, or None when it is no readable DICOM image object."""
    with _quiet():
        return _header(path)


@contextmanager
def _quiet() -> Iterator[None]:
    """pydicom would warn and log odd values, which may be a date or a name; here they count as absent."""
    from pydicom.config import disable_value_validation  # lazily, because most folders hold no DICOM

    with disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _header(path: Path) -> Header | None:
    dataset = _read(path, _TAGS)
    if dataset is None or not dataset.get("SeriesInstanceUID"):
        return None
    return Header(
        path=path,
        modality=_text(dataset, "Modality").upper(),
        patient_id=_text(dataset, "PatientID"),
        date=next(
            (d for t in ("StudyDate", "SeriesDate", "AcquisitionDate") if (d := _date(_text(dataset, t)))),
            None,
        ),
        study=_text(dataset, "StudyInstanceUID"),
        series=_text(dataset, "SeriesInstanceUID"),
        instance=(_text(dataset, "SOPInstanceUID") or str(path), _text(dataset, "ImagePositionPatient")),
        frame=_text(dataset, "FrameOfReferenceUID"),
        number=_text(dataset, "SeriesNumber"),
        frames=int(_number(dataset, "NumberOfFrames") or 1),
        samples=int(_number(dataset, "SamplesPerPixel") or 1),
        image_type=plain(_text(dataset, "ImageType")),
        texts=tuple(_text(dataset, t) for t in ("SeriesDescription", "ProtocolName", "SequenceName")),
        agent=_text(dataset, "ContrastBolusAgent"),
        echo_planar="EP" in _text(dataset, "ScanningSequence").split(),
        times_ms=tuple(_number(dataset, t) for t in ("RepetitionTime", "EchoTime", "InversionTime")),  # type: ignore[arg-type]
    )


def _read(path: Path, tags: list[str]) -> Any:
    import pydicom  # lazily, see _quiet

    try:
        if not is_readable_dicom(path):
            return None
        return pydicom.dcmread(path, stop_before_pixels=True, specific_tags=tags, force=True)
    except Exception:  # a damaged header can raise nearly anything; the file is then left out by name
        return None


def _text(dataset: Any, tag: str) -> str:
    try:
        value = dataset.get(tag)
    except Exception:  # pydicom converts values on access; a damaged value counts as absent
        return ""
    if value is None:
        return ""
    return (
        str(value) if isinstance(value, str) or not hasattr(value, "__iter__") else " ".join(map(str, value))
    ).strip()


def _number(dataset: Any, tag: str) -> float | None:
    try:
        number = float(_text(dataset, tag))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _date(text: str) -> datetime.date | None:
    try:
        return datetime.datetime.strptime(text[:8], "%Y%m%d").date()
    except ValueError:
        return None


def group(headers: Iterable[Header]) -> list[DicomSeries]:
    """Headers to series, in the order of study, series number and name. Copies of one file count once."""
    grouped: dict[tuple[str, str], dict[tuple[str, str], Header]] = defaultdict(dict)
    for header in headers:
        # Each SEG or RTSTRUCT file is a mask of its own, even when several share one series.
        own = str(header.path) if header.modality in MASK_MODALITIES else ""
        grouped[header.series, own].setdefault(header.instance, header)
    series = [_series(sorted(files.values(), key=lambda h: h.path)) for files in grouped.values()]
    return sorted(series, key=lambda s: (s.header.study, _order(s.header.number), s.name))


def _order(number: str) -> int:
    return int(number) if number.removeprefix("-").isdecimal() else 10**9


def _series(files: list[Header]) -> DicomSeries:
    first = files[0]
    slices = sum(h.frames for h in files)
    found = DicomSeries(first, tuple(h.path for h in files), slices)
    if found.is_mask:
        references, frame = _references(first)
        return replace(found, refers_to=references, header=replace(first, frame=frame or first.frame))
    modality, from_times = _modality(first)
    return replace(found, modality=modality, from_times=from_times, reason=_why_not(first, slices, modality))


def _why_not(header: Header, slices: int, modality: str) -> str:
    words = " ".join([header.image_type, *(plain(t) for t in header.texts[:2])])
    if header.modality not in ("MR", "CT"):
        return f"DICOM modality {header.modality or 'missing'} is not MR or CT"
    if header.samples != 1 or _SCREEN.search(words):
        return "a screenshot or colour image, not a volume of intensities"
    if _LOCALISER.search(words):
        return "a localiser"
    if _PROJECTION.search(words):
        return "a projection (MIP)"
    if _REFORMAT.search(words):
        return "reformatted from another series"
    if _DERIVED.search(words) or {"derived", "secondary"} <= set(header.image_type.split()):
        return "derived from other images, not acquired"
    if modality == "other":
        return "not one of t1, t1c, t2, flair, ct"
    return (
        f"only {slices} slice{'s' if slices > 1 else ''}, at least {MIN_SLICES} are needed"
        if slices < MIN_SLICES
        else ""
    )


def _modality(header: Header) -> tuple[str, bool]:
    """(modality, from_times): by the description, then the protocol, then the sequence; contrast also by its
    agent."""
    if header.modality == "CT":
        return "ct", False
    for text in header.texts:
        modality, named = modality_of(text)
        if named and modality != "ct":
            return _with_agent(modality, text, header.agent), False
    if header.echo_planar:
        return "other", False
    guess = modality_by_times(*header.times_ms)
    return _with_agent(guess, " ".join(header.texts), header.agent), bool(guess)


def _with_agent(modality: str, text: str, agent: str) -> str:
    before = re.search(r"\b(?:pre|nativ\w*|without|wo|no|non|ohne)\b", plain(text))
    given = agent.lower().strip() not in _NO_AGENT
    return "t1c" if modality == "t1" and given and not before else modality


def modality_by_times(repetition: float | None, echo: float | None, inversion: float | None) -> str:
    """t1, t2 or flair from TR, TE and TI in ms, "" where they do not tell."""
    if repetition is None or echo is None:
        return ""
    if echo >= T2_ECHO_MS and repetition >= T2_REPETITION_MS:
        return "flair" if inversion is not None and inversion >= FLAIR_INVERSION_MS else "t2"
    prepared = inversion is not None and MPRAGE_INVERSION_MS[0] <= inversion < MPRAGE_INVERSION_MS[1]
    short = echo <= T1_ECHO_MS and (repetition <= T1_REPETITION_MS or prepared)
    return "t1" if short else ""


def _references(header: Header) -> tuple[frozenset[str], str]:
    """(SeriesInstanceUIDs, frame of reference) of the images a SEG or RTSTRUCT was drawn on."""
    with _quiet():
        dataset = _read(header.path, _REFERENCES)
        return _named_images(dataset) if dataset is not None else (frozenset(), "")


def _named_images(dataset: Any) -> tuple[frozenset[str], str]:
    series = [_text(item, "SeriesInstanceUID") for item in _items(dataset, "ReferencedSeriesSequence")]
    frames = []
    for frame in _items(dataset, "ReferencedFrameOfReferenceSequence"):
        frames.append(_text(frame, "FrameOfReferenceUID"))
        for study in _items(frame, "RTReferencedStudySequence"):
            series += [_text(item, "SeriesInstanceUID") for item in _items(study, "RTReferencedSeriesSequence")]
    return frozenset(filter(None, series)), next(filter(None, frames), "")


def _items(dataset: Any, tag: str) -> list[Any]:
    try:
        return list(dataset.get(tag) or ())
    except Exception:  # a damaged sequence counts as absent
        return []
