"""report.html and index.html: what they say, what they leave out, and how Chromium shows them."""

import json
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from napari_convlstm_tumor import RESEARCH_USE
from napari_convlstm_tumor.analysis import Analysis
from napari_convlstm_tumor.measure.uncertainty import Interval
from napari_convlstm_tumor.report.html import index_html, patient_html
from napari_convlstm_tumor.report.tables import build_report
from napari_convlstm_tumor.report.tiles import _painted
from napari_convlstm_tumor.series import NO_DATES, Prediction, Registration
from napari_convlstm_tumor.volume import Grid, Volume

SHAPE = (48, 48, 30)
PATIENT = "Miller-1961 <b>"
MISSING = "The steroid dose is not known from the images."

# ---- a patient ----


def ball(centre, radius):
    index = np.indices(SHAPE)
    return sum((x - c) ** 2 for x, c in zip(index, centre, strict=True)) <= radius**2


def an_analysis(visits=3, dated=True, tumor=True):
    """Two balls on an image of noise, one growing and one still; 3 mm voxels."""
    noise = np.random.default_rng(0).normal(100, 10, (visits, *SHAPE)).astype(np.float32)
    lesions = np.zeros((visits, *SHAPE), np.uint16)
    if tumor:
        for t in range(visits):
            lesions[t][ball((16, 16, 15), 4 + t)] = 1
            lesions[t][ball((34, 30, 15), 3)] = 2
    masks = (lesions > 0).astype(np.uint8)
    grid = Grid(SHAPE, np.diag([3.0, 3.0, 3.0, 1.0]))
    growth = np.full(masks.shape, np.nan, np.float32)
    for t in range(1, visits):
        growth[t][masks[t] != masks[t - 1]] = 2.5
    days = tuple(range(0, 60 * visits, 60)) if dated else tuple(range(visits))
    registrations = tuple(Registration(np.eye(4), 1.0 - 0.4 * t, t < 2) for t in range(visits))
    volumes = [float(m.sum()) * 27 for m in masks]
    speeds = [None, *[Interval(1.5, 0.6, 2.4)] * (visits - 1)]
    return Analysis(
        patient=PATIENT,
        days=days,
        dated=dated,
        grid=grid,
        images={"t1c": noise + 60 * masks},
        masks=masks,
        growth=growth,
        prediction=Prediction(masks.astype(np.float32), days, grid, "growthnet-2 (sha256 0123456789ab)"),
        native_masks=tuple(Volume(m, grid) for m in masks),
        registrations=registrations,
        report=build_report(PATIENT, days, dated, volumes, speeds, registrations),
        lesions=lesions if tumor else None,
        provenance={
            "versions": {"python": "3.11.7", "numpy": "2.4"},
            "settings": {"masks": "use", "modality": [], "prompts": None},
            "device": "cpu",
            "precision": "float32",
            "timings_s": {"read": 1.234},
        },
    )


def lesion_rows(analysis):
    for t, day in enumerate(analysis.days):
        for lesion in (1, 2):
            ml = float((analysis.lesions[t] == lesion).sum()) * 27
            yield {
                "visit": t + 1, "day": day, "lesion": lesion, "tracking_uid": "1.2.3",
                "state": "new" if t == 0 else "persistent", "volume_mm3": ml, "volume_low_mm3": 0.8 * ml,
                "volume_high_mm3": 1.2 * ml, "longest_axial_mm": 24.04, "perpendicular_axial_mm": 21.5,
                "longest_axial_low_mm": 22.0, "longest_axial_high_mm": 26.2, "perpendicular_axial_low_mm": 19.5,
                "perpendicular_axial_high_mm": 23.7, "product_mm2": 516.0, "product_low_mm2": 430.0,
                "product_high_mm2": 620.0, "longest_3d_mm": 25.0, "match_confidence": 0.9,
                "warnings": ("Smaller than two slices.",) if lesion == 2 else (),
            }  # fmt: skip


GROWTH_ENDS = {
    "volume_change_low_percent": -36.04, "volume_change_high_percent": 114.6, "change_from_baseline_low_percent": -55.2,
    "change_from_baseline_high_percent": 216.1, "change_from_nadir_low_percent": -9.9,
    "change_from_nadir_high_percent": 194.5, "sgr_low_per_day": -0.0042, "sgr_high_per_day": 0.0133,
    "vdt_low_days": 52.0, "vdt_high_days": 367.0, "vde_low_mm_per_year": -41.6, "vde_high_mm_per_year": 131.7,
}  # fmt: skip


def a_full_analysis():
    """With everything that later rooms may add."""
    analysis = an_analysis()
    response = [
        {"visit": 1, "day": 0, "category": "baseline", "confirmed": None, "reason": "First visit.", "missing": ()},
        {"visit": 3, "day": 120, "category": "PD", "confirmed": False,
         "reason": "PD: volume +46 % against the nadir of day 0 (12.1 -> 17.7 mL)", "missing": (MISSING,)},
    ]  # fmt: skip
    visits = [
        {
            **r,
            "volume_low_mm3": 0.9 * r["volume_mm3"],
            "volume_high_mm3": 1.1 * r["volume_mm3"],
            **(GROWTH_ENDS if r["visit"] > 1 else {}),
        }
        for r in analysis.report.visits
    ]
    report = replace(
        analysis.report,
        visits=tuple(visits),
        warnings=("The images of two visits differ in slice thickness.",),
        lesions=tuple(lesion_rows(analysis)),
        events=(
            {"visit": 2, "kind": "new", "lesions": (2,), "confidence": 0.8, "reason": "Nothing was there before."},
        ),
        responses={"RANO 2.0": tuple(response)},
    )
    prediction = replace(
        analysis.prediction, forecast=ball((16, 16, 15), 7).astype(np.float32), forecast_day=180, forecast_note="Why."
    )
    return replace(analysis, report=report, prediction=prediction, reliable=analysis.growth > 3)


FORECASTS = (
    {"method": "network", "day": 180, "volume_mm3": 52000.0, "volume_low_mm3": 41000.0, "volume_high_mm3": 66000.0},
    {"method": "persistence", "day": 180, "volume_mm3": 30000.0},
)


@pytest.fixture(scope="module")
def full_page():
    analysis = a_full_analysis()
    return patient_html(analysis, forecasts=FORECASTS)


class Words(HTMLParser):
    """The text of a page, and the addresses it points at."""

    def __init__(self):
        super().__init__()
        self.words, self.addresses, self.tags, self.in_style = [], [], [], False

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.in_style = tag == "style"
        self.addresses += [v for k, v in attrs if k in ("src", "srcset", "href")]

    def handle_data(self, data):
        if not self.in_style:
            self.words += data.split()


def read(page):
    parser = Words()
    parser.feed(page)
    return parser


def text_of(page):
    return " ".join(read(page).words)


# ---- the page of a patient ----


@pytest.mark.parametrize(
    "said",
    [
        RESEARCH_USE,
        "3 visits over 120 days",
        "day 60",
        "Axial slice 16 of 30".lower(),
        "10.26 9.23–11.29",  # 257 + 123 voxels of 27 mm3
        "Lesion 2 Visits 1, 2, 3: Smaller than two slices.",
        "24.0 × 21.5 22.0–26.2 × 19.5–23.7",
        "516 430–620 25.0",
        "−36.0 to +114.6",  # change since the visit before
        "−55.2 to +216.1",  # since the baseline
        "−9.9 to +194.5",  # since the nadir
        "−0.42 to +1.33",  # growth rate
        "+52 to +367",  # doubling time
        "−41.6 to +131.7",  # diameter
        "The images of two visits differ in slice thickness.",
        "Visit 2: new , lesion 2 – Nothing was there before. (confidence 0.80)",
        "PD: volume +46 % against the nadir of day 0 (12.1 -> 17.7 mL)",
        "RANO 2.0: not known from the images " + MISSING,
        "Registration: below threshold (0.20)",
        "Forecast for day 180 52.00 mL network, band 41.00 to 66.00 mL",
        "persistence",
        "within measurement error",
        "growthnet-2 (sha256 0123456789ab)",
        "python 3.11.7, numpy 2.4",
        "cpu, network in float32",
        "read 1.2",
    ],
)
def test_a_full_page_says(full_page, said):
    assert said in text_of(full_page)


def test_an_earlier_progression_stands_in_the_headline(full_page):
    assert "first PD" not in text_of(full_page)  # the last visit is the first
    analysis = a_full_analysis()
    rows = [{"visit": n, "day": 60 * (n - 1), "category": c} for n, c in enumerate(("baseline", "PD", "SD"), start=1)]
    report = replace(analysis.report, responses={"RANO 2.0": tuple(rows)})
    assert "RANO 2.0 SD first PD: visit 2, day 60" in text_of(patient_html(replace(analysis, report=report)))


@pytest.mark.parametrize(
    ("confirmed", "first"), [(True, "first PD: visit 2, day 60"), (False, "first PD: visit 3, day 120")]
)
def test_progression_counts_from_a_preliminary_one_that_was_confirmed(confirmed, first):
    analysis = a_full_analysis()
    found = (("baseline", None), ("preliminary PD", confirmed), ("PD", None), ("SD", None))
    rows = [
        {"visit": n, "day": 60 * (n - 1), "category": c, "confirmed": sure}
        for n, (c, sure) in enumerate(found, start=1)
    ]
    page = patient_html(replace(analysis, report=replace(analysis.report, responses={"RECIST 1.1": tuple(rows)})))
    assert f"RECIST 1.1 SD {first}" in text_of(page)


def test_what_no_image_tells_is_said_once():
    analysis = a_full_analysis()
    rows = [
        {"visit": 1, "category": "baseline", "missing": "dose at the baseline; clinical state"},
        {"visit": 2, "category": "SD", "missing": "dose on this visit; dose at the baseline; clinical state"},
    ]
    page = patient_html(replace(analysis, report=replace(analysis.report, responses={"RANO 2.0": tuple(rows)})))
    for words in ("dose at the baseline", "clinical state", "dose on this visit"):
        assert page.count(f"<li>{words}</li>") == 1


def test_the_change_in_the_headline_has_its_interval():
    analysis = a_full_analysis()
    known = {**analysis.report.provenance["summary"], "volume_change_percent": 46.2,
             "volume_change_low_percent": -3.0, "volume_change_high_percent": 96.4}  # fmt: skip
    report = replace(analysis.report, provenance={**analysis.report.provenance, "summary": known})
    assert "+46 %, 95 % interval −3 to +96 %" in text_of(patient_html(replace(analysis, report=report)))


@pytest.mark.parametrize(
    ("low", "high", "same", "said"),
    [
        (-0.002, 0.001, True, "within measurement error"),
        (-0.002, 0.001, False, "no steady trend"),  # three visits, and the change is more than the error
        (0.001, 0.002, False, "doubling in 50 days"),
        (None, None, None, "without an interval"),
    ],
)
def test_what_the_headline_makes_of_a_growth_rate(low, high, same, said):
    analysis = a_full_analysis()
    known = {**analysis.report.provenance["summary"], "within_error": same,
             "sgr_per_day": {"value": -0.001, "low": low, "high": high},
             "vdt_days": {"value": 50.0, "low": 40.0, "high": 60.0}}  # fmt: skip
    report = replace(analysis.report, provenance={**analysis.report.provenance, "summary": known})
    page = text_of(patient_html(replace(analysis, report=report)))
    assert said in page[: page.index("Visits T1")]


def test_bars_are_explained_when_only_later_volumes_have_them():
    analysis = a_full_analysis()
    visits = [{**row, **({"volume_low_mm3": None} if row["visit"] == 1 else {})} for row in analysis.report.visits]
    page = patient_html(replace(analysis, report=replace(analysis.report, visits=tuple(visits))))
    assert "Bars: 95 % interval of a volume." in text_of(page)


def test_a_forecast_that_was_not_made_says_why():
    why = "No gompertz forecast: it needs 3 visits."
    rows = (*FORECASTS, {"method": "gompertz", "day": 180, "volume_mm3": None, "note": why})
    assert why in text_of(patient_html(a_full_analysis(), forecasts=rows))


def test_a_forecast_without_a_band_says_why():
    rows = (FORECASTS[0], {**FORECASTS[1], "note": "No band: its error was not measured."})
    assert "persistence No band: its error was not measured." in text_of(
        patient_html(a_full_analysis(), forecasts=rows)
    )


def test_every_front_speed_is_called_a_median(full_page):
    """The forecast's sentence has the mean and says so (tests/steps/test_forecasting): two numbers for one name."""
    page = text_of(full_page)
    assert "Front speed, median" in page
    assert page.count("median +1.50 mm/month") == 2  # below the two maps
    assert page.count("+0.60 to +2.40") == 2 + 2  # its interval, there and in the table of growth
    labels = full_page.count('data-label="Front speed')
    assert full_page.count('data-label="Front speed, median"') == labels == 3 + 6  # visits, and lesions at visits


def test_the_page_is_alone_and_has_no_script(full_page):
    parser = read(full_page)
    assert parser.addresses and all(a.startswith(("data:", "#")) for a in parser.addresses)
    assert "script" not in parser.tags
    assert parser.tags.count("img") == 3 + 2 + 1 + 1  # visits, growth between them, colour bar, curve
    assert "default-src 'none'" in full_page


def test_the_patient_is_named_only_on_request(full_page):
    assert "Miller" not in full_page
    named = patient_html(a_full_analysis(), show_patient=True)
    assert "Miller-1961 &lt;b&gt;" in named and PATIENT not in named


def test_the_same_analysis_makes_the_same_page():
    assert patient_html(a_full_analysis()) == patient_html(a_full_analysis())


def test_the_own_forecast_is_a_ratio_of_voxels_on_the_last_volume():
    analysis = a_full_analysis()
    last, forecast = analysis.masks[-1].sum(), (analysis.prediction.forecast >= 0.5).sum()
    ml = analysis.report.visits[-1]["volume_mm3"] * forecast / last / 1000
    assert f"Forecast for day 180 {ml:.2f} mL without a band of its error" in text_of(patient_html(analysis))


# ---- maps on request ----


def with_rates(analysis):
    """Log-growth on the tumor, half of it reliable; log-Jacobian in the whole image, reliable at one voxel far away."""
    log_growth = np.where(analysis.masks > 0, np.float32(0.2), np.float32(np.nan))
    half = np.arange(SHAPE[2]) < 15
    jacobian, sure = np.full(analysis.masks.shape, 0.4, np.float32), np.zeros(analysis.masks.shape, bool)
    log_growth[0] = jacobian[0] = np.nan
    sure[1:, 24, 24, 15] = True
    return replace(
        analysis, log_growth=log_growth, log_growth_reliable=(analysis.masks > 0) & half,
        log_jacobian=jacobian, log_jacobian_reliable=sure,
    )  # fmt: skip


def test_maps_are_shown_when_they_were_asked_for():
    page = patient_html(with_rates(an_analysis()))
    assert read(page).tags.count("img") == 3 + 3 * (2 + 1) + 1  # visits; tiles and colour bar of each map; curve
    text = text_of(page)
    for said in (
        "Log-growth map",
        "Log-Jacobian map",
        "+10.5 % a month",
        "averages over about 12 mm",
        "pulled towards",
    ):
        assert said in text
    analysis = with_rates(an_analysis())
    for t in (1, 2):
        share = (analysis.log_growth_reliable[t].sum()) / analysis.masks[t].sum()
        assert f"reliable in {100 * share:.0f} % of the tumor" in text
    assert text.count("reliable in 0 % of the tumor") == 2
    asked_for = patient_html(an_analysis())
    assert "Log-growth" not in asked_for and "Log-Jacobian" not in asked_for


def test_rates_without_dates_are_per_visit():
    text = text_of(patient_html(with_rates(an_analysis(dated=False))))
    assert text.count("+10.5 % a visit") == 2 and "a month" not in text


def test_an_unreliable_log_jacobian_is_grey_in_the_tumor_and_clear_outside():
    analysis = with_rates(an_analysis())
    painted = np.isfinite(_painted(analysis, analysis.change_maps[2])[1])
    either = (analysis.masks[0] | analysis.masks[1]) > 0
    assert np.array_equal(painted, either | analysis.log_jacobian_reliable[1])
    assert painted.sum() == either.sum() + 1


@pytest.mark.parametrize(
    ("made", "said", "not_said"),
    [
        ({"visits": 1}, "1 visit.", ("Growth map", "Registration quality", "Forecast for")),
        ({"tumor": False}, "no tumor in the mask", ("Lesions", "Events", "Response")),
        ({"dated": False}, NO_DATES, ("/day", "mm/month", "day 0", "mm/year")),
        ({"dated": False}, "mm/visit", ("None", "nan")),
        ({}, "below threshold", ("Lesions", "Events", "Response", "Forecast for", "None", "nan")),
    ],
)
def test_what_is_not_there_is_left_out(made, said, not_said):
    text = text_of(patient_html(an_analysis(**made)))
    assert said in text
    for words in not_said:
        assert not re.search(rf"\b{words}\b" if words[0].isalpha() else words, text), words


def test_an_image_that_a_visit_lacks_is_said_to_be_missing():
    analysis = an_analysis()
    images = analysis.images["t1c"].copy()
    images[1] = 0
    page = patient_html(replace(analysis, images={"t1c": images}))
    assert "not shown: no T1 with contrast at this visit" in text_of(page)


def test_the_modality_of_most_visits_is_shown():
    analysis = an_analysis()
    partly = analysis.images["t1c"].copy()
    partly[2] = 0
    page = patient_html(replace(analysis, images={"t1c": partly, "t1": analysis.images["t1c"]}))
    assert "T1, axial slice" in text_of(page)


# ---- the page of a batch ----

ROWS = (
    {"patient": "calm", "status": "done", "visits": 3, "days": 100, "volume_first_mm3": 1119.4,
     "volume_last_mm3": 8420.6, "volume_change_percent": 652.26, "sgr_per_day": 0.0199,
     "lowest_registration_quality": 0.97, "warnings": "", "error": ""},
    {"patient": "shaky", "status": "done", "visits": "2", "days": "", "volume_first_mm3": "90",
     "volume_last_mm3": "0.0", "volume_change_percent": "-100", "sgr_per_day": "",
     "lowest_registration_quality": "0.31", "warnings": "Registration is poor.", "error": "", "response": "PD"},
    {"patient": "a b/../<x>", "status": "failed", "visits": None, "warnings": None, "error": "No images found."},
)  # fmt: skip


WIDE_ROWS = (*ROWS, {**ROWS[1], "patient": "a" * 80, "warnings": "A file was left out: " + "b" * 90 + ".nii.gz."})


def test_problem_patients_come_first():
    text = text_of(index_html(ROWS))
    places = [text.index(name) for name in ("a b/../<x>", "shaky", "calm")]
    assert places == sorted(places)
    assert "2 done, 1 of them with cautions, 1 failed ." in text
    assert "No images found." in text and "Registration is poor." in text


def test_numbers_of_a_batch_from_values_and_from_csv():
    text = text_of(index_html(ROWS))
    assert "1.12 → 8.42 +652 % +1.99 %/day" in text
    assert "0.090 → 0.00 −100 % – PD 0.31" in text


def test_links_are_relative_and_only_to_reports_that_exist():
    assert [a for a in read(index_html(ROWS)).addresses if a != "data:,"] == [
        "./shaky/report.html",
        "./calm/report.html",
    ]
    odd = index_html([{**ROWS[0], "patient": "javascript:x y"}])
    assert "./javascript%3Ax%20y/report.html" in read(odd).addresses


def test_an_empty_batch_has_a_page():
    assert "Tumor growth, 0 patients" in text_of(index_html([]))


# ---- as a browser shows it ----

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--remote-debugging-pipe",
)
# What the page itself can tell: pictures that did not load, and how far it is wider than the window.
PICTURES = "[...document.images].map(i => i.naturalWidth)"
TOO_WIDE = "document.documentElement.scrollWidth - window.innerWidth"
# Words broken letter by letter make narrow cells.
NARROWEST_CELL = "Math.min(...[...document.querySelectorAll('td,th')].map(e => e.offsetWidth || 1000))"
SMALLEST_LETTERS = (
    "Math.min(...[...document.querySelectorAll('p,td,th,dd,dt,li,figcaption,span')]"
    ".map(e => parseFloat(getComputedStyle(e).fontSize)))"
)


class Chromium:
    """Speaks the DevTools protocol through file descriptors 3 (to it) and 4 (from it): no package, no port."""

    def __init__(self, path):
        self.profile = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        read_end, self.to = os.pipe()
        self.come, write_end = os.pipe()
        shell = f'exec "$0" "$@" 3<&{read_end} 4>&{write_end}'
        self.process = subprocess.Popen(
            ["bash", "-c", shell, path, *FLAGS, f"--user-data-dir={self.profile.name}", "about:blank"],
            pass_fds=(read_end, write_end),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read_end)
        os.close(write_end)
        self.number, self.rest, self.session, self.events = 0, b"", None, []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self.number:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def _next(self):
        while b"\0" not in self.rest:
            chunk = os.read(self.come, 1 << 20)
            assert chunk, "Chromium ended"
            self.rest += chunk
        message, self.rest = self.rest.split(b"\0", 1)
        return json.loads(message)

    def open(self, page, width):
        """Load a file in a window of this width; what was complained about and asked of the network meanwhile."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 700
        )
        self.events = []
        self.call("Page.navigate", url=page.as_uri())
        while not any(e["method"] == "Page.loadEventFired" for e in self.events):
            self.events.append(self._next())
        bad = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
        complaints = [e["params"] for e in self.events if e["method"] in bad]
        asked = [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]
        return complaints, [url for url in asked if not url.startswith("data:") and url != page.as_uri()]

    def tell(self, script):
        return self.call("Runtime.evaluate", expression=script, returnByValue=True)["result"]["value"]

    def close(self):
        os.close(self.to)
        self.process.terminate()
        self.process.wait(20)
        os.close(self.come)
        self.profile.cleanup()


@pytest.fixture(scope="module")
def chromium():
    path = next((p for name in CHROMIUM_NAMES if (p := shutil.which(name))), None)
    if path is None:
        pytest.skip("needs Chromium (Debian: apt-get install chromium)")
    browser = Chromium(path)
    yield browser
    browser.close()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("kind", ["patient", "index"])
def test_chromium_shows_it(chromium, full_page, tmp_path, kind, width):
    page = Path(tmp_path, "page.html")
    page.write_text(full_page if kind == "patient" else index_html(WIDE_ROWS), encoding="utf-8")
    complaints, asked = chromium.open(page, width)
    assert (complaints, asked) == ([], [])
    pictures = chromium.tell(PICTURES)
    assert len(pictures) == (7 if kind == "patient" else 0) and all(size > 0 for size in pictures)
    assert chromium.tell(TOO_WIDE) <= 0
    assert chromium.tell(SMALLEST_LETTERS) >= 11
    assert chromium.tell(NARROWEST_CELL) >= 40


@pytest.mark.timeout(120)
def test_the_browser_test_can_fail(chromium, tmp_path):
    page = tmp_path / "bad.html"
    page.write_text('<img src="file:///none.png"><div style="width:3000px">x</div><script>nothing()</script>')
    complaints, asked = chromium.open(page, 390)
    assert complaints and asked == ["file:///none.png"]
    assert chromium.tell(PICTURES) == [0] and chromium.tell(TOO_WIDE) > 0
