"""What a finished analysis still knows of its series: enough to measure it again, without its files.

Measuring asks where visits lie and what their images cover, never for the pixels. So a result that was read back from
its folder can be corrected as well as one that was just made. Two things it no longer knows, and what stands for them:
a visit covers what its first image covers, and a mask given on other voxels than the image's is the one in native/.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_convlstm_tumor.analysis import Analysis
from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.io.clinical import ClinicalInputs, read_clinical
from napari_convlstm_tumor.io.links import Link, read_links
from napari_convlstm_tumor.io.read import read_mask
from napari_convlstm_tumor.prepare.preprocess import normalisation
from napari_convlstm_tumor.prepare.resample import covered
from napari_convlstm_tumor.results import CLINICAL_FILE, LINKS_FILE
from napari_convlstm_tumor.series import AlignedSeries, PatientFiles, Series, Visit
from napari_convlstm_tumor.volume import Grid, Volume

Mask = npt.NDArray[np.uint8]
# Sentences that are made anew whenever an analysis is measured again.
CORRECTED = "Corrected by hand: "
REMADE = ("No response: ", CORRECTED)


@dataclass(frozen=True, eq=False)
class Case:
    """One patient to correct: where everything lies, and what a person gave besides images.

    aligned: without pixels (all zero, no memory), its masks those that were given. series: likewise.
    files: the warnings of the first run; the files themselves where they are still known.
    """

    aligned: AlignedSeries
    series: Series
    files: PatientFiles
    links: tuple[Link, ...]
    clinical: ClinicalInputs | None


def case_of(analysis: Analysis) -> Case:
    """The Case of an analysis, made or read back. Raises InputError for damaged links or clinical entries."""
    grids = tuple(v.grid for v in analysis.native_masks)
    given = tuple(_given(analysis, t) for t in range(len(grids)))
    links, clinical = _attached(analysis)
    return Case(_aligned(analysis, grids, given), _series(analysis, grids, given), _files(analysis), links, clinical)


def with_pixels(analysis: Analysis, aligned: AlignedSeries) -> AlignedSeries:
    """The aligned series with the images of the analysis, normalised as in ``prepare.align``: for the network.

    The scale is found on the aligned voxels instead of the scanner's own, which moves it by less than a percent.
    """
    data = np.zeros(aligned.data.shape, dtype=np.float32)
    present, centre, scale = aligned.present.copy(), aligned.centre.copy(), aligned.scale.copy()
    for c, (modality, frames) in enumerate(analysis.images.items()):
        for t, frame in enumerate(frames):
            present[t, c] = bool(frame.min() < frame.max())
            if present[t, c]:
                centre[t, c], scale[t, c] = normalisation(Volume(frame, aligned.grid), modality)
                data[t, c] = (frame - centre[t, c]) / scale[t, c]
    return replace(aligned, data=data, present=present, centre=centre, scale=scale)


# ---- what is still known ----


def _aligned(analysis: Analysis, grids: tuple[Grid, ...], given: tuple[Volume | None, ...]) -> AlignedSeries:
    visits, modalities, grid = len(analysis.days), tuple(analysis.images), analysis.grid
    inside = [covered(g, grid, r.ref_to_visit) for g, r in zip(grids, analysis.registrations, strict=True)]
    return AlignedSeries(
        patient=analysis.patient,
        data=_nothing((visits, len(modalities), *grid.shape)),
        present=np.ones((visits, len(modalities)), dtype=bool),
        inside=np.stack(inside),
        modalities=modalities,
        days=analysis.days,
        dated=analysis.dated,
        grid=grid,
        centre=np.zeros((visits, len(modalities)), dtype=np.float32),
        scale=np.ones((visits, len(modalities)), dtype=np.float32),
        masks=tuple(None if g is None else analysis.masks[t] for t, g in enumerate(given)),
        registrations=analysis.registrations,
        native_grids=grids,
        reference=_reference(analysis),
    )


def _reference(analysis: Analysis) -> int:
    return min(analysis.settings.reference, len(analysis.days)) - 1


def _series(analysis: Analysis, grids: tuple[Grid, ...], given: tuple[Volume | None, ...]) -> Series:
    kind = next(iter(analysis.images))
    visits = tuple(
        Visit(f"visit {t + 1}", day, {kind: Volume(_nothing(grids[t].shape), grids[t])}, given[t])
        for t, day in enumerate(analysis.days)
    )
    return Series(analysis.patient, visits, analysis.dated)


def _given(analysis: Analysis, t: int) -> Volume | None:
    """The mask that a person gave for a visit; None where a network drew it: its probability has values between."""
    chance = analysis.prediction.probability[t]
    if bool(((chance > 0) & (chance < 1)).any()):
        return None
    native = analysis.native_masks[t]
    visits = analysis.source.visits if analysis.source is not None else ()
    known = visits[t].mask if len(visits) > t else None
    return native if known is None else _read_again(known, native)


def _read_again(path: Path, native: Volume) -> Volume:
    """The mask on the voxels it was drawn on; the one that was kept where its file cannot be read any more."""
    try:
        return read_mask(path, native.grid)
    except (InputError, OSError):
        return native


def _files(analysis: Analysis) -> PatientFiles:
    """The source of the analysis, its warnings all that were said of the first run and still hold."""
    kept = tuple(w for w in analysis.report.warnings if not w.startswith(REMADE))
    visits = analysis.source.visits if analysis.source is not None else ()
    return PatientFiles(analysis.patient, visits, warnings=kept)


def _attached(analysis: Analysis) -> tuple[tuple[Link, ...], ClinicalInputs | None]:
    """Links and clinical entries that were kept with the analysis."""
    with tempfile.TemporaryDirectory() as name:
        for file, text in _texts(analysis.attachments).items():
            (Path(name) / file).write_text(text, encoding="utf-8")
        links, table = Path(name) / LINKS_FILE, Path(name) / CLINICAL_FILE
        return (
            read_links(links, len(analysis.days)) if links.exists() else (),
            read_clinical(table, analysis.patient, analysis.days, analysis.dated) if table.exists() else None,
        )


def _texts(attachments: Mapping[str, str]) -> dict[str, str]:
    return {name: attachments[name] for name in (LINKS_FILE, CLINICAL_FILE) if name in attachments}


def _nothing(shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Zeros of any shape that take no memory."""
    return np.broadcast_to(np.float32(0), shape)
