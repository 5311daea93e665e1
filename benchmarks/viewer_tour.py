"""The pictures of docs/viewer.md, one a step: viewer_tour.py RESULT_FOLDER PATIENT_FOLDER OUT_FOLDER.

Without a screen: xvfb-run -a -s "-screen 0 1600x1000x24" python benchmarks/viewer_tour.py ...
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

WINDOW, LIST_WIDTH = (1500, 920), 240
PLUGIN, WIDGET = "napari-convlstm-tumor", "Tumor growth"
# The slicing thread and the graphics card have drawn everything after this long on a machine that does nothing else.
SETTLE_S = 1.5
LONGEST_WAIT_S = 120.0
OPEN, RUN, READ, MEASURE, CORRECT, KEEP = range(6)
BRUSH_VOXELS = 8


def main() -> None:
    """Walk through the steps and write a picture of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("result", type=Path)
    parser.add_argument("patient", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    viewer = napari.Viewer(show=True)
    viewer.window.resize(*WINDOW)
    _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, WIDGET)
    widget.hint.hide()
    for name, step in tour(viewer, widget, arguments.result, arguments.patient):
        step()
        settle()
        viewer.screenshot(str(arguments.out / f"viewer-{name}.png"), canvas_only=False, flash=False)
    viewer.close()


def tour(viewer: Any, widget: Any, result: Path, patient: Path) -> list[tuple[str, Callable[[], None]]]:
    """(name of the picture, what is done before it)."""

    def opened() -> None:
        widget.opening.open(patient)
        wait(lambda: widget.opening.found is not None)
        widget.opening.show_button.click()
        wait(lambda: widget.job is None)
        viewer.reset_view()

    def run() -> None:
        widget.tabs.setCurrentIndex(RUN)

    def measure() -> None:
        widget.opening.open(result)
        widget.opening.show_button.click()
        wait(lambda: widget.job is None)
        viewer.reset_view()

    def read() -> None:
        widget.tabs.setCurrentIndex(READ)
        widget.reading.ahead.setChecked(True)
        viewer.scene.camera.zoom *= 2
        shape = viewer.layers["tumor"]
        viewer.scene.camera.center = middle(shape)

    def compare() -> None:
        viewer.window._qt_viewer.dockLayerList.setVisible(False)
        viewer.window._qt_viewer.dockLayerControls.setVisible(False)
        settle()  # the canvas takes the room before it is halved
        widget.reading.ahead.setChecked(False)
        widget.reading.beside.click()

    def planes() -> None:
        widget.reading.beside.click()
        widget.reading.planes.click()
        settle()
        viewer.reset_view()

    def correct() -> None:
        widget.reading.planes.click()
        viewer.window._qt_viewer.dockLayerList.setVisible(True)
        viewer.window._qt_viewer.dockLayerControls.setVisible(True)
        settle()
        window = viewer.window._qt_window
        window.layout().activate()
        window.resizeDocks([viewer.window._qt_viewer.dockLayerList], [LIST_WIDTH], Qt.Horizontal)
        window.layout().activate()
        widget.tabs.setCurrentIndex(CORRECT)
        layer = viewer.layers["tumor"]
        viewer.scene.camera.zoom *= 2
        viewer.scene.camera.center = middle(layer)
        layer.brush_size = BRUSH_VOXELS
        visit, z = viewer.dims.current_step[:2]
        place = np.argwhere(layer.data[visit, z]).max(axis=0)
        layer.paint((visit, z, *(int(p) for p in place)), 1)
        settle(3 * SETTLE_S)

    def keep() -> None:
        widget.tabs.setCurrentIndex(KEEP)

    return [
        ("open", opened),
        ("run", run),
        ("measure", measure),
        ("read", read),
        ("compare", compare),
        ("planes", planes),
        ("correct", correct),
        ("keep", keep),
    ]


def middle(labels: Any) -> tuple[float, float, float]:
    """Camera centre on the tumor of the visit and slice on show."""
    visit = labels.data.shape[0] - 1
    z = int(np.argmax(np.count_nonzero(labels.data[visit], axis=(1, 2))))
    place = np.argwhere(labels.data[visit, z]).mean(axis=0)
    world = labels.data_to_world((visit, z, *place))
    return 0.0, float(world[2]), float(world[3])


def settle(seconds: float = SETTLE_S) -> None:
    """Let Qt draw."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.02)


def wait(done: Callable[[], bool]) -> None:
    """Let Qt work until something is true."""
    end = time.monotonic() + LONGEST_WAIT_S
    while not done() and time.monotonic() < end:
        settle(0.1)


if __name__ == "__main__":
    main()
