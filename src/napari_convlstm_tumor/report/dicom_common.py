"""What the DICOM objects of one patient share: where they come from, who made them, when, and codes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import highdicom as hd
import numpy as np

from napari_convlstm_tumor import __version__
from napari_convlstm_tumor.analysis import Analysis
from napari_convlstm_tumor.io.dicom_source import DicomSource
from napari_convlstm_tumor.volume import Volume

MAKER = "napari-convlstm-tumor"
RESEARCH = "(research use only)"
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # and back: it is its own inverse
# Quantities that no public coding scheme names; "99" marks a private scheme (PS3.16, 8.2).
SCHEME = "99NCT"
UNICODE = "ISO_IR 192"


@dataclass(frozen=True)
class Origin:
    """The source of every visit, and whether the objects are de-identified (PS3.15, Basic Profile)."""

    analysis: Analysis
    sources: tuple[DicomSource, ...]
    anonymous: bool

    def instance(self, kind: str, series_number: int) -> dict[str, Any]:
        """The arguments every object takes: new UIDs and the software that made it. kind: at most 44 characters."""
        return {
            "series_instance_uid": hd.UID(),
            "series_number": series_number,
            "sop_instance_uid": hd.UID(),
            "instance_number": 1,
            "manufacturer": MAKER,
            "manufacturer_model_name": self.analysis.prediction.model[:64],
            "software_versions": __version__,
            "device_serial_number": __version__,
            "series_description": f"{kind} {RESEARCH}",
            "specific_character_set": UNICODE,
        }

    def stamp(self, dataset: Any, visit: int) -> Any:
        """The dataset with its time point (0-based visit): days since the first visit, never another date.

        What the source itself says of a trial's time points stays: it holds for the whole study.
        """
        if not dataset.get("ClinicalTrialTimePointID"):
            dataset.ClinicalTrialTimePointID = f"visit-{visit + 1:02d}"
        if self.analysis.dated and "LongitudinalTemporalOffsetFromEvent" not in dataset:
            dataset.LongitudinalTemporalOffsetFromEvent = float(self.analysis.days[visit])
            dataset.LongitudinalTemporalEventType = "BASELINE"
        modified = self.sources[visit].first.get("LongitudinalTemporalInformationModified")
        dataset.LongitudinalTemporalInformationModified = modified or "UNMODIFIED"
        if self.anonymous:
            _declare_deidentified(dataset)
        return dataset


def _declare_deidentified(dataset: Any) -> None:
    """Identity removed, and the day of making replaced by that of the (shifted) study."""
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethodCodeSequence = [
        hd.sr.CodedConcept("113100", "DCM", "Basic Application Confidentiality Profile"),
        hd.sr.CodedConcept("113107", "DCM", "Retain Longitudinal Temporal Information Modified Dates Option"),
        hd.sr.CodedConcept("113110", "DCM", "Retain UIDs Option"),
    ]
    day = dataset.StudyDate or "20000101"
    dataset.ContentDate, dataset.ContentTime = day, "000000"
    for tag in ("InstanceCreationDate", "InstanceCreationTime", "ContributingEquipmentSequence"):
        dataset.pop(tag, None)


def to_highdicom(volume: Volume, frame_of_reference: str) -> Any:
    """A highdicom Volume: index order (slice, row, column) = (k, j, i), affine to LPS mm."""
    affine = (LPS_TO_RAS @ volume.grid.affine)[:, [2, 1, 0, 3]]
    return hd.Volume(
        np.ascontiguousarray(volume.data.transpose(2, 1, 0)),
        affine=affine,
        coordinate_system="PATIENT",
        frame_of_reference_uid=frame_of_reference,
    )


def private_code(value: str, meaning: str) -> Any:
    """A code of this program's own scheme."""
    return hd.sr.CodedConcept(value, SCHEME, meaning[:64])


def private_scheme() -> Any:
    """The item that says whose codes those are."""
    from highdicom.coding_schemes import CodingSchemeIdentificationItem

    return CodingSchemeIdentificationItem(SCHEME, name=f"Quantities of {MAKER}", responsible_organization=MAKER)


def neoplasm() -> tuple[Any, Any]:
    """(category, type) of every segment and finding."""
    return (
        hd.sr.CodedConcept("49755003", "SCT", "Morphologically Abnormal Structure"),
        hd.sr.CodedConcept("108369006", "SCT", "Neoplasm"),
    )


def time_name(analysis: Analysis, visit: int) -> str:
    """Such as "visit 2, day 41"."""
    return f"visit {visit + 1}" + (f", day {analysis.days[visit]}" if analysis.dated else "")


def tracking_uids(rows: tuple[Mapping[str, Any], ...]) -> dict[int, str]:
    """Lesion id -> Tracking UID, from the rows of the report."""
    return {int(row["lesion"]): str(row["tracking_uid"]) for row in rows}
