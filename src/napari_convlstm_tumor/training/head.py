"""The head around the tumor: brain, skull, scalp, and what looks like tumor and is none.

Vessels, sinuses, dura and choroid plexus enhance in T1c; old white-matter lesions and the caps of the ventricles are
bright in FLAIR and T2. They are part of the background, so no mask has them: the network learns to leave them alone.
Everything is drawn from tissue maps and smooth noise, so it works on any crop, turned and flipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from napari_convlstm_tumor.training.anatomy import AIR
from napari_convlstm_tumor.training.scene import Scene, blocks, coarsen, smooth_noise, soft, spread

# Normalised intensity of (grey, white, fluid) of the painted template. CT: 37, 29 and 8 HU.
TISSUE_LOOK = {
    "t1": (-0.2, 0.9, -2.2),
    "t1c": (-0.1, 0.8, -1.8),
    "t2": (0.4, -0.5, 3.0),
    "flair": (0.5, -0.1, -2.0),
    "ct": (-0.03, -0.11, -0.32),
}
# Ranges of normalised intensity of (dura and vessels, bone, fat, muscle and mucosa). FLAIR often suppresses fat.
HEAD_LOOK = {
    "t1": ((-1.0, 0.5), (-3.5, -1.5), (2.0, 8.0), (-1.2, 0.4)),
    "t1c": ((0.5, 3.2), (-3.5, -1.5), (2.0, 8.0), (-0.4, 2.5)),
    "t2": ((-2.0, 1.0), (-3.0, -1.5), (-1.5, 4.5), (-1.5, 0.5)),
    "flair": ((-1.5, 0.8), (-3.5, -1.5), (-3.0, 3.5), (-1.5, 1.5)),
    "ct": ((0.1, 0.6), (6.0, 14.0), (-1.4, -1.0), (0.0, 0.3)),
}
# Brightness of (vessels and sinuses, choroid plexus, white-matter lesions and caps); weight 0 where nothing is seen.
CLUTTER_LOOK = {
    "t1c": ((0.8, 4.5), (0.5, 3.5), None),
    "t2": ((-2.5, -0.5), None, (0.6, 2.2)),
    "flair": ((-2.5, 0.3), (-0.5, 1.5), (0.9, 2.6)),
    "t1": ((-2.0, 0.3), None, (-1.3, -0.3)),
    "ct": ((0.15, 0.6), (0.2, 1.5), (-0.22, -0.15)),
}
CT_AIR = -10.4
# A ventricle is fluid over blocks of this size, away from the surface: sulci are thinner.
VENTRICLE_BLOCK_MM = 4.0


@dataclass(frozen=True, eq=False)
class Clutter:
    """What looks like tumor and is none, as weights (I, J, K) of 0..1, the same for every modality of a scene."""

    vessels: Tensor
    choroid: Tensor
    white_lesions: Tensor


_known: WeakKeyDictionary[Scene, Clutter] = WeakKeyDictionary()


def clutter_of(scene: Scene) -> Clutter:
    """Vessels with sinuses, choroid plexus, white-matter lesions with caps; drawn once for a scene."""
    if scene not in _known:
        rng = np.random.default_rng([scene.number, 31])
        ventricles = _ventricles(scene)
        _known[scene] = Clutter(_vessels(scene, rng), _choroid(scene, ventricles, rng), _white(scene, ventricles, rng))
    return _known[scene]


def head_background(scene: Scene, modality: str, rng: np.random.Generator, scalp: bool) -> Tensor:
    """The brain without tumor (I, J, K): real, or painted from tissue; with skull and scalp on request."""
    assert scene.tissue is not None and scene.outside is not None
    real = modality in scene.images
    image = scene.images[modality].clone() if real else _brain(scene, modality, rng)
    image = image if real else _with_brain_clutter(image, scene, modality, rng)
    image[scene.outside > 0.5] = CT_AIR if modality == "ct" else AIR + float(rng.uniform(0, 1.2))
    return _with_scalp(image, scene, modality, rng) if scalp or modality == "ct" else image


def _brain(scene: Scene, modality: str, rng: np.random.Generator) -> Tensor:
    """Tissue with its mean intensities; grey and white are nearly alike in some scans, far apart in others."""
    assert scene.tissue is not None
    if modality == "ct":
        means = torch.tensor(TISSUE_LOOK[modality]) + torch.from_numpy(rng.normal(0, 0.02, 3)).float()
        uneven = 0.02
    else:
        means = torch.tensor(TISSUE_LOOK[modality]) + torch.from_numpy(rng.normal(0, 0.25, 3)).float()
        middle = means[:2].mean()
        means[:2] = middle + (means[:2] - middle) * float(rng.uniform(0.3, 1.15))
        uneven = float(rng.uniform(0.05, 0.2))
    image = (_sharpened(scene.tissue, rng) * means.reshape(3, 1, 1, 1)).sum(dim=0)
    return image + uneven * smooth_noise(image.shape, 3, rng)


def _sharpened(tissue: Tensor, rng: np.random.Generator) -> Tensor:
    """The tissue of one person from that of many: the averaged maps have washed-out sulci."""
    for _ in range(int(rng.integers(3))):
        tissue = tissue * tissue
    return tissue / tissue.sum(dim=0).clamp(min=1e-3)


def _with_brain_clutter(image: Tensor, scene: Scene, modality: str, rng: np.random.Generator) -> Tensor:
    """Vessels, choroid plexus and white-matter lesions in the brain; each is missing in some patients."""
    clutter = clutter_of(scene)
    contrast = modality != "ct" or rng.random() < 0.5
    weights = (clutter.vessels, clutter.choroid, clutter.white_lesions)
    for weight, bright, share in zip(weights, CLUTTER_LOOK[modality], (0.85, 0.8, 0.75), strict=True):
        if bright is None or not contrast or rng.random() > share:
            continue
        image = torch.lerp(image, torch.tensor(float(rng.uniform(*bright))), weight)
    return image


def _with_scalp(image: Tensor, scene: Scene, modality: str, rng: np.random.Generator) -> Tensor:
    """Dura, skull and scalp around the brain: bright rings that are not tumor. In place.

    Without them the network outlined the scalp of real heads (T1c, 74,000 voxels against 10,000 of tumor).
    """
    outside = scene.outside
    assert outside is not None
    dura, bone, fat, muscle = (float(rng.uniform(*r)) for r in HEAD_LOOK[modality])
    uneven = smooth_noise(image.shape, 10, rng)
    shell = outside > 0.5
    skull = 1.2 + rng.uniform(0, 1.5) + rng.uniform(0, 0.8) * uneven
    skin, end = 5 + rng.uniform(0, 6), 8 + rng.uniform(0, 15)
    values = torch.where(outside <= skull, dura + 0.4 * _scale(modality) * uneven, bone + _bone(modality) * uneven)
    marrow = _marrow(outside, skin, uneven) if modality != "ct" and rng.random() < 0.5 else None
    if marrow is not None:
        values = torch.lerp(values, torch.tensor(0.5 * (fat + bone)), marrow)
    soft_tissue = torch.where(uneven > 0.7, torch.tensor(muscle), fat * (1 + _scale(modality) * 0.35 * uneven))
    values = torch.where(outside > skin, soft_tissue, values)
    inside = shell & (outside <= max(end, skin + 3))
    image[inside] = values[inside]
    if modality in ("t1c", "ct", "t2", "flair"):
        _sinuses(image, scene, modality, rng)
    return image


def _sinuses(image: Tensor, scene: Scene, modality: str, rng: np.random.Generator) -> None:
    """Veins as wide as 3-9 mm that run between brain and skull. In place."""
    outside = scene.outside
    assert outside is not None
    course = smooth_noise(outside.shape, 30 / min(scene.spacing_mm), rng)
    wide = float(rng.uniform(1.5, 4.5))
    bright = CLUTTER_LOOK[modality][0]
    assert bright is not None
    weight = soft(torch.sqrt((course * 22) ** 2 + (outside - wide * 0.7) ** 2) - wide, 1.0) * (outside > 0.3)
    image.lerp_(torch.tensor(float(rng.uniform(*bright))), weight)


def _marrow(outside: Tensor, skin: float, uneven: Tensor) -> Tensor:
    """Weight of fatty marrow between the two plates of the skull, (I, J, K)."""
    middle = (1.5 + skin) / 2
    return soft((outside - middle).abs() - 0.2 * skin, 1.0) * (0.6 + 0.4 * uneven).clamp(0, 1)


def _scale(modality: str) -> float:
    return 0.1 if modality == "ct" else 1.0


def _bone(modality: str) -> float:
    return 2.5 if modality == "ct" else 0.4


# ---- what looks like tumor ----


def _vessels(scene: Scene, rng: np.random.Generator) -> Tensor:
    """Tubes of 0.5-1.6 mm radius: where two smooth noises are both near 0 runs a line. Mostly in sulci and fissures."""
    assert scene.tissue is not None
    finest = min(scene.spacing_mm)
    apart = float(rng.uniform(12, 22))
    one = smooth_noise(scene.tissue.shape[1:], apart / finest, rng)
    two = smooth_noise(scene.tissue.shape[1:], apart / finest, rng)
    radius = float(rng.uniform(0.5, 1.6))
    place = scene.tissue[2] + 0.7 * scene.tissue[0] + 0.35 * scene.tissue[1]
    line = torch.sqrt(one**2 + two**2) * (0.7 * apart)
    return soft(line - radius * place.clamp(0.4, 1), 0.8) * place.clamp(0, 1)


def _ventricles(scene: Scene) -> Tensor:
    """How much of the surroundings is deep fluid, on coarse blocks (I', J', K')."""
    assert scene.tissue is not None and scene.outside is not None
    block = blocks(scene.spacing_mm, VENTRICLE_BLOCK_MM, scene.outside.shape)
    fluid, rim = coarsen(scene.tissue[2], block), coarsen(scene.outside, block)
    near_surface = torch.nn.functional.max_pool3d(rim[None, None], 5, 1, 2)[0, 0]
    return fluid * (near_surface < 0.5)


def _choroid(scene: Scene, ventricles: Tensor, rng: np.random.Generator) -> Tensor:
    """Tufts in the ventricles."""
    assert scene.tissue is not None
    tufts = smooth_noise(scene.tissue.shape[1:], 5 / min(scene.spacing_mm), rng)
    inside = spread((ventricles - 0.55).clamp(min=0) * 6, tufts.shape).clamp(max=1)
    return torch.sigmoid(6 * (tufts - float(rng.uniform(0.5, 1.3)))) * inside * scene.tissue[2]


def _white(scene: Scene, ventricles: Tensor, rng: np.random.Generator) -> Tensor:
    """Spots in deep white matter (few in most, many in some) and a band along the ventricles."""
    assert scene.tissue is not None
    white = scene.tissue[1]
    spots = smooth_noise(white.shape, float(rng.uniform(2.5, 5)) / min(scene.spacing_mm), rng)
    few = torch.sigmoid(7 * (spots - float(rng.uniform(1.4, 2.8))))
    near = torch.nn.functional.avg_pool3d(ventricles[None, None], 3, 1, 1, count_include_pad=False)[0, 0]
    band = spread(near, white.shape) * float(rng.uniform(0, 3.0)) - 0.15
    caps = (band * (1 + 0.5 * spots)).clamp(0, 1)
    return torch.maximum(few, caps) * white.clamp(0, 1) ** 2
