"""What a reader must know before trusting a number, as sentences without dates, names or paths."""

from __future__ import annotations

import math
from collections.abc import Sequence

from napari_convlstm_tumor.measure.growth import sphere_diameter_mm
from napari_convlstm_tumor.series import NO_DATES, ONE_VISIT, Registration

# Growth of a tumor over less than this is not trustworthy (glioblastoma, Ellingson 2016).
SHORTEST_INTERVAL_DAYS = 28
# Doubling-time intervals are very wide for nodules of this diameter or less (PMC5989730).
SMALL_DIAMETER_MM = 6.0
# States of a lesion that is there (measure/lesion_story).
PRESENT = ("baseline", "new", "first seen", "persistent", "split", "merged", "reappeared", "speck")


def of_registration(registration: Registration) -> list[str]:
    """Cautions about how a visit was laid on the reference."""
    note = f" ({registration.note})" if registration.note else ""
    if not math.isfinite(registration.quality):
        return [f"The registration was not judged{note}: check by eye that the images match."]
    if registration.good:
        return []
    return [
        f"The registration quality of {registration.quality:.2f} is below the threshold{note}: "
        "front speeds to and from this visit may be wrong."
    ]


def of_tumor(volume_mm3: float, touches_edge: bool) -> list[str]:
    """Cautions about the mask of one visit."""
    found = []
    if volume_mm3 == 0:
        found.append("No tumor in the mask of this visit: growth to and from it is undefined.")
    if touches_edge:
        found.append(
            "The tumor touches the edge of the field of view: its volume is a lower bound, and changes are those of "
            "the part in view."
        )
    return found


def of_growth(interval: float, dated: bool, volumes_mm3: Sequence[float], front_speed: float | None) -> list[str]:
    """Cautions about the change between two visits: days (or positions) and volumes (before, after)."""
    found = []
    if dated and interval < SHORTEST_INTERVAL_DAYS:
        found.append(
            f"Only {interval:g} days since the visit before: growth over less than "
            f"{SHORTEST_INTERVAL_DAYS} days is not trustworthy (Ellingson 2016)."
        )
    if min(volumes_mm3) == 0:
        return found
    diameter = sphere_diameter_mm(min(volumes_mm3))
    if diameter <= SMALL_DIAMETER_MM:
        found.append(
            f"The tumor is as small as a sphere of {diameter:.1f} mm: doubling times at "
            f"{SMALL_DIAMETER_MM:.0f} mm or less are unreliable (PMC5989730)."
        )
    if front_speed is None:
        found.append("No front speed: no edge of the tumor could be followed from the visit before.")
    return found


def of_lesion(states: Sequence[str], volumes_mm3: Sequence[float | None], cut: bool, visit: int) -> list[str]:
    """Cautions about one lesion at a 0-based visit; its state and volume (None = nothing of it) at every visit."""
    found, volume = [], volumes_mm3[visit]
    if cut:
        found.append(
            "The lesion touches the edge of the field of view: its sizes are lower bounds, and changes are those of "
            "the part in view."
        )
    if volume is None:
        if states[visit] in PRESENT:
            found.append("On this visit's own voxels nothing of the lesion is left.")
        return found
    diameter = sphere_diameter_mm(volume)
    if diameter <= SMALL_DIAMETER_MM and states[visit] != "speck":
        found.append(
            f"The lesion is as small as a sphere of {diameter:.1f} mm: growth rates at {SMALL_DIAMETER_MM:.0f} mm or "
            "less are unreliable (PMC5989730)."
        )
    return found


def of_coverage(lesions: Sequence[int]) -> list[str]:
    """Lesions whose place the images of a visit do not show."""
    if not lesions:
        return []
    which = ", ".join(map(str, lesions))
    return [f"The images of this visit do not show the place of lesion {which}: the total lacks it."]


def of_merger(lesion: int, others: Sequence[int], visit: int) -> str:
    """A lesion that holds others since a visit (counted from 1)."""
    which = " and ".join(map(str, others))
    return f"Since visit {visit} lesion {lesion} holds what was lesion {which}: changes compare with the sum."


def of_series(visits: int, dated: bool) -> list[str]:
    """Cautions about the patient as a whole."""
    if visits == 1:
        return [ONE_VISIT]
    return [] if dated else [NO_DATES]
