"""The Gompertz curve through volumes, growth whose rate fades: V = V_limit exp(-ln(V_limit / V_0) exp(-decay t)).

Of the usual curves it fitted 235 meningiomas best (andreped/tumor-growth). Pure functions of volumes and days.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import optimize

from napari_convlstm_tumor.measure.growth import specific_growth_rate
from napari_convlstm_tumor.volume import FloatArray

GOMPERTZ_VISITS = 3  # as many as it has numbers to find
# A Gompertz rate that falls to e^-5 (0.7 %) within the shortest interval has stopped: faster cannot be told apart.
FASTEST_DECAY = 5.0
DECAY_STEPS = 64  # tried before the best is refined: the error may have two valleys


@dataclass(frozen=True)
class Gompertz:
    """ln V(t) = log_start + rate (1 - exp(-decay t)) / decay, t in days since the first visit.

    rate per day at t = 0, negative when shrinking; decay per day, 0 = exponential. The limit is exp(log_limit).
    """

    log_start: float
    rate: float
    decay: float

    def log_volume(self, day: float) -> float:
        """ln of the volume ``day`` days after the first visit."""
        return self.log_start + self.rate * float(_faded(self.decay, np.array(float(day))))

    @property
    def log_limit(self) -> float:
        """ln of the volume the curve tends to: infinite for an exponential that grows."""
        if self.rate == 0:
            return self.log_start
        return self.log_start + (self.rate / self.decay if self.decay > 0 else math.copysign(math.inf, self.rate))


def fit_gompertz(volumes_mm3: Sequence[float], days: Sequence[float]) -> Gompertz | None:
    """Least squares of ln V; None with fewer than 3 visits, or when the tumor has no volume at one of them.

    For a given decay the other two numbers are a straight line, solved exactly; the decay alone is searched, between 0
    (the exponential, also the answer when growth speeds up) and FASTEST_DECAY within the shortest interval.
    """
    if specific_growth_rate(volumes_mm3, days) is None or len(days) < GOMPERTZ_VISITS:
        return None
    t = np.asarray(days, dtype=np.float64) - days[0]
    y = np.log(np.asarray(volumes_mm3, dtype=np.float64))
    fastest = FASTEST_DECAY / min(b - a for a, b in pairwise(days))
    tried = np.concatenate(([0.0], np.geomspace(1e-3 / t[-1], fastest, DECAY_STEPS)))
    best = int(np.argmin([_line(d, t, y)[2] for d in tried]))
    low, high = tried[max(best - 1, 0)], tried[min(best + 1, len(tried) - 1)]
    refined = optimize.minimize_scalar(
        lambda d: _line(d, t, y)[2], bounds=(low, high), method="bounded", options={"xatol": 1e-9 * fastest}
    )
    decay = min((float(refined.x), float(tried[best])), key=lambda d: _line(d, t, y)[2])
    return Gompertz(*_line(decay, t, y)[:2], decay)


def _line(decay: float, t: FloatArray, y: FloatArray) -> tuple[float, float, float]:
    """Intercept, slope and squared error of y on the faded time."""
    x = _faded(decay, t)
    slope = float(np.dot(x - x.mean(), y - y.mean()) / np.dot(x - x.mean(), x - x.mean()))
    intercept = float(y.mean() - slope * x.mean())
    return intercept, slope, float(np.sum((y - intercept - slope * x) ** 2))


def _faded(decay: float, t: FloatArray) -> FloatArray:
    """(1 - exp(-decay t)) / decay, and t itself for no decay."""
    return t if decay == 0 else -np.expm1(-decay * t) / decay
