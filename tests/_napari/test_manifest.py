"""napari finds the plugin, and starting with it costs nothing."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import napari_convlstm_tumor

MANIFEST = Path(napari_convlstm_tumor.__file__).parent / "napari.yaml"
NAME = "napari-convlstm-tumor"
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
