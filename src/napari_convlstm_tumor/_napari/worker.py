"""The work behind the widget's buttons, as generators for a thread worker. No Qt here; layers are never touched."""

from __future__ import annotations

import json
import tempfile
import traceback
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from napari_convlstm_tumor import pipeline
from napari_convlstm_tumor._napari.reader import RESULT_FILE, is_result
from napari_convlstm_tumor.errors import InputError, SettingsError, TumorError
from napari_convlstm_tumor.pipeline import Analysis, Segmenter, Step
from napari_convlstm_tumor.settings import Settings


@dataclass(frozen=True)
class Failure:
    """One sentence for the person, and the details for who must find the cause."""

    sentence: str
    details: str


@dataclass(frozen=True)
class Clicks:
    """Points clicked in the viewer as entries of a prompts file, and whose images they were clicked on."""

    patient: str
    entries: tuple[dict[str, Any], ...]


def guarded(steps: Iterator[Step]) -> Generator[Step, None, Failure | None]:
    """Pass the steps on; return what went wrong instead of raising it.

    A thread worker takes every RuntimeError for its own end and says nothing, and a full GPU is a RuntimeError.
    """
    try:
        yield from steps
    except TumorError as error:
        return Failure(str(error), traceback.format_exc())
    except Exception as error:
        kind = type(error).__name__
        return Failure(f"Something unexpected went wrong ({kind}); no result was made.", traceback.format_exc())
    return None


def run_steps(place: Path, settings: Settings, clicks: Clicks | None, segmenter: Segmenter | None) -> Iterator[Step]:
    """Analyse a patient; a result folder is only read. The last Step carries the Analysis."""
    if is_result(place):
        yield Step("reading the saved result", 0.0)
        analysis = pipeline.load(place.parent if place.name == RESULT_FILE else place)
        yield Step("saved result shown, nothing was computed", 1.0, analysis)
        return
    from napari_convlstm_tumor.io.discover import find_patient

    yield Step("looking for visits", 0.0)
    files = find_patient(place, settings)
    with tempfile.TemporaryDirectory() as folder:
        if clicks is not None:
            settings = _with_clicks(settings, clicks, files.patient, Path(folder))
        yield from pipeline.analyse(files, settings, segmenter)


def save_steps(analysis: Analysis, folder: Path) -> Iterator[Step]:
    """Write the result into a folder of its own, named after the patient, inside ``folder``."""
    target = folder / analysis.patient
    if target.exists() and any(target.iterdir()):
        raise InputError(f"'{target.name}' is already in that folder and not empty. Choose another folder.")
    yield Step(f"saving {target.name}", 0.0)
    pipeline.save(analysis, target)
    yield Step(f"saved as {target.name}", 1.0)


def _with_clicks(settings: Settings, clicks: Clicks, patient: str, folder: Path) -> Settings:
    """The settings with the clicks as their prompts file. Refuses a second source of prompts, and another patient's."""
    if settings.prompts is not None:
        raise SettingsError("There are clicks in the viewer and a prompts file in the settings; remove one of them.")
    if clicks.patient != patient:
        raise InputError("The clicks were made on another patient's images; delete the points or open that patient.")
    path = folder / "prompts.json"
    path.write_text(json.dumps(list(clicks.entries)))
    return replace(settings, prompts=path)
