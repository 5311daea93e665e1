"""The work behind the widget's buttons, as generators for a thread worker. No Qt here; layers are never touched."""

from __future__ import annotations

import traceback
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_convlstm_tumor._napari.reader import is_result, result_folder
from napari_convlstm_tumor.errors import InputError, TumorError
from napari_convlstm_tumor.series import PatientFiles, Prompt
from napari_convlstm_tumor.settings import Settings

if TYPE_CHECKING:  # the pipeline brings torch: imported in the thread, when Run is pressed
    from napari_convlstm_tumor._napari.layers import LayerData
    from napari_convlstm_tumor.pipeline import Analysis, Segmenter, Step


READING_RESULT = "Reading the saved result"
FIRST_IMAGE_SHARE = 0.2  # of the time that a whole result takes


@dataclass(frozen=True)
class Failure:
    """One sentence for the person, and the details for who must find the cause."""

    sentence: str
    details: str


@dataclass(frozen=True, eq=False)
class Clicks:
    """Points clicked in the viewer, in each visit's own scanner space; whose images, and of which days, they are on."""

    patient: str
    days: tuple[int, ...]
    prompts: tuple[Prompt, ...]


@dataclass(frozen=True, eq=False)
class Drawn:
    """A step with layers to show: making them takes too long for the window's own thread."""

    step: Step
    layers: list[LayerData]


def drawn(steps: Iterator[Step | Drawn]) -> Iterator[Step | Drawn]:
    """Pass the steps on, the one with a result together with its layers."""
    from napari_convlstm_tumor._napari.layers import to_layers

    for step in steps:
        yield step if isinstance(step, Drawn) or step.analysis is None else Drawn(step, to_layers(step.analysis))


def guarded(steps: Iterator[Any]) -> Generator[Any, None, Failure | None]:
    """Pass the steps on; return what went wrong instead of raising it.

    A thread worker takes every RuntimeError for its own end and says nothing, and a full GPU is a RuntimeError.
    """
    try:
        yield from steps
    except TumorError as error:
        return Failure(str(error), traceback.format_exc())
    except Exception as error:
        kind = type(error).__name__
        return Failure(f"Something unexpected went wrong ({kind}).", traceback.format_exc())
    return None


def open_steps(place: Path, files: PatientFiles | None = None) -> Iterator[Step | Drawn]:
    """A patient's images as they lie, or a saved result, with their layers. files: as for ``run_steps``."""
    from napari_convlstm_tumor import pipeline
    from napari_convlstm_tumor._napari.reader import patient_layers

    if is_result(place):
        yield from _saved_steps(result_folder(place))
        return
    yield pipeline.Step("Reading", 0.0)
    made, warnings = patient_layers(place, files)
    said = " ".join(("Images shown as they lie, not yet registered.", *warnings))
    yield Drawn(pipeline.Step(said, 1.0), made)


def _saved_steps(folder: Path) -> Iterator[Step | Drawn]:
    """A saved result: its first image as soon as that is read, then the whole."""
    from napari_convlstm_tumor import pipeline, results
    from napari_convlstm_tumor._napari.layers import first_layer, to_layers

    yield pipeline.Step(READING_RESULT, 0.0)
    _warm_up()
    first = results.load_first_image(folder)
    layer = first_layer(first, str(folder))
    yield Drawn(pipeline.Step(READING_RESULT, FIRST_IMAGE_SHARE), [layer])
    analysis = results.load(folder, first)
    yield Drawn(
        pipeline.Step("Saved result shown, nothing was computed", 1.0, analysis),
        to_layers(analysis, str(folder), layer),
    )


def _warm_up() -> None:
    """napari's units are read from a file of definitions when the first layer is made: here, or the window waits."""
    import pint

    pint.get_application_registry()("mm")


def run_steps(
    place: Path,
    settings: Settings,
    clicks: Clicks | None,
    segmenter: Segmenter | None,
    files: PatientFiles | None = None,
) -> Iterator[Step | Drawn]:
    """Analyse a patient; a result folder is only read. The last Step carries the Analysis.

    files: the visits as a person corrected them; None = as they are found in ``place``.
    Raises InputError when the clicks were made on other images than these.
    """
    from napari_convlstm_tumor import pipeline
    from napari_convlstm_tumor.io.discover import find_patient

    if is_result(place):
        yield from _saved_steps(result_folder(place))
        return
    yield pipeline.Step("Looking for visits", 0.0)
    files = find_patient(place, settings) if files is None else files
    _check_clicks(clicks, files)
    yield from pipeline.analyse(files, settings, segmenter, prompts=clicks.prompts if clicks else ())


def _check_clicks(clicks: Clicks | None, files: PatientFiles) -> None:
    if clicks is None:
        return
    if clicks.patient != files.patient:
        raise InputError("The clicks were made on another patient's images; delete the points or open that patient.")
    if clicks.days != files.days:
        raise InputError(
            f"The clicks were made on visits of days {clicks.days}, but these settings use days {files.days}; "
            "delete the points and press 'Show images' to click again, or leave days and modality as they were."
        )


def save_steps(analysis: Analysis, folder: Path, note: str = "") -> Iterator[Step]:
    """Write the result into a folder of its own, named after the patient, inside ``folder``."""
    from napari_convlstm_tumor import pipeline

    yield pipeline.Step("Saving", 0.0)
    pipeline.save(analysis, folder / analysis.patient)
    yield pipeline.Step(f"Saved in {folder.name}/{analysis.patient}. {note}".strip(), 1.0)
