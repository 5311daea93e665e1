"""Response to treatment over any number of visits: RANO, RECIST 1.1 and growth of lung nodules, with reasons.

``classify`` takes plain numbers per visit and lesion and returns one ``Response`` per visit. The criteria are rows of
thresholds in ``criteria``; what they ask and images cannot tell is said in ``Response.missing``.
"""

from napari_convlstm_tumor.measure.response.classify import classify
from napari_convlstm_tumor.measure.response.criteria import (
    CRITERIA,
    LUNG_CRITERIA,
    SIZE_CRITERIA,
    Criterion,
    LungCriterion,
    criterion_named,
)
from napari_convlstm_tumor.measure.response.inputs import Clinical, LesionMeasure, Response, VisitMeasure
from napari_convlstm_tumor.measure.response.lung import doubling_days, size_class

__all__ = [
    "CRITERIA",
    "LUNG_CRITERIA",
    "SIZE_CRITERIA",
    "Clinical",
    "Criterion",
    "LesionMeasure",
    "LungCriterion",
    "Response",
    "VisitMeasure",
    "classify",
    "criterion_named",
    "doubling_days",
    "size_class",
]
