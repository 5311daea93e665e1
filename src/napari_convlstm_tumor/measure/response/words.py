"""Numbers, days and changes in words; what every reason is made of."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

# A change this close to a threshold is on it: 0.3 mm sums and products are not exact in binary.
ROUNDING = 1e-9
UNITS = {"volume": "mm3", "area": "mm2", "diameter": "mm", "mean diameter": "mm"}
NAMES = {
    "volume": "volume",
    "area": "sum of products",
    "diameter": "sum of diameters",
    "mean diameter": "mean diameter",
}
WITHIN_ERROR = "within measurement error of the threshold"
MM3_PER_ML = 1000.0
MOST_DECIMALS = 4


def reaches(value: float, threshold: float) -> bool:
    """True when value is at or above the threshold."""
    return value >= threshold - ROUNDING * max(1.0, abs(threshold))


def number(value: float) -> str:
    """Three significant digits, never an exponent."""
    if value == 0:
        return "0"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def amounts(before: float, now: float, quantity: str) -> str:
    """Two sizes in the unit a reader uses: "12.1 -> 17.7 mL"."""
    factor, unit = (1 / MM3_PER_ML, "mL") if quantity == "volume" else (1.0, UNITS[quantity])
    return f"{number(before * factor)} -> {number(now * factor)} {unit}"


def percent(change: float, thresholds: Iterable[float] = ()) -> str:
    """Signed percent of a fraction, with as many decimals as it takes not to look as if it had crossed a threshold."""
    return f"{beside(change * 100, [t * 100 for t in thresholds], signed=True)} %"


def beside(value: float, thresholds: Iterable[float], decimals: int = 0, signed: bool = False) -> str:
    """A number rounded to these decimals, or more where it would else look as if it had crossed a threshold."""
    limits = list(thresholds)
    while decimals < MOST_DECIMALS and not all(_same_side(round(value, decimals), value, t) for t in limits):
        decimals += 1
    shown = round(value, decimals) or 0.0  # no sign on what rounds to zero
    return f"{shown:{'+' if signed and shown else ''}.{decimals}f}"


def listed(items: Sequence[object]) -> str:
    """ "1", "1 and 2", "1, 2 and 3"."""
    words = [str(i) for i in items]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def lesions(ids: Iterable[int]) -> str:
    """ "lesion 2", "lesions 2 and 5"."""
    sorted_ids = sorted(ids)
    return f"lesion{'s' if len(sorted_ids) > 1 else ''} {listed(sorted_ids)}"


def _same_side(shown: float, value: float, threshold: float) -> bool:
    sign = math.copysign(1.0, threshold)
    return reaches(sign * shown, sign * threshold) == reaches(sign * value, sign * threshold)
