"""Who and when, in a file of its own and only when asked for: everything else of a result can be shared without it."""

from __future__ import annotations

import csv
import io

from napari_convlstm_tumor.io.dicom_tags import read_header
from napari_convlstm_tumor.io.nifti import is_single_file
from napari_convlstm_tumor.series import PatientFiles, VisitFiles

COLUMNS = ("visit", "day", "date", "patient_id")


def identity_csv(files: PatientFiles, dates: bool, ids: bool) -> str:
    """A row a visit: its number and day, and as asked for its date (ISO 8601) and the PatientID of its DICOM header.

    What is not asked for, or not known (no date, no DICOM), stays empty.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for number, visit in enumerate(files.visits, start=1):
        day = "" if visit.day is None else visit.day
        date = visit.date.isoformat() if dates and visit.date is not None else ""
        table.writerow((number, day, date, _patient_id(visit) if ids else ""))
    return text.getvalue()


def _patient_id(visit: VisitFiles) -> str:
    paths = [p[0] for p in visit.images.values() if not is_single_file(p[0])]
    headers = [header for path in paths if (header := read_header(path)) is not None]
    return headers[0].patient_id if headers else ""
