"""The review queue: failed first, doubtful next; marks are written and kept."""

import csv
import json

import pytest

from napari_convlstm_tumor.edit.review import DONE, DOUBTFUL, FAILED, read_queue, write_mark
from napari_convlstm_tumor.errors import InputError


def write_result(folder, good=True, warnings=()):
    (folder / "series").mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"registration": [{"good": True}, {"good": good}]}))
    (folder / "report.json").write_text(json.dumps({"visits": [{"visit": 1, "warnings": list(warnings)}]}))


@pytest.fixture
def batch(tmp_path):
    rows = [("A", "done", ""), ("B", "failed", "Visit 2 has no image."), ("C", "done", ""), ("D", "done", "")]
    with (tmp_path / "summary.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("patient", "status", "error"), *rows])
    with (tmp_path / "failures.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("patient", "what_to_do"), ("B", "Add the image.")])
    write_result(tmp_path / "A")
    write_result(tmp_path / "C", good=False)
    write_result(tmp_path / "D", warnings=["The mask lies on other voxels."])
    return tmp_path


def test_failed_and_doubtful_come_first(batch):
    items = read_queue(batch)
    assert [(i.patient, i.rank) for i in items] == [("B", FAILED), ("C", DOUBTFUL), ("D", DOUBTFUL), ("A", DONE)]
    assert items[0].reasons == ("Visit 2 has no image.", "Add the image.") and items[0].folder is None
    assert items[1].reasons == ("Visit 2: the registration is not good.",)
    assert items[2].reasons == ("Visit 1: The mask lies on other voxels.",)


def test_marks_are_written_and_read(batch):
    write_mark(batch, "C", "accepted")
    write_mark(batch, "D", "corrected")
    write_mark(batch, "C", "")
    assert {i.patient: i.mark for i in read_queue(batch)} == {"A": "", "B": "", "C": "", "D": "corrected"}
    with (batch / "review.csv").open() as stream:
        assert list(csv.DictReader(stream)) == [{"patient": "D", "mark": "corrected"}]


def test_what_is_not_a_batch_or_a_mark_is_refused(batch, tmp_path_factory):
    with pytest.raises(InputError, match=r"no summary\.csv"):
        read_queue(tmp_path_factory.mktemp("empty"))
    with pytest.raises(InputError, match="accepted or corrected"):
        write_mark(batch, "A", "nonsense")


def test_a_patient_named_like_a_path_is_refused(batch):
    (batch / "summary.csv").write_text("patient,status,error\n../../etc,done,\n")
    with pytest.raises(InputError, match="no name for a folder"):
        read_queue(batch)
