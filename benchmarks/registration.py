"""Registration on real pairs, as markdown tables: registration.py --data ../shared/data.

MS: correlation of the two FLAIR visits on the published common grid, within the brain that both visits show under the
published transforms, the same mask for every row. The data's own notes do not say how their brain mask was made, so
both of ours are shown: bright tissue, and tissue with the rim of CSF and dura around it.
Glioblastoma: agreement (correlation in the body) and Dice of the hole-filled masks, before and after, and the round
trip of the second visit's mask to the common grid and back.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from scipy import ndimage

from napari_convlstm_tumor.io.read import read_mask, read_volume
from napari_convlstm_tumor.prepare.native import mask_to_grid, to_native
from napari_convlstm_tumor.prepare.preprocess import align
from napari_convlstm_tumor.prepare.register import agreement, register
from napari_convlstm_tumor.prepare.resample import resample
from napari_convlstm_tumor.series import AlignedSeries, Registration, Series, Visit
from napari_convlstm_tumor.settings import Settings
from napari_convlstm_tumor.training.evaluate import dice, filled, result_of
from napari_convlstm_tumor.volume import FloatArray, Grid, Volume

FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])  # ITK files are LPS
IDENTITY = np.eye(4)
# Brain tissue in FLAIR: brighter than this share of the 98th percentile, after cutting bridges thinner than 14 mm.
TISSUE_SHARE, OPENING_MM = 0.35, 7.0
RIM_MM = 6.0

Mask = npt.NDArray[np.bool_]


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    data = parser.parse_args().data
    print("| patient | transform | tissue | tissue and rim | mm from published | quality | good | s |")
    print("|---|---|---|---|---|---|---|---|")
    for folder in sorted((data / "ms").iterdir()):
        print_ms(folder)
    print("\n| patient | agreement before | after | Dice before | after | round trip | quality | good | s |")
    print("|---|---|---|---|---|---|---|---|---|")
    for folder in sorted((data / "glioblastoma").iterdir()):
        print_glioblastoma(folder)


# ---- MS: against the published transforms ----


def print_ms(folder: Path) -> None:
    """Rows of one patient: headers on the common grid, headers from visit 1, ours, published."""
    first, second = (read_volume([folder / f"visit-{n}" / "flair.nii.gz"]) for n in (1, 2))
    to_first, to_second = (read_transform(folder / f"visit-{n}_flair_to_common_space.txt") for n in (1, 2))
    grid = read_volume([folder / "change_in_common_space.nii.gz"]).grid
    published = [resample(first, grid, to_first), resample(second, grid, to_second)]
    brain = tissue(published[0], grid) & tissue(published[1], grid)
    brain = np.asarray(ndimage.binary_fill_holes(brain))
    rim = distance_mm(~brain, grid) <= RIM_MM
    found, seconds = timed(second, first)
    rows = {
        "none": (IDENTITY, IDENTITY),
        "header": (to_first, to_first),
        "ours": (to_first, found.ref_to_visit @ to_first),
        "published": (to_first, to_second),
    }
    points = grid.to_mm(np.argwhere(brain)[::1000])
    for name, (a, b) in rows.items():
        pair = resample(first, grid, a), resample(second, grid, b)
        off = np.linalg.norm(sent(points, b) - sent(points, to_second), axis=1).mean()
        verdict = f"{found.quality:.3f} | {found.good} | {seconds:.1f}" if name == "ours" else "| |"
        # "none" moves both visits off the published frame, so its distance to it would say nothing
        shown = "" if name == "none" else f"{off:.2f}"
        print(
            f"| {folder.name} | {name} | {correlation(*pair, brain):.3f} | {correlation(*pair, rim):.3f} "
            f"| {shown} | {verdict} |"
        )


def read_transform(path: Path) -> FloatArray:
    """The (4, 4) RAS matrix of a linear ITK transform file."""
    transform = sitk.ReadTransform(str(path))
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    lps = np.eye(4)
    lps[:3, :3] = np.array([transform.TransformPoint(axis) for axis in np.eye(3).tolist()]).T - origin[:, None]
    lps[:3, 3] = origin
    return np.asarray(FLIP @ lps @ FLIP)


def tissue(image: npt.NDArray[np.float32], grid: Grid) -> Mask:
    """The largest bright piece that survives an opening: the brain, without scalp and face."""
    bright = image > TISSUE_SHARE * np.percentile(image, 98)
    core, _ = ndimage.label(distance_mm(bright, grid) > OPENING_MM)
    if not core.any():
        raise SystemExit("No brain tissue was found in a FLAIR image; is it FLAIR?")
    largest = core == 1 + int(np.argmax(np.bincount(core.ravel())[1:]))
    return np.asarray((distance_mm(~largest, grid) <= OPENING_MM) & bright)


def distance_mm(mask: Mask, grid: Grid) -> FloatArray:
    """Distance of every True voxel to the nearest False one."""
    return np.asarray(ndimage.distance_transform_edt(mask, sampling=grid.spacing_mm))


def sent(points: FloatArray, matrix: FloatArray) -> FloatArray:
    """Points (N, 3) through a (4, 4)."""
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def correlation(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32], where: Mask) -> float:
    """Pearson correlation within a mask."""
    return float(np.corrcoef(a[where], b[where])[0, 1])


# ---- glioblastoma: not made worse ----


def print_glioblastoma(folder: Path) -> None:
    """The row of one patient."""
    visits = [glioblastoma_visit(path, n) for n, path in enumerate(sorted(folder.iterdir()))]
    first, second = (visit.images["t1c"] for visit in visits)
    found, seconds = timed(second, first)
    transforms = (IDENTITY, found.ref_to_visit)
    agreements = " | ".join(f"{agreement(second, first, m):.3f}" for m in transforms)
    overlaps = " | ".join(f"{filled_dice(visits, m):.3f}" for m in transforms)
    aligned = result_of(align(Series(folder.name, tuple(visits)), Settings()))
    trip = round_trip(aligned, visits[1])
    print(
        f"| {folder.name} | {agreements} | {overlaps} | {trip:.4f} "
        f"| {found.quality:.3f} | {found.good} | {seconds:.1f} |"
    )


def glioblastoma_visit(folder: Path, number: int) -> Visit:
    """One visit; only the order of its date is used."""
    image = read_volume([folder / "t1c.nii.gz"])
    return Visit(str(number), number, {"t1c": image}, read_mask(folder / "tumor.nii.gz", image.grid))


def filled_dice(visits: list[Visit], ref_to_visit: FloatArray) -> float:
    """Dice of the two masks, holes filled slice by slice, the second laid on the first."""
    fixed, moving = (Volume(filled(m.data), m.grid) for v in visits if (m := v.mask) is not None)
    return dice(fixed.data, mask_to_grid(moving, fixed.grid, ref_to_visit))


def round_trip(aligned: AlignedSeries, visit: Visit) -> float:
    """Dice of the second visit's own mask with itself after common grid and back."""
    common, own = aligned.masks[1], visit.mask
    if common is None or own is None:
        raise SystemExit("A glioblastoma visit has no mask.")
    return dice(to_native(common, aligned, 1, own.grid), own.data)


def timed(moving: Volume, fixed: Volume) -> tuple[Registration, float]:
    """A registration and its seconds."""
    start = time.perf_counter()
    found = register(moving, fixed)
    return found, time.perf_counter() - start


if __name__ == "__main__":
    main()
