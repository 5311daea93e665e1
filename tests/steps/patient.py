"""A small patient already on the common grid, with given masks on other grids: the input of every step."""

import numpy as np

from napari_convlstm_tumor.series import AlignedSeries, Prediction, Registration, Series, Visit
from napari_convlstm_tumor.volume import Grid, Volume

SHAPE = (40, 36, 30)
STAYS = np.eye(4)
GRID = Grid(SHAPE, np.diag([2.0, 2.0, 2.0, 1.0]))


def ball(grid, centre_mm, radius_mm, to_common=STAYS):
    """A ball about a point of the common space, on a grid whose space lies ``to_common`` off."""
    places = grid.to_mm(np.moveaxis(np.indices(grid.shape), 0, -1))
    places = places @ to_common[:3, :3].T + to_common[:3, 3]
    return (np.linalg.norm(places - np.asarray(centre_mm), axis=-1) < radius_mm).astype(np.uint8)


def turned(degrees, shift_mm=(0.0, 0.0, 0.0)):
    """Reference mm -> visit mm: a turn about the axis from foot to head, and a shift."""
    a = np.deg2rad(degrees)
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
    matrix[:3, 3] = shift_mm
    return matrix


def patient(masks, days=None, *, native=None, registrations=None, dated=True, modalities=("t1c",), probability=None):
    """Series, AlignedSeries and Prediction. masks: (T, I, J, K) on GRID; native: per visit the person's own Volume."""
    masks = np.asarray(masks, np.uint8)
    days = tuple(60 * t for t in range(len(masks))) if days is None else days
    native = [Volume(m, GRID) for m in masks] if native is None else native
    registrations = registrations or [Registration(np.eye(4), 1.0, True)] * len(masks)
    given = probability is None
    visits = tuple(
        Visit(f"v{t}", days[t], {m: Volume(np.zeros(v.grid.shape, np.float32), v.grid) for m in modalities},
              v if given else None)
        for t, v in enumerate(native)
    )  # fmt: skip
    count = len(masks)
    aligned = AlignedSeries(
        "P", np.zeros((count, len(modalities), *SHAPE), np.float32), np.ones((count, len(modalities)), bool),
        np.ones(masks.shape, bool), tuple(modalities), days, dated, GRID, np.zeros((count, 1), np.float32),
        np.ones((count, 1), np.float32), tuple(masks) if given else (None,) * count, tuple(registrations),
        tuple(v.grid for v in native),
    )  # fmt: skip
    chance = masks.astype(np.float32) if probability is None else probability
    return Series("P", visits, dated), aligned, Prediction(chance, days, GRID, "masks given" if given else "network")


def returned(work):
    """What a generator returns; its fractions must rise to at most 1."""
    last = 0.0
    while True:
        try:
            fraction = next(work)
        except StopIteration as finished:
            return finished.value
        assert last <= fraction <= 1
        last = fraction
