"""Steps 1 to 4 as a person clicks through them."""

import dataclasses
import time

import numpy as np
import pytest
from qtpy.QtCore import QMimeData, QPoint, QPointF, Qt, QTimer, QUrl
from qtpy.QtGui import QDropEvent
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QAbstractSpinBox,
    QComboBox,
    QLineEdit,
    QProgressBar,
    QTabBar,
    QTabWidget,
)

from napari_convlstm_tumor import pipeline
from napari_convlstm_tumor.settings import Settings

WAIT_MS = 60_000
# How long the window may stand still while the pipeline works.
LONGEST_GAP_S = 0.2
TICK_MS = 10


@pytest.fixture
def opened(make_napari_viewer, bright_voxels):
    from napari_convlstm_tumor._napari.widget import TumorGrowthWidget

    viewer = make_napari_viewer()
    widget = TumorGrowthWidget(viewer)
    viewer.window.add_dock_widget(widget)
    widget.segmenter = bright_voxels()
    widget.form.set(Settings(register=False))
    return viewer, widget


@pytest.fixture
def shown(opened, analysis):
    """A result with two lesions' worth of rows, measured for real."""
    viewer, widget = opened
    lesions = np.where(analysis.masks > 0, 1, 0).astype(np.uint16)
    reliable = np.isfinite(analysis.growth) & (analysis.growth > 0)
    report = dataclasses.replace(
        analysis.report,
        lesions=tuple(_lesion_row(t, row["volume_mm3"]) for t, row in enumerate(analysis.report.visits)),
    )
    whole = dataclasses.replace(analysis, lesions=lesions, reliable=reliable, report=report)
    widget.show_analysis(whole)
    return viewer, widget


def _lesion_row(t, volume):
    numbers = dict.fromkeys(("longest_axial_mm", "perpendicular_axial_mm"), 10.0 + t)
    changes = dict.fromkeys(("change_from_baseline_percent", "change_from_nadir_percent"))
    state = "persistent" if t else "baseline"
    return {"visit": t + 1, "day": (0, 41, 97)[t], "lesion": 1, "state": state, "volume_mm3": volume,
            **numbers, **changes, "warnings": ()}  # fmt: skip


def look(qtbot, widget, place):
    widget.opening.open(place)
    qtbot.waitUntil(lambda: widget.opening.found is not None or not widget.opening.problems.isHidden(), timeout=WAIT_MS)


def press(viewer, key):
    """What napari does for a key pressed over the canvas."""
    from napari.utils.key_bindings import coerce_keybinding

    viewer.keymap[coerce_keybinding(key)](viewer)


# ---- 1 open ----


def test_visits_found_stand_in_a_table(qtbot, opened, patient):
    _, widget = opened
    look(qtbot, widget, patient)
    table = widget.opening.table
    cells = [[table.item(n, c).text() for c in (0, 1, 3, 4)] for n in range(table.rowCount())]
    assert cells == [[str(n + 1), day, "40 x 48 x 16", "t1c.nii.gz"] for n, day in enumerate(("0", "41", "97"))]
    assert isinstance(table.cellWidget(0, 2), QComboBox) and table.cellWidget(0, 2).currentText() == "t1c"
    assert "3 visits, dated" in widget.status.text()


def test_a_corrected_day_and_reference_reach_the_pipeline(qtbot, opened, patient):
    _, widget = opened
    look(qtbot, widget, patient)
    widget.opening.table.item(1, 1).setText("60")
    widget.opening.reference.setCurrentIndex(2)
    widget.opening.reference.activated.emit(2)
    qtbot.mouseClick(widget.running.run_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: widget.job is None, timeout=WAIT_MS)
    aligned, _, settings = widget.segmenter.seen[0]
    assert aligned.days == (0, 60, 97)
    assert settings.reference == 3
    assert widget.analysis.patient == "HAND-01"


def test_a_click_on_images_shown_with_a_corrected_day_is_for_the_run(qtbot, opened, patient):
    _, widget = opened
    look(qtbot, widget, patient)
    widget.opening.table.item(1, 1).setText("60")
    qtbot.mouseClick(widget.opening.show_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: widget.job is None, timeout=WAIT_MS)
    widget.running.click_button.click()
    widget.running.points().add((1, 8, 24, 20))
    widget.run()
    qtbot.waitUntil(lambda: widget.job is None, timeout=WAIT_MS)
    aligned, prompts, _ = widget.segmenter.seen[0]
    assert aligned.days == (0, 60, 97) and [prompt.visit for prompt in prompts] == [2]


def test_a_day_that_is_no_number_is_refused_in_words(qtbot, opened, patient):
    _, widget = opened
    look(qtbot, widget, patient)
    widget.opening.table.item(1, 1).setText("spring")
    widget.run()
    assert "The day of visit 2 is a whole number, got 'spring'" in widget.status.text()
    assert widget.job is None


def test_drop_and_show_images(qtbot, opened, patient):
    viewer, widget = opened
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(patient))])
    nothing = Qt.KeyboardModifier.NoModifier
    event = QDropEvent(QPointF(5, 5), Qt.DropAction.CopyAction, mime, Qt.MouseButton.LeftButton, nothing)
    widget.opening.dropEvent(event)
    qtbot.waitUntil(lambda: widget.opening.found is not None, timeout=WAIT_MS)
    qtbot.mouseClick(widget.opening.show_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: widget.job is None, timeout=WAIT_MS)
    assert [layer.name for layer in viewer.layers] == ["t1c (not registered)"]


def test_an_empty_folder_says_what_is_wrong(qtbot, opened, tmp_path):
    _, widget = opened
    (tmp_path / "empty").mkdir()
    look(qtbot, widget, tmp_path / "empty")
    assert "No image in 'empty'" in widget.opening.problems.text()


def test_a_result_opened_by_file_open_is_whole(opened, analysis, tmp_path):
    viewer, widget = opened
    pipeline.save(analysis, tmp_path / "HAND-01")
    viewer.open(str(tmp_path / "HAND-01"), plugin="napari-convlstm-tumor")
    assert widget.analysis is not None and widget.save_button.isEnabled()
    assert len(widget.strip.marks) == 3


# ---- 2 run ----


class Ear:
    """Listens to the event loop: wall seconds between two turns, and those the window's own thread computed."""

    def __init__(self):
        self.waited, self.computed = [], []
        self._last = (time.perf_counter(), time.thread_time())
        self._timer = QTimer()
        self._timer.timeout.connect(self._tick)
        self._timer.start(TICK_MS)

    def stop(self, event=None):
        self._timer.stop()

    def _tick(self):
        now = (time.perf_counter(), time.thread_time())
        self.waited.append(now[0] - self._last[0])
        self.computed.append(now[1] - self._last[1])
        self._last = now


def test_window_never_stands_still_while_the_pipeline_runs(qtbot, opened, patient, bright_voxels):
    """Whatever else the machine does: what the window's thread computes in one turn is never 0.2 s; nearly all turns
    come within that time, too. Until the first layer of the result: how long one takes is napari's to say."""
    viewer, widget = opened
    widget.segmenter = bright_voxels(pause_s=0.1)
    widget.folder.setText(str(patient))
    ear = Ear()
    viewer.layers.events.inserting.connect(ear.stop)
    widget.run()
    qtbot.waitUntil(lambda: widget.job is None, timeout=WAIT_MS)
    assert widget.analysis is not None and len(ear.computed) > 50
    assert max(ear.computed) < LONGEST_GAP_S
    assert np.percentile(ear.waited, 90) < LONGEST_GAP_S


def test_cancel_is_at_once(qtbot, opened, patient, bright_voxels):
    _, widget = opened
    widget.segmenter = bright_voxels(pause_s=0.1)
    widget.folder.setText(str(patient))
    widget.run()
    qtbot.waitUntil(lambda: bool(widget.segmenter.seen), timeout=WAIT_MS)
    begun = time.perf_counter()
    job = widget.job
    qtbot.mouseClick(widget.running.run_button, Qt.MouseButton.LeftButton)
    assert widget.job is None and widget.status.text() == "Cancelled."
    assert time.perf_counter() - begun < 2.0
    qtbot.waitUntil(lambda: not job.is_running, timeout=WAIT_MS)
    assert widget.analysis is None  # what came late was thrown away


# ---- 3 read ----


def test_brackets_and_strip_step_through_the_visits(qtbot, shown):
    viewer, widget = shown
    assert widget.visit == 2
    seen = []
    widget.visit_changed.connect(seen.append)
    press(viewer, "[")
    assert widget.visit == 1 and seen[-1] == 1 and widget.strip.visit == 1
    press(viewer, "]")
    press(viewer, "]")  # stays at the last
    assert widget.visit == 2
    widget.strip.resize(900, 150)
    qtbot.mouseClick(widget.strip, Qt.MouseButton.LeftButton, pos=QPoint(round(widget.strip.picture_x()[0]), 40))
    assert widget.visit == 0


def test_growth_is_greyed_where_within_error(shown):
    viewer, widget = shown
    grey = viewer.layers["growth within error"]
    known = np.isfinite(viewer.layers["front speed (mm/month)"].data)
    assert grey.data.sum() == (known & (viewer.layers["front speed (mm/month)"].data < 0)).sum()
    widget.reading.grey.setChecked(False)
    assert not grey.visible
    viewer.dims.ndisplay = 3
    assert grey.opacity < 0.5
    viewer.dims.ndisplay = 2
    assert grey.opacity == 1.0


def test_forecast_at_a_chosen_day(qtbot, shown):
    """Registration of visit 3 is poor: there is no honest forecast, and the reason is said."""
    viewer, widget = shown
    widget.reading.days.setValue(30)
    qtbot.waitUntil(lambda: "No forecast" in widget.reading.note.text(), timeout=WAIT_MS)
    assert "visit 3" in widget.reading.note.text()
    assert not any(layer.data.any() for layer in viewer.layers if layer.name.startswith("forecast"))
    good = tuple(dataclasses.replace(r, good=True) for r in widget.analysis.registrations)
    widget.show_analysis(dataclasses.replace(widget.analysis, registrations=good))
    widget.reading.days.setValue(45)
    qtbot.waitUntil(lambda: "forecast day 142" in viewer.layers, timeout=WAIT_MS)
    assert "forecast band" in viewer.layers and viewer.layers["forecast day 142"].visible
    assert "Day 142:" in widget.reading.note.text() and "mL (" in widget.reading.note.text()


def test_windows_by_name(shown):
    viewer, widget = shown
    names = [widget.reading.window.itemText(n) for n in range(widget.reading.window.count())]
    assert "robust range" in names and "lung" not in names
    widget.reading.window.setCurrentText("bright (enhancement)")
    widget.reading.window.activated.emit(1)
    assert tuple(viewer.layers["t1c"].contrast_limits) == (0.4, 1.1)


def test_flicker_and_back(qtbot, shown):
    _, widget = shown
    widget.reading.other.setCurrentIndex(0)
    qtbot.mouseClick(widget.reading.flicker, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: widget.visit == 0, timeout=WAIT_MS)
    qtbot.waitUntil(lambda: widget.visit == 2, timeout=WAIT_MS)
    qtbot.mouseClick(widget.reading.flicker, Qt.MouseButton.LeftButton)
    assert widget.visit == 2


def test_two_visits_side_by_side_are_linked(qtbot, shown):
    viewer, widget = shown
    widget.reading.other.setCurrentIndex(0)
    qtbot.mouseClick(widget.reading.beside, Qt.MouseButton.LeftButton)
    beside = widget.reading._beside
    assert round(beside.model.dims.point[0]) == 0 and widget.visit == 2
    assert np.shares_memory(beside.model.layers["tumor"].data, viewer.layers["tumor"].data)
    viewer.dims.set_point(1, viewer.dims.range[1].start)
    assert beside.model.dims.point[1] == viewer.dims.point[1]
    assert round(beside.model.dims.point[0]) == 0
    viewer.scene.camera.zoom = 3.0
    assert beside.model.scene.camera.zoom == 3.0
    viewer.layers["t1c"].contrast_limits = (0.1, 0.5)
    assert tuple(beside.model.layers["t1c"].contrast_limits) == (0.1, 0.5)
    qtbot.mouseClick(widget.reading.beside, Qt.MouseButton.LeftButton)
    assert widget.reading._beside is None


def test_three_planes_share_one_crosshair(qtbot, shown):
    viewer, widget = shown
    extent = viewer.dims.range
    qtbot.mouseClick(widget.reading.planes, Qt.MouseButton.LeftButton)
    planes = widget.reading._planes
    assert [tuple(view.model.dims.order) for view in planes.views] == [(0, 2, 1, 3), (0, 3, 1, 2)]
    coronal = planes.views[0].model
    coronal.dims.set_point(2, coronal.dims.range[2].start + 5)
    assert viewer.dims.point[2] == pytest.approx(coronal.dims.point[2])
    assert planes.views[1].model.dims.point[2] == pytest.approx(coronal.dims.point[2])
    assert viewer.layers["crosshair"].data[0, 0, 1] == pytest.approx(viewer.dims.point[2])
    assert viewer.dims.range == extent
    assert [str(unit) for unit in viewer.layers.extent.units][1:] == ["millimeter"] * 3
    qtbot.mouseClick(widget.reading.planes, Qt.MouseButton.LeftButton)
    assert "crosshair" not in viewer.layers


def test_planes_open_at_the_tumor_far_from_the_scanners_middle(qtbot, opened, analysis_of):
    """A crosshair that began at 0 mm moved the slices to the end of the image."""
    viewer, widget = opened
    affine = np.array([[1.0, 0, 0, 300], [0, 1.0, 0, -900], [0, 0, 3.0, 800], [0, 0, 0, 1]])
    made = analysis_of(affine=affine)
    widget.show_analysis(dataclasses.replace(made, lesions=made.masks.astype(np.uint16)))
    qtbot.mouseClick(widget.reading.planes, Qt.MouseButton.LeftButton)
    visit, *place = viewer.dims.current_step
    assert viewer.layers["tumor"].data[(visit, *place)]
    for view in widget.reading._planes.views:
        assert tuple(view.model.dims.current_step) == (visit, *place)
    qtbot.mouseClick(widget.reading.planes, Qt.MouseButton.LeftButton)


# ---- 4 measure ----


def test_tables_go_to_visit_and_lesion(qtbot, shown):
    viewer, widget = shown
    measuring = widget.measuring
    measuring.visits.cellClicked.emit(1, 0)
    assert widget.visit == 1
    assert measuring.lesions.rowCount() == 3
    measuring.lesions.cellClicked.emit(0, 0)
    assert widget.visit == 0
    centre = widget.analysis.grid.to_mm(np.argwhere(widget.analysis.lesions[0] == 1).mean(axis=0))
    np.testing.assert_allclose(-np.array(viewer.dims.point[1:])[::-1], centre, atol=2.0)


def test_click_on_the_curve_goes_to_the_visit(shown):
    from matplotlib.backend_bases import MouseEvent

    _, widget = shown
    curve = widget.measuring.curve
    curve.canvas.draw()
    x, y = curve.place_of(1)
    curve.canvas.callbacks.process("button_press_event", MouseEvent("button_press_event", curve.canvas, x, y, 1))
    assert widget.visit == 1
    assert list(curve._marker.get_xdata()) == [41.0, 41.0]


def test_criterion_is_chosen_without_running(qtbot, opened, patient):
    _, widget = opened
    widget.folder.setText(str(patient))
    widget.run()
    qtbot.waitUntil(lambda: widget.job is None, timeout=WAIT_MS)
    assert "RANO 2.0" in widget.measuring.response.text() and "above" in widget.measuring.response.text()
    widget.measuring.criterion.setCurrentText("recist-1.1")
    widget.measuring.criterion.activated.emit(0)
    assert "RECIST 1.1, as asked" in widget.measuring.response.text()
    assert list(widget.analysis.report.responses) == ["recist-1.1"]
    assert widget.analysis.settings.criterion == "recist-1.1"  # and so it is saved
    assert len(widget.segmenter.seen) == 1


# ---- beside it ----


def test_every_control_has_a_name_and_a_tooltip(qtbot, shown):
    from napari_convlstm_tumor._napari.review import ReviewQueue

    viewer, widget = shown
    queue = ReviewQueue(viewer)
    qtbot.addWidget(queue)
    kinds = (QAbstractButton, QAbstractItemView, QAbstractSpinBox, QComboBox, QLineEdit, QProgressBar, QTabWidget)
    controls = [control for top in (widget, queue) for kind in kinds for control in top.findChildren(kind)]
    ours = [c for c in controls if not _inside_a_control(c, kinds)]
    assert len(ours) > 60
    bare = [(type(c).__name__, c.accessibleName(), type(c.parent()).__name__) for c in ours if not _told(c)]
    assert not bare
    assert widget.strip.accessibleName() and widget.measuring.curve.accessibleName()


def _inside_a_control(control, kinds):
    """Qt's own parts, as the line of a spin box, the list of a box of choices or the arrows of a row of tabs."""
    parts = (QTabBar, *(kind for kind in kinds if kind is not QTabWidget))  # everything is on a page of the tabs
    above = (control.parent(), control.parent().parent())
    return control.objectName().startswith("qt_") or any(isinstance(one, parts) for one in above)


def _told(control):
    return bool(control.accessibleName() and (control.toolTip() or control.parent().toolTip()))


def test_preferences_are_in_the_manifest():
    from napari_convlstm_tumor._napari import preferences
    from napari_convlstm_tumor.settings import CRITERION_CHOICES, DEVICES

    group = preferences._group()
    schema = type(group).model_json_schema()["properties"]
    assert schema["device"]["enum"] == list(DEVICES)
    assert schema["criterion"]["enum"] == list(CRITERION_CHOICES)
    assert group.show_dates is False
    assert preferences.settings().device == "auto"


# ---- a saved result comes piece by piece ----


def test_a_result_comes_a_layer_a_turn_its_first_image_first(qtbot, opened, analysis, tmp_path):
    """Together the layers of a full-size result would hold up the window for seconds."""
    viewer, widget = opened
    pipeline.save(analysis, tmp_path / "HAND-01")
    turns, seen = [0], []
    viewer.layers.events.inserted.connect(lambda event: seen.append((turns[0], event.value)))
    timer = QTimer()
    timer.timeout.connect(lambda: turns.append(turns.pop() + 1))
    timer.start(0)
    widget.opening.open(tmp_path / "HAND-01")
    qtbot.mouseClick(widget.opening.show_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: widget.job is None, timeout=WAIT_MS)
    timer.stop()
    assert [layer.name for _, layer in seen] == [layer.name for layer in viewer.layers]  # none twice, in their order
    assert len({turn for turn, _ in seen}) == len(seen) > 4
    assert all(layer.metadata["convlstm_tumor"].analysis is widget.analysis for layer in viewer.layers)
    assert widget.analysis.patient == "HAND-01" and not widget.measuring.visits.isHidden()


def test_cancel_while_layers_come_leaves_a_whole_result_or_none(qtbot, opened, analysis, tmp_path):
    viewer, widget = opened
    pipeline.save(analysis, tmp_path / "HAND-01")
    viewer.layers.events.inserted.connect(lambda event: widget.cancel() if event.value.name == "flair" else None)
    widget.opening.open(tmp_path / "HAND-01")
    qtbot.mouseClick(widget.opening.show_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: widget.job is None, timeout=WAIT_MS)
    assert widget.analysis is not None and "tumor" in viewer.layers
    assert widget.running.run_button.text() == "Run"


def test_stepping_through_visits_does_not_draw_the_curve_anew(qtbot, shown):
    _, widget = shown
    canvas = widget.measuring.curve.canvas
    canvas.draw()
    drawn = []
    canvas.mpl_connect("draw_event", drawn.append)
    before = bytes(canvas.buffer_rgba())
    widget.go_to(visit=0)
    qtbot.wait(50)
    assert not drawn and bytes(canvas.buffer_rgba()) != before
    widget.go_to(visit=2)
    assert bytes(canvas.buffer_rgba()) == before
