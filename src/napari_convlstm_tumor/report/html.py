"""report.html of one patient and index.html of a batch: one file each, to be read in a browser or printed.

A page holds its style and pictures and asks the network for nothing (its Content-Security-Policy forbids it); it has no
script. Only day offsets stand in it, no dates; the patient's name (the folder's) only when asked for.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any
from urllib.parse import quote

import numpy as np
from jinja2 import Environment, PackageLoader, Undefined

from napari_convlstm_tumor import RESEARCH_USE, __version__
from napari_convlstm_tumor.analysis import Analysis
from napari_convlstm_tumor.measure.response import CRITERIA
from napari_convlstm_tumor.report.figures import Chart, Curve, Point, lesion_colour, volume_chart
from napari_convlstm_tumor.report.tables import UNDATED_NAMES, UNDEFINED
from napari_convlstm_tumor.report.tiles import pictures

# More curves than this cannot be told apart; the largest lesions are drawn.
MOST_CURVES = 8
# Below this many mL two decimals are too coarse.
SMALL_ML = 0.1
# States without a line in the table of lesions: not there yet, or perhaps noise (told of in the events).
LEFT_OUT = ("absent", "speck")
Row = Mapping[str, Any]


# ---- pages ----


def patient_html(
    analysis: Analysis,
    *,
    show_patient: bool = False,
    forecasts: Sequence[Row] | None = None,
) -> str:
    """The page of one patient.

    show_patient: print the patient's name, which is left out otherwise. forecasts: rows method, day, volume_mm3,
    volume_low_mm3, volume_high_mm3, the one to trust first; by default the volume of the prediction's own forecast.
    """
    report = analysis.report
    visits = [_dated_names(row) for row in report.visits]
    rows = _own_forecast(analysis) if forecasts is None else list(forecasts)
    lesions = _by_lesion(row for row in report.lesions if row["state"] not in LEFT_OUT)
    context = {
        "patient": analysis.patient if show_patient else None,
        "dated": analysis.dated,
        "unit": "day" if analysis.dated else "visit",
        "visits": visits,
        "summary": _dated_names(report.provenance.get("summary", {})),
        "lesions": lesions,
        "colours": {n: lesion_colour(n) for n in lesions},
        "events": report.events,
        "responses": {_criterion_name(key): rows for key, rows in report.responses.items()},
        "why_criterion": report.provenance.get("response", {}).get("why", ""),
        "forecasts": rows,
        "forecast_note": analysis.prediction.forecast_note,
        "with_bars": any(_number(row.get("volume_low_mm3")) is not None for row in visits),
        "chart": _chart(visits, lesions, rows, analysis.dated),
        "specks": len({row["lesion"] for row in report.lesions if row["state"] == "speck"}),
        "hidden_curves": max(0, len(lesions) - MOST_CURVES),
        "registrations": _registrations(analysis),
        "uncertain": _uncertain(analysis, visits),
        "model": analysis.prediction.model,
        "provenance": analysis.provenance,
        **pictures(analysis),
    }
    return _render("patient.html", context)


def index_html(rows: Sequence[Row]) -> str:
    """The page of a batch from the rows of its summary: problem patients first, each with a link to its report.html.

    It names the patients as their folders are named. A row may also hold "response", and "link" where the report lies
    elsewhere than in PATIENT/report.html; numbers may be text, as read back from summary.csv.
    """
    ordered = sorted(rows, key=_trouble)
    context = {
        "rows": [{**row, "link": _link(row)} for row in ordered],
        "failed": sum(_failed(row) for row in rows),
        "warned": sum(bool(row.get("warnings")) and not _failed(row) for row in rows),
        "paper": "A4 landscape",
        "with_response": any(row.get("response") for row in rows),
    }
    return _render("index.html", context)


def _render(template: str, context: Mapping[str, Any]) -> str:
    page = _environment().get_template(template)
    return page.render(research_use=RESEARCH_USE, version=__version__, **context)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("napari_convlstm_tumor.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "ml": _ml,
        "decimals": _decimals,
        "signed": _signed,
        "known": lambda value: _number(value) is not None,
        "times": lambda value, factor: None if _number(value) is None else factor * float(value),
        "words": _words,
    }
    return environment


# ---- the rows of a report ----


def _dated_names(row: Row) -> dict[str, Any]:
    """A row under the names it has when dated; the page says what the unit is."""
    dated = {undated: name for name, undated in UNDATED_NAMES.items()}
    return {dated.get(name, name): value for name, value in row.items()}


def _by_lesion(rows: Iterable[Row]) -> dict[int, list[Row]]:
    found: dict[int, list[Row]] = {}
    for row in rows:
        found.setdefault(int(row["lesion"]), []).append(row)
    return dict(sorted(found.items()))


def _criterion_name(key: str) -> str:
    return CRITERIA[key].name if key in CRITERIA else key


def _own_forecast(analysis: Analysis) -> list[Row]:
    """The volume of the prediction's forecast: the last volume times forecast voxels per voxel of the last mask.

    A ratio, as the rows count a visit's own voxels and the forecast lies on the common grid.
    """
    prediction, last = analysis.prediction, analysis.report.visits[-1]
    voxels = np.count_nonzero(analysis.masks[-1])
    if prediction.forecast is None or prediction.forecast_day is None or not voxels:
        return []
    ratio = np.count_nonzero(prediction.forecast >= 0.5) / voxels
    return [{"method": "forecast", "day": prediction.forecast_day, "volume_mm3": last["volume_mm3"] * ratio}]


def _registrations(analysis: Analysis) -> list[dict[str, Any]]:
    if len(analysis.registrations) < 2:
        return []
    reference = analysis.settings.reference - 1
    return [
        {"quality": r.quality, "state": _state(r.quality, r.good, t == reference), "note": r.note}
        for t, r in enumerate(analysis.registrations)
    ]


def _state(quality: float, good: bool, is_reference: bool) -> str:
    if is_reference:
        return "reference"
    if not math.isfinite(quality):
        return "not judged"
    return "good" if good else "below threshold"


def _uncertain(analysis: Analysis, visits: Sequence[Row]) -> list[tuple[str, list[str]]]:
    """(about what, sentences): everything a reader must know before trusting a number."""
    report, prediction = analysis.report, analysis.prediction
    groups = [("The whole series", [*report.warnings, *prediction.warnings])]
    if prediction.forecast is None and prediction.forecast_note:
        groups.append(("Forecast", [prediction.forecast_note]))
    groups += [(_when(row), _sentences(row.get("warnings"))) for row in visits]
    groups += [(f"Lesion {n}", _at_visits(rows)) for n, rows in _by_lesion(report.lesions).items()]
    groups += [
        (
            f"{_criterion_name(name)}: not known from the images",
            [s for row in rows for m in _sentences(row.get("missing")) for s in m.split("; ")],
        )
        for name, rows in report.responses.items()
    ]
    return [(about, list(dict.fromkeys(found))) for about, found in groups if found]


def _at_visits(rows: Iterable[Row]) -> list[str]:
    """The warnings of one lesion, each once, with the visits it was said of."""
    found: dict[str, list[str]] = {}
    for row in rows:
        for sentence in _sentences(row.get("warnings")):
            found.setdefault(sentence, []).append(str(row["visit"]))
    return [f"Visit{'s' if len(at) > 1 else ''} {', '.join(at)}: {sentence}" for sentence, at in found.items()]


def _when(row: Row) -> str:
    day = _number(row.get("day"))
    return f"Visit {row['visit']}" + ("" if day is None else f", day {day:.0f}")


# ---- the curve ----


def _chart(
    visits: Sequence[Row], lesions: Mapping[int, list[Row]], forecasts: Sequence[Row], dated: bool
) -> Chart | None:
    """None with a single visit: one point is no curve."""
    if len(visits) < 2:
        return None
    time = "day" if dated else "visit"
    largest = sorted(lesions, key=lambda n: -max(_number(r.get("volume_mm3")) or 0 for r in lesions[n]))[:MOST_CURVES]
    curves = {n: _curve(f"lesion {n}", lesions[n], time) for n in sorted(largest)} if len(lesions) > 1 else {}
    ahead = [_curve(str(row["method"]), [row], time) for row in forecasts] if dated else []
    return volume_chart(_curve("total", visits, time), curves, [c for c in ahead if c.points], dated)


def _curve(label: str, rows: Sequence[Row], time: str) -> Curve:
    points = []
    for row in rows:
        x, *volumes = (_number(row.get(k)) for k in (time, "volume_mm3", "volume_low_mm3", "volume_high_mm3"))
        ml, low, high = (None if v is None else v / 1000 for v in volumes)
        if x is not None and ml is not None:
            points.append(Point(x, ml, low, high))
    return Curve(label, tuple(points))


# ---- the rows of a batch ----


def _failed(row: Row) -> bool:
    return bool(row.get("error")) or row.get("status") == "failed"


def _trouble(row: Row) -> tuple[int, float, str]:
    """Failed first, then those with warnings, then the rest; within each the worst registration first."""
    quality = _number(row.get("lowest_registration_quality"))
    kind = 0 if _failed(row) else 1 if row.get("warnings") else 2
    return kind, math.inf if quality is None else quality, str(row["patient"])


def _link(row: Row) -> str | None:
    """Where the report lies, relative to the index; quoted, so that no folder's name can be another address."""
    if _failed(row):
        return None
    return "./" + quote(str(row.get("link") or f"{row['patient']}/report.html"))


# ---- text of a value ----


def _number(value: Any) -> float | None:
    """Value as a finite number; None for what is absent, empty or no number."""
    if value is None or isinstance(value, (bool, Undefined)):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _decimals(value: Any, decimals: int = 0) -> str:
    number = _number(value)
    return UNDEFINED if number is None else f"{round(number, decimals) + 0.0:.{decimals}f}"


def _signed(value: Any, decimals: int = 0) -> str:
    """With its sign, but no sign on what rounds to zero."""
    number = _number(value)
    if number is None or not round(number, decimals):
        return _decimals(number, decimals)
    return f"{number:+.{decimals}f}".replace("-", "−")


def _ml(volume_mm3: Any) -> str:
    number = _number(volume_mm3)
    if number is None:
        return UNDEFINED
    return f"{number / 1000:.{2 if number == 0 or number >= 1000 * SMALL_ML else 3}f}"


def _sentences(value: Any) -> list[str]:
    if value is None or isinstance(value, Undefined) or value == "":
        return []
    return [value] if isinstance(value, str) else [str(v) for v in value]


def _words(value: Any) -> str:
    """Anything a row may hold as text: names without underscores, lists with commas, yes and no."""
    if value is None or isinstance(value, Undefined) or value == "":
        return UNDEFINED
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{_words(k)} {v}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(str(v) for v in value) or UNDEFINED
    return re.sub("_", " ", str(value))
