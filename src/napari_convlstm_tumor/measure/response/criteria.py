"""The response criteria as data: thresholds, what counts as measurable, and where each stands written.

A criterion is a row of numbers; how they are used stands in ``classify``. Percentages are fractions (0.25 = 25 %).
What was recalled, or read elsewhere than in the guideline, is listed in ``unchecked``: whoever uses it says so.

Spheres tie the quantities together: a fall of the area by 50 % is one of the volume by 64.6 %, a rise by 25 % one by
39.8 %; hence 65 and 40 belong to the product of two diameters, never to RECIST (-30 % of a diameter = -65.7 % of the
volume, but +20 % = +72.8 %).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from napari_convlstm_tumor.errors import InputError

Quantity = Literal["area", "volume", "diameter"]

# Complete, partial and minor response, stable and progressive disease, not evaluable.
CR, PR, MR, SD, PD, NE = "CR", "PR", "MR", "SD", "PD", "NE"
PRELIMINARY_PD = "preliminary PD"
NEITHER = "non-CR/non-PD"  # RECIST 1.1, table 2: only non-target disease, neither gone nor clearly worse
BASELINE, BEFORE_BASELINE = "baseline", "before baseline"

# "At least 4 weeks" of every criterion here that asks for a second look.
CONFIRMATION_DAYS = 28
# Less than 12 weeks after radiotherapy a progression may be an effect of it (RANO 2010: PMC4530825 table I, "<12" and
# ">=12 weeks"; RANO 2.0: "in the 12 weeks after radiotherapy", its abstract).
EARLY_PROGRESSION_DAYS = 84
# (check) RANO 2.0, volume: a minor response of tumor that does not enhance. Recalled; the area's is 25 %.
RANO2_MINOR_VOLUME = 0.40
# Slices thicker than this: a lesion is measurable from twice the slice on (RECIST 1.1; RANO 2010).
THICK_SLICE_MM = 5.0
# RECIST 1.1 and its EORTC answers: a lesion that is seen but too small to be measured counts as this.
TOO_SMALL_MM = 5.0
# RECIST 1.1: a node with a shorter axis below this is normal, from NODE_TARGET_MM on it may be a target.
NORMAL_NODE_MM = 10.0
NODE_TARGET_MM = 15.0
# RECIST 1.1: the increase of volume that equals +20 % of a diameter, its example of an "unequivocal" non-target
# progression. Only a reader can call it so; above this the reader is told to look.
NON_TARGET_RISE = 0.73

# Targets, non-targets and "new measurable disease" of RANO 2.0 are as cai4cai/rano2.0-assist, made from the guideline,
# has them (RANO/utils/measurements2D_utils.py, RANO/Resources/UI/RANO.ui).
_RANO2_UNCHECKED = {
    "early": "that the repeat MRI lies 4 weeks later and shows progression against the same nadir",
    "new": "that a new lesion must be measurable to be progression",
    "targets": "at most 3 targets, or 2 enhancing and 2 other ones",
}


@dataclass(frozen=True)
class Criterion:
    """One criterion for the size of the targets, the lesions followed since the baseline.

    partial, minor: fall against the baseline; progression: rise against the nadir. least_rise_mm: PD also needs this
    many mm, of the sum or of one lesion (rise_of). longest_mm, perpendicular_mm, slices: measurable from here on.
    most_of_each_kind: targets where enhancing and other tumor both have some. small_new_is_equivocal: a new lesion too
    small to be measured is progression once another visit shows it again. non_targets_add: what non-target lesions
    have grown by is judged together with the targets.
    nodes: lymph nodes count by their short axis. separate_enhancement: enhancing and other tumor are classified
    apart and combined; minor then holds for the other only. enhancing_only: other tumor is no part of the sum.
    response_holds: a response stays until progression. all_gone_without_targets: CR can be reached without measurable
    disease; otherwise without_targets is the best. clinical: steroids and clinical state are part of it.
    early_confirms: a later visit can confirm an early PD (None = early PD is nothing special). since_radiotherapy: PD
    is measured from the first visit after it on. steady_steroids: growth counts on a stable or raised dose.
    unknown: what no image tells. unchecked: rule -> words, not read in the guideline itself.
    """

    key: str
    name: str
    source: str
    quantity: Quantity
    partial: float
    progression: float
    minor: float | None = None
    least_rise_mm: float = 0.0
    rise_of: Literal["sum", "lesion"] = "sum"
    longest_mm: float = 10.0
    perpendicular_mm: float = 10.0
    slices: int = 2
    nodes: bool = False
    most_targets: int = 5
    most_of_each_kind: int | None = None
    most_per_organ: int | None = None
    new_must_be_measurable: bool = False
    small_new_is_equivocal: bool = False
    non_targets_add: bool = False
    separate_enhancement: bool = False
    enhancing_only: bool = False
    response_holds: bool = False
    without_targets: str = SD
    all_gone_without_targets: bool = False
    clinical: bool = True
    early_confirms: bool | None = None
    since_radiotherapy: bool = False
    steady_steroids: bool = False
    unknown: tuple[str, ...] = ()
    unchecked: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class LungCriterion:
    """When a lung nodule counts as growing.

    rise: of the volume as a fraction, or of the mean diameter in mm; over: the limit itself is not yet growth.
    within_days: the rise must happen in this time. fast_days: a doubling time below it is fast growth.
    """

    key: str
    name: str
    source: str
    quantity: Literal["volume", "mean diameter"]
    rise: float
    over: bool = False
    within_days: int | None = None
    fast_days: float | None = None


RANO_2010 = Criterion(
    "rano-2010",
    "RANO 2010 (high-grade glioma)",
    "Wen 2010, JCO 28:1963; PMC10584081 table 1; PMC4530825 table I; PMC7968800 table 2",
    "area",
    partial=0.50,
    progression=0.25,
    enhancing_only=True,
    early_confirms=False,
    since_radiotherapy=True,
    steady_steroids=True,
    unknown=("whether T2/FLAIR has become significantly worse",),
)
RANO_2_AREA = Criterion(
    "rano-2.0-area",
    "RANO 2.0 (two diameters)",
    "Wen 2023, doi 10.1200/JCO.23.01059",
    "area",
    partial=0.50,
    progression=0.25,
    minor=0.25,
    most_targets=3,
    most_of_each_kind=2,
    new_must_be_measurable=True,
    non_targets_add=True,
    separate_enhancement=True,
    early_confirms=True,
    unchecked=_RANO2_UNCHECKED,
)
RANO_2_VOLUME = Criterion(
    "rano-2.0-volume",
    "RANO 2.0 (volume)",
    "Wen 2023, doi 10.1200/JCO.23.01059",
    "volume",
    partial=0.65,
    progression=0.40,
    minor=RANO2_MINOR_VOLUME,
    most_targets=3,
    most_of_each_kind=2,
    new_must_be_measurable=True,
    non_targets_add=True,
    separate_enhancement=True,
    early_confirms=True,
    unchecked={**_RANO2_UNCHECKED, "minor": "40 % as the minor response of the volume"},
)
RANO_LOW_GRADE = Criterion(
    "rano-lgg",
    "RANO low-grade glioma",
    "van den Bent 2011; PMC10584081 table 1",
    "area",
    partial=0.50,
    progression=0.25,
    minor=0.25,
    unknown=("whether there is new or more enhancement",),
    unchecked={"targets": "at most 5 targets"},
)
RANO_METASTASES = Criterion(
    "rano-bm",
    "RANO brain metastases",
    "Lin 2015; PMC6499019 table 4; 5 mm of one lesion: PMC7251532 table 2",
    "diameter",
    partial=0.30,
    progression=0.20,
    # (check) PMC6499019's table leaves it out; PMC7251532's table 2, which quotes Lin 2015, has it.
    least_rise_mm=5.0,
    rise_of="lesion",
    perpendicular_mm=5.0,
    small_new_is_equivocal=True,
    without_targets=NEITHER,
    all_gone_without_targets=True,
    unchecked={"rise": "that one lesion must grow by 5 mm"},
)
RANO_MENINGIOMA = Criterion(
    "rano-meningioma",
    "RANO meningioma",
    "Huang 2019; PMC6303427 table 1",
    "area",
    partial=0.50,
    progression=0.25,
    minor=0.25,
    # (check) Neither stands in table 1, which is what was read.
    unchecked={
        "confirmation": "4 weeks of confirmation",
        "measurable": "10 x 10 mm as measurable",
        "targets": "at most 5 targets",
    },
)
RECIST = Criterion(
    "recist-1.1",
    "RECIST 1.1",
    "Eisenhauer 2009; PMC2755245 table 3; EORTC questions and clarifications",
    "diameter",
    partial=0.30,
    progression=0.20,
    least_rise_mm=5.0,
    perpendicular_mm=0.0,
    slices=1,
    nodes=True,
    most_per_organ=2,
    small_new_is_equivocal=True,
    response_holds=True,
    without_targets=NEITHER,
    all_gone_without_targets=True,
    clinical=False,
)

# Fleischner's >=2 mm and BTS's >25 % stand side by side in Thorax' comparison (table 1); clinical.md and the BTS
# recommendations say >=25 %, which is used. BTS's and NELSON's 25 % also in doi 10.1007/s00330-021-08302-0. Lung-RADS'
# ">1.5 mm within a 12-month interval" was read in a copy of its text, not at the ACR.
LUNG_VOLUME = LungCriterion(
    "lung-volume", "Lung nodule volume (BTS, NELSON)", "BTS 2015, Thorax 70 Suppl 2", "volume", 0.25, fast_days=400
)
LUNG_RADS = LungCriterion(
    "lung-rads", "Lung-RADS v2022", "ACR Lung-RADS v2022", "mean diameter", 1.5, over=True, within_days=365
)
FLEISCHNER = LungCriterion("fleischner", "Fleischner 2017", "MacMahon 2017, Radiology 284:228", "mean diameter", 2.0)

SIZE_CRITERIA = (
    RANO_2010,
    RANO_2_AREA,
    RANO_2_VOLUME,
    RANO_LOW_GRADE,
    RANO_METASTASES,
    RANO_MENINGIOMA,
    RECIST,
)
LUNG_CRITERIA = (LUNG_VOLUME, LUNG_RADS, FLEISCHNER)
CRITERIA: Mapping[str, Criterion | LungCriterion] = {c.key: c for c in (*SIZE_CRITERIA, *LUNG_CRITERIA)}


def criterion_named(key: str) -> Criterion | LungCriterion:
    """The criterion of this key, or InputError that lists the keys."""
    if key not in CRITERIA:
        raise InputError(f"Unknown response criterion {key!r}. Choose one of: {', '.join(CRITERIA)}.")
    return CRITERIA[key]
