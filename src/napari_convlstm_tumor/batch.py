"""Many patients, one after the other. One bad patient never stops the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_convlstm_tumor.errors import TumorError
from napari_convlstm_tumor.io.write import write_csv
from napari_convlstm_tumor.pipeline import Analysis, Step, analyse, save
from napari_convlstm_tumor.series import PatientFiles
from napari_convlstm_tumor.settings import Settings

SUMMARY_FILE = "summary.csv"
SUMMARY_COLUMNS = (
    "patient",
    "status",
    "visits",
    "days",
    "volume_first_mm3",
    "volume_last_mm3",
    "volume_change_percent",
    "sgr_per_day",
    "vdt_days",
    "lowest_registration_quality",
    "warnings",
    "error",
)


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of one patient: an analysis (saved in folder) or an error sentence."""

    patient: str
    folder: Path
    analysis: Analysis | None = None
    error: str = ""


def run_batch(
    patients: Sequence[PatientFiles], settings: Settings, out: Path, summary: bool = True
) -> Iterator[tuple[PatientFiles, Step | Outcome]]:
    """Analyse and save every patient into out/PATIENT; yields its Steps, then its Outcome.

    summary: keep out/summary.csv current, a line a patient.
    """
    rows: list[Mapping[str, Any]] = []
    for files in patients:
        outcome = None
        for event in run_one(files, settings, out / files.patient):
            outcome = event if isinstance(event, Outcome) else None
            yield files, event
        assert outcome is not None
        rows.append(summary_row(outcome))
        if summary:
            write_csv(out / SUMMARY_FILE, rows)


def run_one(files: PatientFiles, settings: Settings, folder: Path) -> Iterator[Step | Outcome]:
    """One patient: its Steps, and last its Outcome. Any error becomes the Outcome's sentence."""
    analysis = None
    try:
        for step in analyse(files, settings):
            analysis = step.analysis or analysis
            yield step
        assert analysis is not None
        save(analysis, folder)
        yield Outcome(files.patient, folder, analysis)
    except TumorError as error:
        yield Outcome(files.patient, folder, error=str(error))
    except MemoryError:
        yield Outcome(files.patient, folder, error="Not enough memory. Try a coarser --spacing.")
    except OSError as error:
        yield Outcome(files.patient, folder, error=f"Reading or writing failed: {error.strerror or error}.")
    except Exception as error:  # a batch goes on whatever one patient does; the kind of error is kept
        yield Outcome(files.patient, folder, error=f"Unexpected {type(error).__name__}: {error}")


def summary_row(outcome: Outcome) -> dict[str, Any]:
    """One line of summary.csv."""
    row: dict[str, Any] = dict.fromkeys(SUMMARY_COLUMNS)
    row |= {
        "patient": outcome.patient,
        "status": "failed" if outcome.error else "done",
        "error": outcome.error,
    }
    analysis = outcome.analysis
    if analysis is None:
        return row
    visits, summary = analysis.report.visits, analysis.report.provenance["summary"]
    qualities = [v["registration_quality"] for v in visits if v["registration_quality"] is not None]
    return row | {
        "visits": len(visits),
        "days": summary["days"],
        "volume_first_mm3": visits[0]["volume_mm3"],
        "volume_last_mm3": visits[-1]["volume_mm3"],
        "volume_change_percent": summary["volume_change_percent"],
        "sgr_per_day": _value(summary.get("sgr_per_day")),
        "vdt_days": _value(summary.get("vdt_days")),
        "lowest_registration_quality": min(qualities, default=None),
        "warnings": " ".join((*analysis.report.warnings, *(w for v in visits for w in v["warnings"]))),
    }


def _value(rate: Mapping[str, Any] | None) -> Any:
    return None if rate is None else rate["value"]
