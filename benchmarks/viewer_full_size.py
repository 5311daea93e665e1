"""The viewer with a full-size result (240 x 240 x 155, 4 visits, 4 kinds of image) on a real screen or xvfb.

    xvfb-run -a -s "-screen 0 1600x1000x24" python benchmarks/viewer_full_size.py [--result FOLDER]

Prints the time from the button to the first picture and to all layers, the longest gaps between two turns of the event
loop meanwhile, the time of a step to another visit until it is drawn, and from a brush stroke to the new numbers.
Beside wall seconds stand processor seconds, which other programs disturb least: of the whole program for a time, of the
window's own thread for a gap (one with little computing is the machine's, or a worker's that holds the lock).
Without --result one is made by hand and saved, which takes minutes; with it, FOLDER is made once and used again.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import napari
import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication

from napari_convlstm_tumor import results
from napari_convlstm_tumor.edit.recompute import Numbers
from stroke import DAYS, SHAPE, patient

PLUGIN, WIDGET = "napari-convlstm-tumor", "Tumor growth"
WINDOW = (1500, 920)
TICK_MS, LONGEST_GAP_S, LONGEST_WAIT_S = 10, 0.2, 300.0
STROKES, STEPS = 5, 8
SETTLE_S = 1.0
MODALITIES = ("t1", "t1c", "t2", "flair")


def full_size() -> Any:
    """The patient of stroke.py with four noisy heads, measured whole."""
    numbers = Numbers(patient())
    numbers.update({})
    analysis = numbers.ahead()
    places = np.indices(SHAPE, dtype=np.float32)
    head = sum(((p - n / 2) / (0.42 * n)) ** 2 for p, n in zip(places, SHAPE, strict=True)) < 1
    chance = np.random.default_rng(0)
    images = {
        name: (head * chance.normal(300, 40, (len(DAYS), *SHAPE)) * (1 + analysis.masks)).astype(np.float32)
        for name in MODALITIES
    }
    return replace(analysis, images=images)


class Ear:
    """Listens to the event loop: seconds between two turns, and those the window's thread computed in between."""

    def __init__(self) -> None:
        self._last, self.gaps = (time.perf_counter(), time.thread_time()), []
        self._timer = QTimer()
        self._timer.timeout.connect(self._tick)
        self._timer.start(TICK_MS)

    def _tick(self) -> None:
        now = time.perf_counter(), time.thread_time()
        self.gaps.append((now[0] - self._last[0], now[1] - self._last[1]))
        self._last = now

    def tell(self, what: str) -> None:
        """Print the longest gaps, and forget them."""
        wait(lambda: False, SETTLE_S)
        for place, kind in enumerate(("wall", "computed in the window's thread")):
            longest = sorted((gap[place] for gap in self.gaps), reverse=True)
            many = sum(seconds > LONGEST_GAP_S for seconds in longest)
            print(f"  {what}, gaps {kind}: {many} over 200 ms; longest, ms: {[round(s * 1000) for s in longest[:5]]}")
        self.gaps.clear()


def main() -> None:
    """Open, step, paint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--result", type=Path)
    parser.add_argument("--picture", type=Path, help="where to write a picture of the window at the end")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.result or Path(scratch) / "MADE"
        if not results.is_result(folder):
            results.save(full_size(), folder)
        measure(folder, arguments.picture)


def measure(folder: Path, picture: Path | None) -> None:
    """Print every time."""
    viewer = napari.Viewer(show=True)
    viewer.window.resize(*WINDOW)
    _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, WIDGET)
    wait(lambda: False, SETTLE_S)
    drawn: list[float] = []
    scene = viewer.window._qt_viewer.canvas._scene_canvas
    scene.events.draw.connect(lambda event: drawn.append(time.perf_counter()) if len(viewer.layers) else None)
    ear = Ear()
    begun, computed = time.perf_counter(), time.process_time()
    widget.opening.open(folder)
    widget.opening.show_button.click()
    wait(lambda: bool(drawn))
    print(f"first picture after {drawn[0] - begun:.2f} s wall, {time.process_time() - computed:.2f} s processor")
    wait(lambda: widget.job is None)
    both = f"{time.perf_counter() - begun:.2f} s wall, {time.process_time() - computed:.2f} s processor"
    print(f"all {len(viewer.layers)} layers and the numbers after {both}")
    ear.tell("opening")
    step(viewer, widget, drawn)
    ear.tell("stepping")
    paint(viewer, widget, ear)
    if picture is not None:
        viewer.screenshot(str(picture), canvas_only=False, flash=False)
    viewer.close()


def step(viewer: Any, widget: Any, drawn: list[float]) -> None:
    """To another visit and back, as the keys do, until it is on the screen."""
    times = []
    for n in range(STEPS):
        wait(lambda: False, 0.3)
        drawn.clear()
        begun = time.perf_counter()
        widget.go_to(visit=n % 2 + 1)
        wait(lambda: bool(drawn))
        times.append(drawn[0] - begun)
    print(f"step to a visit, ms: median {1000 * statistics.median(times):.0f}, longest {1000 * max(times):.0f}")


def paint(viewer: Any, widget: Any, ear: Ear) -> None:
    """Strokes at the rim of the large lesion at visit 3, as the brush makes them."""
    told: list[float] = []
    widget.analysis_changed.connect(lambda analysis: told.append(time.perf_counter()))
    widget.correcting.paint_button.click()
    wait(lambda: widget.correcting.idle)
    ear.tell("getting ready")
    layer = viewer.layers["tumor"]
    layer.brush_size = 8
    z, *_ = place = np.argwhere(layer.data[2]).mean(axis=0).round().astype(int)
    edge = int(np.argwhere(layer.data[2, z, place[1]]).max())
    times = []
    for n in range(STROKES):
        told.clear()
        begun, computed = time.perf_counter(), time.process_time()
        layer.paint((2, int(z), int(place[1]) + 2 * n, edge), 1)
        wait(lambda: bool(told))
        times.append((told[0] - begun, time.process_time() - computed))
        wait(lambda: widget.correcting.idle)
    for kind, seconds in zip(("wall", "processor"), zip(*times, strict=True), strict=True):
        said = ", ".join(f"{s:.2f}" for s in seconds)
        print(f"stroke to new numbers, {kind} s: median {statistics.median(seconds):.2f} of {said}")
    ear.tell("painting")
    widget.correcting._forecast.stop()


def wait(done: Callable[[], bool], longest_s: float = LONGEST_WAIT_S) -> None:
    """Let Qt work until something is true."""
    end = time.perf_counter() + longest_s
    while not done() and time.perf_counter() < end:
        QApplication.processEvents()
        time.sleep(0.001)


if __name__ == "__main__":
    main()
