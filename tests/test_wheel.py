"""The wheel carries all it needs, and napari finds the plugin when it is installed from it."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LOOKUP = """
from importlib.metadata import version
from npe2 import PluginManager
import napari_convlstm_tumor
manager = PluginManager()
manager.discover()
print(napari_convlstm_tumor.__file__)
print("napari-convlstm-tumor" in manager, version("napari-convlstm-tumor"))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_carries_manifest_weights_and_sample(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    package = "napari_convlstm_tumor/"
    assert package + "napari.yaml" in names
    assert any(n.startswith(package + "weights/") and n.endswith(".safetensors") for n in names)
    assert any(n.startswith(package + "weights/") and n.endswith(".json") for n in names)
    assert package + "sample_data/progressing/truth.json" in names


def test_napari_finds_the_plugin_of_the_wheel(wheel, tmp_path):
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--quiet", "--target", str(tmp_path), str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", LOOKUP], env=environment, capture_output=True, text=True, check=True)
    place, found = done.stdout.strip().splitlines()
    assert place.startswith(str(tmp_path))
    assert found.startswith("True")


def test_npe2_validates_the_manifest():
    script = Path(sys.executable).with_name("npe2")
    done = subprocess.run([script, "validate", str(ROOT / "napari.yaml")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
