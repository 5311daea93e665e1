"""How long the window stands still while the pipeline works: viewer_gaps.py PATIENT_FOLDER [--masks ignore].

Prints, for a run in the viewer, the longest gaps between two turns of the event loop, in which step they fell, and how
long the window's own thread computed in each: a long gap with next to no computing is the machine's, or a worker that
holds Python's lock, not the viewer's. First the same of an idle window.
"""

import argparse
import time
from pathlib import Path

import napari
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication

PLUGIN, WIDGET = "napari-convlstm-tumor", "Tumor growth"
TICK_MS, IDLE_S = 10, 5.0


def main() -> None:
    """Run, listen, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("patient", type=Path)
    parser.add_argument("--masks", default="use", choices=("use", "ignore"))
    arguments = parser.parse_args()
    viewer = napari.Viewer(show=True)
    _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, WIDGET)
    widget.form.editors["masks"].set_value(arguments.masks)
    gaps: list[tuple[float, float, str]] = []
    last = [time.perf_counter(), time.thread_time()]

    def tick() -> None:
        now, computed = time.perf_counter(), time.thread_time()
        gaps.append((now - last[0], computed - last[1], widget.status.text()))
        last[:] = now, computed

    timer = QTimer()
    timer.timeout.connect(tick)
    timer.start(TICK_MS)
    listen(lambda since: time.perf_counter() - since < IDLE_S)
    print(f"idle: longest gap {max(gaps)[0] * 1000:.0f} ms of {len(gaps)}")
    gaps.clear()
    widget.folder.setText(str(arguments.patient))
    widget.run()
    listen(lambda since: widget.job is not None)
    gaps.sort(reverse=True)
    print(f"run: {len(gaps)} turns, {sum(gap > 0.2 for gap, *_ in gaps)} gaps over 200 ms; {widget.status.text()}")
    for gap, computed, step in gaps[:8]:
        print(f"  {gap * 1000:6.0f} ms, of which {computed * 1000:.0f} ms in the window's thread  {step}")
    viewer.close()


def listen(going: object) -> None:
    """Let Qt work while something goes on."""
    since = time.perf_counter()
    while going(since):  # type: ignore[operator]
        QApplication.processEvents()
        time.sleep(0.001)


if __name__ == "__main__":
    main()
