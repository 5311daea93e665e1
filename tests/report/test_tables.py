"""Rows, CSV, JSON and terminal table against numbers worked out by hand."""

import csv
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest

from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.measure.lesions import Lesion
from napari_convlstm_tumor.measure.uncertainty import Interval, Size, measure_lesion
from napari_convlstm_tumor.report import columns as columns_module
from napari_convlstm_tumor.report.course import Course, LesionCourse
from napari_convlstm_tumor.report.tables import (
    COLUMNS,
    LESION_COLUMNS,
    LESION_HEADER,
    TABLE_HEADER,
    UNDATED_NAMES,
    build_report,
    lesion_table,
    lesions_csv,
    report_from_json,
    report_json,
    response_lines,
    summary,
    visit_table,
    visits_csv,
)
from napari_convlstm_tumor.series import NO_DATES, ONE_VISIT, Registration

CHANGES = "volume_low_mm3,volume_high_mm3,change_from_baseline_percent,change_from_nadir_percent,within_error,"
CHANGE_ENDS = (
    "volume_change_low_percent,volume_change_high_percent,change_from_baseline_low_percent,"
    "change_from_baseline_high_percent,change_from_nadir_low_percent,change_from_nadir_high_percent,"
)
DATED_HEADER = (
    "visit,day,volume_mm3,volume_change_percent,sgr_per_day,vdt_days,vde_mm_per_year,"
    f"front_speed_mm_per_month,registration_quality,{CHANGES}{CHANGE_ENDS}sgr_low_per_day,sgr_high_per_day,"
    "vdt_low_days,vdt_high_days,vde_low_mm_per_year,vde_high_mm_per_year,"
    "front_speed_low_mm_per_month,front_speed_high_mm_per_month,warnings"
)
UNDATED_HEADER = (
    "visit,day,volume_mm3,volume_change_percent,sgr_per_visit,vdt_visits,vde_mm_per_visit,"
    f"front_speed_mm_per_visit,registration_quality,{CHANGES}{CHANGE_ENDS}sgr_low_per_visit,sgr_high_per_visit,"
    "vdt_low_visits,vdt_high_visits,vde_low_mm_per_visit,vde_high_mm_per_visit,"
    "front_speed_low_mm_per_visit,front_speed_high_mm_per_visit,warnings"
)
NO_ENDS = "," * 13  # within_error, twelve ends, and none of them known
SPEED_ENDS = "0.500,2.000,"


def registration(quality=1.0, good=True, note=""):
    return Registration(np.eye(4), quality, good, note)


def report(volumes=(4000.0, 8000.0, 4000.0), days=(0, 100, 200), dated=True, speeds=None, **extra):
    count = len(volumes)
    speeds = [None] + [Interval(1.25, 0.5, 2.0)] * (count - 1) if speeds is None else speeds
    registrations = extra.pop("registrations", [registration()] * count)
    return build_report("patient-1", days, dated, volumes, speeds, registrations, **extra)


def test_a_row_is_the_change_since_the_visit_before():
    first, doubled, halved = report().visits
    assert [first[k] for k in ("visit", "day", "volume_mm3")] == [1, 0, 4000.0]
    growth = (
        "volume_change_percent",
        "sgr_per_day",
        "vdt_days",
        "vde_mm_per_year",
        "front_speed_mm_per_month",
    )
    assert [first[k] for k in growth] == [None] * 5
    # MTD goes from 20 to 25.198 mm in 100 days: 18.987 mm/year
    expected = [100.0, math.log(2) / 100, 100.0, (16000 ** (1 / 3) - 20) * 3.6525, 1.25]
    assert [doubled[k] for k in growth] == pytest.approx(expected)
    expected = [-50.0, -math.log(2) / 100, -100.0, -(16000 ** (1 / 3) - 20) * 3.6525, 1.25]
    assert [halved[k] for k in growth] == pytest.approx(expected)


def test_csv_of_a_dated_patient():
    lines = visits_csv(report(registrations=[registration(), registration(0.9), registration(0.91234)]))
    assert lines.splitlines() == [
        DATED_HEADER,
        f"1,0,4000.0,,,,,,1.000,,,,,{NO_ENDS},,",
        f"2,100,8000.0,100.00,0.0069315,100.0,18.987,1.250,0.900,,,100.00,100.00,{NO_ENDS}{SPEED_ENDS}",
        f"3,200,4000.0,-50.00,-0.0069315,-100.0,-18.987,1.250,0.912,,,0.00,0.00,{NO_ENDS}{SPEED_ENDS}",
    ]
    assert lines.endswith("\n")


def test_an_undated_patient_has_growth_per_visit_and_no_day():
    undated = report((4000.0, 8000.0), (0, 1), dated=False)
    assert visits_csv(undated).splitlines() == [
        UNDATED_HEADER,
        f"1,,4000.0,,,,,,1.000,,,,,{NO_ENDS},,",
        f"2,,8000.0,100.00,0.6931472,1.0,5.198,1.250,1.000,,,100.00,100.00,{NO_ENDS}{SPEED_ENDS}",
    ]
    assert undated.warnings == (NO_DATES,)
    assert visit_table(undated)[1] == [
        "2", "–", "8.00", "+100.0", "+69.31 %/visit (doubling in 1.0 visits)", "+1.25 mm/visit",
    ]  # fmt: skip
    names = [name for name in undated.visits[0] if name != "day"]
    assert not any(unit in name for name in names for unit in ("day", "month", "year"))


def test_the_viewers_table_has_the_interval_of_the_speed():
    assert [row[5] for row in visit_table(report(), intervals=True)] == ["", *["+1.25 mm/month (+0.50 to +2.00)"] * 2]
    assert [row[5] for row in visit_table(report())] == ["", *["+1.25 mm/month"] * 2]


def test_table_for_the_terminal():
    rows = visit_table(
        report((4000.0, 8000.0, 8000.0, 0.0), (0, 100, 200, 300), speeds=[None, Interval(1.25), Interval(0.001), None])
    )
    assert rows == [
        ["1", "0", "4.00", "", "", ""],
        ["2", "100", "8.00", "+100.0", "+0.69 %/day (doubling in 100 days)", "+1.25 mm/month"],
        ["3", "200", "8.00", "0.0", "0.00 %/day", "0.00 mm/month"],  # unchanged: no doubling time, no sign
        ["4", "300", "0.00", "-100.0", "–", "–"],
    ]
    assert all(len(row) == len(TABLE_HEADER) for row in rows)
    assert "halving in 100 days" in visit_table(report())[2][4]


def test_one_visit_has_a_volume_and_says_that_growth_is_missing():
    single = report((4000.0,), (0,), registrations=[registration(math.nan, good=False)])
    assert visits_csv(single).splitlines()[1] == f"1,0,4000.0,,,,,,,,,,,{NO_ENDS},,"
    assert single.warnings == (ONE_VISIT,)
    assert single.visits[0]["warnings"] == ()  # nothing to register
    assert single.provenance["summary"]["sgr_per_day"] is None


def warnings_of(number, **changes):
    return report(**changes).visits[number - 1]["warnings"]


@pytest.mark.parametrize(
    ("number", "changes", "words"),
    [
        (2, {"days": (0, 27, 200)}, "Only 27 days since the visit before"),
        (2, {"volumes": (4000.0, 0.0, 4000.0), "speeds": [None] * 3}, "No tumor in the mask"),
        (2, {"touches_edge": [False, True, False]}, "touches the edge of the field of view"),
        (2, {"volumes": (4000.0, 113.0, 4000.0)}, "small as a sphere of 6.0 mm"),
        (3, {"volumes": (4000.0, 113.0, 4000.0)}, "small as a sphere of 6.0 mm"),  # its growth starts there
        (
            2,
            {"registrations": [registration(), registration(0.31, good=False), registration()]},
            "quality of 0.31",
        ),
        (2, {"registrations": [registration(), registration(math.nan), registration()]}, "was not judged"),
        (
            2,
            {"registrations": [registration(), registration(0.3, False, "few voxels"), registration()]},
            "few voxels",
        ),
        (2, {"speeds": [None, None, Interval(1.0)]}, "No front speed"),
        (1, {"visit_warnings": [("t2 is missing",), (), ()]}, "t2 is missing"),
    ],
)
def test_each_caution_stands_in_its_row_and_in_no_other_without_cause(number, changes, words):
    assert len([w for w in warnings_of(number, **changes) if words in w]) == 1
    assert not any(words in w for w in warnings_of(number))


@pytest.mark.parametrize(
    "changes",
    [
        {"days": (0, 28, 200)},  # 28 days are enough
        {"days": (0, 1, 2), "dated": False},  # positions are not days
        {"volumes": (4000.0, 114.0, 4000.0)},  # just over 6 mm
    ],
)
def test_no_caution_beyond_its_limit(changes):
    assert warnings_of(2, **changes) == ()


def test_undefined_numbers_of_an_empty_visit_are_empty_never_infinite():
    back = report((4000.0, 0.0, 4000.0), speeds=[None] * 3)
    assert visits_csv(back).splitlines()[2].startswith("2,100,0.0,-100.00,,,,,1.000,")
    assert visits_csv(back).splitlines()[3].startswith("3,200,4000.0,,,,,,1.000,")
    assert back.provenance["summary"]["sgr_per_day"] is None
    assert "inf" not in visits_csv(back) + report_json(back).replace("info", "")
    assert "nan" not in visits_csv(back).lower()


def test_warnings_with_commas_and_quotes_survive_the_csv():
    sentences = ("Two slices, 4 and 5, are blank.", 'The series "scout" was left out.')
    text = visits_csv(report(visit_warnings=[sentences, (), ()], warnings=("of the patient",)))
    rows = list(csv.DictReader(io.StringIO(text)))
    assert rows[0]["warnings"] == " ".join(sentences)
    assert len(rows) == 3


# ---- summary ----


def course(days, volumes, dated=True, log_sd=None):
    """Volumes without known errors, or all with the same."""
    sizes = [Size(v, log_sd or 0.0) if v else None for v in volumes]
    return Course(days, dated, sizes, [True] * len(days), with_errors=log_sd is not None)


def test_summary_of_exactly_exponential_growth():
    found = summary(course((0, 50, 100), [1000.0, 1000 * math.sqrt(2), 2000.0]))
    assert found["visits"] == 3
    assert found["days"] == 100
    assert found["volume_change_percent"] == pytest.approx(100)
    assert found["sgr_per_day"]["value"] == pytest.approx(math.log(2) / 100)
    assert found["sgr_per_day"]["standard_error"] == pytest.approx(0, abs=1e-12)
    assert found["vdt_days"] == pytest.approx({"value": 100, "low": 100, "high": 100})


def test_no_doubling_time_when_the_rate_may_be_zero():
    found = summary(course((0, 50, 100), [1000.0, 3000.0, 2000.0]))
    assert found["sgr_per_day"]["low"] < 0 < found["sgr_per_day"]["high"]
    assert found["vdt_days"] is None


def test_doubling_time_interval_is_the_inverse_of_that_of_the_rate():
    found = summary(course((0, 50, 100, 150), [1000.0, 2000.0, 4100.0, 8000.0]))
    rate, time = found["sgr_per_day"], found["vdt_days"]
    assert 0 < time["low"] < time["value"] < time["high"]
    assert time["low"] == pytest.approx(math.log(2) / rate["high"])


def test_summary_of_two_visits_has_values_without_intervals():
    found = summary(course((0, 1), [1000.0, 2000.0], dated=False))
    assert found["sgr_per_visit"] == {
        "value": pytest.approx(math.log(2)), "standard_error": None, "low": None, "high": None,
    }  # fmt: skip
    assert found["days"] is None
    assert set(found) == {
        "visits", "days", "volume_change_percent", "volume_change_low_percent", "volume_change_high_percent",
        "within_error", "sgr_per_visit", "vdt_visits", "vde_mm_per_visit",
    }  # fmt: skip


# ---- known errors ----


def with_errors(volumes, log_sd=0.1, **extra):
    sizes = [Size(v, log_sd, 0.05) if v else None for v in volumes]
    return report(volumes, sizes=sizes, **extra)


def test_every_number_of_growth_has_an_interval_that_holds_it():
    _, second, third = with_errors((4000.0, 8000.0, 4000.0)).visits
    stems = {
        "volume": "mm3", "volume_change": "percent", "change_from_baseline": "percent", "sgr": "per_day",
        "vde": "mm_per_year", "change_from_nadir": "percent",
    }  # fmt: skip
    for row in (second, third):
        for stem, unit in stems.items():
            assert row[f"{stem}_low_{unit}"] < row[f"{stem}_{unit}"] < row[f"{stem}_high_{unit}"]
    # ln 2 +- 1.96 sqrt(2) 0.1: the shared error is no part of a change
    reach = 1.959964 * math.sqrt(2) * 0.1
    assert second["sgr_low_per_day"] == pytest.approx((math.log(2) - reach) / 100)
    assert second["volume_change_high_percent"] == pytest.approx(100 * (2 * math.exp(reach) - 1))
    assert second["volume_low_mm3"] == pytest.approx(8000 * math.exp(-1.959964 * math.hypot(0.1, 0.05)))
    assert second["vdt_low_days"] == pytest.approx(math.log(2) / second["sgr_high_per_day"])
    assert (second["within_error"], third["within_error"]) == (False, False)


def test_a_change_within_error_is_said_and_has_no_doubling_time():
    found = with_errors((4000.0, 4200.0, 8000.0))
    row = found.visits[1]
    assert row["within_error"] is True
    assert row["sgr_low_per_day"] < 0 < row["sgr_high_per_day"]
    assert (row["vdt_days"], row["vdt_low_days"], row["vdt_high_days"]) == (None, None, None)
    assert visit_table(found)[1][4] == "+0.05 %/day (within error)"
    assert visit_table(found)[1][2] == "4.20"
    assert visit_table(found, intervals=True)[1][2] == "4.20 (3.37–5.23)"


def test_the_nadir_is_the_smallest_since_the_baseline():
    rows = with_errors((2000.0, 8000.0, 4000.0, 6000.0), days=(0, 100, 200, 300), baseline=1).visits
    assert [r["change_from_baseline_percent"] for r in rows] == [None, None, pytest.approx(-50), pytest.approx(-25)]
    assert [r["change_from_nadir_percent"] for r in rows] == [None, None, pytest.approx(-50), pytest.approx(50)]
    assert [r["volume_change_percent"] for r in rows][1:] == pytest.approx([300, -50, 50])


def test_a_tumor_that_is_gone_has_no_interval():
    row = with_errors((4000.0, 0.0, 4000.0), speeds=[None] * 3).visits[1]
    assert row["volume_mm3"] == 0
    assert (row["volume_change_percent"], row["volume_change_low_percent"], row["within_error"]) == (-100, None, None)


def test_two_visits_with_known_errors_have_an_interval_in_the_summary():
    found = summary(course((0, 100), [1000.0, 2000.0], log_sd=0.1))
    rate = found["sgr_per_day"]
    assert rate["low"] < rate["value"] < rate["high"]
    assert found["within_error"] is False


# ---- lesions ----


def lesion_course(states, radii, number=1, **extra):
    """A lesion of these states; a cube of this many voxels a side at each visit, None = nothing."""
    sizes = tuple(None if n is None else measure_lesion(np.ones((n, n, n)), (1.0, 1.0, 1.0)) for n in radii)
    count = len(states)
    volumes = tuple(0.0 if n is None else float(n**3) for n in radii)
    lesion = Lesion(number, f"2.25.{number}", states, volumes, (1,) * count, (None, *[0.9] * (count - 1)), False)
    return LesionCourse(
        lesion, sizes, extra.get("speeds", (None,) * count), extra.get("cut", (False,) * count), ((),) * count
    )


def lesion_report(*courses, **extra):
    return report(lesions=courses, **extra)


def test_a_merger_is_no_growth():
    """A cube of 12 takes in one of 10, which had taken in one of 8: its changes compare with the sum of the three."""
    heir = lesion_course(("baseline", "persistent", "merged"), (12, 12, 16), 1)
    second = lesion_course(("baseline", "merged", "merged into 1"), (10, 12, None), 2)
    third = lesion_course(("baseline", "merged into 2", "merged into 2"), (8, None, None), 3)
    rows = {(r["visit"], r["lesion"]): r for r in lesion_report(heir, second, third).lesions}
    before, between, after = 12**3 + 10**3 + 8**3, 12**3 + 12**3, 16**3
    assert rows[2, 1]["volume_change_percent"] == pytest.approx(0)
    assert rows[2, 2]["volume_change_percent"] == pytest.approx(100 * (12**3 / (10**3 + 8**3) - 1))
    assert rows[3, 1]["volume_mm3"] == after
    assert rows[3, 1]["volume_change_percent"] == pytest.approx(100 * (after / between - 1))
    assert rows[3, 1]["change_from_baseline_percent"] == pytest.approx(100 * (after / before - 1))
    assert rows[3, 1]["change_from_nadir_percent"] == pytest.approx(100 * (after / before - 1))
    assert rows[3, 1]["sgr_per_day"] == pytest.approx(math.log(after / between) / 100)
    assert [rows[3, n]["volume_mm3"] for n in (2, 3)] == [None, None]


def test_what_was_taken_in_from_out_of_view_leaves_no_change():
    heir = lesion_course(("baseline", "persistent", "merged"), (12, 12, 16), 1)
    hidden = lesion_course(("baseline", "not covered", "merged into 1"), (10, None, None), 2)
    row = lesion_report(heir, hidden).lesions[4]
    assert row["change_from_baseline_percent"] == pytest.approx(100 * (16**3 / (12**3 + 10**3) - 1))
    assert (row["volume_change_percent"], row["sgr_per_day"]) == (None, None)


def test_a_cut_tumor_has_changes_without_an_interval():
    found = with_errors((4000.0, 8000.0, 9000.0), touches_edge=[False, True, False])
    second, third = found.visits[1:]
    assert (second["volume_change_percent"], second["volume_change_low_percent"]) == (100, None)
    assert (second["sgr_low_per_day"], second["within_error"]) == (None, None)
    assert third["change_from_nadir_low_percent"] is None
    summary = found.provenance["summary"]
    assert summary["sgr_per_day"]["low"] is None and summary["vdt_days"]["low"] is None
    lesion = lesion_course(("baseline", "persistent", "persistent"), (12, 16, 14), cut=(False, True, False))
    assert lesion_report(lesion).lesions[1]["sgr_low_per_day"] is None


def test_growth_that_is_not_steady_is_no_measurement_error():
    """From 10 to 4 to 6 mL: the change is certain, the slope over the three visits is not."""
    found = summary(course((0, 60, 120), [10000.0, 4000.0, 6000.0], log_sd=0.1))
    assert found["sgr_per_day"]["low"] < 0 < found["sgr_per_day"]["high"]
    assert found["within_error"] is False


def test_one_row_per_visit_and_lesion():
    grown = lesion_course(
        ("baseline", "persistent", "persistent"), (12, 16, 14), speeds=(None, Interval(1.25, 0.5, 2.0), Interval(-0.5))
    )
    new = lesion_course(("absent", "new", "vanished"), (None, 8, None), 2)
    rows = lesion_report(grown, new).lesions
    assert [(r["visit"], r["lesion"]) for r in rows] == [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (3, 2)]
    assert all(tuple(row) == LESION_COLUMNS for row in rows)
    second, gone = rows[2], rows[5]
    assert second["volume_mm3"] == 16**3
    assert second["volume_low_mm3"] < 16**3 < second["volume_high_mm3"]
    assert second["change_from_baseline_percent"] == pytest.approx(100 * ((16 / 12) ** 3 - 1))
    assert second["longest_axial_low_mm"] < second["longest_axial_mm"] < second["longest_axial_high_mm"]
    assert (second["front_speed_mm_per_month"], second["match_confidence"]) == (1.25, 0.9)
    assert (second["front_speed_low_mm_per_month"], second["front_speed_high_mm_per_month"]) == (0.5, 2.0)
    assert rows[1]["volume_mm3"] == 0  # not there yet
    assert (gone["volume_mm3"], gone["volume_change_percent"], gone["longest_axial_mm"]) == (0, -100, None)
    assert gone["change_from_baseline_percent"] is None  # it was not there at the baseline


@pytest.mark.parametrize(
    ("states", "unknown"),
    [
        (("baseline", "not covered", "persistent"), 2),
        (("baseline", "merged into 2", "merged into 2"), 2),
        (("absent", "first seen", "persistent"), 1),  # no image shows whether it was there
    ],
)
def test_what_the_images_cannot_tell_is_unknown_not_zero(states, unknown):
    radii = tuple(12 if s in ("baseline", "persistent", "first seen") else None for s in states)
    rows = lesion_report(lesion_course(states, radii)).lesions
    row = rows[unknown - 1]
    assert row["volume_mm3"] is None
    assert row["change_from_baseline_percent"] is None
    assert rows[unknown]["volume_change_percent"] is None
    assert rows[unknown]["sgr_per_day"] is None


def test_a_lesion_row_says_its_own_cautions():
    rows = lesion_report(lesion_course(("baseline",) * 3, (4, 12, None), cut=(False, True, False))).lesions
    assert "as small as a sphere of 5.0 mm" in rows[0]["warnings"][0]
    assert "touches the edge" in rows[1]["warnings"][0]
    assert "nothing of the lesion is left" in rows[2]["warnings"][0]


def test_lesions_as_csv_and_in_the_terminal():
    found = lesion_report(lesion_course(("absent", "new", "persistent"), (None, 12, 16)))
    rows = list(csv.DictReader(io.StringIO(lesions_csv(found))))
    assert tuple(rows[0]) == LESION_COLUMNS
    assert rows[1]["within_error"] == ""
    assert rows[2]["within_error"] == "no"
    assert rows[2]["longest_axial_mm"].count(".") == 1
    table = lesion_table(found)
    assert [cells[:3] for cells in table] == [["1", "2", "new"], ["1", "3", "persistent"]]
    assert all(len(cells) == len(LESION_HEADER) for cells in table)
    assert lesions_csv(report()).splitlines() == [",".join(LESION_COLUMNS)]  # no lesion: the header alone


def test_undated_lesions_have_no_column_per_day():
    text = lesions_csv(lesion_report(lesion_course(("baseline",) * 3, (8, 8, 8)), days=(0, 1, 2), dated=False))
    header = text.splitlines()[0].replace("day,", "", 1)
    assert "sgr_low_per_visit" in header
    assert not any(unit in header for unit in ("day", "month", "year"))


# ---- JSON ----


def full_report(dated=True):
    """A report with something in every part."""
    days = (0, 100, 200) if dated else (0, 1, 2)
    one = lesion_course(("baseline", "persistent", "not covered"), (12, 16, None))
    event = {"visit": 3, "kind": "not covered", "lesions": (1,), "confidence": 0.5, "reason": "Out of view."}
    answer = {
        "visit": 1, "day": 0 if dated else None, "criterion": "recist-1.1", "category": "SD", "confirmed": None,
        "reason": "SD: as before", "missing": "", "sum_used": 12.0, "unit": "mm", "baseline_visit": 1,
        "nadir_visit": None, "change_from_baseline": None, "change_from_nadir": None,
    }  # fmt: skip
    ahead = {"method": "linear", "day": 300, "volume_mm3": 5000.0, "volume_low_mm3": 4000.0, "volume_high_mm3": 6000.0}
    return with_errors(
        (4000.0, 8000.0, 4000.0), days=days, dated=dated, lesions=(one,), events=(event,),
        responses={"recist-1.1": (answer,)}, forecasts=({**ahead, "note": ""},),
        provenance={"model": "masks given", "response": {"why": "as asked"}}, touches_edge=(True, False, False),
    )  # fmt: skip


@pytest.mark.parametrize("dated", [True, False])
def test_everything_goes_through_json_and_back(dated):
    before = full_report(dated)
    after = report_from_json(report_json(before))
    assert after == before
    assert lesions_csv(after) == lesions_csv(before)


SCHEMA = json.loads(Path(columns_module.__file__).with_name("report.schema.json").read_text())


@pytest.mark.parametrize("made", [full_report(), full_report(dated=False), report(), report((4000.0,), (0,))])
def test_the_published_schema_holds(made):
    jsonschema = pytest.importorskip("jsonschema", reason="comes with napari")
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(json.loads(report_json(made)), SCHEMA)


@pytest.mark.parametrize("dated", [True, False])
def test_the_schema_names_every_column(dated):
    made = full_report(dated)
    for part in ("visits", "lesions"):
        known = SCHEMA["$defs"][part]["properties"]
        assert set(getattr(made, part)[0]) <= set(known)
    assert set(SCHEMA["$defs"]["visits"]["properties"]) == {*COLUMNS, *UNDATED_NAMES.values()}
    assert set(SCHEMA["$defs"]["lesions"]["properties"]) == {*LESION_COLUMNS, *UNDATED_NAMES.values()}


def test_the_schema_refuses_a_row_that_lacks_its_volume():
    jsonschema = pytest.importorskip("jsonschema", reason="comes with napari")
    whole = json.loads(report_json(report()))
    del whole["visits"][0]["volume_mm3"]
    with pytest.raises(jsonschema.ValidationError, match="volume_mm3"):
        jsonschema.validate(whole, SCHEMA)


def test_a_response_is_told_with_its_reason_and_why_its_criterion():
    assert response_lines(full_report()) == ["SD: as before (visit 1)", "as asked"]
    assert response_lines(report()) == []


def test_json_holds_plain_values_and_null_for_what_is_not_a_number():
    provenance = {
        "array": np.array([1.0, np.nan]),
        "count": np.int64(3),
        "inf": math.inf,
        "file": Path("/home/someone/secret/mask.nii.gz"),
        "spacing": (1.0, 2.0),
    }
    whole = json.loads(report_json(report(provenance=provenance)), parse_constant=pytest.fail)
    kept = {k: v for k, v in whole["provenance"].items() if k != "summary"}
    assert kept == {
        "array": [1.0, None], "count": 3, "inf": None, "file": "mask.nii.gz", "spacing": [1.0, 2.0],
    }  # fmt: skip
    assert whole["visits"][0]["sgr_per_day"] is None
    assert whole["patient"] == "patient-1"


def test_json_goes_there_and_back():
    before = report(days=(0, 10, 20), touches_edge=[True, False, False], provenance={"model": "x"})
    after = report_from_json(report_json(before))
    assert after == before
    assert visits_csv(after) == visits_csv(before)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"visits": [1]}', "not json"])
def test_other_text_is_not_taken_for_a_report(text):
    with pytest.raises(InputError, match="not a report"):
        report_from_json(text)


@pytest.mark.parametrize(
    "changes",
    [
        {"days": (0, 1)},
        {"speeds": [None]},
        {"registrations": []},
        {"touches_edge": [True]},
        {"visit_warnings": [()]},
        {"volumes": (), "days": (), "speeds": []},
    ],
)
def test_lists_of_unequal_length_are_refused(changes):
    with pytest.raises(InputError, match="one value per visit"):
        report(**changes)
