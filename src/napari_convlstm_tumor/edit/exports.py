"""What a corrected analysis can be given away as: report, tables, images, DICOM, a picture, a film, and its recipe."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import yaml

from napari_convlstm_tumor.analysis import Analysis
from napari_convlstm_tumor.edit.editor import Editor
from napari_convlstm_tumor.edit.recompute import PENDING
from napari_convlstm_tumor.errors import InputError, MissingDependency
from napari_convlstm_tumor.io.nifti import is_single_file
from napari_convlstm_tumor.io.write import write_csv, write_nifti, write_text
from napari_convlstm_tumor.report.dicom import write_dicom
from napari_convlstm_tumor.report.html import patient_html
from napari_convlstm_tumor.report.tables import lesions_csv, visits_csv
from napari_convlstm_tumor.results import CLINICAL_FILE, LINKS_FILE, RECIPE_FILE, save
from napari_convlstm_tumor.series import PatientFiles
from napari_convlstm_tumor.volume import Grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MANIFEST, MASKS = "manifest.csv", "masks"
RECIPE_COMMAND = f"convlstm-tumor run {MANIFEST} --recipe {RECIPE_FILE} --out result"
# Long enough to look at one visit, short enough to see the growth.
SECONDS_A_VISIT = 1.0
# Players show a picture of less than this rate badly: every visit is shown in as many equal pictures as it takes.
FILM_PICTURES_A_SECOND = 10
NO_FFMPEG = str(MissingDependency("MP4", "imageio-ffmpeg", "film"))
PICTURE_INCHES, PICTURE_DPI = 4.0, 110
# Room around the tumor in a picture, so that a reader knows where it lies.
AROUND_MM = 35.0


def can_export(analysis: Analysis) -> dict[str, str]:
    """Kind of export -> why it cannot be made of this analysis; an empty string where it can."""
    known = analysis.source is not None and bool(analysis.source.visits)
    unknown = "" if known else "The images' files are not known: open the patient's own folder."
    no_gif = "" if importlib.util.find_spec("imageio") else "It needs the package 'imageio', which napari brings."
    no_mp4 = "" if importlib.util.find_spec("imageio_ffmpeg") else NO_FFMPEG
    return {
        "report": "", "csv": "", "nifti": "", "dicom": _no_dicom(analysis) or unknown, "png": "",
        "gif": no_gif, "mp4": no_mp4, "recipe": unknown,
    }  # fmt: skip


def export(editor: Editor, kind: str, folder: Path) -> list[Path]:
    """Write one kind of export (a key of ``can_export``) into ``folder``; returns what was written.

    Raises InputError with the reason when this analysis cannot be exported so.
    """
    why_not = can_export(editor.analysis).get(kind, f"There is no export called '{kind}'.")
    if why_not:
        raise InputError(f"This cannot be exported: {why_not}")
    if editor.analysis.prediction.forecast_note == PENDING:
        editor.ahead()
    folder.mkdir(parents=True, exist_ok=True)
    return _WRITERS[kind](editor, folder)


# ---- one kind each ----


def _report(editor: Editor, folder: Path) -> list[Path]:
    analysis = editor.analysis
    path = folder / f"{analysis.patient}-report.html"
    forecasts = analysis.report.forecasts or None
    write_text(path, patient_html(analysis, forecasts=forecasts))
    return [path]


def _tables(editor: Editor, folder: Path) -> list[Path]:
    report, name = editor.analysis.report, editor.analysis.patient
    paths = [folder / f"{name}-{table}.csv" for table in ("visits", "lesions", "edits")]
    write_text(paths[0], visits_csv(report))
    write_text(paths[1], lesions_csv(report))
    write_csv(paths[2], editor.log_rows())
    return paths


def _result(editor: Editor, folder: Path) -> list[Path]:
    """The whole result folder: masks and maps as NIfTI, with everything beside them."""
    place = folder / editor.analysis.patient
    save(editor.analysis, place)
    return [place]


def _dicom(editor: Editor, folder: Path) -> list[Path]:
    analysis = editor.analysis
    assert analysis.source is not None
    return write_dicom(analysis, analysis.source, analysis.native_lesions, folder / f"{analysis.patient}-dicom")


def _picture(editor: Editor, folder: Path) -> list[Path]:
    path = folder / f"{editor.analysis.patient}-visits.png"
    _replace(path, lambda part: _draw(editor.analysis).savefig(part, format="png", dpi=PICTURE_DPI))
    return [path]


def _gif(editor: Editor, folder: Path) -> list[Path]:
    film: Any = importlib.import_module("imageio.v3")

    path = folder / f"{editor.analysis.patient}-growth.gif"
    frames = _frames(editor.analysis)
    pause = round(1000 * SECONDS_A_VISIT)
    _replace(path, lambda part: film.imwrite(part, frames, extension=".gif", duration=pause, loop=0))
    return [path]


def _mp4(editor: Editor, folder: Path) -> list[Path]:
    film: Any = importlib.import_module("imageio_ffmpeg")

    path = folder / f"{editor.analysis.patient}-growth.mp4"
    frames = np.repeat(_frames(editor.analysis), round(FILM_PICTURES_A_SECOND * SECONDS_A_VISIT), axis=0)
    # libx264 takes sides of even length: an odd row or column is left out
    frames = np.ascontiguousarray(frames[:, : frames.shape[1] // 2 * 2, : frames.shape[2] // 2 * 2])

    def write(part: Path) -> None:
        size = frames.shape[2], frames.shape[1]
        named = ["-f", "mp4"]  # the name of a part does not end in .mp4
        writer = film.write_frames(str(part), size, fps=FILM_PICTURES_A_SECOND, macro_block_size=2, output_params=named)
        writer.send(None)
        for frame in frames:
            writer.send(frame)
        writer.close()

    _replace(path, write)
    return [path]


def _recipe(editor: Editor, folder: Path) -> list[Path]:
    """Everything a batch needs to come to the same numbers: manifest, masks, links, clinical entries, settings."""
    analysis = editor.analysis
    assert analysis.source is not None
    for t in range(len(analysis.days)):
        write_nifti(folder / MASKS / f"visit-{t + 1:02d}.nii.gz", *_mask_to_give(editor, t))
    settings = analysis.settings.to_dict() | {"masks": "use", "prompts": None, "links": None, "clinical": None}
    for name, setting in ((LINKS_FILE, "links"), (CLINICAL_FILE, "clinical")):
        if name in analysis.attachments:
            write_text(folder / name, analysis.attachments[name])
            settings[setting] = name
    write_csv(folder / MANIFEST, _manifest(analysis, analysis.source, folder))
    write_text(folder / RECIPE_FILE, yaml.safe_dump(settings, sort_keys=False))
    return [folder / MANIFEST, folder / RECIPE_FILE]


_WRITERS = {
    "report": _report, "csv": _tables, "nifti": _result, "dicom": _dicom, "png": _picture, "gif": _gif, "mp4": _mp4,
    "recipe": _recipe,
}  # fmt: skip


# ---- recipe ----


def _mask_to_give(editor: Editor, t: int) -> tuple[npt.NDArray[np.uint8], Grid]:
    """A painted mask on the voxels it was painted on, in the visit's scanner space; any other as it is in native/."""
    analysis = editor.analysis
    if t not in editor.corrected:
        return analysis.native_masks[t].data, analysis.native_masks[t].grid
    affine = analysis.registrations[t].ref_to_visit @ analysis.grid.affine
    return analysis.masks[t], Grid(analysis.grid.shape, affine)


def _manifest(analysis: Analysis, files: PatientFiles, folder: Path) -> list[Mapping[str, Any]]:
    """A row per image; the mask stands beside the first image of its visit. Paths are relative to the manifest."""
    rows: list[Mapping[str, Any]] = []
    for number, visit in enumerate(files.visits, start=1):
        wanted = [m for m in visit.images if m in analysis.images]
        for n, modality in enumerate(wanted):
            paths = visit.images[modality]
            image = paths[0] if is_single_file(paths[0]) else paths[0].parent
            rows.append(
                {
                    "patient": files.patient,
                    "visit": number,
                    "day": visit.day if files.dated else "",
                    "modality": modality,
                    "path": os.path.relpath(image, folder),
                    "mask": f"{MASKS}/visit-{number:02d}.nii.gz" if n == 0 else "",
                }
            )
    return rows


def _no_dicom(analysis: Analysis) -> str:
    if importlib.util.find_spec("highdicom") is None:
        return str(MissingDependency("DICOM output", "highdicom", "dicom"))
    visits = analysis.source.visits if analysis.source is not None else ()
    if any(is_single_file(paths[0]) for visit in visits for paths in visit.images.values()):
        return "The images were not read from DICOM files."
    return ""


# ---- pictures ----


def _draw(analysis: Analysis) -> Figure:
    """All visits side by side, in the axial slice with most tumor."""
    from matplotlib.figure import Figure

    count = len(analysis.days)
    figure = Figure(figsize=(PICTURE_INCHES * count, PICTURE_INCHES * 1.1), facecolor="black", layout="constrained")
    for axes, t in zip(np.ravel(figure.subplots(1, count)), range(count), strict=True):
        _draw_visit(axes, analysis, t)
    return figure


def _frames(analysis: Analysis) -> npt.NDArray[np.uint8]:
    """(T, height, width, 3) one picture per visit."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    frames = []
    for t in range(len(analysis.days)):
        figure = Figure(figsize=(PICTURE_INCHES, PICTURE_INCHES * 1.1), dpi=PICTURE_DPI, facecolor="black")
        canvas: Any = FigureCanvasAgg(figure)
        _draw_visit(figure.add_axes((0.0, 0.0, 1.0, 0.9)), analysis, t)
        canvas.draw()
        frames.append(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    return np.stack(frames)


def _draw_visit(axes: Any, analysis: Analysis, t: int) -> None:
    """One visit: the first image, the tumor's outline, the day. The patient's right is on the left."""
    from napari_convlstm_tumor.report.figures import LESION_COLOURS

    frames = next(iter(analysis.images.values()))
    cut = _cut(analysis)
    known = frames[(slice(None), *cut)]
    low, high = np.percentile(known[t], (1, 99.5))
    image, mask = (_upright(a[(t, *cut)]) for a in (frames, analysis.masks))
    dx, dy, _ = analysis.grid.spacing_mm
    axes.imshow(image, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), aspect=dy / dx)
    if mask.any():
        axes.contour(mask, levels=[0.5], colors=[LESION_COLOURS[0]], linewidths=1.5)
    when = f"day {analysis.days[t]}" if analysis.dated else "no date"
    ml = analysis.report.visits[t]["volume_mm3"] / 1000
    axes.set_title(f"visit {t + 1}, {when}: {ml:.1f} mL", color="white", fontsize=11)
    axes.axis("off")


def _cut(analysis: Analysis) -> tuple[slice, slice, int]:
    """The axial slice with most tumor of all visits, and the part of it around the tumor."""
    tumor = np.any(analysis.masks != 0, axis=0)
    if not tumor.any():
        return slice(None), slice(None), tumor.shape[2] // 2
    k = int(np.argmax(np.count_nonzero(analysis.masks, axis=(0, 1, 2))))
    sides = []
    for axis, spacing in enumerate(analysis.grid.spacing_mm[:2]):
        there = np.flatnonzero(np.any(tumor, axis=(1 - axis, 2)))
        room = round(AROUND_MM / spacing)
        sides.append(slice(max(0, int(there[0]) - room), int(there[-1]) + 1 + room))
    return sides[0], sides[1], k


def _upright(plane: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(R, A) of a RAS+ grid -> rows from front to back, columns from the patient's right to left."""
    return plane.T[::-1, ::-1]


def _replace(path: Path, write: Any) -> None:
    """Whole or not at all: written beside its place, then moved in."""
    part = path.with_name(f".{path.name}.part")
    try:
        write(part)
        part.replace(path)
    except OSError as error:
        raise InputError(f"{path.name} cannot be written: {error.strerror or 'unknown reason'}.") from error
    finally:
        part.unlink(missing_ok=True)
