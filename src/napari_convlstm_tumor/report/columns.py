"""The columns of a report's rows, in order, and what those of growth are called without dates."""

from __future__ import annotations

from collections.abc import Sequence

# Ends of 95 % intervals of a row's growth; those of its volume and changes stand beside the value.
_GROWTH_ENDS = (
    "volume_change_low_percent",
    "volume_change_high_percent",
    "change_from_baseline_low_percent",
    "change_from_baseline_high_percent",
    "change_from_nadir_low_percent",
    "change_from_nadir_high_percent",
    "sgr_low_per_day",
    "sgr_high_per_day",
    "vdt_low_days",
    "vdt_high_days",
    "vde_low_mm_per_year",
    "vde_high_mm_per_year",
    "front_speed_low_mm_per_month",
    "front_speed_high_mm_per_month",
)
_SIZE_ENDS = (
    "longest_axial_low_mm",
    "longest_axial_high_mm",
    "perpendicular_axial_low_mm",
    "perpendicular_axial_high_mm",
    "product_low_mm2",
    "product_high_mm2",
    "longest_3d_low_mm",
    "longest_3d_high_mm",
)
COLUMNS = (
    "visit",
    "day",
    "volume_mm3",
    "volume_change_percent",
    "sgr_per_day",
    "vdt_days",
    "vde_mm_per_year",
    "front_speed_mm_per_month",
    "registration_quality",
    "volume_low_mm3",
    "volume_high_mm3",
    "change_from_baseline_percent",
    "change_from_nadir_percent",
    "within_error",
    *_GROWTH_ENDS,
    "warnings",
)
LESION_COLUMNS = (
    "visit",
    "day",
    "lesion",
    "tracking_uid",
    "state",
    "volume_mm3",
    "volume_low_mm3",
    "volume_high_mm3",
    "longest_axial_mm",
    "perpendicular_axial_mm",
    "product_mm2",
    "longest_3d_mm",
    "change_from_baseline_percent",
    "change_from_nadir_percent",
    "sgr_per_day",
    "vdt_days",
    "front_speed_mm_per_month",
    "within_error",
    "match_confidence",
    "volume_change_percent",
    "vde_mm_per_year",
    *_SIZE_ENDS,
    *_GROWTH_ENDS,
    "warnings",
)
# Without dates a growth is per visit, and its column says so.
UNDATED_NAMES = {
    "sgr_per_day": "sgr_per_visit",
    "sgr_low_per_day": "sgr_low_per_visit",
    "sgr_high_per_day": "sgr_high_per_visit",
    "vdt_days": "vdt_visits",
    "vdt_low_days": "vdt_low_visits",
    "vdt_high_days": "vdt_high_visits",
    "vde_mm_per_year": "vde_mm_per_visit",
    "vde_low_mm_per_year": "vde_low_mm_per_visit",
    "vde_high_mm_per_year": "vde_high_mm_per_visit",
    "front_speed_mm_per_month": "front_speed_mm_per_visit",
    "front_speed_low_mm_per_month": "front_speed_low_mm_per_visit",
    "front_speed_high_mm_per_month": "front_speed_high_mm_per_visit",
}


def columns(dated: bool, names: Sequence[str] = COLUMNS) -> tuple[str, ...]:
    """Column names of a row, in order."""
    return tuple(names) if dated else tuple(UNDATED_NAMES.get(name, name) for name in names)
