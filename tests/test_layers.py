"""The direction of imports of docs/design.md, and what a plain import or --help may load."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import napari_convlstm_tumor

PACKAGE = "napari_convlstm_tumor"
ROOT = Path(napari_convlstm_tumor.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

CORE = {"errors", "volume", "series", "settings", "analysis"}
ROOMS = {"io", "prepare", "model", "measure"}
# A room may import itself and the rooms named here; "__init__" is that of the package (the version).
MAY_IMPORT = {
    "__init__": set(),
    "errors": set(),
    "volume": {"errors"},
    "series": {"errors", "volume"},
    "settings": {"errors", "volume", "series"},
    "analysis": {"errors", "volume", "series", "settings"},
    **{room: CORE | {"__init__"} for room in ROOMS},
    "report": CORE | ROOMS | {"__init__"},
    "results": CORE | {"io", "report", "__init__"},
    "steps": CORE | ROOMS | {"report", "__init__"},
    "pipeline": CORE | ROOMS | {"report", "results", "steps", "__init__"},
    "batch": CORE | ROOMS | {"report", "results", "pipeline", "__init__"},
    "training": CORE | ROOMS | {"report", "results", "pipeline", "__init__"},
    "terminal": CORE | {"io", "report", "results", "pipeline", "batch", "__init__"},
    "cli": CORE | ROOMS | {"report", "results", "pipeline", "batch", "training", "terminal", "__init__"},
    "__main__": {"cli"},
    "edit": CORE | ROOMS | {"report", "results", "steps", "pipeline", "batch", "__init__"},
    "_napari": CORE | ROOMS | {"report", "results", "edit", "steps", "pipeline", "batch", "__init__"},
}
# Libraries that belong to some rooms only.
ONLY_IN = {
    "napari": {"_napari"},
    "qtpy": {"_napari"},
    "PyQt6": {"_napari"},
    "magicgui": {"_napari"},
    "vispy": {"_napari"},
    "pydicom": {"io"},
    "highdicom": {"io", "report"},
    "nilearn": {"training"},
    "rich": {"cli", "terminal"},
    "argparse": {"cli", "settings", "training"},
}
HEAVY = ("torch", "monai", "scipy", "SimpleITK", "napari", "qtpy", "PyQt6")
# What only cli may do to the process it runs in.
PROCESS_WIDE = {
    "os.environ",
    "os.getenv",
    "os.putenv",
    "logging.basicConfig",
    "logging.disable",
    "sys.exit",
    "os._exit",
    "random.seed",
    "np.random.seed",
    "numpy.random.seed",
    "torch.manual_seed",
    "torch.cuda.manual_seed",
    "torch.cuda.manual_seed_all",
    "torch.use_deterministic_algorithms",
    "torch.set_default_dtype",
    "torch.set_default_device",
    "monai.utils.set_determinism",
}


def room_of(module: str) -> str:
    """Room of a dotted module of this package; "__init__" for the package itself."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join((PACKAGE, *(parts[:-1] if parts[-1] == "__init__" else parts)))


def is_module(dotted: str) -> bool:
    place = ROOT.joinpath(*dotted.split(".")[1:])
    return place.is_dir() or place.with_suffix(".py").is_file()


def imported_by(tree: ast.AST, path: Path) -> list[str]:
    """Every dotted module that a file imports, anywhere in it; relative imports are made absolute."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module_of(path).split(".")
                package = package if path.name == "__init__.py" else package[:-1]
                kept = package[: len(package) - node.level + 1]
                base = ".".join(kept + ([base] if base else []))
            for alias in node.names:
                deeper = f"{base}.{alias.name}"
                found.append(deeper if base.split(".")[0] == PACKAGE and is_module(deeper) else base)
    return found


def used_names(tree: ast.AST) -> set[str]:
    """Dotted names used ("os.environ"), and names imported out of a module ("from os import environ")."""
    dotted = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    pulled = {
        f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    return dotted | pulled


@pytest.fixture(params=FILES, ids=lambda p: str(p.relative_to(ROOT)))
def source(request):
    path = request.param
    return path, ast.parse(path.read_text(encoding="utf-8")), room_of(module_of(path))


def test_imports_only_go_down(source):
    path, tree, room = source
    assert room in MAY_IMPORT, f"{room} is no room of docs/design.md; say there and here what it may import"
    inner = {room_of(m) for m in imported_by(tree, path) if m.split(".")[0] == PACKAGE}
    assert inner <= MAY_IMPORT[room] | {room}


def test_libraries_stay_in_their_rooms(source):
    path, tree, room = source
    tops = {m.split(".")[0] for m in imported_by(tree, path)}
    assert {t for t in tops if room not in ONLY_IN.get(t, {room})} == set()


def test_measure_needs_numpy_scipy_and_cc3d_only(source):
    path, tree, room = source
    outer = {m.split(".")[0] for m in imported_by(tree, path)} - set(sys.stdlib_module_names) - {PACKAGE}
    if room == "measure":
        assert outer <= {"numpy", "scipy", "cc3d"}
    if room in CORE:
        assert outer <= {"numpy"}


def test_only_cli_changes_the_process(source):
    path, tree, room = source
    allowed = {"sys.exit"} if room == "__main__" else set()
    if path.name == "parallel.py":
        allowed = {"os.getenv"}  # torchrun tells its processes who they are in the environment
    if room != "cli":
        assert used_names(tree) & PROCESS_WIDE <= allowed


def test_nothing_is_printed(source):
    _, tree, room = source
    calls = {n.func.id for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
    if room not in ("cli", "terminal"):
        assert "print" not in calls


@pytest.mark.parametrize(
    ("code", "file", "expected"),
    [
        ("import torch.nn as nn", "model/network.py", ["torch.nn"]),
        ("from napari_convlstm_tumor import volume", "io/read.py", [f"{PACKAGE}.volume"]),
        ("from napari_convlstm_tumor import __version__", "io/read.py", [PACKAGE]),
        ("from ..measure.growth import vdt_days", "io/read.py", [f"{PACKAGE}.measure.growth"]),
        ("from .. import measure", "io/read.py", [f"{PACKAGE}.measure"]),
        ("from ..volume import Grid", "io/__init__.py", [f"{PACKAGE}.volume"]),
        ("from . import growth", "measure/__init__.py", [f"{PACKAGE}.measure.growth"]),
        ("def f():\n    import napari", "io/read.py", ["napari"]),  # a lazy import is an import
    ],
)
def test_the_walk_sees_every_way_to_import(code, file, expected):
    assert imported_by(ast.parse(code), ROOT / file) == expected


@pytest.mark.parametrize(
    ("code", "seen"),
    [
        ("import os\nx = os.environ['A']", "os.environ"),
        ("from os import environ", "os.environ"),
        ("from sys import exit", "sys.exit"),
        ("import torch\ntorch.manual_seed(0)", "torch.manual_seed"),
    ],
)
def test_the_walk_sees_what_changes_the_process(code, seen):
    assert used_names(ast.parse(code)) & PROCESS_WIDE == {seen}


LOADED = "import sys; print(*sorted({m.split('.')[0] for m in sys.modules} & set(%r)))" % (HEAVY,)  # noqa: UP031
HELP = f"""
import runpy, sys
sys.argv = ["convlstm-tumor", "--help"]
try:
    runpy.run_module({PACKAGE!r}, run_name="__main__", alter_sys=True)
except SystemExit as end:
    assert not end.code, end.code
else:
    raise AssertionError("--help did not end the program")
print("LOADED", end=" ")
"""


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_package_loads_nothing_heavy():
    assert run_python(f"import {PACKAGE}\n{LOADED}").split() == []


def test_help_is_shown_without_loading_anything_heavy():
    text, _, loaded = run_python(HELP + LOADED).partition("LOADED")
    assert "usage: convlstm-tumor" in text
    assert loaded.split() == []


def test_the_probe_would_see_a_heavy_module():
    assert run_python(f"import scipy\n{LOADED}").split() == ["scipy"]
