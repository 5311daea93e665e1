"""Registration against known motions at full size: known_motion.py --data ../shared/data [--modality t1c].

Both visits are made from one real brain (../shared/data/brains) on 240 x 240 x 155 voxels of 1 mm: turned by up to
2 and 8 degrees, the second 8 mm off, each with its own bias field and noise, and with a tumor whose radius grows from
9 to 16 mm. Prints the mean distance between where the true and the found motion send points of the brain.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial.transform import Rotation

from napari_convlstm_tumor.io.read import read_volume
from napari_convlstm_tumor.prepare.register import register
from napari_convlstm_tumor.volume import FloatArray, Grid, Volume

SHAPE = (240, 240, 155)
START_MM = 8.0
DEGREES = (2.0, 8.0)
RADII_MM = (9.0, 16.0)
# Rim and core of the tumor, bias (standard deviation of its logarithm) and noise, as shares of the 99th percentile.
RIM, CORE, RIM_MM = 1.2, 0.3, 4.0
BIAS, NOISE = 0.25, 0.02


def main() -> None:
    """Print the table, a row for each brain."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--modality", default="t1c")
    options = parser.parse_args()
    print("| brain | mean target error, mm | quality | s | processor s |\n|---|---|---|---|---|")
    for seed, folder in enumerate(sorted((options.data / "brains").iterdir()), start=1):
        brain = read_volume([folder / f"{options.modality}.nii.gz"])
        moving, fixed, truth, points = known_pair(brain, seed)
        wall, cpu = time.perf_counter(), time.process_time()
        found = register(moving, fixed)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        error = np.linalg.norm(sent(points, found.ref_to_visit) - sent(points, truth), axis=1).mean()
        print(f"| {folder.name} | {error:.3f} | {found.quality:.3f} | {wall:.1f} | {cpu:.1f} |", flush=True)


def known_pair(brain: Volume, seed: int) -> tuple[Volume, Volume, FloatArray, FloatArray]:
    """(second visit, first visit, ref_to_visit, points of the brain in the first visit's mm)."""
    rng = np.random.default_rng(seed)
    middle = brain.grid.to_mm([(n - 1) / 2 for n in brain.grid.shape])
    grid = around(middle)
    seed_mm = middle + rng.uniform(-25, 25, 3)
    shifts = (rng.uniform(-1, 1, 3), START_MM * unit(rng.normal(size=3)))
    turns = [rng.uniform(-limit, limit, 3) for limit in DEGREES]
    motions = [rigid(turn, shift, middle) for turn, shift in zip(turns, shifts, strict=True)]
    first, second = (
        visit(brain, grid, motion, seed_mm, radius, rng) for motion, radius in zip(motions, RADII_MM, strict=True)
    )
    inside = brain.grid.to_mm(np.argwhere(brain.data > 0.1 * brain.data.max())[::2000])
    return second, first, motions[1] @ np.linalg.inv(motions[0]), sent(inside, motions[0])


def visit(
    brain: Volume, grid: Grid, motion: FloatArray, seed_mm: FloatArray, radius_mm: float, rng: np.random.Generator
) -> Volume:
    """The brain moved, with a tumor, a bias field and noise of its own."""
    to_index = np.linalg.inv(brain.grid.affine) @ np.linalg.inv(motion) @ grid.affine
    image = ndimage.affine_transform(brain.data, to_index[:3, :3], to_index[:3, 3], grid.shape, order=3)
    bright = float(np.percentile(brain.data, 99))
    axes = np.ogrid[tuple(slice(0, n) for n in grid.shape)]
    centre = grid.to_index(sent(seed_mm, motion))
    distance = np.sqrt(sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True)))
    tumor = (distance < radius_mm) & (image > 0.05 * bright)
    image[tumor] = bright * np.where(distance < radius_mm - RIM_MM, CORE, RIM)[tumor]
    noisy = image * bias_field(grid.shape, rng) + rng.normal(0, NOISE * bright, grid.shape)
    return Volume(noisy.astype(np.float32), grid)


def bias_field(shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Smooth and positive, another one at every call."""
    knots = rng.normal(size=(5, 5, 4))
    field = ndimage.zoom(knots, [n / k for n, k in zip(shape, knots.shape, strict=True)], order=3)
    return np.asarray(np.exp(BIAS * field / field.std()))


def around(middle: FloatArray) -> Grid:
    """The full-size grid with its middle there."""
    affine = np.eye(4)
    affine[:3, 3] = middle - (np.array(SHAPE) - 1) / 2
    return Grid(SHAPE, affine)


def rigid(degrees: FloatArray, shift_mm: FloatArray, about: FloatArray) -> FloatArray:
    """(4, 4): turned about a point by Euler angles, then shifted."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    matrix[:3, 3] = about - matrix[:3, :3] @ about + shift_mm
    return matrix


def unit(vector: FloatArray) -> FloatArray:
    """The vector at length 1."""
    return np.asarray(vector / np.linalg.norm(vector))


def sent(points: FloatArray, matrix: FloatArray) -> FloatArray:
    """Points (..., 3) through a (4, 4)."""
    return np.asarray(points @ matrix[:3, :3].T + matrix[:3, 3])


if __name__ == "__main__":
    main()
