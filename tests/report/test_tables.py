"""Rows, CSV, JSON and terminal table against numbers worked out by hand."""

import csv
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest

from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.report.tables import (
    TABLE_HEADER,
    build_report,
    report_from_json,
    report_json,
    summary,
    visit_table,
    visits_csv,
)
from napari_convlstm_tumor.series import NO_DATES, ONE_VISIT, Registration

DATED_HEADER = (
    "visit,day,volume_mm3,volume_change_percent,sgr_per_day,vdt_days,vde_mm_per_year,"
    "front_speed_mm_per_month,registration_quality,warnings"
)
UNDATED_HEADER = (
    "visit,day,volume_mm3,volume_change_percent,sgr_per_visit,vdt_visits,vde_mm_per_visit,"
    "front_speed_mm_per_visit,registration_quality,warnings"
)


def registration(quality=1.0, good=True, note=""):
    return Registration(np.eye(4), quality, good, note)


def report(volumes=(4000.0, 8000.0, 4000.0), days=(0, 100, 200), dated=True, speeds=None, **extra):
    count = len(volumes)
    speeds = [None] + [1.25] * (count - 1) if speeds is None else speeds
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
        "1,0,4000.0,,,,,,1.000,",
        "2,100,8000.0,100.00,0.0069315,100.0,18.987,1.250,0.900,",
        "3,200,4000.0,-50.00,-0.0069315,-100.0,-18.987,1.250,0.912,",
    ]
    assert lines.endswith("\n")


def test_an_undated_patient_has_growth_per_visit_and_no_day():
    undated = report((4000.0, 8000.0), (0, 1), dated=False)
    assert visits_csv(undated).splitlines() == [
        UNDATED_HEADER,
        "1,,4000.0,,,,,,1.000,",
        "2,,8000.0,100.00,0.6931472,1.0,5.198,1.250,1.000,",
    ]
    assert undated.warnings == (NO_DATES,)
    assert visit_table(undated)[1] == [
        "2", "–", "8.00", "+100.0", "+69.31 %/visit (doubling in 1.0 visits)", "+1.25 mm/visit",
    ]  # fmt: skip
    names = [name for name in undated.visits[0] if name != "day"]
    assert not any(unit in name for name in names for unit in ("day", "month", "year"))


def test_table_for_the_terminal():
    rows = visit_table(report((4000.0, 8000.0, 8000.0, 0.0), (0, 100, 200, 300), speeds=[None, 1.25, 0.001, None]))
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
    assert visits_csv(single).splitlines()[1] == "1,0,4000.0,,,,,,,"
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
        (2, {"speeds": [None, math.nan, 1.0]}, "No front speed"),
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
    back = report((4000.0, 0.0, 4000.0), speeds=[None, math.nan, None])
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


def test_summary_of_exactly_exponential_growth():
    found = summary((0, 50, 100), True, [1000.0, 1000 * math.sqrt(2), 2000.0])
    assert found["visits"] == 3
    assert found["days"] == 100
    assert found["volume_change_percent"] == pytest.approx(100)
    assert found["sgr_per_day"]["value"] == pytest.approx(math.log(2) / 100)
    assert found["sgr_per_day"]["standard_error"] == pytest.approx(0, abs=1e-12)
    assert found["vdt_days"] == pytest.approx({"value": 100, "low": 100, "high": 100})


def test_doubling_time_has_no_interval_when_the_rate_may_be_zero():
    found = summary((0, 50, 100), True, [1000.0, 3000.0, 2000.0])
    assert found["sgr_per_day"]["low"] < 0 < found["sgr_per_day"]["high"]
    assert found["vdt_days"] == {"value": pytest.approx(100), "low": None, "high": None}


def test_doubling_time_interval_is_the_inverse_of_that_of_the_rate():
    found = summary((0, 50, 100, 150), True, [1000.0, 2000.0, 4100.0, 8000.0])
    rate, time = found["sgr_per_day"], found["vdt_days"]
    assert 0 < time["low"] < time["value"] < time["high"]
    assert time["low"] == pytest.approx(math.log(2) / rate["high"])


def test_summary_of_two_visits_has_values_without_intervals():
    found = summary((0, 1), False, [1000.0, 2000.0])
    assert found["sgr_per_visit"] == {
        "value": pytest.approx(math.log(2)), "standard_error": None, "low": None, "high": None,
    }  # fmt: skip
    assert found["days"] is None
    assert set(found) == {
        "visits", "days", "volume_change_percent", "sgr_per_visit", "vdt_visits", "vde_mm_per_visit",
    }  # fmt: skip


# ---- JSON ----


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
