"""Keeping with real layers: a session saved and opened, exports, and what a crash left behind."""

import dataclasses

import numpy as np
import pytest

pytest.importorskip("napari")

from qtpy.QtCore import QTimer

from napari_convlstm_tumor._napari import viewer as view
from napari_convlstm_tumor._napari.widget import TumorGrowthWidget


@pytest.fixture
def widget(make_napari_viewer, qtbot, analysis):
    made = TumorGrowthWidget(make_napari_viewer())
    qtbot.addWidget(made)
    made.show_analysis(analysis)
    yield made
    qtbot.waitUntil(lambda: made.correcting.idle and made.keeping.idle, timeout=30000)
    made.correcting._forecast.stop()
    made.correcting.autosaver.timer.stop()


def tumor(widget):
    return next(layer for layer in widget.viewer.layers if view.kind_of(layer) == "tumor")


def paint(widget, qtbot):
    layer = tumor(widget)
    layer.n_edit_dimensions, layer.brush_size = 3, 5
    layer.paint((1, 8, 24, 6), 1)
    qtbot.waitUntil(lambda: widget.correcting.idle and widget.correcting.editor is not None, timeout=60000)


def settle(widget, qtbot):
    qtbot.waitUntil(lambda: widget.keeping.idle and widget.correcting.idle, timeout=60000)


def test_a_session_is_saved_and_opened(widget, qtbot, tmp_path):
    paint(widget, qtbot)
    painted = np.asarray(tumor(widget).data) != 0
    widget.keeping.save(tmp_path / "session")
    settle(widget, qtbot)
    assert widget.keeping.said.text() == "Saved in session."
    widget.correcting.undo()
    settle(widget, qtbot)
    widget.keeping.open(tmp_path / "session")
    settle(widget, qtbot)
    np.testing.assert_array_equal(np.asarray(tumor(widget).data) != 0, painted)
    assert widget.correcting.editor.corrected == {1}
    assert widget.correcting.log.count() == 2  # painted, session saved
    tables = next(a for a in widget.keeping.menu.actions() if a.data() == "recipe")
    assert not tables.isEnabled() and "files are not known" in tables.toolTip()
    widget.keeping.export("csv", tmp_path / "out")
    settle(widget, qtbot)
    assert len(list((tmp_path / "out").iterdir())) == 3


def test_a_session_opens_over_another_patient_a_layer_a_turn_with_its_corrections(widget, qtbot, tmp_path, analysis):
    paint(widget, qtbot)
    widget.keeping.save(tmp_path / "session")
    settle(widget, qtbot)
    widget.show_analysis(
        dataclasses.replace(analysis, patient="B", report=dataclasses.replace(analysis.report, patient="B"))
    )
    turns, seen = [0], []
    timer = QTimer()
    timer.timeout.connect(lambda: turns.append(turns.pop() + 1))
    timer.start(0)
    widget.viewer.layers.events.inserted.connect(lambda event: seen.append(turns[0]))
    widget.keeping.open(tmp_path / "session")
    settle(widget, qtbot)
    timer.stop()
    assert len(set(seen)) == len(seen) > 4
    assert widget.analysis.patient == "HAND-01" and widget.analysis is widget.correcting.editor.analysis
    assert widget.correcting.editor.corrected == {1} and widget.correcting.log.count() == 2
    before = widget.analysis.report.visits[2]["volume_mm3"]
    tumor(widget).paint((2, 8, 24, 6), 1)
    qtbot.waitUntil(lambda: widget.analysis.report.visits[2]["volume_mm3"] > before, timeout=60000)
    settle(widget, qtbot)


def test_what_a_crash_left_behind_is_brought_back(widget, qtbot, tmp_path, analysis):
    widget.keeping.watch(tmp_path)
    assert widget.keeping.recover_button.isHidden()
    paint(widget, qtbot)
    painted = np.asarray(tumor(widget).data) != 0
    widget.correcting.autosaver.keep()
    settle(widget, qtbot)
    widget.show_analysis(analysis)  # as after a new start: the result as it came
    widget.keeping.look_for_crashes(left_alone_s=0)
    assert not widget.keeping.recover_button.isHidden()
    assert "6 Keep" in widget.status.text()  # seen without looking into that tab
    widget.keeping.recover()
    settle(widget, qtbot)
    assert widget.keeping.said.text() == "Opened."
    np.testing.assert_array_equal(np.asarray(tumor(widget).data) != 0, painted)
    widget.keeping.look_for_crashes(left_alone_s=0)
    widget.keeping.discard()
    assert widget.keeping.recover_button.isHidden()


def press_x(widget, qtbot):
    gone = []
    widget.destroyed.connect(lambda: gone.append(True))
    widget.parentWidget().destroyOnClose()
    qtbot.waitUntil(lambda: bool(gone), timeout=30000)


def test_the_last_stroke_before_the_x_is_offered_when_the_widget_is_opened_again(
    make_napari_viewer, qtbot, tmp_path, analysis
):
    """Painted, closed at once by the x of the dock, opened again: the stroke and its numbers come back."""
    viewer = make_napari_viewer(show=True)
    first = TumorGrowthWidget(viewer)
    viewer.window.add_dock_widget(first)
    first.keeping.watch(tmp_path)
    qtbot.waitUntil(first.isVisible, timeout=30000)
    first.show_analysis(analysis)
    layer = viewer.layers["tumor"]
    layer.n_edit_dimensions, layer.brush_size = 3, 5
    layer.paint((1, 8, 24, 6), 1)
    painted = np.asarray(layer.data) != 0
    press_x(first, qtbot)
    viewer.layers.clear()
    again = TumorGrowthWidget(viewer)
    viewer.window.add_dock_widget(again)
    again.keeping.watch(tmp_path)
    qtbot.waitUntil(again.isVisible, timeout=30000)
    assert not again.keeping.recover_button.isHidden()
    again.show_analysis(analysis)
    again.keeping.recover_button.click()
    settle(again, qtbot)
    np.testing.assert_array_equal(np.asarray(viewer.layers["tumor"].data) != 0, painted)
    volume = again.analysis.report.visits[1]["volume_mm3"]
    assert volume == pytest.approx(painted[1].sum() * analysis.grid.voxel_mm3)
    assert again.keeping.recover_button.isHidden()  # it is being worked on
    press_x(again, qtbot)


def test_another_result_in_its_place_loses_no_stroke(widget, qtbot, tmp_path, analysis):
    widget.keeping.watch(tmp_path)
    layer = tumor(widget)
    layer.n_edit_dimensions, layer.brush_size = 3, 5
    layer.paint((1, 8, 24, 6), 1)
    painted = np.asarray(layer.data) != 0
    widget.show_analysis(analysis)
    widget.keeping.look_for_crashes()
    widget.keeping.recover_button.click()
    settle(widget, qtbot)
    np.testing.assert_array_equal(np.asarray(tumor(widget).data) != 0, painted)


def test_a_saved_session_is_not_kept_a_second_time(widget, qtbot, tmp_path):
    widget.keeping.watch(tmp_path / "home")
    paint(widget, qtbot)
    widget.keeping.save(tmp_path / "session")
    settle(widget, qtbot)
    widget.correcting.autosaver.keep()
    settle(widget, qtbot)
    widget.correcting.leave()
    widget.keeping.look_for_crashes(left_alone_s=0)
    assert widget.keeping.found == []
