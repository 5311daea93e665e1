"""How a tumor looks in T1, T1c, T2, FLAIR and CT, and what a scanner makes of it.

Intensities are normalised as prepare/preprocess does: MR (raw - median) / robust sigma, CT (HU - 40) / 100.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from napari_convlstm_tumor.training.anatomy import AIR
from napari_convlstm_tumor.training.scene import Scene, coarsen, smooth_noise, soft, spread

Parts = tuple[float, float, float]

# Ranges of normalised intensity of tumor parts per modality: (enhancing or solid, necrosis, oedema). MR in units of
# the brain alone; CT with contrast: 55-110 HU, 5-30, 12-28.
TUMOR_LOOK = {
    "t1": ((-1.8, 0.0), (-2.5, -0.8), (-1.2, -0.2)),
    "t1c": ((1.5, 4.2), (-2.2, 0.2), (-1.2, 0.0)),
    "t2": ((0.6, 2.8), (1.0, 3.8), (1.0, 3.0)),
    "flair": ((0.8, 2.8), (-1.5, 2.4), (1.0, 3.4)),
    "ct": ((0.15, 0.7), (-0.35, -0.1), (-0.28, -0.12)),
}
# Without contrast a tumor on CT is a little darker or brighter than brain (8-30 or 42-55 HU).
PLAIN_CT = ((-0.32, -0.1), (0.02, 0.15))
# prepare/ normalises over the whole head: bright scalp and dark bone widen the spread, so that the brain's own contrast
# shrinks to this share. Measured on whole heads: T1c 0.5-0.9, FLAIR with fat suppression 0.35-0.45.
LEAST_GAIN, MOST_GAIN = 0.35, 1.1
# Normalised intensity of (fluid, rim, blood) of a resection cavity; blood is dark on T2, bright on T1 and CT.
CAVITY_LOOK = {
    "t1": (-2.0, 0.3, 1.6),
    "t1c": (-1.8, 1.7, 1.8),
    "t2": (3.0, -0.8, -1.6),
    "flair": (-1.5, 1.3, 0.9),
    "ct": (-0.3, 0.2, 0.3),
}
# Thin, linear enhancement of the margin is reaction, not tumor; it fades within months, clots within weeks.
RIM_MM, RIM_FADES_DAYS, BLOOD_DAYS = 1.3, 150.0, 45
# Texture is drawn in units of MR; a unit of CT is 100 HU, in which tissue differs by a tenth.
TEXTURE_UNIT = {"ct": 0.1}
PATCH_VOXELS = 4
# Fast tumors and metastases: a rim no thicker than this around a dark middle, up to a cyst with hardly any.
THIN_RIM_MM = (0.8, 3.0)
# Gliomas are hollow in several places, their rims are of any thickness and here and there take up no contrast. How far
# the hollow comes nearer to the edge or stays away from it, how uneven it is, and at which height of a smooth noise the
# tissue begins that takes up none (a lower one: more of it).
POCKETS_MM, MOTTLE, PALE_FROM = (2.0, 9.0), (0.2, 1.0), (-0.3, 1.2)
POCKET_SCALE_MM, PALE_SCALE_MM, THINNEST_RIM_MM = 9.0, 12.0, 0.7


@dataclass(frozen=True)
class Look:
    """How the tumor of one patient looks, the same at every visit.

    rim_mm: thickness of the rim around necrosis (99 = solid). parts: modality -> (solid, necrosis, oedema). texture and
    patchy: unevenness over a few and over many voxels. contrast: modality -> (gain, offset) of the whole image.
    pockets_mm, mottle, pale_from: of a heterogeneous tumor (POCKETS_MM, MOTTLE, PALE_FROM).
    """

    rim_mm: float
    oedema_mm: float
    parts: dict[str, Parts]
    texture: float
    enhancing: bool
    patchy: float = 0.0
    oedema_blur_mm: float = 1.0
    pockets_mm: float = 0.0
    mottle: float = 0.0
    pale_from: float | None = None
    contrast: dict[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Cavity:
    """Where tumor was taken out, at one visit: level (I, J, K) mm, negative inside; days since the operation."""

    level: Tensor
    days: int


def draw_look(rng: np.random.Generator, enhancing: bool | None = None) -> Look:
    """Ring or solid, with or without oedema, enhancing or not (drawn when not said)."""
    drawn = bool(rng.random() < 0.85)
    enhancing = drawn if enhancing is None else enhancing
    parts = {m: tuple(float(rng.uniform(*r)) for r in ranges) for m, ranges in TUMOR_LOOK.items()}
    if not enhancing:
        parts["t1c"] = parts["t1"]
        parts["ct"] = (float(rng.uniform(*PLAIN_CT[int(rng.integers(2))])), *parts["ct"][1:])
    rim = float(rng.uniform(2.5, 9)) if rng.random() < 0.6 else 99.0
    oedema = float(rng.uniform(3, 18)) if rng.random() < 0.7 else 0.0
    return Look(
        rim_mm=rim,
        oedema_mm=oedema,
        parts=parts,  # type: ignore[arg-type]
        texture=float(rng.uniform(0.1, 0.6)),
        enhancing=enhancing,
        patchy=float(rng.uniform(0, 0.9)),
        oedema_blur_mm=float(rng.uniform(0.8, 3.0)),
        contrast={m: _draw_contrast(rng) for m in ("t1", "t1c", "t2", "flair")},
    )


def with_thin_rim(look: Look, rng: np.random.Generator) -> Look:
    """The look of a tumor that is hollow but for a thin rim."""
    low, high = np.log(THIN_RIM_MM)
    return replace(look, rim_mm=float(np.exp(rng.uniform(low, high))))


def heterogeneous(look: Look, rng: np.random.Generator) -> Look:
    """The look of a tumor with several hollows, uneven inside, parts of which take up no contrast."""
    hollow = look.rim_mm < 50 or rng.random() < 0.7
    rim_mm = min(look.rim_mm, float(rng.uniform(1.0, 6.0))) if hollow else look.rim_mm
    pockets_mm, mottle, pale_from = (float(rng.uniform(*r)) for r in (POCKETS_MM, MOTTLE, PALE_FROM))
    return replace(look, rim_mm=rim_mm, pockets_mm=pockets_mm, mottle=mottle, pale_from=pale_from)


def _draw_contrast(rng: np.random.Generator) -> tuple[float, float]:
    gain = float(np.exp(rng.uniform(np.log(LEAST_GAIN), np.log(MOST_GAIN))))
    return gain, float(rng.normal(0.2 * (1 - gain), 0.2))


def paint(
    background: Tensor,
    level: Tensor,
    scene: Scene,
    look: Look,
    modality: str,
    texture: Tensor,
    cavity: Cavity | None = None,
) -> Tensor:
    """The background with the tumor of one visit painted in (I, J, K), in the contrast of the whole image."""
    solid, necrosis, oedema = look.parts[modality]
    unit = TEXTURE_UNIT.get(modality, 1.0)
    voxel = max(1.0, min(scene.spacing_mm))  # a rim thinner than a voxel is paler, not a row of dots
    patches = _patches(texture)
    image = background
    if look.oedema_mm > 0 and scene.tissue is not None:
        image = torch.lerp(image, oedema + 0.3 * unit * texture, _oedema(level, scene, look, patches))
    uneven = (look.texture * texture + look.patchy * patches.clamp(min=-1)) * (unit * _room(solid, modality))
    image = torch.lerp(image, _solid(solid, scene, look, modality) + uneven, soft(level, 0.6 * voxel))
    if look.rim_mm < 50:
        rim = look.rim_mm * (1 + 0.25 * texture.clamp(-1, 1) + 0.5 * patches.clamp(-1.2, 1.6))
        if look.pockets_mm > 0:
            rim = (rim + look.pockets_mm * _noise_of(scene, POCKET_SCALE_MM, 41)).clamp(min=THINNEST_RIM_MM)
        inner = necrosis + (0.3 * texture + look.mottle * patches) * unit
        image = torch.lerp(image, inner, soft(level + rim, 0.8 * voxel))
    if cavity is not None:
        image = _with_cavity(image, cavity, modality, texture, patches)
    gain, offset = look.contrast.get(modality, (1.0, 0.0))
    return image * gain + offset


def _solid(solid: float, scene: Scene, look: Look, modality: str) -> Tensor:
    """Brightness of the solid part: on T1c here and there what it is on T1."""
    enhanced = torch.tensor(solid)
    if look.pale_from is None or modality != "t1c":
        return enhanced
    pale = torch.sigmoid(6 * (_noise_of(scene, PALE_SCALE_MM, 43) - look.pale_from))
    return torch.lerp(enhanced, torch.tensor(look.parts["t1"][0]), pale)


def _noise_of(scene: Scene, scale_mm: float, salt: int) -> Tensor:
    """Smooth noise (I, J, K) of this scene's own, the same at every visit and in every modality."""
    rng = np.random.default_rng([scene.number, salt])
    return smooth_noise(scene.arrival.shape[1:], scale_mm / min(scene.spacing_mm), rng)


def _oedema(level: Tensor, scene: Scene, look: Look, patches: Tensor) -> Tensor:
    """Weight of oedema (I, J, K): along white matter, paler towards its edge, here and there less."""
    assert scene.tissue is not None
    reach = _reach(scene, look)
    depth = 1 - 0.3 * (level / reach).clamp(0, 1) + 0.12 * patches
    return soft(level - reach, look.oedema_blur_mm) * depth.clamp(0.3, 1) * (scene.tissue[:2].sum(0) > 0.3)


def _with_cavity(image: Tensor, cavity: Cavity, modality: str, texture: Tensor, patches: Tensor) -> Tensor:
    """Fluid where the tumor was taken out, a thin rim that fades over months, blood in the first weeks."""
    fluid, rim, blood = CAVITY_LOOK[modality]
    level, unit = cavity.level + 0.7 * texture, TEXTURE_UNIT.get(modality, 1.0)
    strength = max(0.35, float(np.exp(-cavity.days / RIM_FADES_DAYS)))
    thin = soft(level.abs() - RIM_MM * (0.6 + 0.3 * patches).clamp(0.1, 1.5), 0.6) * strength
    image = torch.lerp(image, fluid + 0.1 * unit * texture, soft(level, 0.6))
    if cavity.days <= BLOOD_DAYS:
        clot = soft(level.abs() - 3, 1.0) * torch.sigmoid(4 * (patches - 0.7))
        image = torch.lerp(image, blood + 0.2 * unit * texture, clot)
    return torch.lerp(image, torch.tensor(rim), thin)


def _reach(scene: Scene, look: Look) -> Tensor:
    """How far oedema goes from the tumor's edge, (I, J, K) mm: four times as far in white matter as in grey."""
    assert scene.tissue is not None
    return look.oedema_mm * (0.25 + 0.75 * scene.tissue[1])


def _room(solid: float, modality: str) -> float:
    """How uneven a solid part of this brightness may be without falling back into the brain's own range."""
    return float(np.clip(abs(solid), 0.3, 1.0)) if modality != "ct" else 1.0


def _patches(texture: Tensor) -> Tensor:
    """The slow part of a texture (I, J, K), with a spread of about 1."""
    coarse = coarsen(texture, tuple(min(PATCH_VOXELS, n) for n in texture.shape))
    return spread(coarse / coarse.std().clamp(min=1e-3), texture.shape)


def target_mask(level: Tensor, scene: Scene, look: Look, modalities: tuple[str, ...]) -> Tensor:
    """What a reader would outline, (I, J, K) bool: the core on T1c or CT, all that is abnormal on T2 or FLAIR."""
    core = level < 0
    shows_oedema = any(m in modalities for m in ("t2", "flair"))
    if ("t1c" in modalities and look.enhancing) or not shows_oedema or look.oedema_mm == 0 or scene.tissue is None:
        return core
    return core | ((level < _reach(scene, look)) & (scene.tissue[:2].sum(0) > 0.3))


# ---- scanners ----


def scanner(image: Tensor, rng: np.random.Generator, strength: float = 1.0) -> Tensor:
    """One MR acquisition of an image (I, J, K): bias field, contrast, noise, blur."""
    bias = torch.exp(strength * rng.uniform(0, 0.12) * smooth_noise(image.shape, max(image.shape) / 2, rng))
    image = (image - AIR) * bias + AIR
    image = image * float(np.exp(rng.normal(0, 0.15 * strength))) + float(rng.normal(0, 0.2 * strength))
    if rng.random() < 0.3 * strength:
        image = 0.6 * _blurred(image) + 0.4 * image
    return image + _noise(image, rng) * float(rng.uniform(0.02, 0.2) * strength)


def ct_scanner(image: Tensor, rng: np.random.Generator, strength: float = 1.0) -> Tensor:
    """One CT acquisition (I, J, K): HU are fixed, so only blur, a small drift (2 HU) and noise of 2-7 HU."""
    image = image + float(rng.normal(0, 0.02 * strength))
    noise = _noise(image, rng) * float(rng.uniform(0.02, 0.07) * strength)
    return _blurred(image + noise) if rng.random() < 0.5 else image + noise


def _blurred(image: Tensor) -> Tensor:
    return F.avg_pool3d(image[None, None], 3, 1, 1, count_include_pad=False)[0, 0]


def _noise(image: Tensor, rng: np.random.Generator) -> Tensor:
    return torch.from_numpy(rng.standard_normal(image.shape, dtype=np.float32))
