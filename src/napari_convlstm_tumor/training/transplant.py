"""A real tumor laid into another patient's image: few tumors, many surroundings.

After CarveMix (Zhang et al. 2021, doi 10.1007/978-3-030-87193-2_19) and TumorCP (Yang et al. 2021, doi
10.1007/978-3-030-87193-2_55), with the tumor's contrast to what lies around it kept, or less of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from napari_convlstm_tumor.training.anatomy import AIR, Anatomy
from napari_convlstm_tumor.training.crops import COARSE, Crop, crop_points, sample_at, within

# The middle of a tumor comes to lie so deep in the other's body (voxels), so far from its own tumor.
DEPTH_VOXELS, APART_MM = 4, 20.0
PLACES = 5000  # kept of an anatomy
TRIES, ENOUGH_WITHIN = 6, 0.9  # places looked at for one where so much of the tumor lies in the body
# What is near a tumor comes with it, up to so far; its contrast is that to what lies so far outside it.
MARGIN_MM, AROUND_MM = (0.0, 4.0), (4.0, 15.0)
CONTRAST = (0.5, 1.1)
FEW = 30  # voxels from which a median says little
SPARSE = 3  # every such point of a crop is looked at to judge a place


@dataclass(frozen=True, eq=False)
class Host:
    """An image with a tumor that may take another one, and the same at half the resolution.

    body: what is brighter than this. places: (n, 3) voxels of ``coarse``, deep in the body and far from its own tumor;
    n may be 0.
    """

    fine: Anatomy
    coarse: Anatomy
    body: float
    places: npt.NDArray[np.intp]


def host_of(fine: Anatomy, coarse: Anatomy) -> Host:
    """The body is what is brighter than halfway between the background and the tumor."""
    assert coarse.distance is not None
    image, distance = _image(coarse), coarse.distance
    background, tumor = float(np.percentile(image[::4, ::4], 1)), float(np.median(image[distance < 0]))
    body = (background + tumor) / 2
    beyond = F.pad(torch.from_numpy((image < body).astype(np.float32))[None], [DEPTH_VOXELS] * 6, value=1.0)
    near_edge = F.max_pool3d(beyond, 2 * DEPTH_VOXELS + 1, 1)[0].numpy() > 0
    found = np.argwhere(~near_edge & (distance > APART_MM))
    return Host(fine, coarse, body, found[:: max(1, len(found) // PLACES)])


def surroundings(level: Tensor, crop: Crop, host: Host, rng: np.random.Generator) -> Tensor | None:
    """(I, J, K * average) of the host's image as a crop shows it, where the tumor of ``level`` finds room; or None."""
    size, spacing, average = crop
    points = crop_points(size, spacing, average, torch.zeros(3), host.coarse.spacing_mm, rng)
    there = place_for(level, points, host, rng)
    if there is None:
        return None
    anatomy = host.coarse if spacing[0] > COARSE * host.fine.spacing_mm[0] else host.fine
    there = there * torch.tensor(host.coarse.spacing_mm) / torch.tensor(anatomy.spacing_mm)
    source = torch.from_numpy(_image(anatomy))[None]
    read = sample_at(source, there)[0]
    read[~within(source, there)] = AIR
    return read


def place_for(level: Tensor, points: Tensor, host: Host, rng: np.random.Generator) -> Tensor | None:
    """(I, J, K, 3) voxels of ``host.coarse`` that a crop shows when the tumor's middle lies at one of its places.

    points: the crop's points in these voxels, anywhere. None where the tumor finds no room in the body.
    """
    tumor = (level < 0).nonzero()
    if not len(host.places) or len(tumor) < FEW:
        return None
    middle = points[tuple(tumor.float().mean(0).round().long())]
    source = torch.from_numpy(_image(host.coarse))[None]
    inside = points[level < 0][::SPARSE, None, None]
    for _ in range(TRIES):
        shift = torch.from_numpy(host.places[int(rng.integers(len(host.places)))]).float() - middle
        seen = within(source, inside + shift) & (sample_at(source, inside + shift)[0] > host.body)
        if float(seen.float().mean()) >= ENOUGH_WITHIN:
            return points + shift
    return None


def draw_graft(rng: np.random.Generator) -> tuple[float, float]:
    """How much of what is near the tumor comes with it (mm), and how much of its contrast: the same at every visit."""
    return float(rng.uniform(*MARGIN_MM)), float(rng.uniform(*CONTRAST))


def lay_into(
    host: Tensor, image: Tensor, level: Tensor, spacing_mm: float, margin_mm: float, contrast: float
) -> Tensor:
    """``image`` (I, J, K) where its tumor is (level: signed distance in mm, negative inside), elsewhere ``host``."""
    around = (level > AROUND_MM[0]) & (level < AROUND_MM[1])
    tumor = level < 0
    if min(int(around.sum()), int(tumor.sum())) < FEW:
        return host
    own, other = image[around].median(), host[tumor].median()
    moved = other + contrast * (image - own)
    return torch.lerp(host, moved, torch.sigmoid((margin_mm - level) / (0.7 * spacing_mm)))


def _image(anatomy: Anatomy) -> npt.NDArray[np.float32]:
    """The one image of a real tumor."""
    (image,) = anatomy.images.values()
    return image.astype(np.float32)
