"""Where tumors are made to grow: brains with tissue maps, and real tumors with their signed distance.

ICBM152 2009a grey and white matter maps (Fonov et al. 2011, doi 10.1016/j.neuroimage.2010.07.033) come inside nilearn.
Real brains and sarcomas are read from ../shared/data where it is present (attribution in the model card).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_convlstm_tumor.errors import MissingDependency
from napari_convlstm_tumor.prepare.preprocess import normalisation
from napari_convlstm_tumor.volume import Grid, Volume

Half = npt.NDArray[np.float16]
# How far outside the brain the head is described (scalp and air), and the margin kept around it.
HEAD_MM = 24.0
AIR = -4.0  # normalised intensity of background; the network clamps there


@dataclass(frozen=True, eq=False)
class Anatomy:
    """One place on a 1 mm (brain) or other grid.

    images: modality -> (I, J, K) float16, normalised; empty for the template, whose images are painted from tissue.
    tissue: (3, I, J, K) uint8 grey, white, fluid (0..255), or None. outside: (I, J, K) float16 mm from the brain.
    distance: (I, J, K) float16 signed distance in mm of a real tumor, negative inside, or None.
    """

    name: str
    spacing_mm: tuple[float, float, float]
    images: dict[str, Half]
    tissue: npt.NDArray[np.uint8] | None = None
    outside: Half | None = None
    distance: Half | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """(I, J, K)."""
        any_map = self.outside if self.outside is not None else self.distance
        assert any_map is not None
        return any_map.shape


def template_brain() -> Anatomy:
    """The ICBM152 tissue maps at 1 mm; its images are painted."""
    grey, white, brain = _icbm_maps()
    return Anatomy("icbm152", (1.0, 1.0, 1.0), {}, *_tissue_and_outside(grey, white, brain))


def real_brains(folder: Path) -> list[Anatomy]:
    """The skull-stripped brains BRAIN-*/ (t1, t1c, t2, flair on the 1 mm MNI grid) with ICBM tissue laid on them."""
    found = []
    for case in sorted(folder.glob("BRAIN-*")):
        files = {m: nib.load(case / f"{m}.nii.gz") for m in ("t1", "t1c", "t2", "flair")}
        first = files["t1"]
        grey, white, _ = _icbm_maps(first)
        raw = {m: np.asarray(f.dataobj, dtype=np.float32) for m, f in files.items()}
        brain = raw["t1"] > 0
        images = {m: normalise_mr(image, brain) for m, image in raw.items()}
        found.append(Anatomy(case.name, (1.0, 1.0, 1.0), images, *_tissue_and_outside(grey, white, brain)))
    return found


def real_tumors(folder: Path, most: int | None = None) -> list[Anatomy]:
    """The sarcomas STS-*/: one Anatomy for CT and one for T1, each with the signed distance of its tumor.

    most: read no more than enough for so many.
    """
    found = []
    for case in sorted(folder.glob("STS-*"))[: None if most is None else (most + 1) // 2]:
        for modality in ("ct", "t1"):
            image = nib.load(case / f"{modality}.nii.gz")
            mask = np.asarray(nib.load(case / f"{modality}_tumor.nii.gz").dataobj) > 0
            raw = np.asarray(image.dataobj, dtype=np.float32)
            spacing = tuple(float(s) for s in image.header.get_zooms()[:3])
            values = {modality: _prepared(Volume(raw, Grid(raw.shape, image.affine)), modality)}
            distance = _signed_distance_mm(mask, spacing)
            found.append(Anatomy(f"{case.name}-{modality}", spacing, values, distance=distance))  # type: ignore[arg-type]
    return found


def real_glioblastomas(folder: Path) -> list[Anatomy]:
    """The visits GBM-*/DATE/ (T1c): one Anatomy each, with the signed distance of its mask, holes filled by slice."""
    found = []
    for case in sorted(folder.glob("GBM-*")):
        for n, visit in enumerate(sorted(p for p in case.iterdir() if p.is_dir()), start=1):
            image = nib.load(visit / "t1c.nii.gz")
            rim = np.asarray(nib.load(visit / "tumor.nii.gz").dataobj) > 0
            mask = np.stack([ndimage.binary_fill_holes(rim[..., k]) for k in range(rim.shape[2])], axis=-1)
            raw = np.asarray(image.dataobj, dtype=np.float32)
            spacing = tuple(float(s) for s in image.header.get_zooms()[:3])
            values = {"t1c": _prepared(Volume(raw, Grid(raw.shape, image.affine)), "t1c")}
            distance = _signed_distance_mm(mask, spacing)
            found.append(Anatomy(f"{case.name}-{n}", spacing, values, distance=distance))  # type: ignore[arg-type]
    return found


def _prepared(image: Volume, modality: str) -> Half:
    """An image as the network is fed."""
    centre, scale = normalisation(image, modality)
    return np.clip((image.data - centre) / scale, -20, 20).astype(np.float16)


def normalise_mr(image: npt.NDArray[np.float32], body: npt.NDArray[np.bool_]) -> Half:
    """Robust z-score in the brain: the unit in which training/appearance paints."""
    low, middle, high = np.percentile(image[body], (25, 50, 75))
    return np.clip((image - middle) / ((high - low) / 1.349 + 1e-6), -20, 20).astype(np.float16)


def _signed_distance_mm(mask: npt.NDArray[np.bool_], spacing: tuple[float, ...]) -> Half:
    inside = ndimage.distance_transform_edt(mask, spacing)
    outside = ndimage.distance_transform_edt(~mask, spacing)
    return (outside - inside).astype(np.float16)


def _icbm_maps(like: Any = None) -> tuple[npt.NDArray[Any], ...]:
    """Grey, white (0..1) and brain (bool) on the grid of ``like`` (a whole-millimetre shift) or their own."""
    try:
        from nilearn import datasets, image
    except ImportError as error:
        raise MissingDependency("Simulating brains", "nilearn", "train") from error
    maps = [
        datasets.load_mni152_gm_template(resolution=1),
        datasets.load_mni152_wm_template(resolution=1),
        datasets.load_mni152_brain_mask(resolution=1),
    ]
    if like is not None:
        kinds = ("linear", "linear", "nearest")  # the last one is a mask
        maps = [
            image.resample_to_img(m, like, interpolation=kind, force_resample=True, copy_header=True)
            for m, kind in zip(maps, kinds, strict=True)
        ]
    grey, white, brain = (np.asarray(m.dataobj, dtype=np.float32) for m in maps)
    return grey, white, brain > 0.5


def _tissue_and_outside(
    grey: npt.NDArray[np.float32], white: npt.NDArray[np.float32], brain: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.uint8], Half]:
    """(3, I, J, K) grey, white, fluid in 0..255 within the brain, and mm from it outside."""
    tissue = np.stack([grey, white, np.clip(1 - grey - white, 0, 1)]) * brain
    outside = ndimage.distance_transform_edt(~brain.astype(bool)).astype(np.float16)
    return (np.clip(tissue, 0, 1) * 255).astype(np.uint8), outside
