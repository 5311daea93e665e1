"""The columns of the report as coded measurements: concept, unit and 95 % interval."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from highdicom import sr

from napari_convlstm_tumor.report.dicom_common import SCHEME

Row = Mapping[str, Any]


class Quantity(NamedTuple):
    """A column ``stem_unit`` of the report as a coded measurement; its interval is ``stem_low_unit``, ``_high_``."""

    stem: str
    unit: str
    code: tuple[str, str, str]
    ucum: str
    ucum_meaning: str

    @property
    def column(self) -> str:
        """Name of the value in a row."""
        return f"{self.stem}_{self.unit}"

    def bounds(self, row: Row) -> tuple[float | None, float | None]:
        """Ends of the 95 % interval."""
        return _number(row.get(f"{self.stem}_low_{self.unit}")), _number(row.get(f"{self.stem}_high_{self.unit}"))


VDE = ("VDE", SCHEME, "Velocity of diametric expansion")
SGR = ("SGR", SCHEME, "Specific growth rate")
VDT = ("VDT", SCHEME, "Volume doubling time")
SPEED = ("FRONT_SPEED", SCHEME, "Speed of the tumor front")
LOG_VOLUME = ("LOG_GROWTH", SCHEME, "Rate of the logarithm of the tumor volume nearby")
JACOBIAN = ("LOG_JACOBIAN", SCHEME, "Rate of the logarithm of the tissue volume")
QUANTITIES = (
    Quantity("volume", "mm3", ("118565006", "SCT", "Volume"), "mm3", "cubic millimeter"),
    Quantity("longest_axial", "mm", ("103339001", "SCT", "Long axis"), "mm", "millimeter"),
    Quantity("perpendicular_axial", "mm", ("131189007", "SCT", "Perpendicular Axis"), "mm", "millimeter"),
    Quantity("product", "mm2", ("PRODUCT", SCHEME, "Bidimensional product"), "mm2", "square millimeter"),
    Quantity("longest_3d", "mm", ("LONGEST_3D", SCHEME, "Longest diameter in 3D"), "mm", "millimeter"),
    Quantity("volume_change", "percent", ("CHANGE", SCHEME, "Volume change since the visit before"), "%", "percent"),
    Quantity("sgr", "per_day", SGR, "/d", "per day"),
    Quantity("sgr", "per_visit", SGR, "/{visit}", "per visit"),
    Quantity("vdt", "days", VDT, "d", "day"),
    Quantity("vdt", "visits", VDT, "{visit}", "visit"),
    Quantity("vde", "mm_per_year", VDE, "mm/a", "millimeter per year"),
    Quantity("vde", "mm_per_visit", VDE, "mm/{visit}", "millimeter per visit"),
    Quantity("front_speed", "mm_per_month", SPEED, "mm/mo", "millimeter per month"),
    Quantity("front_speed", "mm_per_visit", SPEED, "mm/{visit}", "millimeter per visit"),
)


def measurements(row: Row) -> list[Any]:
    """A coded measurement (TID 300) for every known column of a row of the report that has a number."""
    found = []
    for quantity in QUANTITIES:
        value = _number(row.get(quantity.column))
        if value is not None:
            found.append(_measurement(quantity, value, *quantity.bounds(row)))
    return found


def _measurement(quantity: Quantity, value: float, low: float | None, high: float | None) -> Any:
    """The value, and its 95 % interval as the range of uncertainty below and above it (TID 310)."""
    unit = sr.CodedConcept(quantity.ucum, "UCUM", quantity.ucum_meaning)
    measurement = sr.Measurement(sr.CodedConcept(*quantity.code), value, unit)
    if low is not None and high is not None:
        above = sr.CodedConcept("371886008", "SCT", "+, range of upper measurement uncertainty")
        below = sr.CodedConcept("371885007", "SCT", "-, range of lower measurement uncertainty")
        ranges = [
            sr.NumContentItem(name, size, unit, relationship_type=sr.RelationshipTypeValues.HAS_PROPERTIES)
            for name, size in ((above, high - value), (below, value - low))
        ]
        known = measurement[0].get("ContentSequence") or []
        measurement[0].ContentSequence = sr.ContentSequence([*known, *ranges])
    return measurement


def _number(value: Any) -> float | None:
    return None if value is None or not math.isfinite(float(value)) else float(value)
