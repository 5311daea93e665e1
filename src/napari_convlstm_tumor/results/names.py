"""What the files of a result are called, and how a result folder is known."""

from __future__ import annotations

from pathlib import Path

RUN_FILE = "run.json"
REPORT_FILE = "report.json"
RECIPE_FILE = "recipe.yaml"
PROMPTS_FILE = "prompts.json"
LINKS_FILE = "links.json"
CLINICAL_FILE = "clinical.csv"
IDENTITY_FILE = "identity.csv"
HTML_FILE = "report.html"
DICOM_FOLDER = "dicom"
PROMPT_MASKS = "prompt-masks"
OWN_NAMES = (
    "native",
    "series",
    "visits.csv",
    "lesions.csv",
    REPORT_FILE,
    RUN_FILE,
    RECIPE_FILE,
    PROMPTS_FILE,
    PROMPT_MASKS,
    LINKS_FILE,
    CLINICAL_FILE,
    IDENTITY_FILE,
    HTML_FILE,
    DICOM_FOLDER,
)


def growth_name(dated: bool) -> str:
    """File name (without ending) of the growth map: the unit is in it."""
    return "growth_mm_per_month" if dated else "growth_mm_per_visit"


def log_growth_name(dated: bool) -> str:
    """File name (without ending) of the log-growth map."""
    return "log_growth_per_month" if dated else "log_growth_per_visit"


def log_jacobian_name(dated: bool) -> str:
    """File name (without ending) of the map of the log-Jacobian rate."""
    return "log_jacobian_per_month" if dated else "log_jacobian_per_visit"


def is_result(folder: Path) -> bool:
    """True for a folder that ``save`` wrote."""
    try:
        return (folder / RUN_FILE).is_file() and (folder / "series").is_dir()
    except OSError:  # a name longer than any folder can have
        return False
