"""The response: which criterion, from what was measured and what a person entered. Nothing is chosen silently."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.io.clinical import ClinicalInputs
from napari_convlstm_tumor.measure.response import LesionMeasure, VisitMeasure, classify, criterion_named
from napari_convlstm_tumor.measure.response.case import baseline_of
from napari_convlstm_tumor.measure.response.criteria import RANO_2_VOLUME, RECIST, Criterion
from napari_convlstm_tumor.measure.uncertainty import NORMAL_REACH, Size
from napari_convlstm_tumor.report.course import LesionCourse
from napari_convlstm_tumor.series import PatientFiles
from napari_convlstm_tumor.settings import Settings
from napari_convlstm_tumor.steps.measuring import Measured

MR_MODALITIES = frozenset({"t1", "t1c", "t2", "flair"})
# Why these two. MR: the shipped network and its training are of brain tumors; RANO 2.0 holds for every glioma, and by
# volume it uses all that is measured here, with thresholds (-65, +40 %) that equal those of two diameters on a sphere.
# Else RECIST 1.1, the criterion for solid tumors of the body. An image does not tell the organ: hence the sentence.
AUTO_MR = "chosen because all images are MR, as of a brain tumor"
AUTO_ELSE = "chosen because there is CT, or an image of unknown kind, as of a tumor of the body"
CHANGE_IT = "For another disease choose another with --criterion."

Rows = tuple[dict[str, Any], ...]


def choose_criterion(settings: Settings, modalities: Sequence[str]) -> tuple[str, str]:
    """Key of the criterion ("" for none) and a sentence that says which and why."""
    if settings.criterion == "none":
        return "", "No response was asked for."
    if settings.criterion != "auto":
        return settings.criterion, f"Response by {criterion_named(settings.criterion).name}, as asked."
    is_mr = set(modalities) <= MR_MODALITIES
    rule, why = (RANO_2_VOLUME, AUTO_MR) if is_mr else (RECIST, AUTO_ELSE)
    return rule.key, f"Response by {rule.name}, {why}. {CHANGE_IT}"


def describe_response(criterion: str, why: str) -> dict[str, str]:
    """What the report says of the criterion: provenance["response"]."""
    if not criterion:
        return {"why": why}
    rule = criterion_named(criterion)
    return {"criterion": criterion, "name": rule.name, "source": rule.source, "why": why}


def choose_baseline(settings: Settings, criterion: str, days: Sequence[int], clinical: ClinicalInputs | None) -> int:
    """0-based visit that changes are counted from: as asked, or as the criterion has it, else the first."""
    rule = criterion_named(criterion) if criterion else None
    if isinstance(rule, Criterion):
        return baseline_of(rule, days, settings.baseline, clinical.radiotherapy_end_day if clinical else None)
    return (settings.baseline or 1) - 1


def check_baseline(files: PatientFiles, settings: Settings) -> None:
    """InputError when the baseline asked for is no visit of this patient."""
    if settings.baseline is not None and settings.baseline > len(files.visits):
        raise InputError(
            f"There is no visit {settings.baseline} for a baseline: {len(files.visits)} visits were found."
        )


def respond(
    measured: Measured, days: Sequence[int], dated: bool, settings: Settings, criterion: str,
    clinical: ClinicalInputs | None,
) -> tuple[Mapping[str, Rows], str]:  # fmt: skip
    """Criterion -> a row per visit, and why there is none where there is none. One visit has no response."""
    if not criterion or len(days) < 2:
        return {}, ""
    try:
        answers = classify(
            [_visit(measured, t, day) for t, day in enumerate(days)],
            criterion,
            dated=dated,
            baseline=settings.baseline,
            clinical=clinical.visits if clinical else (),
            radiotherapy_end_day=clinical.radiotherapy_end_day if clinical else None,
        )
    except InputError as error:
        return {}, f"No response: {error}"
    return {criterion: tuple(answer.row() for answer in answers)}, ""


def _visit(measured: Measured, t: int, day: int) -> VisitMeasure:
    return VisitMeasure(day, tuple(_lesion(one, t) for one in measured.lesions), measured.slice_mm[t])


def _lesion(one: LesionCourse, t: int) -> LesionMeasure:
    size, lesion = one.sizes[t], one.lesion
    if size is None:
        return LesionMeasure(lesion.id, 0.0, 0.0, 0.0, 0, lesion.states[t], cut=one.cut[t])
    return LesionMeasure(
        lesion=lesion.id,
        volume_mm3=size.volume.value,
        longest_axial_mm=size.longest_axial.value,
        perpendicular_axial_mm=size.perpendicular.value,
        slices=size.diameters.slices,
        state=lesion.states[t],
        cut=one.cut[t],
        measurable_slices=size.diameters.measurable_slices,
        product_mm2=size.product.value,
        volume_interval_mm3=_repeat_interval(size.volume),
    )


def _repeat_interval(volume: Size) -> tuple[float, float]:
    """The interval that matters for a change: what every visit has alike cancels, as in the report's columns."""
    reach = math.exp(NORMAL_REACH * volume.repeat_log_sd)
    return volume.value / reach, volume.value * reach
