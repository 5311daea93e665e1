"""The strip, the curve's chart and the table of visits found: what needs no viewer, or only Qt."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt

from napari_convlstm_tumor._napari import found
from napari_convlstm_tumor._napari.chart import chart_of
from napari_convlstm_tumor._napari.curve import GrowthCurve
from napari_convlstm_tumor._napari.linked import crosshair_lines
from napari_convlstm_tumor._napari.strip import VisitStrip, marks_of, picture, spread
from napari_convlstm_tumor.io.discover import find_patient
from napari_convlstm_tumor.series import PatientFiles, VisitFiles


@pytest.mark.parametrize(
    ("wished", "places"),
    [
        pytest.param([10, 60, 200], [10, 60, 200], id="far enough apart: where they are"),
        pytest.param([10, 12, 14], [10, 30, 50], id="too near: pushed to the right"),
        pytest.param([180, 190, 200], [160, 180, 200], id="too near at the end: pushed back"),
        pytest.param([100], [100], id="one"),
    ],
)
def test_pictures_do_not_overlap(wished, places):
    assert spread(wished, 20, 10, 200) == places


def test_marks_of_visits(analysis):
    marks = marks_of(analysis)
    assert [mark.title for mark in marks] == ["day 0", "day 41", "day 97"]
    assert [mark.registration for mark in marks] == ["reference", "aligned 0.97", "aligned 0.47"]
    assert [mark.good for mark in marks] == [True, True, False]
    assert marks[-1].share == 1.0
    assert marks[0].share == pytest.approx((5 / 10) ** 3, rel=0.2)
    undated = marks_of(dataclasses.replace(analysis, dated=False, days=(0, 1, 2)))
    assert undated[1].title == "visit 2"


def test_picture_shows_the_edge_in_the_lesions_colour():
    mask = np.zeros((40, 40), bool)
    mask[10:30, 10:30] = True
    shown = picture(np.ones((40, 40), np.float32), mask, (1.0, 2.0), is_ct=False)
    assert shown.shape == (42, 84, 3)  # twice as wide as high, as in the body
    coloured = (shown != shown[0, 0]).any(axis=-1)
    assert coloured.any() and not coloured[21, 42]


def test_strip_is_true_to_the_days_and_clickable(qtbot, analysis):
    picked = []
    strip = VisitStrip(picked.append)
    qtbot.addWidget(strip)
    strip.resize(900, 150)
    strip.show_analysis(analysis)
    first, middle, last = (strip.day_x(n) for n in range(3))
    assert (middle - first) / (last - first) == pytest.approx(41 / 97)
    qtbot.mouseClick(strip, Qt.MouseButton.LeftButton, pos=QPoint(round(strip.picture_x()[1]), 40))
    strip.mark(1)
    qtbot.keyClick(strip, Qt.Key.Key_BracketRight)
    qtbot.keyClick(strip, Qt.Key.Key_Left)
    assert picked == [1, 2, 0]
    assert "aligned 0.47" in strip.accessibleDescription()


def test_strip_picture_is_as_it_should_be(qtbot, analysis):
    """A picture test with tolerance: bars as high as the volumes, the chosen visit framed in white."""
    strip = VisitStrip(lambda visit: None)
    qtbot.addWidget(strip)
    strip.resize(900, 150)
    strip.show_analysis(analysis)
    strip.mark(2)
    image = strip.grab().toImage().convertToFormat(strip.grab().toImage().Format.Format_RGB888)
    data = np.frombuffer(image.constBits().asstring(image.sizeInBytes()), np.uint8)
    pixels = data.reshape(image.height(), image.bytesPerLine())[:, : 3 * image.width()].reshape(image.height(), -1, 3)
    blue = np.abs(pixels.astype(int) - (0x56, 0xB4, 0xE9)).max(axis=-1) < 12
    heights = [blue[:, int(x) - 60 : int(x) + 60].any(axis=1).sum() for x in strip.picture_x()]
    expected = [84 * mark.share for mark in marks_of(analysis)]
    np.testing.assert_allclose(heights, expected, atol=3)


def test_chart_points_are_the_rows(analysis):
    chart = chart_of(analysis.report)
    assert chart.times == [0.0, 41.0, 97.0]
    rows = [row["volume_mm3"] / 1000 for row in analysis.report.visits]
    assert [(x, v, n) for x, _, v, n in chart.places] == [(0.0, 0, None), (41.0, 1, None), (97.0, 2, None)]
    np.testing.assert_allclose([ml for _, ml, _, _ in chart.places], rows)


def test_curve_picture_is_as_it_should_be(qtbot, analysis):
    """A picture test with tolerance: every volume is a light point at its day, the visit on show a dotted line."""
    curve = GrowthCurve(lambda visit, lesion: None)
    qtbot.addWidget(curve)
    curve.resize(460, 300)
    curve.show_report(analysis.report, 1)
    curve.canvas.draw()
    pixels = np.asarray(curve.canvas.buffer_rgba())[::-1, :, :3].astype(int)  # from the lower left, as matplotlib
    light = pixels.min(axis=-1) > 200
    for visit in range(3):
        x, y = (round(place) for place in curve.place_of(visit))
        assert light[y - 1 : y + 2, x - 1 : x + 2].all()
    left, marked = (round(curve.place_of(visit)[0]) for visit in range(2))
    low, high = curve.canvas.figure.axes[0].bbox.extents[[1, 3]].astype(int)
    dotted = light[low:high, marked - 1 : marked + 2].any(axis=1).mean()
    between = light[low:high, (left + marked) // 2].mean()
    assert dotted > 0.2 > between
    assert (pixels.max(axis=-1) < 90).mean() > 0.5  # dark paper, as napari's


def test_one_visit_is_no_curve(analysis_of):
    assert chart_of(analysis_of(days=(0,), forecast=False).report) is None


def test_crosshair_stays_inside_what_is_shown():
    lines = crosshair_lines((5, 6, 7), [(0, 0, 0), (10, 20, 30)])
    ends = np.concatenate([lines[:, 0], lines.sum(axis=1)])
    np.testing.assert_array_equal(ends.min(axis=0), (0, 0, 0))
    np.testing.assert_array_equal(ends.max(axis=0), (10, 20, 30))
    np.testing.assert_array_equal(lines[2], [(5, 6, 0), (0, 0, 30)])


def test_images_of_a_visit_are_told_apart():
    """DICOM series are named by their folder, and every series' folder may be called "image"."""
    series = {"ct": tuple(Path("P/CT/image") / f"{n}.dcm" for n in range(3)), "t1": (Path("P/MR/image/1.dcm"),) * 2}
    files = PatientFiles("P", (VisitFiles("1", series, day=0),))
    assert [row.name for row in found.rows_of(files)] == ["CT/image", "MR/image"]
    files = PatientFiles("P", (VisitFiles("1", {"ct": series["ct"], "t1": (Path("P/MR/t1.nii.gz"),)}, day=0),))
    assert [row.name for row in found.rows_of(files)] == ["image", "t1.nii.gz"]


def test_corrections_travel_as_a_manifest(patient, tmp_path):
    files = find_patient(patient)
    rows = list(found.rows_of(files))
    assert [(row.visit, row.day, row.modality, row.size) for row in rows] == [
        (n, day, "t1c", "40 x 48 x 16") for n, day in enumerate((0, 41, 97))
    ]
    rows[1] = dataclasses.replace(rows[1], day=50, modality="flair")
    path = tmp_path / "manifest.csv"
    path.write_text(found.manifest_text(rows, files.patient), encoding="utf-8")
    corrected = find_patient(path)
    assert corrected.patient == "HAND-01"
    assert corrected.days == (0, 50, 97)
    assert [tuple(visit.images) for visit in corrected.visits] == [("t1c",), ("flair",), ("t1c",)]
