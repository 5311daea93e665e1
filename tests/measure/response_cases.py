"""Cases of known answer for tests/measure/test_response.py; every row names its source or its reasoning.

Sources: "clinical.md" is the project's table of thresholds; the guidelines are named as there. Categories are those of
the visits after the baseline (visit 1 unless ``options`` says otherwise).
"""

import math
from dataclasses import dataclass, field
from typing import Any

from napari_convlstm_tumor.io.clinical import ClinicalState
from napari_convlstm_tumor.measure.response import LesionMeasure, VisitMeasure


def lesion(i: int, a: float, b: float, volume: float | None = None, **more: Any) -> LesionMeasure:
    """Lesion i with axial diameters a and b mm; its volume is that of the ellipsoid a x b x b unless given."""
    return LesionMeasure(i, math.pi / 6 * a * b * b if volume is None else volume, a, b, more.pop("slices", 5), **more)


def ball(i: int, d: float, **more: Any) -> LesionMeasure:
    return lesion(i, d, d, **more)


def area(i: int, product: float, **more: Any) -> LesionMeasure:
    """A round lesion with this product of diameters."""
    return ball(i, math.sqrt(product), **more)


def ml(i: int, volume: float, **more: Any) -> LesionMeasure:
    """A ball of this volume in mL, the volume exact."""
    d = math.cbrt(6000 * volume / math.pi)
    return lesion(i, d, d, volume * 1000, **more)


def at(day: int, *lesions: LesionMeasure, **more: Any) -> VisitMeasure:
    return VisitMeasure(day, lesions, **more)


def areas(*pairs: tuple[int, float]) -> list[VisitMeasure]:
    """(day, product of diameters) of one lesion; 0 = gone."""
    return [at(day, *([area(1, p)] if p else [])) for day, p in pairs]


def mls(*pairs: tuple[int, float]) -> list[VisitMeasure]:
    return [at(day, *([ml(1, v)] if v else [])) for day, v in pairs]


def diameters(*pairs: tuple[int, float]) -> list[VisitMeasure]:
    return [at(day, *([ball(1, d)] if d else [])) for day, d in pairs]


def entered(*rows: tuple[float | None, str | None] | None) -> list[Any]:
    """(steroid mg, status) per visit."""
    return [None if r is None else ClinicalState(r[0], r[1]) for r in rows]  # type: ignore[arg-type]


@dataclass(frozen=True)
class Case:
    name: str
    criterion: str
    visits: list[VisitMeasure]
    categories: list[str]
    why: str
    confirmed: list[bool | None] | None = None
    says: tuple[str, ...] = ()  # in the reason of the last visit
    misses: tuple[str, ...] = ()  # in what is missing on the last visit
    options: dict[str, Any] = field(default_factory=dict)


G, A2, V2, LG, BM, ME, RE = (
    "rano-2010",
    "rano-2.0-area",
    "rano-2.0-volume",
    "rano-lgg",
    "rano-bm",
    "rano-meningioma",
    "recist-1.1",
)
LV, LR, FL = "lung-volume", "lung-rads", "fleischner"
UNDATED = {"dated": False}
NODE = {"node": True}
ENHANCED, PLAIN = {"enhancing": True}, {"enhancing": False}


def cut_glioma(day: int) -> VisitMeasure:
    return at(day, area(1, 900, cut=True))


BORDERS = [
    Case("area +25 % exactly", G, areas((0, 400), (60, 500)), ["PD"], "clinical.md: SPD >=25 % up", says=("+25 %",)),
    Case("area +24.9 %", G, areas((0, 400), (60, 499.6)), ["SD"], "clinical.md: below 25 %", says=("+24.9 %",)),
    Case(
        "area +24.996 %", G, areas((0, 400), (60, 499.984)), ["SD"], "below, and must not read 25", says=("+24.996 %",)
    ),
    Case("area -50 % exactly", G, areas((0, 800), (60, 400)), ["PR"], "clinical.md: SPD >=50 % down", [False]),
    Case("area -49.9 %", G, areas((0, 800), (60, 400.8)), ["SD"], "clinical.md: below 50 %", says=("-49.9 %",)),
    Case("2.0 area +25 % exactly", A2, areas((0, 400), (60, 500)), ["PD"], "clinical.md: area >=25 % up"),
    Case("2.0 area -50 % exactly", A2, areas((0, 800), (60, 400)), ["PR"], "clinical.md: area >=50 % down", [False]),
    Case("2.0 volume +40 % exactly", V2, mls((0, 10), (60, 14)), ["PD"], "clinical.md: volume >=40 % up"),
    Case("2.0 volume +39 %", V2, mls((0, 10), (60, 13.9)), ["SD"], "clinical.md: below 40 %"),
    Case("2.0 volume -65 % exactly", V2, mls((0, 10), (60, 3.5)), ["PR"], "clinical.md: volume >=65 % down", [False]),
    Case("2.0 volume -64 %", V2, mls((0, 10), (60, 3.6)), ["SD"], "no minor response of enhancing tumor"),
    Case("low grade -25 % exactly", LG, areas((0, 800), (60, 600)), ["MR"], "PMC10584081: MinR >=25 % but <50 %"),
    Case("low grade -24.9 %", LG, areas((0, 1000), (60, 751)), ["SD"], "PMC10584081: SD <25 % down"),
    Case("low grade -50 %", LG, areas((0, 800), (60, 400)), ["PR"], "PMC10584081: PR >=50 %"),
    Case("low grade +25 %", LG, areas((0, 800), (60, 1000)), ["PD"], "PMC10584081: PD >=25 %"),
    Case("meningioma -25 %", ME, areas((0, 800), (60, 600)), ["MR"], "PMC6303427 table 1: MR >=25 % and <50 %"),
    Case("meningioma -50 %", ME, areas((0, 800), (60, 400)), ["PR"], "PMC6303427 table 1: PR >=50 %"),
    Case("meningioma +25 %", ME, areas((0, 800), (60, 1000)), ["PD"], "PMC6303427 table 1: PD >=25 % against nadir"),
    Case("meningioma +24 %", ME, areas((0, 800), (60, 992)), ["SD"], "PMC6303427 table 1: SD <25 % up"),
    Case("metastasis -30 % exactly", BM, diameters((0, 30), (60, 21)), ["PR"], "PMC6499019 table 4: >=30 % down"),
    Case("metastasis -29 %", BM, diameters((0, 30), (60, 21.3)), ["SD"], "PMC6499019 table 4: SD <30 % down"),
    Case("metastasis +20 %, 6 mm", BM, diameters((0, 30), (60, 36)), ["PD"], "PMC6499019 table 4; PMC7251532 table 2"),
    Case("RECIST -30 % exactly", RE, diameters((0, 50), (60, 35)), ["PR"], "PMC2755245: >=30 % down", [False]),
    Case("RECIST -29.8 %", RE, diameters((0, 50), (60, 35.1)), ["SD"], "PMC2755245: below 30 %"),
    Case("RECIST +20 % exactly, 10 mm", RE, diameters((0, 50), (60, 60)), ["PD"], "PMC2755245: >=20 % and >=5 mm"),
    Case(
        "RECIST +24 %, 4.8 mm",
        RE,
        diameters((0, 20), (60, 24.8)),
        ["SD"],
        "PMC2755245: 5 mm too",
        says=("less than 5 mm",),
    ),
    Case(
        "RECIST +25 %, 5 mm exactly",
        RE,
        diameters((0, 20), (60, 25)),
        ["PD"],
        "PMC2755245: 5 mm too",
        says=("at least 5",),
    ),
    Case("RECIST +19 %, 9.5 mm", RE, diameters((0, 50), (60, 59.5)), ["SD"], "PMC2755245: 20 % too"),
    Case(
        "metastases +23 %, none by 5 mm",
        BM,
        [at(0, ball(1, 17), ball(2, 18)), at(60, ball(1, 21), ball(2, 22))],
        ["SD"],
        "PMC7251532 table 2: at least one lesion must grow by 5 mm; the sum grew by 8",
        says=("4.0 mm of one lesion: less than 5",),
    ),
    Case(
        "the same under RECIST",
        RE,
        [at(0, ball(1, 17), ball(2, 18)), at(60, ball(1, 21), ball(2, 22))],
        ["PD"],
        "PMC2755245: the 5 mm are of the sum",
    ),
]

SPHERES = [
    Case("ball, area -50 %", A2, diameters((0, 20), (60, 20 * math.sqrt(0.5))), ["PR"], "sphere: area -50 %"),
    Case(
        "the same ball by volume",
        V2,
        diameters((0, 20), (60, 20 * math.sqrt(0.5))),
        ["SD"],
        "sphere: volume -64.6 % is just short of 65: the pair 65/40 is rounded",
        says=("-64.6 %",),
    ),
    Case("ball, volume -65 %", V2, diameters((0, 20), (60, 20 * math.cbrt(0.35))), ["PR"], "sphere"),
    Case("that ball by area", A2, diameters((0, 20), (60, 20 * math.cbrt(0.35))), ["PR"], "area -50.3 %"),
    Case("ball, area +25 %", A2, diameters((0, 20), (60, 20 * math.sqrt(1.25))), ["PD"], "sphere: area +25 %"),
    Case(
        "the same ball's volume",
        V2,
        diameters((0, 20), (60, 20 * math.sqrt(1.25))),
        ["SD"],
        "sphere: volume +39.8 %, just short of 40",
        says=("+39.8 %",),
    ),
    Case("ball, volume +40 %", V2, diameters((0, 20), (60, 20 * math.cbrt(1.4))), ["PD"], "sphere"),
    Case("that ball by area", A2, diameters((0, 20), (60, 20 * math.cbrt(1.4))), ["PD"], "area +25.1 %"),
    Case("ball, diameter -30 %, volume", V2, diameters((0, 30), (60, 21)), ["PR"], "sphere: volume -65.7 %"),
    Case("ball, diameter +20 %, area", A2, diameters((0, 30), (60, 36)), ["PD"], "sphere: area +44 %"),
    Case(
        "ball, volume +40 %, RECIST",
        RE,
        diameters((0, 50), (60, 50 * math.cbrt(1.4))),
        ["SD"],
        "diameter +11.9 %: 65/40 is not RECIST's",
    ),
    Case("ball, volume +72.8 %, RECIST", RE, diameters((0, 50), (60, 50 * math.cbrt(1.728))), ["PD"], "diameter +20 %"),
]

OVER_TIME = [
    Case(
        "nadir after response",
        G,
        areas((0, 1000), (56, 300), (112, 390)),
        ["PR", "PD"],
        "clinical.md: PD always against the nadir; -61 % against the baseline does not save it",
        [False, None],
        says=("+30 % against the nadir of day 56",),
    ),
    Case(
        "reason of the brief",
        V2,
        mls((0, 20), (41, 12.1), (97, 17.7)),
        ["SD", "PD"],
        "clinical.md: PD: volume +46 % against the nadir of day 41 (12.1 -> 17.7 mL)",
        says=("volume +46 % against the nadir of day 41 (12.1 -> 17.7 mL)",),
    ),
    Case("confirmed after 4 weeks", G, areas((0, 1000), (56, 400), (84, 400)), ["PR", "PR"], "28 days", [True, True]),
    Case(
        "4 weeks minus a day",
        G,
        areas((0, 1000), (56, 400), (83, 400)),
        ["PR", "PR"],
        "27 days are not 4 weeks",
        [False, False],
    ),
    Case(
        "confirmed by the third",
        G,
        areas((0, 1000), (56, 400), (70, 410), (90, 390)),
        ["PR", "PR", "PR"],
        "34 days from first to last, none worse between; the middle is 20 and 14 days from them",
        [True, False, True],
    ),
    Case(
        "PR then SD",
        G,
        areas((0, 1000), (56, 480), (90, 520)),
        ["PR", "SD"],
        "argued: a worse visit ends it",
        [False, None],
    ),
    Case(
        "PR then PD",
        G,
        areas((0, 1000), (56, 300), (112, 900)),
        ["PR", "PD"],
        "a response is not confirmed by PD",
        [False, None],
    ),
    Case(
        "CR confirmed",
        G,
        areas((0, 900), (56, 0), (90, 0)),
        ["CR", "CR"],
        "RANO 2010: sustained for 4 weeks",
        [True, True],
    ),
    Case("CR alone", G, areas((0, 900), (56, 0)), ["CR"], "unconfirmed is said", [False], says=("unconfirmed",)),
    Case(
        "PR confirmed by CR", G, areas((0, 900), (56, 300), (90, 0)), ["PR", "CR"], "CR is at least PR", [True, False]
    ),
    Case(
        "CR then PR-sized tumor",
        G,
        areas((0, 900), (56, 0), (112, 100)),
        ["CR", "PD"],
        "nadir 0: any return is PD",
        [False, None],
        says=("back after none on day 56",),
    ),
    Case(
        "CR then regrowth, RECIST",
        RE,
        diameters((0, 40), (56, 0), (112, 4)),
        ["CR", "PD"],
        "RECIST 1.1 appendix: reappearing after CR is PD; 4 mm are enough",
        [False, None],
    ),
    Case(
        "one of two reappears after PR, RECIST",
        RE,
        [at(0, ball(1, 40), ball(2, 20)), at(56, ball(1, 20)), at(112, ball(1, 20), ball(2, 3))],
        ["PR", "PR"],
        "RECIST 1.1 appendix: not after CR, so it is added to the sum: 20 -> 23 mm is below 20 %",
    ),
    Case(
        "EORTC 165/63/65",
        RE,
        diameters((0, 165), (56, 63), (112, 65)),
        ["PR", "PR"],
        "EORTC clarification: continued PR",
        [True, True],
    ),
    Case(
        "EORTC 100/70/70/80/80/80",
        RE,
        diameters((0, 100), (30, 70), (60, 70), (90, 80), (120, 80), (150, 80)),
        ["PR"] * 5,
        "EORTC FAQ: PR throughout",
        [True] * 5,
        says=("the response goes on",),
    ),
    Case(
        "the same sizes, metastases",
        BM,
        diameters((0, 100), (30, 70), (60, 70), (90, 80)),
        ["PR", "PR", "SD"],
        "PMC6499019: SD is <30 % against the baseline; no rule that PR goes on",
    ),
    Case(
        "held PR, never confirmed",
        RE,
        diameters((0, 100), (30, 70), (60, 75)),
        ["PR", "PR"],
        "EORTC: ongoing PR; -25 % confirms no PR",
        [False, False],
    ),
    Case(
        "slow growth adds up",
        G,
        areas((0, 400), (60, 460), (120, 530)),
        ["SD", "PD"],
        "nadir = baseline: +32 % though +15 % a visit",
    ),
    Case(
        "PD then smaller",
        G,
        areas((0, 400), (60, 600), (120, 420)),
        ["PD", "SD"],
        "argued: each visit stands for itself, +5 % against the nadir",
    ),
    Case(
        "uneven days",
        V2,
        mls((0, 10), (3, 9.8), (400, 14)),
        ["SD", "PD"],
        "+43 % against the nadir of day 3",
        says=("day 3",),
    ),
    Case(
        "three responses in a row",
        G,
        areas((0, 1000), (60, 400), (90, 380), (150, 390)),
        ["PR", "PR", "PR"],
        "-61 %, +3 % against nadir",
        [True, True, True],
    ),
    Case(
        "chosen baseline",
        G,
        areas((0, 1000), (60, 400), (120, 450)),
        ["SD"],
        "+12 % against visit 2",
        options={"baseline": 2},
    ),
    Case(
        "undated",
        V2,
        mls((0, 10), (1, 3), (2, 5)),
        ["PR", "PD"],
        "sizes need no days",
        [None, None],
        says=("visit 2",),
        options=UNDATED,
    ),
    Case(
        "undated PR",
        G,
        areas((0, 1000), (1, 400), (2, 400)),
        ["PR", "PR"],
        "confirmation needs days",
        [None, None],
        says=("cannot be judged without dates",),
        options=UNDATED,
    ),
]

LESIONS = [
    Case(
        "new lesion while shrinking",
        G,
        [at(0, area(1, 900)), at(60, area(1, 300), area(2, 200))],
        ["PD"],
        "clinical.md: or a new lesion",
        says=("new lesion 2", "-67 %"),
    ),
    Case(
        "new lesion, RECIST",
        RE,
        [at(0, ball(1, 50)), at(60, ball(1, 20), ball(2, 12))],
        ["PD"],
        "PMC2755245: appearance of new lesions",
    ),
    Case(
        "new lesion, metastases",
        BM,
        [at(0, ball(1, 30)), at(60, ball(1, 30), ball(2, 12))],
        ["PD"],
        "PMC6499019 table 4",
    ),
    Case(
        "new lesion, meningioma",
        ME,
        [at(0, ball(1, 30)), at(60, ball(1, 30), ball(2, 12))],
        ["PD"],
        "PMC6303427 table 1",
    ),
    Case(
        "new lesion, low grade",
        LG,
        [at(0, ball(1, 30)), at(60, ball(1, 30), ball(2, 12))],
        ["PD"],
        "PMC10584081 table 1: any new lesion",
    ),
    Case(
        "tiny new lesion",
        BM,
        [at(0, ball(1, 30)), at(60, ball(1, 30), ball(2, 4))],
        ["preliminary PD"],
        "PMC6499019 table 4: equivocal because small, follow-up will clarify",
        [False],
        says=("equivocal", "waits for a visit that shows the new lesion again"),
    ),
    Case(
        "tiny new lesion, there again and still small",
        BM,
        [at(0, ball(1, 30)), at(60, ball(1, 30), ball(2, 4)), at(74, ball(1, 30), ball(2, 4))],
        ["preliminary PD", "PD"],
        "PMC6499019 table 4: repeat scans confirm; the date is that of the first",
        [True, True],
        says=("new lesion 2 since day 60", "confirms day 60"),
    ),
    Case(
        "tiny new lesion, gone again",
        RE,
        [at(0, ball(1, 30)), at(60, ball(1, 30), ball(2, 4)), at(100, ball(1, 30))],
        ["preliminary PD", "SD"],
        "RECIST 1.1: equivocal new lesions are no progression unless repeat scans confirm them",
        [False, None],
    ),
    Case(
        "another tiny new lesion does not confirm the first",
        RE,
        [at(0, ball(1, 30)), at(60, ball(1, 30), ball(2, 4)), at(100, ball(1, 30), ball(3, 4))],
        ["preliminary PD", "preliminary PD"],
        "RECIST 1.1: it is the same lesion that must be seen again",
        [False, False],
    ),
    Case(
        "tiny new lesion, then growth without it",
        RE,
        [at(0, ball(1, 30)), at(60, ball(1, 30), ball(2, 4)), at(100, ball(1, 40))],
        ["preliminary PD", "PD"],
        "RECIST 1.1: the growth counts from its own day",
        [False, None],
    ),
    Case(
        "tiny new lesion and growth",
        RE,
        [at(0, ball(1, 30)), at(60, ball(1, 40), ball(2, 4))],
        ["PD"],
        "the targets alone are PD",
    ),
    Case(
        "tiny new lesion that a reader is sure of",
        RE,
        [at(0, ball(1, 30)), at(60, ball(1, 30), ball(2, 4))],
        ["PD"],
        "RECIST 1.1: unequivocal progression, as entered",
        options={"clinical": [None, ClinicalState(non_target_progression=True)]},
    ),
    Case(
        "tiny new lesion, undated",
        RE,
        [at(0, ball(1, 30)), at(1, ball(1, 30), ball(2, 4)), at(2, ball(1, 30), ball(2, 4))],
        ["preliminary PD", "PD"],
        "seeing it again needs no dates",
        [True, True],
        options=UNDATED,
    ),
    Case(
        "tiny new lesion within a response",
        RE,
        [
            at(0, ball(1, 30)),
            at(60, ball(1, 20)),
            at(120, ball(1, 20), ball(2, 4)),
            at(180, ball(1, 22)),
        ],
        ["PR", "preliminary PD", "PR"],
        "EORTC: the response goes on until PD, and what was not confirmed was none",
    ),
    Case(
        "tiny new lesion, high grade",
        G,
        [at(0, ball(1, 30)), at(60, ball(1, 30), ball(2, 4))],
        ["PD"],
        "PMC10584081 table 1: appearance of any new lesion",
        says=("too small to be measurable",),
    ),
    Case(
        "tiny new lesion, RANO 2.0",
        A2,
        [at(0, ball(1, 30)), at(60, ball(1, 30), ball(2, 4))],
        ["SD"],
        "cai4cai/rano2.0-assist: new measurable disease; watched",
        says=("to be watched",),
    ),
    Case(
        "measurable new lesion, RANO 2.0",
        A2,
        [at(0, ball(1, 30)), at(60, ball(1, 30), ball(2, 12))],
        ["PD"],
        "cai4cai/rano2.0-assist, and says that the guideline was not read",
        says=("not read in the guideline",),
    ),
    Case(
        "new lesion stays",
        G,
        [at(0, area(1, 900)), at(60, area(1, 900), area(2, 200)), at(120, area(1, 900), area(2, 210))],
        ["PD", "PD"],
        "argued: new since the baseline as long as it is there",
        says=("since day 60",),
    ),
    Case(
        "new lesion goes again",
        G,
        [at(0, area(1, 900)), at(60, area(1, 900), area(2, 200)), at(120, area(1, 880))],
        ["PD", "SD"],
        "argued: each visit for itself",
    ),
    Case(
        "all vanished",
        RE,
        [at(0, ball(1, 30), ball(2, 20)), at(60)],
        ["CR"],
        "PMC2755245: disappearance of all",
        [False],
    ),
    Case(
        "vanished rows of zero",
        RE,
        [at(0, ball(1, 30)), at(60, lesion(1, 0, 0, slices=0, state="vanished"))],
        ["CR"],
        "a row of zeros is no lesion",
    ),
    Case(
        "targets gone, non-target left",
        RE,
        [at(0, ball(1, 30), ball(2, 6)), at(60, ball(2, 6))],
        ["PR"],
        "RECIST 1.1 table: CR with non-CR/non-PD is PR",
        says=("no CR: lesion 2 there",),
    ),
    Case(
        "non-target left, RANO",
        G,
        [at(0, ball(1, 30), ball(2, 6)), at(60, ball(2, 6))],
        ["PR"],
        "PMC10584081: CR needs measurable and non-measurable gone",
    ),
    Case(
        "non-target doubles",
        RE,
        [at(0, ball(1, 30), ball(2, 6)), at(60, ball(1, 30), ball(2, 8))],
        ["SD"],
        "RECIST 1.1: unequivocal is a reader's word; volume +137 %",
        misses=("a reader must look",),
    ),
    Case(
        "reader calls it PD",
        RE,
        [at(0, ball(1, 30), ball(2, 6)), at(60, ball(1, 30), ball(2, 8))],
        ["PD"],
        "RECIST 1.1: unequivocal non-target progression",
        options={"clinical": [None, ClinicalState(non_target_progression=True)]},
    ),
    Case(
        "reader says no",
        RE,
        [at(0, ball(1, 30), ball(2, 6)), at(60, ball(1, 20), ball(2, 8))],
        ["PR"],
        "as entered",
        options={"clinical": [None, ClinicalState(non_target_progression=False)]},
    ),
    Case(
        "two merge",
        A2,
        [at(0, lesion(1, 20, 20), lesion(2, 20, 20)), at(60, lesion(3, 40, 20, state="merged", follows=(1, 2)))],
        ["SD"],
        "one 40 x 20 for two 20 x 20: same area, not new, not vanished",
        says=("merged from 1 and 2",),
    ),
    Case(
        "one in two parts",
        A2,
        [at(0, lesion(1, 30, 20)), at(60, lesion(1, 30, 24, state="split", product_mm2=360.0))],
        ["SD"],
        "two parts of 15 x 12 each: 600 -> 360 mm2, and not the product of the summed diameters",
        says=("-40 %",),
    ),
    Case(
        "two merge, one diameter",
        RE,
        [at(0, ball(1, 30), ball(2, 30)), at(60, ball(1, 60, state="merged", follows=(2,)))],
        ["SD"],
        "RECIST 1.1: the longest diameter of the whole; it tells little of growth",
        says=("may hide growth: a reader must judge",),
    ),
    Case(
        "two merge, one keeps its name",
        V2,
        [at(0, ml(1, 5), ml(2, 5)), at(60, ml(1, 10.5, state="merged", follows=(2,)))],
        ["SD"],
        "+5 %",
    ),
    Case(
        "one splits",
        V2,
        [at(0, ml(1, 10)), at(60, ml(1, 4, state="split"), ml(2, 5, state="split", follows=(1,)))],
        ["SD"],
        "RECIST 1.1 appendix: the fragments are added; -10 %, no new lesion",
    ),
    Case(
        "one splits, RECIST",
        RE,
        [
            at(0, ball(1, 40)),
            at(60, ball(2, 25, state="split", follows=(1,)), ball(3, 10, state="split", follows=(1,))),
        ],
        ["SD"],
        "25 + 10 against 40: -12 %",
    ),
    Case(
        "merge, then growth",
        V2,
        [at(0, ml(1, 5), ml(2, 5)), at(60, ml(1, 10, state="merged", follows=(2,))), at(120, ml(1, 14))],
        ["SD", "PD"],
        "+40 % against 10 mL of both",
    ),
    Case(
        "no lesion measurable, RANO",
        G,
        [at(0, ball(1, 8)), at(60, ball(1, 4))],
        ["SD"],
        "RANO 2010: without measurable disease SD is the best",
    ),
    Case(
        "no lesion measurable, gone, RANO",
        G,
        [at(0, ball(1, 8)), at(60)],
        ["SD"],
        "RANO 2010: no CR without measurable disease",
    ),
    Case(
        "no lesion measurable, RECIST",
        RE,
        [at(0, ball(1, 8)), at(60, ball(1, 9))],
        ["non-CR/non-PD"],
        "RECIST 1.1 table 2",
    ),
    Case(
        "no lesion measurable, gone, RECIST",
        RE,
        [at(0, ball(1, 8)), at(60)],
        ["CR"],
        "RECIST 1.1 table 2: all non-target gone",
    ),
    Case(
        "no lesion measurable, new one",
        RE,
        [at(0, ball(1, 8)), at(60, ball(1, 8), ball(2, 11))],
        ["PD"],
        "RECIST 1.1 table 2",
    ),
    Case("no tumor at the baseline, RANO", G, [at(0), at(60)], ["SD"], "RANO 2010: after resection SD is the best"),
    Case("no tumor at the baseline, then one", G, [at(0), at(60, ball(1, 12))], ["PD"], "new lesion"),
    Case("no tumor at the baseline, RECIST", RE, [at(0), at(60)], ["NE"], "argued: nothing to respond"),
    Case(
        "one slice only",
        G,
        [at(0, ball(1, 20, slices=1)), at(60, ball(1, 10))],
        ["SD"],
        "PMC10584081: seen on <2 slices is not measurable",
    ),
    Case(
        "10 x 9 mm",
        G,
        [at(0, lesion(1, 10, 9)), at(60, lesion(1, 5, 4))],
        ["SD"],
        "PMC10584081: one diameter <10 mm is not measurable",
    ),
    Case(
        "10 x 10 mm exactly",
        G,
        [at(0, lesion(1, 10, 10)), at(60, lesion(1, 7, 7))],
        ["PR"],
        "PMC10584081: both diameters >=10 mm",
    ),
    Case(
        "metastasis 10 x 5 mm",
        BM,
        [at(0, lesion(1, 10, 5)), at(60, lesion(1, 7, 5))],
        ["PR"],
        "clinical.md: longest >=10, perpendicular >=5",
    ),
    Case(
        "metastasis 10 x 4 mm",
        BM,
        [at(0, lesion(1, 10, 4)), at(60, lesion(1, 7, 4))],
        ["non-CR/non-PD"],
        "clinical.md: perpendicular >=5 mm",
    ),
    Case(
        "thick slices, 12 mm",
        RE,
        [at(0, ball(1, 12), slice_mm=6.5), at(60, ball(1, 6), slice_mm=6.5)],
        ["non-CR/non-PD"],
        "clinical.md: 2 x slice = 13 mm",
    ),
    Case(
        "thick slices, 13 mm",
        RE,
        [at(0, ball(1, 13), slice_mm=6.5), at(60, ball(1, 6), slice_mm=6.5)],
        ["PR"],
        "clinical.md: 2 x slice = 13 mm",
    ),
    Case(
        "slices of 5 mm are not thick",
        RE,
        [at(0, ball(1, 10), slice_mm=5), at(60, ball(1, 6), slice_mm=5)],
        ["PR"],
        "clinical.md: if slices >5 mm",
    ),
    Case(
        "six lesions, five targets",
        RE,
        [at(0, *(ball(i, 40 - i) for i in range(1, 7))), at(60, *(ball(i, 40 - i) for i in range(1, 6)), ball(6, 60))],
        ["SD"],
        "clinical.md: <=5 targets; the sixth is non-target",
        misses=("unequivocally",),
    ),
    Case(
        "four lesions, three targets",
        V2,
        [at(0, *(ml(i, 10 - i) for i in range(1, 5))), at(60, *(ml(i, 10 - i) for i in range(1, 4)), ml(4, 12))],
        ["SD"],
        "cai4cai/rano2.0-assist: at most 3 targets; the fourth alone +100 %, with the targets 30 -> 36 mL",
        misses=("their volume is +100 % against its smallest, with the targets +20 %, which would be no progression",),
    ),
    Case(
        "the fourth would make it progression",
        V2,
        [at(0, *(ml(i, 10 - i) for i in range(1, 5))), at(60, *(ml(i, 10 - i) for i in range(1, 4)), ml(4, 18))],
        ["SD"],
        "cai4cai/rano2.0-assist: with the targets 30 -> 42 mL; unequivocal is a reader's word",
        misses=("with the targets +40 %, which would be progression: a reader must look",),
    ),
    Case(
        "two targets of each kind",
        A2,
        [
            at(0, *(area(i, 900 - i, **ENHANCED) for i in (1, 2, 3)), *(area(i, 900 - i, **PLAIN) for i in (4, 5, 6))),
            at(
                60,
                *(area(i, 900 - i, **ENHANCED) for i in (1, 2)),
                *(area(i, 900 - i, **PLAIN) for i in (4, 5)),
                area(3, 2000, **ENHANCED),
                area(6, 2000, **PLAIN),
            ),
        ],
        ["SD"],
        "cai4cai/rano2.0-assist: 2 enhancing and 2 other targets in mixed tumors",
        misses=("non-target lesions",),
    ),
    Case(
        "two targets an organ",
        RE,
        [
            at(0, *(ball(i, 30 - i, organ="Liver") for i in (1, 2, 3)), ball(4, 15, organ="lung")),
            at(
                60,
                *(ball(i, 30 - i, organ="liver") for i in (1, 2)),
                ball(3, 60, organ="liver"),
                ball(4, 15, organ="lung"),
            ),
        ],
        ["SD"],
        "clinical.md: <=2 an organ; the third liver lesion is non-target",
    ),
    Case(
        "organs unknown",
        RE,
        [at(0, *(ball(i, 30) for i in (1, 2, 3))), at(60, *(ball(i, 30) for i in (1, 2, 3)))],
        ["SD"],
        "cannot be held, so it is said",
        misses=("at most 2 targets an organ",),
    ),
    Case(
        "node, short axis",
        RE,
        [at(0, lesion(1, 30, 20, **NODE)), at(60, lesion(1, 30, 13, **NODE))],
        ["PR"],
        "RECIST 1.1: nodes by short axis, 20 -> 13 = -35 %",
    ),
    Case(
        "node of 14 mm is no target",
        RE,
        [at(0, lesion(1, 30, 14, **NODE)), at(60, lesion(1, 30, 25, **NODE))],
        ["non-CR/non-PD"],
        "clinical.md: nodes short axis >=15 mm",
    ),
    Case(
        "node shrinks to 9 mm",
        RE,
        [at(0, lesion(1, 30, 20, **NODE)), at(60, lesion(1, 12, 9, **NODE))],
        ["CR"],
        "RECIST 1.1: below 10 mm a node is normal",
    ),
    Case(
        "node back to 12 mm after CR",
        RE,
        [at(0, lesion(1, 30, 20, **NODE)), at(60, lesion(1, 12, 9, **NODE)), at(120, lesion(1, 14, 10.5, **NODE))],
        ["CR", "PR"],
        "EORTC: no PD by itself, +17 % and 1.5 mm",
    ),
    Case(
        "node back to 20 mm after CR",
        RE,
        [at(0, lesion(1, 30, 20, **NODE)), at(60, lesion(1, 12, 9, **NODE)), at(120, lesion(1, 30, 20, **NODE))],
        ["CR", "PD"],
        "+122 % and 11 mm",
    ),
    Case(
        "new node of 9 mm",
        RE,
        [at(0, ball(1, 30)), at(60, ball(1, 30), lesion(2, 12, 9, **NODE))],
        ["SD"],
        "RECIST 1.1: normal below 10 mm",
    ),
    Case(
        "seen but too small to measure",
        RE,
        [at(0, ball(1, 20)), at(60, lesion(1, 0, 0, 1.0, slices=1))],
        ["PR"],
        "EORTC: counts as 5 mm, not as gone",
        says=("5.00 mm",),
    ),
    Case(
        "measured 3 mm",
        RE,
        [at(0, ball(1, 20)), at(60, ball(1, 3))],
        ["PR"],
        "EORTC: if it is measurable, record the measurement",
        says=("3.00 mm",),
    ),
    Case(
        "cut by the field of view",
        G,
        [at(0, area(1, 900)), cut_glioma(60), at(120, area(1, 1200))],
        ["NE", "PD"],
        "a lower bound decides nothing; the nadir stays day 0",
    ),
    Case(
        "cut, and a new lesion",
        RE,
        [at(0, ball(1, 30)), at(60, ball(1, 30, cut=True), ball(2, 12))],
        ["PD"],
        "RECIST 1.1 table 1: any target state with a new lesion is PD",
    ),
    Case(
        "not evaluable",
        G,
        [at(0, area(1, 900)), at(60, area(1, 90), not_evaluable="no contrast was given"), at(120, area(1, 900))],
        ["NE", "SD"],
        "its small size is no nadir",
    ),
    Case("baseline cut", G, [cut_glioma(0), at(60, area(1, 300))], ["NE"], "nothing to compare with"),
    Case(
        "NE between confirms",
        G,
        [at(0, area(1, 900)), at(56, area(1, 300)), cut_glioma(70), at(90, area(1, 300))],
        ["PR", "NE", "PR"],
        "a visit that says nothing is passed over",
        [True, None, True],
    ),
]

HIDDEN = lesion(1, 0, 0, slices=0, state="not covered")
TRACKED = [
    Case(
        "only lesion not covered",
        RE,
        [at(0, ball(1, 8)), at(60, HIDDEN)],
        ["NE"],
        "RECIST 1.1 table 2: not all evaluated",
    ),
    Case(
        "covered again",
        RE,
        [at(0, ball(1, 8)), at(60, HIDDEN), at(120, ball(1, 8))],
        ["NE", "non-CR/non-PD"],
        "it was never gone",
    ),
    Case(
        "non-target hidden, then seen",
        RE,
        [at(0, ball(2, 40), ball(1, 6)), at(60, HIDDEN), at(120, ball(1, 6))],
        ["PR", "PR"],
        "not CR on day 60, so nothing has come back",
    ),
    Case(
        "target not covered",
        G,
        [at(0, area(1, 900)), at(60, HIDDEN), at(120, area(1, 950))],
        ["NE", "SD"],
        "out of view is not gone",
    ),
    Case(
        "non-target not covered",
        RE,
        [at(0, ball(2, 40), ball(1, 6)), at(60, HIDDEN)],
        ["PR"],
        "RECIST 1.1 table 1: CR of targets with non-target not evaluated is PR",
        says=("no CR: lesion 1",),
    ),
    Case(
        "first seen",
        G,
        [
            at(0, area(1, 900)),
            at(60, area(1, 900), area(2, 300, state="first seen")),
            at(120, area(1, 900), area(2, 310)),
        ],
        ["SD", "SD"],
        "no earlier image shows the place: new is not known",
        misses=("whether lesion 2 came after",),
    ),
    Case(
        "first seen, targets gone",
        G,
        [at(0, area(1, 900)), at(60, area(2, 300, state="first seen"))],
        ["PR"],
        "tumor is there: no CR",
    ),
    Case(
        "speck",
        G,
        [at(0, area(1, 900)), at(60, area(1, 900), ball(2, 2, state="speck"))],
        ["SD"],
        "perhaps noise: no new lesion, but said",
        misses=("more than noise",),
    ),
    Case(
        "merged into a non-target",
        V2,
        [
            at(0, ml(1, 5), lesion(2, 9, 9)),
            at(60, lesion(1, 0, 0, slices=0, state="merged into 2"), ml(2, 5.5, state="merged")),
        ],
        ["SD"],
        "the target lives on in lesion 2: +10 %",
    ),
    Case(
        "reappeared",
        RE,
        [at(0, ball(1, 40), ball(2, 20)), at(60, ball(1, 38)), at(120, ball(1, 38), ball(2, 20, state="reappeared"))],
        ["PR", "PD"],
        "-37 %, then 38 -> 58 mm against the nadir",
    ),
    Case(
        "one measurable slice",
        G,
        [at(0, area(1, 900, measurable_slices=1)), at(60, area(1, 100))],
        ["SD"],
        "clinical.md: 10 mm on >=2 slices",
    ),
    Case(
        "one measurable slice, metastasis",
        BM,
        [at(0, ball(1, 12, measurable_slices=1)), at(60, ball(1, 8))],
        ["PR"],
        "seen on 5 slices; 10 x 5 mm has a count of its own",
    ),
    Case("nodule not covered", LV, [at(0, ml(1, 0.2)), at(90, HIDDEN)], ["NE"], "out of view is not resolved"),
    Case(
        "nodule not covered, then gone",
        LV,
        [at(0, ml(1, 0.2)), at(90, HIDDEN), at(180)],
        ["NE", "resolved"],
        "shown and not there",
    ),
    Case(
        "nodule first seen",
        LV,
        [at(0, ml(1, 0.2)), at(90, ml(1, 0.2), ml(2, 0.2, state="first seen"))],
        ["NE"],
        "new is not known",
    ),
]


def mixed(*sizes: tuple[float, float]) -> list[VisitMeasure]:
    """(enhancing, other) products every 60 days."""
    return [at(60 * n, area(1, e, **ENHANCED), area(2, o, **PLAIN)) for n, (e, o) in enumerate(sizes)]


MIXED = [
    Case(
        "mixed: PD with PR",
        A2,
        mixed((400, 800), (600, 300)),
        ["PD"],
        "clinical.md: PD with anything = PD",
        says=("enhancing PD", "non-enhancing PR"),
    ),
    Case("mixed: SD with PD", A2, mixed((400, 800), (400, 1000)), ["PD"], "clinical.md: PD with anything = PD"),
    Case("mixed: SD with MR", A2, mixed((400, 800), (400, 600)), ["MR"], "clinical.md: MR with SD = MR"),
    Case("mixed: SD with PR", A2, mixed((400, 800), (400, 400)), ["PR"], "clinical.md: PR with SD = PR"),
    Case("mixed: PR with SD", A2, mixed((400, 800), (200, 800)), ["PR"], "clinical.md: PR with SD = PR"),
    Case("mixed: SD with SD", A2, mixed((400, 800), (400, 800)), ["SD"], "clinical.md: SD with SD = SD"),
    Case(
        "mixed: -30 % of the enhancing part",
        A2,
        mixed((400, 800), (280, 800)),
        ["SD"],
        "clinical.md: minor response is for non-enhancing",
    ),
    Case(
        "mixed: CR with SD",
        A2,
        [at(0, area(1, 400, **ENHANCED), area(2, 800, **PLAIN)), at(60, area(2, 800, **PLAIN))],
        ["SD"],
        "RANO 2.0, footnote quoted in cai4cai/rano2.0-assist: CR with SD is SD",
    ),
    Case(
        "mixed: CR with MR",
        A2,
        [at(0, area(1, 400, **ENHANCED), area(2, 800, **PLAIN)), at(60, area(2, 600, **PLAIN))],
        ["MR"],
        "the same footnote: CR with MR is MR",
    ),
    Case(
        "mixed: CR with PR",
        A2,
        [at(0, area(1, 400, **ENHANCED), area(2, 800, **PLAIN)), at(60, area(2, 400, **PLAIN))],
        ["PR"],
        "the same footnote: CR with PR is PR",
    ),
    Case("mixed: both gone", A2, [at(0, area(1, 400, **ENHANCED), area(2, 800, **PLAIN)), at(60)], ["CR"], "all gone"),
    Case(
        "only non-enhancing, -25 %",
        A2,
        [at(0, area(1, 800, **PLAIN)), at(60, area(1, 600, **PLAIN))],
        ["MR"],
        "clinical.md: minor 25-<50 %",
    ),
    Case(
        "only non-enhancing, volume -40 %",
        V2,
        [at(0, ml(1, 10, **PLAIN)), at(60, ml(1, 6, **PLAIN))],
        ["MR"],
        "recalled 40 %, and says so",
        says=("not read in the guideline",),
    ),
    Case(
        "only enhancing, -30 %",
        A2,
        [at(0, area(1, 1000, **ENHANCED)), at(60, area(1, 700, **ENHANCED))],
        ["SD"],
        "no minor response of enhancing tumor",
    ),
    Case(
        "enhancement not known",
        A2,
        areas((0, 1000), (60, 700)),
        ["SD"],
        "taken as enhancing, and said",
        misses=("whether the lesions enhance",),
    ),
    Case(
        "starts to enhance",
        A2,
        [at(0, area(1, 800, **PLAIN)), at(60, area(1, 800, **ENHANCED))],
        ["SD"],
        "a reader must judge",
        says=("did not enhance at the baseline",),
    ),
    Case(
        "RANO 2010 leaves FLAIR out of the sum",
        G,
        mixed((400, 800), (400, 1600)),
        ["SD"],
        "RANO 2010: T2/FLAIR by eye",
        misses=("T2/FLAIR",),
    ),
]

CLINICAL = [
    Case(
        "nothing entered",
        G,
        areas((0, 1000), (60, 400)),
        ["PR"],
        "missing, never assumed",
        misses=("corticosteroid dose on this visit", "corticosteroid dose at the baseline", "clinical state"),
    ),
    Case(
        "steroids raised",
        G,
        areas((0, 1000), (60, 400)),
        ["SD"],
        "RANO 2010, as PMC6499019 table 4: PR needs stable or decreased steroids",
        says=("2.00 -> 8.00",),
        options={"clinical": entered((2, "stable"), (8, "stable"))},
    ),
    Case(
        "steroids lowered",
        G,
        areas((0, 1000), (60, 400)),
        ["PR"],
        "stable or fewer",
        options={"clinical": entered((8, "stable"), (2, "stable"))},
    ),
    Case(
        "CR on steroids",
        G,
        areas((0, 1000), (60, 0)),
        ["PR"],
        "clinical.md: CR needs no steroids",
        says=("no CR on steroids",),
        options={"clinical": entered((2, "stable"), (2, "stable"))},
    ),
    Case(
        "CR without",
        G,
        areas((0, 1000), (60, 0)),
        ["CR"],
        "clinical.md: CR needs no steroids",
        options={"clinical": entered((2, "stable"), (0, "stable"))},
    ),
    Case(
        "CR on steroids, metastases",
        BM,
        diameters((0, 30), (60, 0)),
        ["PR"],
        "PMC6499019 table 4: CR: none",
        options={"clinical": entered((2, "stable"), (2, "stable"))},
    ),
    Case(
        "CR on steroids, RECIST",
        RE,
        diameters((0, 30), (60, 0)),
        ["CR"],
        "RECIST 1.1 knows no steroids",
        options={"clinical": entered((2, "stable"), (2, "stable"))},
    ),
    Case(
        "steroids alone",
        A2,
        areas((0, 1000), (60, 1000)),
        ["SD"],
        "clinical.md: steroids alone are not PD; PMC6499019 table 2: SD asks for the same or a lower dose",
        says=("steroids were raised (2.00 -> 16.0 mg/day): not settled as stable",),
        options={"clinical": entered((2, "stable"), (16, "stable"))},
    ),
    Case(
        "grown on fewer steroids",
        G,
        areas((0, 400), (60, 600)),
        ["PD"],
        "PMC4530825 table I: on stable or increasing doses; the class stays, argued: growth is not to be hidden",
        says=("steroids were lowered since day 0 (8.00 -> 2.00 mg/day)", "a reader must judge"),
        options={"clinical": entered((8, "stable"), (2, "stable"))},
    ),
    Case(
        "worse",
        G,
        areas((0, 1000), (60, 400)),
        ["PD"],
        "clinical deterioration is PD although it shrinks",
        says=("clinical deterioration",),
        options={"clinical": entered((2, "stable"), (2, "worse"))},
    ),
    Case(
        "worse, metastases",
        BM,
        diameters((0, 30), (60, 30)),
        ["PD"],
        "PMC6499019 table 4: worse",
        options={"clinical": entered(None, (None, "worse"))},
    ),
    Case(
        "worse, meningioma",
        ME,
        areas((0, 1000), (60, 1000)),
        ["PD"],
        "PMC6303427 table 1: worse",
        options={"clinical": entered(None, (None, "worse"))},
    ),
    Case(
        "worse, RECIST",
        RE,
        diameters((0, 30), (60, 30)),
        ["SD"],
        "RECIST 1.1: symptomatic deterioration is no response category",
        options={"clinical": entered(None, (None, "worse"))},
    ),
    Case(
        "worse while not evaluable",
        G,
        [at(0, area(1, 900)), cut_glioma(60)],
        ["PD"],
        "PMC6499019 table 4: any of them is PD",
        options={"clinical": entered(None, (None, "worse"))},
    ),
]

RT = {"radiotherapy_end_day": 0}
LOOK = {"confirm_progression": True}
EARLY = [
    Case(
        "early and alone",
        A2,
        areas((0, 400), (60, 600)),
        ["preliminary PD"],
        "clinical.md: early PD needs confirmation",
        [False],
        says=("60 days after radiotherapy", "not read in the guideline"),
        options=RT,
    ),
    Case(
        "early, confirmed",
        A2,
        areas((0, 400), (40, 600), (68, 620)),
        ["preliminary PD", "PD"],
        "28 days later still +55 % against the nadir",
        [True, True],
        says=("confirms day 40",),
        options=RT,
    ),
    Case(
        "early, 27 days later",
        A2,
        areas((0, 400), (40, 600), (67, 620)),
        ["preliminary PD", "preliminary PD"],
        "27 days are not 4 weeks",
        [False, False],
        options=RT,
    ),
    Case(
        "early, shrinks again",
        A2,
        areas((0, 400), (40, 600), (80, 420)),
        ["preliminary PD", "SD"],
        "pseudoprogression",
        [False, None],
        options=RT,
    ),
    Case(
        "day 83 is early",
        V2,
        mls((0, 10), (83, 15)),
        ["preliminary PD"],
        "PMC4530825 table I: <12 weeks = below 84 days",
        options=RT,
    ),
    Case("day 84 is not", V2, mls((0, 10), (84, 15)), ["PD"], "PMC4530825 table I: >=12 weeks", [None], options=RT),
    Case("end not known", A2, areas((0, 400), (60, 600)), ["PD"], "never assumed", misses=("end of radiotherapy",)),
    Case(
        "early new lesion",
        A2,
        [at(0, area(1, 400)), at(40, area(1, 400), area(2, 300))],
        ["preliminary PD"],
        "field of radiation not known from images",
        options=RT,
    ),
    Case(
        "early and worse",
        A2,
        areas((0, 400), (40, 600)),
        ["preliminary PD"],
        "abstract of RANO 2.0: in the 12 weeks a repeat MRI or histopathology is required",
        [False],
        says=("clinical deterioration, as entered", "that alone is no progression"),
        options={**RT, "clinical": entered(None, (4, "worse"))},
    ),
    Case(
        "RANO 2010 early, worse but stable",
        G,
        areas((0, 400), (40, 400)),
        ["SD"],
        "PMC4530825 table I: clinical decline alone is not sufficient within 12 weeks",
        says=("that alone is no progression",),
        options={**RT, "clinical": entered(None, (4, "worse"))},
    ),
    Case(
        "RANO 2010 early, worse but smaller",
        G,
        areas((0, 400), (40, 150)),
        ["SD"],
        "PMC6499019 table 2: PR asks for a stable or improved clinical state",
        says=("clinically worse: by size PR",),
        options={**RT, "clinical": entered(None, (4, "worse"))},
    ),
    Case(
        "RANO 2010 late and worse",
        G,
        areas((0, 400), (84, 400)),
        ["PD"],
        "PMC4530825 table I, from 12 weeks on: clinical deterioration is sufficient",
        options={**RT, "clinical": entered(None, (4, "worse"))},
    ),
    Case(
        "RANO 2010 counts from the first visit after radiotherapy",
        G,
        areas((0, 200), (50, 400), (150, 420)),
        ["preliminary PD", "SD"],
        "PMC4530825 table I: +25 % from the first post-radiotherapy imaging; 420 / 400",
        says=("+5 % against the nadir since radiotherapy of day 50",),
        options={"radiotherapy_end_day": 42},
    ),
    Case(
        "RANO 2010, smaller still after radiotherapy",
        G,
        areas((0, 900), (50, 400), (110, 300), (200, 380)),
        ["PR", "PR", "PD"],
        "PMC4530825 table I: or subsequent imaging showing a smaller tumor; 380 / 300 = +27 %",
        says=("nadir since radiotherapy of day 110",),
        options={"radiotherapy_end_day": 42},
    ),
    Case(
        "third after confirmation",
        A2,
        areas((0, 400), (20, 600), (50, 620), (80, 640)),
        ["preliminary PD", "PD", "PD"],
        "confirmed once is confirmed",
        [True, True, None],
        options=RT,
    ),
    Case(
        "RANO 2010 early",
        G,
        areas((0, 400), (40, 600), (80, 640)),
        ["preliminary PD", "preliminary PD"],
        "PMC4530825 table I: within 12 weeks only outside the field or by histology",
        [False, False],
        says=("outside the radiation field",),
        options=RT,
    ),
    Case(
        "RANO 2010, then late",
        G,
        areas((0, 400), (40, 600), (120, 640)),
        ["preliminary PD", "PD"],
        "past 12 weeks",
        [True, True],
        options=RT,
    ),
    Case("low grade knows no window", LG, areas((0, 400), (40, 600)), ["PD"], "PMC10584081 table 1", options=RT),
    Case(
        "baseline after radiotherapy",
        A2,
        areas((0, 200), (50, 400), (200, 420)),
        ["SD"],
        "clinical.md: first MRI after radiotherapy is the baseline",
        options={"radiotherapy_end_day": 42},
    ),
    Case(
        "second look asked for",
        ME,
        areas((0, 400), (60, 600), (100, 640)),
        ["preliminary PD", "PD"],
        "iRANO: every progression",
        [True, True],
        options=LOOK,
    ),
    Case(
        "second look, undated",
        ME,
        areas((0, 400), (1, 600)),
        ["preliminary PD"],
        "days needed",
        [None],
        options={**LOOK, **UNDATED},
    ),
]


def sure(i: int, volume: float, part: float) -> LesionMeasure:
    """A ball whose 95 % interval reaches this part of it up and down (in the logarithm)."""
    mm3 = volume * 1000
    return ml(i, volume, volume_interval_mm3=(mm3 / (1 + part), mm3 * (1 + part)))


ERRORS = [
    Case(
        "+30 %, each volume to a fifth",
        LV,
        [at(0, sure(1, 0.2, 0.2)), at(365, sure(1, 0.26, 0.2))],
        ["growth"],
        "sqrt(2) x ln 1.2 = 0.258: 1.3 / 1.294 to 1.3 x 1.294; the class stays",
        says=("within measurement error of the threshold", "holds +25 %"),
    ),
    Case(
        "+3 mm, 3 % of the volume",
        FL,
        [at(0, sure(1, 0.5, 0.03)), at(200, sure(1, 1.3, 0.03))],
        ["growth"],
        "1 % of a diameter of 10 mm is 0.1 mm: far from the 2 mm",
        says=("mean diameter",),
    ),
    Case(
        "threshold within the error",
        V2,
        [at(0, sure(1, 10, 0.1)), at(60, sure(1, 14.5, 0.1))],
        ["PD"],
        "+27 % to +66 % holds +40 %: said, class unchanged",
        says=("within measurement error of the threshold",),
    ),
    Case(
        "SD within the error",
        V2,
        [at(0, sure(1, 10, 0.1)), at(60, sure(1, 13.5, 0.1))],
        ["SD"],
        "+18 % to +54 % holds +40 %",
        says=("within measurement error",),
    ),
    Case(
        "area is 2/3 as uncertain",
        A2,
        [at(0, sure(1, 10, 0.1)), at(60, sure(1, 13.5, 0.1))],
        ["SD"],
        "+22 %, 11.7-33.6 % holds +25 %",
        says=("within measurement error",),
    ),
    Case(
        "PR within the error",
        V2,
        [at(0, sure(1, 10, 0.1)), at(60, sure(1, 3.4, 0.1))],
        ["PR"],
        "-66 %, -61 % to -70 %",
        says=("holds -65 %",),
    ),
]

LUNG = [
    Case(
        "+25 % in 100 days",
        LV,
        mls((0, 0.2), (100, 0.25)),
        ["fast growth"],
        "clinical.md: >=25 %, VDT 311 <400 d",
        says=("311 days",),
    ),
    Case("+24 %", LV, mls((0, 0.2), (100, 0.248)), ["stable"], "clinical.md: below 25 %"),
    Case(
        "+30 % in a year", LV, mls((0, 0.2), (365, 0.26)), ["growth"], "VDT 964 d", says=("964 days (not below 400)",)
    ),
    Case("VDT 400 exactly", LV, mls((0, 0.2), (400, 0.4)), ["growth"], "clinical.md: <400 d is referred"),
    Case("VDT 399", LV, mls((0, 0.2), (399, 0.4)), ["fast growth"], "clinical.md: <400 d is referred"),
    Case(
        "undated growth",
        LV,
        mls((0, 0.2), (1, 0.4)),
        ["growth"],
        "doubling time needs days",
        says=("without dates",),
        options=UNDATED,
    ),
    Case(
        "new nodule",
        LV,
        [at(0, ml(1, 0.2)), at(90, ml(1, 0.2), ml(2, 0.1))],
        ["new nodule"],
        "argued: worst nodule decides",
    ),
    Case("nodule gone", LV, mls((0, 0.2), (90, 0)), ["resolved"], "argued"),
    Case("nodule shrinks", LV, mls((0, 0.2), (90, 0.1)), ["smaller"], "argued: -25 % or more"),
    Case(
        "shrinks, then grows",
        LV,
        mls((0, 0.2), (90, 0.1), (180, 0.15)),
        ["smaller", "fast growth"],
        "argued: against its smallest; VDT 154 d",
    ),
    Case(
        "one of two grows",
        LV,
        [at(0, ml(1, 0.2), ml(2, 0.2)), at(90, ml(1, 0.1), ml(2, 0.3))],
        ["fast growth"],
        "argued: worst decides",
    ),
    Case("nodule cut", LV, [at(0, ml(1, 0.2)), at(90, ml(1, 0.3, cut=True))], ["NE"], "a lower bound"),
    Case("1.5 mm exactly", LR, diameters((0, 8), (180, 9.5)), ["stable"], "clinical.md: mean diameter +>1.5 mm"),
    Case("1.6 mm in 6 months", LR, diameters((0, 8), (180, 9.6)), ["growth"], "clinical.md: within 12 months"),
    Case(
        "1.6 mm in 2 years",
        LR,
        diameters((0, 8), (365, 8.8), (730, 9.6)),
        ["stable", "stable"],
        "0.8 mm in each 12 months",
    ),
    Case("nothing in the last 12 months", LR, diameters((0, 8), (700, 12)), ["NE"], "clinical.md: within 12 months"),
    Case("2 mm exactly", FL, diameters((0, 8), (180, 10)), ["growth"], "clinical.md: >=2 mm"),
    Case("1.9 mm", FL, diameters((0, 8), (180, 9.9)), ["stable"], "clinical.md: >=2 mm"),
    Case(
        "mean of two diameters",
        FL,
        [at(0, lesion(1, 10, 6)), at(90, lesion(1, 12, 8))],
        ["growth"],
        "Fleischner: average of long and short axis, 8 -> 10",
    ),
]

CASES = [*BORDERS, *SPHERES, *OVER_TIME, *LESIONS, *TRACKED, *MIXED, *CLINICAL, *EARLY, *ERRORS, *LUNG]
