"""A result under another criterion, or its forecast at another day, without the network. No Qt, no layers.

Both start from what stands in an Analysis, so they also serve a result that was read back from its folder.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_convlstm_tumor.analysis import Analysis
from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.io.clinical import ClinicalInputs, read_clinical
from napari_convlstm_tumor.measure.response import LesionMeasure, VisitMeasure, classify
from napari_convlstm_tumor.measure.uncertainty import NORMAL_REACH, LesionSize, measure_lesion
from napari_convlstm_tumor.report import cautions
from napari_convlstm_tumor.results import CLINICAL_FILE
from napari_convlstm_tumor.series import AlignedSeries, Report
from napari_convlstm_tumor.steps.forecasting import Outlook, look_ahead
from napari_convlstm_tumor.steps.measuring import axial_axis
from napari_convlstm_tumor.steps.responding import choose_baseline, choose_criterion, describe_response
from napari_convlstm_tumor.volume import Volume

NOT_FOLLOWED = "No response: this result has no lesions on the visits' own voxels; run the analysis again."
OLD_WARNING = "No response"
Row = Mapping[str, Any]


# ---- the forecast at another day ----


def forecast_at(analysis: Analysis, horizon_days: int) -> Outlook:
    """The forecast this many days after the last visit, from the masks alone; or the reason why there is none."""
    volumes = [float(row["volume_mm3"] or 0.0) for row in analysis.report.visits]
    settings = replace(analysis.settings, horizon_days=horizon_days)
    prediction = replace(analysis.prediction, forecast=None, forecast_day=None, features=None)
    return look_ahead(_without_images(analysis), prediction, volumes, settings)


def _without_images(analysis: Analysis) -> AlignedSeries:
    """The series as far as a forecast from masks asks for it; its images are an even nothing that takes no memory."""
    count, shape = len(analysis.days), analysis.grid.shape
    ones = np.ones((count, 1), dtype=np.float32)
    return AlignedSeries(
        patient=analysis.patient,
        data=np.broadcast_to(np.float32(0), (count, 1, *shape)),
        present=np.zeros((count, 1), dtype=bool),
        inside=np.broadcast_to(np.True_, (count, *shape)),
        modalities=("other",),
        days=analysis.days,
        dated=analysis.dated,
        grid=analysis.grid,
        centre=ones,
        scale=ones,
        masks=(None,) * count,
        registrations=analysis.registrations,
        native_grids=tuple(mask.grid for mask in analysis.native_masks),
        reference=analysis.settings.reference - 1,
    )


# ---- the response under another criterion ----


def report_under(analysis: Analysis, criterion: str) -> Report:
    """The report with its response classified by ``criterion`` (a choice of Settings); every other number as it was.

    Changes in the rows are counted from the baseline of the run. Where this criterion asks for another, the reason
    says so: its own changes are counted from its own baseline.
    """
    settings = replace(analysis.settings, criterion=criterion)
    key, why = choose_criterion(settings, tuple(analysis.images))
    report = analysis.report
    clinical = _clinical(analysis)
    response = describe_response(key, why)
    responses, trouble = _classified(analysis, key, clinical)
    baseline = choose_baseline(settings, key, analysis.days, clinical) + 1
    if baseline != report.provenance.get("baseline_visit", 1):
        response["why"] += f" It counts from visit {baseline}; the tables count from the baseline of the run."
    warnings = [w for w in report.warnings if not w.startswith(OLD_WARNING)]
    return replace(
        report,
        responses=responses,
        warnings=tuple([*warnings, trouble] if trouble else warnings),
        provenance={**report.provenance, "response": response},
    )


def _classified(
    analysis: Analysis, criterion: str, clinical: ClinicalInputs | None
) -> tuple[dict[str, tuple[dict[str, Any], ...]], str]:
    """Criterion -> a row per visit, and why there is none."""
    if not criterion or len(analysis.days) < 2:
        return {}, ""
    if not analysis.native_lesions:
        return {}, NOT_FOLLOWED
    try:
        answers = classify(
            [_visit(analysis, t) for t in range(len(analysis.days))],
            criterion,
            dated=analysis.dated,
            baseline=analysis.settings.baseline,
            clinical=clinical.visits if clinical else (),
            radiotherapy_end_day=clinical.radiotherapy_end_day if clinical else None,
        )
    except InputError as error:
        return {}, f"No response: {error}"
    return {criterion: tuple(answer.row() for answer in answers)}, ""


def _clinical(analysis: Analysis) -> ClinicalInputs | None:
    """What was entered besides the images, as it lies in the result."""
    text = analysis.attachments.get(CLINICAL_FILE)
    if text is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / CLINICAL_FILE
        path.write_text(text, encoding="utf-8")
        return read_clinical(path, analysis.patient, analysis.days, analysis.dated)


def _visit(analysis: Analysis, t: int) -> VisitMeasure:
    native = analysis.native_lesions[t]
    axis = axial_axis(native.grid)
    rows = [row for row in analysis.report.lesions if row["visit"] == t + 1]
    sizes = _sizes(native, axis)
    states = {row["lesion"]: _states(analysis.report, row["lesion"]) for row in rows}
    lesions = tuple(_lesion(row, sizes.get(row["lesion"]), states[row["lesion"]], t) for row in rows)
    return VisitMeasure(analysis.days[t], lesions, native.grid.spacing_mm[axis])


def _sizes(native: Volume, axis: int) -> dict[int, LesionSize]:
    """Lesion id -> what the rows do not say of it: on how many slices it is seen and can be measured."""
    found = {}
    for n, box in enumerate(ndimage.find_objects(native.data), start=1):
        if box is None:
            continue
        lesion: npt.NDArray[np.uint8] = np.pad((native.data[box] == n).astype(np.uint8), 1)
        size = measure_lesion(lesion, native.grid.spacing_mm, None, axis)
        if size is not None:
            found[n] = size
    return found


def _states(report: Report, lesion: int) -> Sequence[str]:
    return [row["state"] for row in report.lesions if row["lesion"] == lesion]


def _lesion(row: Row, size: LesionSize | None, states: Sequence[str], t: int) -> LesionMeasure:
    """The numbers of the row; the slices from the voxels."""
    if not row["volume_mm3"] or size is None:
        return LesionMeasure(row["lesion"], 0.0, 0.0, 0.0, 0, row["state"])
    cut = cautions.of_lesion(states, [row["volume_mm3"]] * len(states), True, t)[0]
    return LesionMeasure(
        lesion=row["lesion"],
        volume_mm3=row["volume_mm3"],
        longest_axial_mm=row["longest_axial_mm"],
        perpendicular_axial_mm=row["perpendicular_axial_mm"],
        product_mm2=row["product_mm2"],
        slices=size.diameters.slices,
        state=row["state"],
        cut=cut in row["warnings"],
        measurable_slices=size.diameters.measurable_slices,
        volume_interval_mm3=_repeat_interval(row, size),
    )


def _repeat_interval(row: Row, size: LesionSize) -> tuple[float, float] | None:
    """The interval that a change knows of: the row's, less the error that every visit has alike."""
    volume, high = row["volume_mm3"], row["volume_high_mm3"]
    if high is None:
        return None
    whole = math.log(high / volume) / NORMAL_REACH
    reach = math.exp(NORMAL_REACH * math.sqrt(max(whole**2 - size.volume.shared_log_sd**2, 0.0)))
    return volume / reach, volume * reach
