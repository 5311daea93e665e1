"""Look at a spoilt patient as the program does, and keep what it says: used by the tests and by write_table.py."""

import logging
from pathlib import Path
from runpy import run_path

from napari_convlstm_tumor.errors import TumorError
from napari_convlstm_tumor.io.discover import find_patient
from napari_convlstm_tumor.io.read import read_series

HERE = Path(__file__).parent
PEAK, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def kinds():
    """[(group, kind, healthy, damage, outcome, a part of what is said)] of every kind of damage, in order."""
    rows = []
    for name in ("damage_files.py", "damage_folders.py", "damage_dicom.py"):
        module = run_path(str(HERE / name))
        rows += [(group, kind, module["healthy"], *rest) for group, kind, *rest in module["CASES"]]
    return rows


def spoil(healthy, damage, folder):
    """Writes the patient P and spoils it; the path that a person would give (the patient's, or a manifest's)."""
    patient = folder / "P"
    healthy(patient)
    given = damage(patient)
    return given if isinstance(given, Path) else patient


def look(path):
    """(outcome, what is said, the series): "refused", "told" or "read". Anything but a TumorError comes through."""
    said = Said()
    log = logging.getLogger("napari_convlstm_tumor")
    log.addHandler(said)
    try:
        files = find_patient(path)
        said.lines += [*files.warnings, *(f"{name}: {reason}" for name, reason in files.left_out)]
        said.lines += [note for visit in files.visits for note in visit.notes]
        series = read_series(files, _defaults())
    except TumorError as error:
        return "refused", str(error), None
    finally:
        log.removeHandler(said)
    return ("told" if said.lines else "read"), " ".join(said.lines), series


class Said(logging.Handler):
    """Warnings of the package."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


def _defaults():
    from napari_convlstm_tumor.settings import Settings

    return Settings()


def forget_peak():
    """Count this process's peak memory from now on (Linux)."""
    RESET.write_text("5")


def peak_mb():
    """Most memory held since forget_peak, MB."""
    line = next(line for line in PEAK.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024
