"""The links file: what is read and written, and a clear sentence for every entry that cannot be used."""

import json
import re

import pytest

from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.io.links import Link, read_links, write_links

GOOD = {"visit": 2, "ras_mm": [1, -2.5, 3], "is": 1}


def write(folder, entries):
    path = folder / "links.json"
    path.write_text(entries if isinstance(entries, str) else json.dumps(entries))
    return path


def test_is_and_is_not(tmp_path):
    path = write(tmp_path, [GOOD, {"visit": 1, "ras_mm": [0, 0, 0], "is_not": 3}])
    assert read_links(path, visits=2) == (Link(2, (1.0, -2.5, 3.0), 1), Link(1, (0.0, 0.0, 0.0), 3, same=False))


def test_what_is_written_is_read_again(tmp_path):
    links = (Link(3, (0.1, 2, -3), 2), Link(1, (4, 5, 6), 1, same=False))
    write_links(tmp_path / "links.json", links)
    assert read_links(tmp_path / "links.json", visits=3) == links
    write_links(tmp_path / "none.json", ())
    assert read_links(tmp_path / "none.json", visits=3) == ()


def without(key):
    return {k: v for k, v in GOOD.items() if k != key}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ("[{", "links.json: It is not valid JSON"),
        ({"visit": 1}, "links.json: It holds one dict, a list of links is needed"),
        ([GOOD, 7], "links.json: Entry 2: 7 is no link; write {"),
        ([without("visit")], "Entry 1: A link needs 'visit'"),
        ([without("ras_mm")], "Entry 1: A link needs 'ras_mm'"),
        ([without("is")], "A link says 'is' or 'is_not', one of them; this one says neither."),
        ([{**GOOD, "is_not": 2}], "A link says 'is' or 'is_not', one of them; this one says is and is_not."),
        ([{**GOOD, "label": 2}], "Unknown key 'label'; a link has visit, ras_mm and is or is_not."),
        ([{**GOOD, "visit": 3}], "The visit is 3; this patient has visits 1 to 2."),
        ([{**GOOD, "visit": 0}], "visit is 0; it is a whole number from 1 on."),
        ([{**GOOD, "visit": True}], "visit is True; it is a whole number from 1 on."),
        ([{**GOOD, "is": "two"}], "is is 'two'; it is a whole number from 1 on."),
        ([{**GOOD, "is": 1.5}], "is is 1.5; it is a whole number from 1 on."),
        ([{**GOOD, "ras_mm": [1, 2]}], "ras_mm is [1, 2]; it is [x, y, z], three finite numbers in mm."),
        ([{**GOOD, "ras_mm": [1, 2, "3"]}], "ras_mm is [1, 2, '3']; it is [x, y, z]"),
        ('[{"visit": 1, "ras_mm": [1, 2, NaN], "is": 1}]', "ras_mm is [1, 2, nan]; it is [x, y, z]"),
        ([{**GOOD, "ras_mm": 5}], "ras_mm is 5; it is [x, y, z]"),
    ],
)
def test_entries_that_cannot_be_used(tmp_path, entries, message):
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        read_links(write(tmp_path, entries), visits=2)
    assert str(caught.value).startswith("links.json: ")
    assert str(tmp_path) not in str(caught.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match=re.escape("links.json: The links file does not exist.")):
        read_links(tmp_path / "links.json", visits=2)
