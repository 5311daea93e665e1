"""Real tumors as simulated patients: the image of the only visit, and other visits made of it by a known smooth warp.

At the first visit the image and mask are the real ones; later the front has moved by a known distance, and the tissue
around it with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from napari_convlstm_tumor.errors import InputError, SettingsError
from napari_convlstm_tumor.training import simulate
from napari_convlstm_tumor.training.anatomy import Anatomy, real_tumors
from napari_convlstm_tumor.training.crops import sample_at
from napari_convlstm_tumor.training.patients import SimulatedPatient, taken, write_simulated
from napari_convlstm_tumor.training.truth import follow, front_speeds

# The front moves by at most this, and inward by at most half of the tumor's depth: beyond, the warp folds.
MOST_GROWTH_MM, MOST_SHRINKAGE = 12.0, 0.5
UNEVEN, UNEVEN_MM = 0.5, 25.0


def simulate_warped(anatomy: Anatomy, seed: int, visits: int = 4) -> SimulatedPatient:
    """A patient of 2 to 8 visits from an anatomy with the signed distance of a real tumor; same seed, same patient.

    Raises InputError for an anatomy without a tumor, SettingsError for a number of visits that is not 2 to 8.
    """
    if anatomy.distance is None:
        raise InputError(f"{anatomy.name} has no real tumor. Use simulate_patient to grow one in it.")
    if not 2 <= visits <= 8:
        raise SettingsError(f"visits is 2 to 8; got {visits}.")
    rng = np.random.default_rng([seed, 78])
    (modality,) = anatomy.images
    source = torch.stack([_float(anatomy.distance), _float(anatomy.images[modality])])
    course = simulate.draw_course(rng, visits, 1, (0.0, 0.0))
    moves = np.clip(course.radii_mm[0], -MOST_SHRINKAGE * max(float(-source[0].min()), 0.0), MOST_GROWTH_MM)
    uneven = 1 + UNEVEN * simulate.smooth_noise(source.shape[1:], UNEVEN_MM / min(anatomy.spacing_mm), rng)
    seen = torch.stack([_moved(source, anatomy, float(move) * uneven) for move in moves])  # (T, 2, I, J, K)
    masks = (seen[:, 0] < 0).numpy()
    lesions, events = follow(masks)
    still = masks.astype(np.uint8)
    return SimulatedPatient(
        days=course.days,
        images={modality: np.stack([taken(image, modality, rng) for image in seen[:, 1]])},
        masks=still,
        still=still,
        affine=np.diag([*anatomy.spacing_mm, 1.0]),
        motions=(np.eye(4),) * visits,
        course=simulate.Course(course.days, moves[None].astype(np.float32), course.speeds),
        lesions=lesions,
        front_speed=front_speeds(seen[:, 0], course.days, anatomy.spacing_mm).numpy(),
        events=events,
    )


def write_warped(real: Path, out: Path, patients: int, seed: int, visits: int, given: str) -> Iterator[str]:
    """Write patients made from the tumors in ``real`` (STS-*/) to OUT/NAME-SEED/; yields each folder's name.

    Raises InputError when the folder holds no tumor.
    """
    tumors = real_tumors(real, most=patients)
    if not tumors:
        raise InputError(f"No STS-*/ folder with ct.nii.gz, t1.nii.gz and their tumor masks in {real.name}.")
    for n in range(patients):
        anatomy = tumors[n % len(tumors)]
        name = f"{anatomy.name}-{seed + n:03d}"
        about = {"seed": seed + n, "made_by": f"convlstm-tumor simulate --real, from {anatomy.name}"}
        write_simulated(simulate_warped(anatomy, seed + n, visits), out / name, about, given)
        yield name


def _moved(source: Tensor, anatomy: Anatomy, growth_mm: Tensor) -> Tensor:
    """source (2, I, J, K), distance and image, with the front moved by growth_mm (I, J, K)."""
    if not growth_mm.any():
        return source
    shift = simulate.warp_coordinates(source[0], anatomy.spacing_mm, growth_mm)
    axes = [torch.arange(n).float() for n in source.shape[1:]]
    places = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    return sample_at(source, (places + shift).movedim(0, -1))


def _float(array: np.ndarray[tuple[int, ...], np.dtype[np.float16]]) -> Tensor:
    return torch.from_numpy(array.astype(np.float32))
