"""Parts of one lesion that lie apart.

Each is measured on its own and the diameters add up, as RECIST 1.1 has it for lesions that split (check: recalled from
its section on lesions that split or coalesce, not read). A line across the gap would grow while the tumor shrinks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from napari_convlstm_tumor.measure.distance import BoolVolume, Box
from napari_convlstm_tumor.measure.lesions import SPECK_MM3, SPECK_VOXELS

# A gap up to this, or to two voxels, is one of the drawing: the two sides of it are one part.
SAME_PART_MM = 2.0


def parts_apart(lesion: BoolVolume, spacing_mm: Sequence[float]) -> list[BoolVolume]:
    """The parts (I, J, K) of a lesion, largest first; none when it is empty.

    Crumbs, no larger than what ``lesions`` calls a speck, are left out where there is more than crumbs.
    """
    box = (ndimage.find_objects(lesion.astype(np.uint8)) or [(slice(0, 0),) * 3])[0]
    near = lesion[box]
    reach = [max(1, math.floor(SAME_PART_MM / 2 / s)) for s in spacing_mm]
    wide = ndimage.maximum_filter(near, [2 * n + 1 for n in reach], mode="constant")
    labels, count = ndimage.label(wide, np.ones((3, 3, 3)))
    if count < 2:
        return [lesion] * count
    labels[~near] = 0
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    order = np.argsort(-sizes, kind="stable")
    speck = max(SPECK_VOXELS, SPECK_MM3 / math.prod(spacing_mm))
    return [_whole(labels == n + 1, box, lesion.shape) for k, n in enumerate(order) if k == 0 or sizes[n] >= speck]


def _whole(part: BoolVolume, box: Box, shape: tuple[int, ...]) -> BoolVolume:
    answer = np.zeros(shape, dtype=bool)
    answer[box] = part
    return answer
