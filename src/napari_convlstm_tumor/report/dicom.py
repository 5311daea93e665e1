"""A patient's result as DICOM objects beside the source studies: SEG per visit, maps of change, one measurement report.

Only for visits that were read from DICOM. See docs/dicom-output.md.
"""

from __future__ import annotations

import re
import secrets
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_convlstm_tumor.analysis import Analysis
from napari_convlstm_tumor.errors import GeometryError, InputError, MissingDependency
from napari_convlstm_tumor.io.dicom_source import DicomSource, deidentified, find_source
from napari_convlstm_tumor.series import PatientFiles
from napari_convlstm_tumor.volume import Volume

if TYPE_CHECKING:
    from napari_convlstm_tumor.report.dicom_common import Origin

OWN_NAMES = re.compile(r"(?:seg|growth|log-growth|log-jacobian)-visit-\d+\.dcm|measurements\.dcm")
# The image that carries a visit, as in prepare/preprocess: of several on one grid, the objects refer to this one.
SOURCE_ORDER = ("t1c", "t1", "flair", "t2", "ct", "other")
LONGEST_PSEUDONYM = 64


def write_dicom(
    analysis: Analysis,
    files: PatientFiles,
    native_labels: Sequence[Volume],
    folder: Path,
    pseudonym: str | None = None,
) -> list[Path]:
    """Write seg-visit-NN.dcm, growth-visit-NN.dcm (and the maps asked for) and measurements.dcm; returns their paths.

    native_labels: per visit the lesion id (0 outside) of every voxel of ``analysis.native_masks``, (I, J, K) unsigned
    integers on its grid. The objects carry the source's patient, study and frame of reference, so that an archive files
    them beside it; with ``pseudonym`` nothing of the patient but UIDs (PS3.15 Basic Profile, Retain UIDs), all dates
    moved so that the first visit is on 2000-01-01. An earlier output in ``folder`` is replaced, whole or not at all.

    Raises MissingDependency without highdicom; InputError when a visit was not read from DICOM, the headers name
    different patients, labels do not fit the masks or the report, or ``folder`` holds other files.
    """
    _need_highdicom()
    _refuse_foreign(folder)
    _check_labels(analysis, native_labels)
    if pseudonym is not None and not (0 < len(pseudonym.strip()) <= LONGEST_PSEUDONYM and "\\" not in pseudonym):
        raise InputError(f"A pseudonym has 1 to {LONGEST_PSEUDONYM} characters and no backslash.")
    sources = _sources(analysis, files, pseudonym)
    with _quiet():
        objects = _build(analysis, files, native_labels, sources, pseudonym is not None)
        return _write(objects, folder)


def _need_highdicom() -> None:
    try:
        import highdicom  # noqa: F401
    except ImportError as error:
        raise MissingDependency("DICOM output", "highdicom", "dicom") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """The libraries' own warnings quote values of the source, which may be private."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


# ---- what is given ----


def _sources(analysis: Analysis, files: PatientFiles, pseudonym: str | None) -> tuple[DicomSource, ...]:
    if len(files.visits) != len(analysis.native_masks):
        raise InputError(f"The result has {len(analysis.native_masks)} visits, the files {len(files.visits)}.")
    found = []
    for t, (visit, mask) in enumerate(zip(files.visits, analysis.native_masks, strict=True)):
        order = [m for m in SOURCE_ORDER if m in analysis.images or m == "other"]
        try:
            source = find_source(visit.images, mask.grid, order)
        except InputError as error:
            raise type(error)(f"Visit {t + 1}: {error}") from error
        day = analysis.days[t] - analysis.days[0] if analysis.dated else None
        found.append(source if pseudonym is None else deidentified(source, pseudonym, day))
    if len({str(source.first.PatientID) for source in found}) > 1:
        raise InputError(
            "The DICOM headers of the visits name different patients, so no report can hold them together. Correct the "
            "headers if they are one person, or give a pseudonym."
        )
    return tuple(found)


def _check_labels(analysis: Analysis, labels: Sequence[Volume]) -> None:
    if len(labels) != len(analysis.native_masks):
        raise InputError(f"The result has {len(analysis.native_masks)} visits, but {len(labels)} have lesion labels.")
    known = {int(row["lesion"]) for row in analysis.report.lesions}
    for t, (label, mask) in enumerate(zip(labels, analysis.native_masks, strict=True), start=1):
        if label.data.dtype.kind != "u" or not label.grid.matches(mask.grid):
            raise GeometryError(f"Visit {t}: the lesion labels are not unsigned integers on the grid of the mask.")
        off = int(np.count_nonzero((label.data > 0) != (mask.data > 0)))
        if off:
            raise InputError(f"Visit {t}: {off} voxels have a lesion outside the mask, or none inside it.")
        unknown = sorted(set(np.unique(label.data[label.data > 0]).tolist()) - known)
        if unknown:
            raise InputError(f"Visit {t}: lesion {unknown[0]} has no row in the report, so no Tracking UID.")


# ---- objects ----


def _build(
    analysis: Analysis,
    files: PatientFiles,
    labels: Sequence[Volume],
    sources: tuple[DicomSource, ...],
    anonymous: bool,
) -> Mapping[str, Any]:
    """File name -> dataset."""
    from napari_convlstm_tumor.report.dicom_common import Origin
    from napari_convlstm_tumor.report.dicom_map import maps_of_change
    from napari_convlstm_tumor.report.dicom_sr import measurement_report

    origin = Origin(analysis, sources, anonymous)
    try:
        segs = _segmentations(origin, files, labels)
        maps = maps_of_change(origin)
        report = measurement_report(origin, segs)
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(
            "The headers of the source images lack or contradict something that a DICOM object needs "
            f"({type(error).__name__}). Export the series again from the archive."
        ) from error
    named = {f"seg-visit-{t:02d}.dcm": seg for t, seg in enumerate(segs, start=1)}
    return {name: seg for name, seg in named.items() if seg is not None} | maps | {"measurements.dcm": report}


def _segmentations(origin: Origin, files: PatientFiles, labels: Sequence[Volume]) -> list[Any | None]:
    from napari_convlstm_tumor.report.dicom_common import tracking_uids
    from napari_convlstm_tumor.report.dicom_seg import segmentation

    tracking = tracking_uids(origin.analysis.report.lesions)
    used = origin.analysis.settings.masks == "use"
    return [
        segmentation(origin, t, volume, tracking, used and files.visits[t].mask is not None)
        for t, volume in enumerate(labels)
    ]


# ---- files ----


def _refuse_foreign(folder: Path) -> None:
    if folder.exists() and any(not OWN_NAMES.fullmatch(path.name) for path in folder.iterdir()):
        raise InputError(
            f"The folder '{folder.name}' holds files that are not DICOM output of this program. Choose another folder."
        )


def _write(objects: Mapping[str, Any], folder: Path) -> list[Path]:
    """All files beside their place first, then moved in together."""
    part = folder.parent / f".{folder.name}.{secrets.token_hex(4)}.part"
    old = part.with_suffix(".old")
    try:
        part.mkdir(parents=True)
        for name, dataset in objects.items():
            dataset.save_as(part / name, enforce_file_format=True)
        if folder.exists():
            folder.replace(old)
        part.replace(folder)
    except OSError as error:
        if old.exists() and not folder.exists():
            old.replace(folder)
        raise InputError(f"'{folder.name}' cannot be written: {error.strerror or 'unknown reason'}.") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
    return [folder / name for name in objects]
