"""Memory does not grow: what a patient brought into the viewer goes when the viewer, the widget or the patient does.

One thing stays, and is napari's (0.9.2): its list of tasks keeps every thread worker, about 1 kB, and the window's
Python object keeps that list. The workers must therefore hold none of our arrays.
"""

import dataclasses
import gc
import weakref
from pathlib import Path

import numpy as np
import pytest
from qtpy.QtCore import QCoreApplication, QEvent, QThreadPool
from qtpy.QtWidgets import QApplication, QDockWidget

from napari_convlstm_tumor._napari import viewer as view
from napari_convlstm_tumor._napari.job import Job
from napari_convlstm_tumor._napari.widget import STRIP_NAME, TumorGrowthWidget

WAIT_MS = 60_000
CYCLES, WARM_UP = 20, 5
# One patient of this test is 3 MB of arrays: kept by 15 cycles they would be 45 MB (measured: 10-13 MB).
MOST_GROWTH_MB = 25.0
STATM = Path("/proc/self/statm")


class Watched:
    """Names and weak references of what must go."""

    def __init__(self) -> None:
        self.refs: list[tuple[str, weakref.ref]] = []

    def add(self, **things) -> None:
        self.refs += [(name, weakref.ref(thing)) for name, thing in things.items()]

    def alive(self) -> list[str]:
        for _ in range(3):  # what one object held back goes with the next turn
            QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
            QApplication.processEvents()
            gc.collect()
        return sorted(name for name, ref in self.refs if ref() is not None)


@pytest.fixture
def watched():
    """What was there before is not searched for garbage at every look: half a million objects of the libraries."""
    gc.collect()
    gc.freeze()
    yield Watched()
    gc.unfreeze()


def rss_mb() -> float:
    return int(STATM.read_text().split()[1]) * 4096 / 2**20


def whole(analysis):
    """With lesions and grey, so that every kind of layer is there."""
    lesions = np.where(analysis.masks > 0, 1, 0).astype(np.uint16)
    return dataclasses.replace(analysis, lesions=lesions, reliable=np.isfinite(analysis.growth))


def use(viewer, analysis, watched, qtbot):
    """A result shown, its curve drawn, a click layer and a stroke that is measured in a thread."""
    widget = TumorGrowthWidget(viewer)
    viewer.window.add_dock_widget(widget)
    widget.show_analysis(analysis)
    tumor = next(layer for layer in viewer.layers if view.kind_of(layer) == "tumor")
    widget.measuring.curve.canvas.draw()
    widget.running.click_button.click()
    tumor.n_edit_dimensions, tumor.brush_size = 3, 5
    tumor.paint((1, 8, 24, 6), 1)
    qtbot.waitUntil(lambda: widget.correcting.idle, timeout=WAIT_MS)
    watched.add(
        widget=widget, strip=widget.strip, curve=widget.measuring.curve, figure=widget.measuring.curve.canvas.figure,
        reading=widget.reading, correcting=widget.correcting, keeping=widget.keeping, editor=widget.correcting.editor,
        result=analysis, masks=analysis.masks, growth=analysis.growth, image=analysis.images["t1c"],
        tumor=tumor, painted=tumor.data, job=widget._jobs[-1],
    )  # fmt: skip
    return widget


def still_writing():
    """An autosave, for one; to look for what is alive the while would hold it up (a minute in place of a second)."""
    return QThreadPool.globalInstance().activeThreadCount() > 0


# A cycle is a function of its own: napari asks its callers' frames for names, and a frame that was asked keeps them.


def open_and_close(viewer, analysis, watched, qtbot):
    watched.add(viewer=viewer)
    use(viewer, analysis, watched, qtbot)
    viewer.close()


@pytest.mark.parametrize("cycles", [2, pytest.param(CYCLES, marks=pytest.mark.slow)])
def test_viewers_opened_and_closed_leave_nothing(make_napari_viewer, analysis_of, watched, qtbot, cycles):
    sizes = []
    for _ in range(cycles):
        open_and_close(make_napari_viewer(), whole(analysis_of()), watched, qtbot)
        assert watched.alive() == []
        sizes.append(rss_mb() if STATM.exists() else 0.0)
    assert QThreadPool.globalInstance().waitForDone(WAIT_MS)
    print(f"MB after each cycle: {[round(size) for size in sizes]}")
    assert sizes[-1] - sizes[min(WARM_UP, cycles) - 1] < MOST_GROWTH_MB


def open_and_press_x(viewer, analysis, watched, qtbot):
    widget = use(viewer, analysis, watched, qtbot)
    widget.reading.beside.click()
    widget.reading.planes.click()
    watched.add(beside=widget.reading._beside, planes=widget.reading._planes)
    viewer.layers.clear()
    widget.parentWidget().destroyOnClose()  # what the x of the dock does


def test_the_x_of_the_dock_ends_widget_and_strip(make_napari_viewer, analysis_of, watched, qtbot):
    viewer = make_napari_viewer(show=True)
    for _ in range(2):
        open_and_press_x(viewer, whole(analysis_of()), watched, qtbot)
        qtbot.waitUntil(lambda: not still_writing() and watched.alive() == [], timeout=WAIT_MS)
    assert STRIP_NAME not in [dock.windowTitle() for dock in viewer.window._qt_window.findChildren(QDockWidget)]


def test_a_widget_docked_elsewhere_at_once_goes_on(make_napari_viewer, analysis, qtbot):
    viewer = make_napari_viewer(show=True)
    widget = TumorGrowthWidget(viewer)
    viewer.window.add_dock_widget(widget)
    viewer.window.remove_dock_widget(widget)
    viewer.window.add_dock_widget(widget, area="left")
    qtbot.wait(50)
    widget.show_analysis(analysis)
    assert widget.measuring.visits.rowCount() == 3


def show_in_all_views(widget, analysis, watched, qtbot):
    """In place of the result before, whose views must not stay beside it."""
    widget.show_analysis(analysis)
    qtbot.waitUntil(lambda: not widget.reading.planes.isChecked(), timeout=WAIT_MS)
    assert widget.reading._beside is None and widget.reading._planes is None
    assert watched.alive() == []
    widget.reading.beside.click()
    widget.reading.planes.click()
    watched.add(
        beside=widget.reading._beside, planes=widget.reading._planes, result=analysis, masks=analysis.masks,
        figure=widget.measuring.curve.canvas.figure, tumor=widget.viewer.layers["tumor"],
    )  # fmt: skip


def test_other_views_end_with_their_patient(make_napari_viewer, analysis_of, watched, qtbot):
    viewer = make_napari_viewer(show=True)
    widget = TumorGrowthWidget(viewer)
    viewer.window.add_dock_widget(widget)
    for _ in range(2):
        show_in_all_views(widget, whole(analysis_of()), watched, qtbot)
    viewer.layers.clear()
    qtbot.waitUntil(lambda: not widget.reading.planes.isChecked(), timeout=WAIT_MS)
    assert len(viewer.layers) == 0


def test_a_cancelled_run_holds_no_arrays(make_napari_viewer, watched, qtbot):
    make_napari_viewer()  # its list of tasks keeps the worker

    def steps():
        image = np.zeros((8, 8, 8))
        watched.add(image=image)
        for _ in range(1000):
            yield image.sum()

    begun = []
    job = Job(steps(), begun.append, lambda failure: None)
    job.start()
    qtbot.waitUntil(lambda: bool(begun), timeout=WAIT_MS)
    job.cancel()
    worker = job.worker
    del job  # the window has let go of it
    qtbot.waitUntil(lambda: not worker.is_running, timeout=WAIT_MS)
    assert watched.alive() == []
