"""The widget as a dock of the window: narrow, beside other views, and when napari is closed."""

import numpy as np
import pytest
from napari.utils._proxies import PublicOnlyProxy
from qtpy.QtCore import Qt
from qtpy.QtGui import QCloseEvent
from qtpy.QtWidgets import QApplication, QDockWidget

from napari_convlstm_tumor._napari.reading import COMPARE_NAME, PLANES_NAME
from napari_convlstm_tumor._napari.widget import TumorGrowthWidget

WAIT_MS = 60_000
NARROW_PIXELS = 350


@pytest.fixture
def docked(make_napari_viewer, qtbot, analysis, tmp_path):
    """(viewer, widget, its dock) in a window on the screen."""
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1400, 900)
    widget = TumorGrowthWidget(PublicOnlyProxy(viewer))  # as napari hands it to a plugin
    dock = viewer.window.add_dock_widget(widget, area="right")
    widget.keeping.watch(tmp_path / "kept")
    qtbot.waitUntil(widget.isVisible, timeout=WAIT_MS)
    widget.show_analysis(analysis)
    return viewer, widget, dock


OTHER_VIEWS = pytest.mark.parametrize(("toggle", "name"), [("beside", COMPARE_NAME), ("planes", PLANES_NAME)])


def dock_named(window, name):
    return next(dock for dock in window.findChildren(QDockWidget) if dock.windowTitle() == name)


@OTHER_VIEWS
def test_other_views_stand_beside_the_canvas_as_high_as_it(docked, qtbot, toggle, name):
    """Under the list of layers, where napari puts a new dock, the picture is a strip or nothing."""
    viewer, widget, own = docked
    window = viewer.window._qt_window
    width = own.width()
    qtbot.mouseClick(getattr(widget.reading, toggle), Qt.MouseButton.LeftButton)
    view, canvas = dock_named(window, name), window.centralWidget()
    qtbot.waitUntil(lambda: view.height() > 0.9 * canvas.height(), timeout=WAIT_MS)
    lists = viewer.window._qt_viewer.dockLayerList
    assert lists.geometry().right() < view.geometry().left()
    assert own.width() == pytest.approx(width, abs=10)  # its tabs and numbers were cut off
    before = lists.width()
    qtbot.mouseClick(getattr(widget.reading, toggle), Qt.MouseButton.LeftButton)
    qtbot.wait(100)
    assert lists.width() == pytest.approx(before, abs=10)
    assert own.width() == pytest.approx(width, abs=10)


@OTHER_VIEWS
@pytest.mark.parametrize("lists_shown", [True, False])
def test_another_view_is_as_wide_as_the_canvas(docked, qtbot, toggle, name, lists_shown):
    """Resized before Qt had laid it out it got a third of the room, or three quarters without the list of layers."""
    viewer, widget, _ = docked
    qt_viewer, window = viewer.window._qt_viewer, viewer.window._qt_window
    for dock in (qt_viewer.dockLayerList, qt_viewer.dockLayerControls):
        dock.setVisible(lists_shown)
    qtbot.wait(100)
    getattr(widget.reading, toggle).click()
    qtbot.wait(300)
    view, canvas = dock_named(window, name).width(), window.centralWidget().width()
    assert 0.4 < view / (view + canvas) < 0.6
    widget.reading.stop()


def test_two_more_views_have_a_third_of_the_room_each(docked, qtbot):
    viewer, widget, _ = docked
    qt_viewer, window = viewer.window._qt_viewer, viewer.window._qt_window
    for dock in (qt_viewer.dockLayerList, qt_viewer.dockLayerControls):
        dock.hide()
    widget.reading.beside.click()
    widget.reading.planes.click()
    qtbot.wait(300)
    widths = [dock_named(window, name).width() for name in (COMPARE_NAME, PLANES_NAME)]
    assert widths == pytest.approx([window.centralWidget().width()] * 2, rel=0.1)
    widget.reading.stop()


@OTHER_VIEWS
@pytest.mark.parametrize("by", ["toggle", "x"])
def test_a_view_closed_as_soon_as_it_is_opened(docked, qtbot, toggle, name, by):
    """What waits for the next turn of Qt finds it gone; an error there would fail the test."""
    viewer, widget, _ = docked
    window = viewer.window._qt_window
    button = getattr(widget.reading, toggle)
    button.click()
    if by == "toggle":
        button.click()
    else:
        dock_named(window, name).destroyOnClose()
    qtbot.wait(100)
    assert name not in [dock.windowTitle() for dock in window.findChildren(QDockWidget)]
    widget.reading.stop()


def test_a_view_that_floats_can_be_closed(docked, qtbot):
    viewer, widget, _ = docked
    window = viewer.window._qt_window
    widget.reading.beside.click()
    dock_named(window, COMPARE_NAME).setFloating(True)
    qtbot.wait(100)
    widget.reading.planes.click()
    qtbot.wait(100)
    widget.reading.beside.click()
    qtbot.wait(100)
    assert COMPARE_NAME not in [dock.windowTitle() for dock in window.findChildren(QDockWidget)]
    widget.reading.stop()


def test_every_step_fits_a_narrow_dock(docked, qtbot):
    """Nothing scrolls sideways, so what is wider than the dock would be cut off."""
    viewer, widget, dock = docked
    viewer.window._qt_window.resizeDocks([dock], [NARROW_PIXELS], Qt.Orientation.Horizontal)
    qtbot.waitUntil(lambda: dock.width() <= NARROW_PIXELS + 5, timeout=WAIT_MS)
    wide = {}
    for number in range(widget.tabs.count()):
        widget.tabs.setCurrentIndex(number)
        qtbot.wait(20)
        area = widget.tabs.widget(number)
        if area.widget().width() > area.viewport().width():
            wide[widget.tabs.tabText(number)] = (area.widget().width(), area.viewport().width())
    assert not wide


@pytest.mark.parametrize("width", [420, 360, 300])
def test_the_numbers_of_a_lesion_are_whole(qtbot, width):
    """Columns too narrow for them ended in "(28.08-..."."""
    from napari_convlstm_tumor._napari.table import LesionTable

    header = ("lesion", "visit", "state", "volume mL", "axial mm", "since baseline %", "since nadir %")
    cells = ("1", "1", "persistent", "43.40 (28.08–67.16)", "79.0 x 46.6", "+20.5", "+20.5")
    table = LesionTable()
    qtbot.addWidget(table)
    table.fill(header, [cells], [""])
    table.resize(width, 200)
    table.show()
    qtbot.wait(20)
    for column, cell in enumerate(cells):
        lines = table.item(0, column).text().split("\n")
        assert " ".join(lines).replace("\N{NO-BREAK SPACE}", " ") == cell
        assert max(table.fontMetrics().horizontalAdvance(line) for line in lines) < table.columnWidth(column), cell


def test_brackets_step_with_the_focus_in_canvas_and_widget(docked, qtbot):
    """Real keys, with the tumor layer selected, whose own [ and ] are the brush."""
    viewer, widget, _ = docked
    window = viewer.window._qt_window
    window.activateWindow()
    viewer.layers.selection.active = viewer.layers["tumor"]
    size = viewer.layers["tumor"].brush_size
    widget.tabs.setCurrentIndex(2)
    for place in (viewer.window._qt_viewer.canvas.native, widget.reading.beside, widget.reading.window):
        widget.go_to(visit=1)
        place.setFocus()
        qtbot.waitUntil(place.hasFocus, timeout=WAIT_MS)
        qtbot.keyClick(place, Qt.Key.Key_BracketLeft)
        assert widget.visit == 0, place
        qtbot.keyClick(place, Qt.Key.Key_BracketRight)
        assert widget.visit == 1, place
    assert viewer.layers["tumor"].brush_size == size


def click_the_x(viewer, answer):
    """What the x of the window sends, with the answer to napari's question; the fixture does the closing."""
    window = viewer.window._qt_window
    window.closeEvent = lambda event: event.setAccepted(answer == "yes")
    QApplication.sendEvent(window, QCloseEvent())
    del window.closeEvent


def test_the_last_stroke_before_napari_is_closed_is_kept(docked, analysis_of, tmp_path):
    """Painted and closed at once: what was painted is on the disk when the window is gone."""
    from napari_convlstm_tumor.edit.session import left_behind, recover

    viewer, *_ = docked
    layer = viewer.layers["tumor"]
    layer.n_edit_dimensions, layer.brush_size = 3, 5
    layer.paint((1, 8, 24, 6), 1)
    painted = np.count_nonzero(layer.data[1])
    click_the_x(viewer, "yes")
    (kept,) = left_behind(tmp_path / "kept", left_alone_s=15)
    editor = recover(kept, analysis_of())
    assert np.count_nonzero(editor.analysis.masks[1]) == painted
    assert editor.log[0].what == "painted" and editor.log[0].visit == 2


def test_napari_asked_and_not_closed_goes_on_where_it_was(docked, qtbot, tmp_path):
    """The numbers follow the stroke, and what is corrected next is kept in the same place."""
    from napari_convlstm_tumor.edit.session import left_behind

    viewer, widget, _ = docked
    before = widget.analysis.report.visits[1]["volume_mm3"]
    layer = viewer.layers["tumor"]
    layer.n_edit_dimensions, layer.brush_size = 3, 5
    layer.paint((1, 8, 24, 6), 1)
    click_the_x(viewer, "no")
    qtbot.waitUntil(lambda: widget.analysis.report.visits[1]["volume_mm3"] > before, timeout=WAIT_MS)
    layer.paint((2, 8, 24, 6), 1)
    qtbot.waitUntil(lambda: widget.correcting.idle, timeout=WAIT_MS)
    widget.correcting.leave()
    assert len(left_behind(tmp_path / "kept")) == 1


def test_a_view_closed_by_its_x_can_be_opened_again(docked, qtbot):
    viewer, widget, _ = docked
    window = viewer.window._qt_window
    qtbot.mouseClick(widget.reading.beside, Qt.MouseButton.LeftButton)
    next(dock for dock in window.findChildren(QDockWidget) if dock.windowTitle() == COMPARE_NAME).destroyOnClose()
    qtbot.mouseClick(widget.reading.beside, Qt.MouseButton.LeftButton)
    assert widget.reading._beside is None and not widget.reading.beside.isChecked()
    qtbot.mouseClick(widget.reading.beside, Qt.MouseButton.LeftButton)
    assert COMPARE_NAME in [dock.windowTitle() for dock in window.findChildren(QDockWidget)]
    qtbot.mouseClick(widget.reading.beside, Qt.MouseButton.LeftButton)
