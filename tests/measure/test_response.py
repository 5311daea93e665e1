"""Response criteria against tables of known answers (response_cases.py), and what must hold for all of them."""

import dataclasses
import math
import re
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import pytest

from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.measure.response import (
    CRITERIA,
    SIZE_CRITERIA,
    LesionMeasure,
    VisitMeasure,
    classify,
    doubling_days,
    size_class,
)

cases = SimpleNamespace(**run_path(str(Path(__file__).with_name("response_cases.py"))))


@pytest.mark.parametrize("case", cases.CASES, ids=lambda c: f"{c.criterion}: {c.name}")
def test_known_answer(case) -> None:
    answers = classify(case.visits, case.criterion, **case.options)
    after = [a for a in answers if a.category not in ("baseline", "before baseline")]
    if any(a.category == "baseline" for a in answers):
        assert [a.category for a in after] == case.categories, [a.reason for a in after]
    else:
        assert {a.category for a in answers} == {"NE"} == set(case.categories)
    if case.confirmed is not None:
        assert [a.confirmed for a in after] == case.confirmed, [a.reason for a in after]
    for words in case.says:
        assert words in answers[-1].reason
    for words in case.misses:
        assert any(words in m for m in answers[-1].missing), answers[-1].missing


def test_the_table_is_large_and_every_row_has_its_reason() -> None:
    assert len(cases.CASES) >= 80
    assert all(c.why for c in cases.CASES)
    assert {c.criterion for c in cases.CASES} == set(CRITERIA)


@pytest.mark.parametrize("case", cases.CASES, ids=lambda c: f"{c.criterion}: {c.name}")
def test_every_answer_is_complete(case) -> None:
    for number, answer in enumerate(classify(case.visits, case.criterion, **case.options), start=1):
        assert answer.visit == number and answer.reason.startswith(f"{answer.category}: ")
        assert not re.search(r"\bnan\b|\binf\b|None", answer.reason)
        assert (answer.day is None) == (case.options.get("dated") is False)
        assert (answer.sum_used is None) == (answer.unit == "")
        assert answer.row()["missing"] == "; ".join(answer.missing)


@pytest.mark.parametrize("case", cases.CASES, ids=lambda c: f"{c.criterion}: {c.name}")
def test_later_visits_do_not_change_the_class_of_earlier_ones(case) -> None:
    """They may confirm it, no more."""
    whole = [a.category for a in classify(case.visits, case.criterion, **case.options)]
    for n in range(case.options.get("baseline", 2), len(case.visits)):
        options = dict(case.options)
        if "clinical" in options:
            options["clinical"] = options["clinical"][:n]
        if n > 1:
            assert [a.category for a in classify(case.visits[:n], case.criterion, **options)] == whole[:n]


@pytest.mark.parametrize("case", cases.CASES, ids=lambda c: f"{c.criterion}: {c.name}")
def test_the_order_of_the_lesions_does_not_matter(case) -> None:
    turned = [dataclasses.replace(v, lesions=v.lesions[::-1]) for v in case.visits]
    ways = [classify(visits, case.criterion, **case.options) for visits in (case.visits, turned)]
    assert [a.category for a in ways[0]] == [a.category for a in ways[1]]
    assert [a.sum_used for a in ways[0]] == pytest.approx([a.sum_used for a in ways[1]])


def test_sphere_arithmetic() -> None:
    """clinical.md: what one threshold means for the other quantities of a ball."""

    def of(diameter: float) -> dict[str, float]:
        visits = cases.diameters((0, 100.0), (60, diameter))
        keys = {"area": "rano-2.0-area", "volume": "rano-2.0-volume", "diameter": "recist-1.1"}
        return {name: classify(visits, key)[1].change_from_baseline for name, key in keys.items()}

    assert of(100 * math.sqrt(0.5))["volume"] == pytest.approx(-0.646, abs=5e-4)
    assert of(100 * math.sqrt(1.25))["volume"] == pytest.approx(0.398, abs=5e-4)
    assert of(70)["volume"] == pytest.approx(-0.657, abs=5e-4)
    assert of(120)["volume"] == pytest.approx(0.728, abs=5e-4)
    for d in (55.0, 80.0, 130.0):
        change = of(d)
        assert (1 + change["diameter"]) ** 2 == pytest.approx(1 + change["area"])
        assert (1 + change["diameter"]) ** 3 == pytest.approx(1 + change["volume"])


def test_numbers_of_the_answer() -> None:
    answers = classify(cases.mls((0, 20), (41, 12.1), (97, 17.7)), "rano-2.0-volume")
    last = answers[-1]
    assert (last.visit, last.day, last.baseline_visit, last.nadir_visit) == (3, 97, 1, 2)
    assert last.sum_used == pytest.approx(17700) and last.unit == "mm3"
    assert last.change_from_baseline == pytest.approx(-0.115) and last.change_from_nadir == pytest.approx(
        0.4628, abs=1e-4
    )
    assert last.reason == "PD: volume +46 % against the nadir of day 41 (12.1 -> 17.7 mL)"
    assert answers[0].category == "baseline" and answers[0].nadir_visit is None and answers[0].confirmed is None


def test_an_area_is_less_uncertain_than_a_volume() -> None:
    """Volume 3 % up and down: the area of +21 % is +18 to +24, short of 25; the error of the volume would hold it."""
    grown = [cases.at(0, cases.sure(1, 10, 0.03)), cases.at(60, cases.sure(1, 10 * 1.21**1.5, 0.03))]
    assert "measurement error" not in classify(grown, "rano-2.0-area")[1].reason


def test_before_the_baseline() -> None:
    answers = classify(cases.areas((0, 100), (50, 400), (100, 420)), "rano-2010", baseline=2)
    assert [a.category for a in answers] == ["before baseline", "baseline", "SD"]
    assert answers[0].baseline_visit is None and answers[2].baseline_visit == 2


def test_a_lesion_seen_before_the_baseline_is_not_new() -> None:
    ball, at = cases.ball, cases.at
    visits = [at(0, ball(1, 30), ball(2, 15)), at(50, ball(1, 30)), at(100, ball(1, 30), ball(2, 15))]
    assert classify(visits, "rano-bm", baseline=2)[2].category == "SD"


def test_no_sign_on_a_change_that_rounds_to_zero() -> None:
    same, less = (classify(cases.areas((0, 400), (60, now)), "rano-2010")[1] for now in (400, 399.9))
    assert all("products 0 % against" in answer.reason for answer in (same, less))


def test_steroids_and_clinical_state_are_never_assumed() -> None:
    for rule in SIZE_CRITERIA:
        missing = " ".join(classify(cases.diameters((0, 40), (60, 40)), rule.key)[1].missing)
        assert ("corticosteroid" in missing and "clinical state" in missing) == rule.clinical


@pytest.mark.parametrize(("count", "said"), [(0, False), (3, False), (4, True)])
def test_the_number_of_targets_is_said_to_be_uncertain_only_where_it_decides(count: int, said: bool) -> None:
    visit = cases.at(0, *(cases.ball(n, 20) for n in range(count)))
    reason = classify([visit], "rano-2.0-volume")[0].reason
    assert ("not read in the guideline itself: at most 3 targets" in reason) == said


def test_a_small_new_lesion_that_went_waits_for_nothing() -> None:
    visits = [cases.at(0, cases.ball(1, 30)), cases.at(60, cases.ball(1, 30), cases.ball(2, 4))]
    alone, followed = (
        classify([*visits, *later], "recist-1.1")[1].reason for later in ([], [cases.at(100, cases.ball(1, 40))])
    )
    assert alone.endswith("unconfirmed, waits for a visit that shows the new lesion again")
    assert followed.endswith("not confirmed: day 100 shows PD")


def test_what_is_recalled_is_never_settled_fact() -> None:
    early = classify(cases.areas((0, 400), (40, 600)), "rano-2.0-area", radiotherapy_end_day=0)[1]
    confirmed = classify(cases.areas((0, 400), (40, 200)), "rano-meningioma")[1]
    metastasis = classify(cases.diameters((0, 30), (60, 36)), "rano-bm")[1]
    assert all("not read in the guideline itself" in a.reason for a in (early, confirmed, metastasis))


@pytest.mark.parametrize(
    ("diameter", "words"),
    [
        (5.9, "below 6 mm"),
        (6.0, "6 to below 8 mm"),
        (8.0, "8 to below 15 mm"),
        (15.0, "15 mm or more"),
    ],
)
def test_size_classes_of_nodules(diameter: float, words: str) -> None:
    assert size_class(math.pi / 6 * diameter**3) == words


def test_sizes_of_nodules_as_written() -> None:
    """clinical.md: 6 / 8 / 15 mm = 113 / 268 / 1767 mm3."""
    assert [round(math.pi / 6 * d**3) for d in (6, 8, 15)] == [113, 268, 1767]


def test_doubling_time() -> None:
    assert doubling_days(100, 200, 90) == pytest.approx(90)
    assert doubling_days(100, 100, 90) is None and doubling_days(100, 50, 90) is None
    # clinical.md: one doubling is +26 % of the diameter
    assert math.cbrt(2) == pytest.approx(1.26, abs=1e-3)


# ---- refusals ----

ONE = LesionMeasure(1, 1000.0, 12.0, 11.0, 5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"volume_mm3": -1.0}, "volume_mm3 is finite and not negative"),
        ({"volume_mm3": math.nan}, "volume_mm3 is finite"),
        ({"longest_axial_mm": math.inf}, "longest_axial_mm is finite"),
        ({"state": "vanished"}, "vanished but has a volume"),
        ({"state": "merged into 3"}, "merged into 3 but has a volume"),
        ({"state": "grown"}, "unknown state 'grown'"),
        ({"volume_interval_mm3": (1100.0, 1200.0)}, "not in its interval"),
    ],
)
def test_a_lesion_that_cannot_be(change: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        dataclasses.replace(ONE, **change)


@pytest.mark.parametrize(
    ("visits", "options", "words"),
    [
        ([], {}, "no visits"),
        ([VisitMeasure(5, (ONE,)), VisitMeasure(5, (ONE,))], {}, "visit 2 is on day 5"),
        ([VisitMeasure(0, (ONE,))], {"baseline": 2}, "one of the visits 1 to 1, got 2"),
        ([VisitMeasure(0, (ONE,))], {"clinical": [None, None]}, "2 clinical entries for 1 visits"),
        ([VisitMeasure(0, (ONE,))], {"dated": False, "radiotherapy_end_day": 3}, "no dates"),
        (
            [VisitMeasure(0, (ONE,)), VisitMeasure(9, (ONE, dataclasses.replace(ONE, lesion=2, state="split")))],
            {},
            "Lesion 2 of visit 2 is split but does not follow",
        ),
    ],
)
def test_visits_that_cannot_be(visits: list[VisitMeasure], options: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        classify(visits, "rano-2010", **options)


def test_the_longer_diameter_is_the_longest() -> None:
    """By part of a voxel a round lesion's perpendicular can be the longer."""
    turned = dataclasses.replace(ONE, perpendicular_axial_mm=12.3)
    assert (turned.longest_axial_mm, turned.perpendicular_axial_mm) == (12.3, 12.0)


def test_a_lesion_twice_and_an_unknown_criterion() -> None:
    with pytest.raises(InputError, match="Lesion 1 stands twice"):
        VisitMeasure(0, (ONE, ONE))
    with pytest.raises(InputError, match=r"Unknown response criterion 'rano'.*recist-1\.1"):
        classify([VisitMeasure(0, (ONE,))], "rano")
