"""napari finds the plugin, and starting with it costs nothing."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import napari_convlstm_tumor

MANIFEST = Path(napari_convlstm_tumor.__file__).parent / "napari.yaml"
NAME = "napari-convlstm-tumor"
# What the plugin may add to napari's start; 5-10 ms on a busy machine.
LONGEST_START_MS = 50.0
HEAVY = ("torch", "monai", "SimpleITK", "scipy", "nibabel", "pydicom")


def test_manifest_is_valid_and_every_command_exists():
    from npe2 import PluginManifest

    manifest = PluginManifest.from_file(MANIFEST)
    manifest.validate_imports()
    assert manifest.name == NAME
    assert [w.display_name for w in manifest.contributions.widgets] == ["Tumor growth", "Review queue"]
    assert len(manifest.contributions.sample_data) == 2


def test_installed_plugin_reads_folders():
    from npe2 import PluginManager

    manager = PluginManager()
    manager.discover()
    assert NAME in manager
    readers = [r.command for r in manager.iter_compatible_readers(str(MANIFEST.parent))]
    assert f"{NAME}.read" in readers
    assert not [r for r in manager.iter_compatible_readers("cells.csv") if r.command.startswith(NAME)]


def test_top_of_the_repository_points_to_the_manifest():
    top = MANIFEST.parents[2] / "napari.yaml"
    assert top.is_symlink()
    assert top.resolve() == MANIFEST


def test_reader_and_widget_import_nothing_heavy():
    """What napari imports to ask "is this yours?" and to open the widget; the pipeline comes when Run is pressed."""
    code = f"""
import sys, json, tempfile
from napari_convlstm_tumor._napari import reader
reader.get_reader(tempfile.mkdtemp())
quick = [m for m in {(*HEAVY, "napari", "qtpy")!r} if m in sys.modules]
from napari_convlstm_tumor._napari import widget, sample
print(json.dumps([quick, [m for m in ("torch", "monai", "SimpleITK") if m in sys.modules]]))
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(answer.stdout) == [[], []]
    assert find_spec("torch")  # else the test says nothing


START = f"""
import json, sys, time, napari
from npe2 import PluginManager, PluginManifest
napari.Viewer(show=False).close()
manager, taken = PluginManager.instance(), []
assert {NAME!r} in manager
for _ in range(5):
    manager.unregister({NAME!r})
    begun = time.perf_counter()
    manager.register(PluginManifest.from_distribution({NAME!r}))
    taken.append(1000 * (time.perf_counter() - begun))
print(json.dumps([min(taken), [m for m in sys.modules if m.split(".")[0] in {(*HEAVY[:3], NAME.replace("-", "_"))!r}]]))
"""


def test_napari_starts_without_importing_the_plugin(qtbot):
    """The whole start, then what our manifest adds to it: it is read, and its commands, menus and readers enlisted."""
    answer = subprocess.run([sys.executable, "-W", "ignore", "-c", START], capture_output=True, text=True, check=True)
    added_ms, loaded = json.loads(answer.stdout.splitlines()[-1])
    print(f"the plugin adds {added_ms:.1f} ms to napari's start")
    assert loaded == []
    assert added_ms < LONGEST_START_MS
