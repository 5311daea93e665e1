"""DICOM SR (TID 1500, Measurement Report) with the measurements of all visits: one document per patient.

A measurement group (TID 1411) per lesion and visit refers to the lesion's segment in that visit's SEG and carries its
Tracking UID; groups without a region (TID 1501) hold the whole tumor, lesions that are gone, and the response.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from highdicom import sr

from napari_convlstm_tumor import __version__
from napari_convlstm_tumor.report.dicom_common import MAKER, Origin, neoplasm, private_code, private_scheme, time_name
from napari_convlstm_tumor.report.dicom_quantities import Row, measurements

SERIES_NUMBER = 9200
SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.4"


# Overall response has no code in PS3.16 (its CID 6143 speaks of target lesions alone), hence codes of our own.
CATEGORIES = {
    "CR": "Complete response",
    "PR": "Partial response",
    "MR": "Minor response",
    "SD": "Stable disease",
    "PD": "Progressive disease",
    "NE": "Not evaluable",
}
PROCEDURES = {
    "CT": ("25045-6", "LN", "CT unspecified body region"),
    "MR": ("25056-3", "LN", "MRI unspecified body region"),
}


def measurement_report(origin: Origin, segs: Sequence[Any | None]) -> Any:
    """The document, filed with the last visit's study; segs: per visit its Segmentation, None without a lesion.

    Numbers are those of the report's rows to the last digit; what is undefined there is absent here.
    """
    last = len(segs) - 1
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=_observer()),
        procedure_reported=[sr.CodedConcept(*PROCEDURES[m]) for m in _modalities(origin)],
        imaging_measurements=[g for t in range(len(segs)) for g in _groups(origin, t, segs[t])],
        title=sr.CodedConcept("126000", "DCM", "Imaging Measurement Report"),
    )
    # the study of the first dataset is that of the document: the last visit's
    evidence = [*origin.sources[last].headers, *(h for s in origin.sources[:last] for h in s.headers)]
    dataset = sr.Comprehensive3DSR(
        evidence=[*evidence, *(seg for seg in segs if seg is not None)],
        content=content[0],
        is_complete=True,
        coding_schemes=[private_scheme()],
        **origin.instance(f"Tumor measurements, {len(segs)} visit{'s' if last else ''}", SERIES_NUMBER),
    )
    return origin.stamp(dataset, last)


def _modalities(origin: Origin) -> list[str]:
    found = {str(source.first.Modality) for source in origin.sources}
    return sorted(found & set(PROCEDURES)) or ["MR"]


def _observer() -> Any:
    """This program as the observing device; its UID is the same for the same version."""
    return sr.ObserverContext(
        observer_type=sr.CodedConcept("121007", "DCM", "Device"),
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=_fixed_uid(f"{MAKER} {__version__}"),
            name=f"{MAKER} {__version__}, research use only",
            manufacturer_name=MAKER,
            model_name=MAKER,
        ),
    )


def _fixed_uid(text: str) -> str:
    """The same UID for the same text (PS3.5 B.2)."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_URL, text).int}"


# ---- groups ----


def _groups(origin: Origin, visit: int, seg: Any | None) -> Iterator[Any]:
    """Measurement groups of a 0-based visit: the whole tumor, its lesions, the response by every criterion."""
    report = origin.analysis.report
    whole = sr.TrackingIdentifier(_fixed_uid(f"whole {origin.sources[0].first.StudyInstanceUID}"), "Whole tumor")
    yield _group(origin, visit, whole, measurements(report.visits[visit]), algorithm_id=_algorithm(origin))
    for row in report.lesions:
        if int(row["visit"]) == visit + 1:
            yield from _lesion(origin, visit, row, seg)
    for criterion, rows in report.responses.items():
        for row in rows:
            if int(row["visit"]) == visit + 1:
                yield _response(origin, visit, whole, criterion, row)


def _group(origin: Origin, visit: int, tracking: Any, numbers: list[Any], **more: Any) -> Any:
    kind = sr.MeasurementsAndQualitativeEvaluations
    if "referenced_segment" in more:
        kind = sr.VolumetricROIMeasurementsAndQualitativeEvaluations
    category, finding = neoplasm()
    return kind(
        tracking_identifier=tracking,
        time_point_context=_time_point(origin, visit),
        finding_category=category,
        finding_type=finding,
        measurements=numbers or None,
        **more,
    )


def _lesion(origin: Origin, visit: int, row: Row, seg: Any | None) -> Iterator[Any]:
    numbers = measurements(row)
    if not numbers or row.get("state") == "absent":  # a lesion that is yet to come
        return
    uid = str(row["tracking_uid"])
    tracking = sr.TrackingIdentifier(uid, f"Lesion {row['lesion']}")
    more: dict[str, Any] = {"algorithm_id": _algorithm(origin)}
    number = _segment_of(seg, uid)
    if seg is not None and number is not None:
        more["referenced_segment"] = sr.ReferencedSegment(
            SEGMENTATION_STORAGE,
            seg.SOPInstanceUID,
            number,
            source_series=sr.SourceSeriesForSegmentation(origin.sources[visit].first.SeriesInstanceUID),
        )
    group = _group(origin, visit, tracking, numbers, **more)
    if row.get("state"):
        _comment(group, f"State: {row['state']}")
    yield group


def _segment_of(seg: Any | None, tracking_uid: str) -> int | None:
    """Number of the segment with this Tracking UID."""
    segments = [] if seg is None else seg.SegmentSequence
    return next((int(s.SegmentNumber) for s in segments if s.TrackingUID == tracking_uid), None)


def _response(origin: Origin, visit: int, tracking: Any, criterion: str, row: Row) -> Any:
    category = str(row["category"])
    recist = sr.CodedConcept("126081", "DCM", "RECIST 1.1")
    group = _group(
        origin,
        visit,
        tracking,
        [],
        method=recist if "recist" in criterion.lower() else private_code(_short(criterion), criterion),
        qualitative_evaluations=[
            sr.QualitativeEvaluation(
                sr.CodedConcept("112048", "DCM", "Current Response"),
                private_code(_short(category), CATEGORIES.get(category, category)),
            )
        ],
    )
    missing = row.get("missing") or ()
    for text in (row.get("reason"), *((missing,) if isinstance(missing, str) else missing)):
        if text:
            _comment(group, str(text))
    return group


def _short(text: str) -> str:
    """A code value (at most 16 characters) from a name."""
    return "_".join(text.upper().replace(",", " ").split())[:16]


def _time_point(origin: Origin, visit: int) -> Any:
    analysis, offset = origin.analysis, None
    if analysis.dated:
        offset = sr.LongitudinalTemporalOffsetFromEvent(
            analysis.days[visit],
            sr.CodedConcept("d", "UCUM", "day"),
            sr.CodedConcept("121079", "DCM", "Baseline"),
        )
    return sr.TimePointContext(
        time_name(analysis, visit), time_point_order=visit + 1, temporal_offset_from_event=offset
    )


def _algorithm(origin: Origin) -> Any:
    return sr.AlgorithmIdentification(
        MAKER, __version__, [f"segmentation: {origin.analysis.prediction.model}", "research use only"]
    )


def _comment(group: Any, text: str) -> None:
    name = sr.CodedConcept("121106", "DCM", "Comment")
    group[0].ContentSequence.append(sr.TextContentItem(name, text, sr.RelationshipTypeValues.CONTAINS))
