"""A picture of the viewer with a result open, for README and docs: screenshot.py RESULT_FOLDER OUT.png [--three-d].

Without a screen: xvfb-run -a -s "-screen 0 1600x1000x24" python benchmarks/screenshot.py results/demo/progressing a.png
"""

import argparse
import time
from pathlib import Path

import napari
from qtpy.QtWidgets import QApplication

WINDOW = (1500, 900)
PLUGIN, WIDGET = "napari-convlstm-tumor", "Tumor growth"
# The window manager, the slicing thread and the graphics card have drawn everything after this long.
SETTLE_S = 2.0


def main() -> None:
    """Open, wait until drawn, write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("result", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--three-d", action="store_true", help="the tumor in 3-D")
    arguments = parser.parse_args()
    viewer = napari.Viewer(show=True)
    viewer.window.resize(*WINDOW)
    viewer.window.add_plugin_dock_widget(PLUGIN, WIDGET)
    viewer.open(str(arguments.result), plugin=PLUGIN)
    if arguments.three_d:
        viewer.dims.ndisplay = 3
    settle()
    viewer.reset_view()
    settle()
    arguments.picture.parent.mkdir(parents=True, exist_ok=True)
    viewer.screenshot(str(arguments.picture), canvas_only=False, flash=False)
    viewer.close()


def settle() -> None:
    """Let Qt draw for SETTLE_S seconds."""
    end = time.monotonic() + SETTLE_S
    while time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.02)


if __name__ == "__main__":
    main()
