"""Tiny patients with given masks: a whole analysis of one takes a fraction of a second."""

import re
import sys
from pathlib import Path
from types import ModuleType

import nibabel as nib
import numpy as np
import pytest

from napari_convlstm_tumor.batch import Outcome

SHAPE = (24, 24, 12)
AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])
TIMES = re.compile(rb"<dt>(?:Seconds|Peak memory)</dt><dd>.*?</dd>")


def write_patient(folder: Path, seed: int = 0, shape=SHAPE, days=(0, 50), noise=5) -> Path:
    rng = np.random.default_rng(seed)
    places = np.moveaxis(np.indices(shape), 0, -1) - np.array(shape) / 2
    for n, day in enumerate(days):
        visit = folder / f"day-{day:03d}"
        visit.mkdir(parents=True)
        tumor = np.linalg.norm(places, axis=-1) < 3 + n
        image = 100 + 50 * tumor + noise * rng.normal(size=shape)
        nib.save(nib.Nifti1Image(image.astype(np.float32), AFFINE), visit / "t1c.nii.gz")
        nib.save(nib.Nifti1Image(tumor.astype(np.uint8), AFFINE), visit / "mask.nii.gz")
    return folder


def damage(folder: Path) -> None:
    """A patient that looks right until its pixels are read."""
    next(folder.rglob("t1c.nii.gz")).write_bytes(b"not an image")


def outcomes(events) -> list[Outcome]:
    return [event for _, event in events if isinstance(event, Outcome)]


def contents(out: Path) -> dict[str, bytes]:
    """Every file of every result by its place, less what tells how long this run took (run.json, two lines of HTML)."""
    files = (p for p in sorted(out.rglob("*")) if p.is_file() and ".locks" not in p.parts)
    return {str(p.relative_to(out)): TIMES.sub(b"", p.read_bytes()) for p in files if p.name != "run.json"}


@pytest.fixture(scope="session")
def kit() -> ModuleType:
    """The functions of this file: test modules cannot import each other."""
    return sys.modules[__name__]


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """Four patients, the third of them damaged. Not to be written to."""
    root = tmp_path_factory.mktemp("patients")
    for n in range(1, 5):
        write_patient(root / f"P-{n:02d}", seed=n)
    damage(root / "P-03")
    return root


@pytest.fixture
def own_folder(tmp_path) -> Path:
    """Two patients of this test's own, to be changed."""
    for n in (1, 2):
        write_patient(tmp_path / "in" / f"P-{n:02d}", seed=n)
    return tmp_path / "in"
