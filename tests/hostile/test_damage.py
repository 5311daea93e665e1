"""Every kind of damage of the generators: an error, a warning or a right reading; no crash, no hang, no full memory."""

import gc
import time
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

looking = run_path(str(Path(__file__).with_name("looking.py")))
table = run_path(str(Path(__file__).with_name("write_table.py")))
KINDS = looking["kinds"]()
# All images here are smaller than 100 KB; what some of them promise is 600 MB to 200 TB. The rest is what libraries
# load at their first use.
MOST_MEMORY_MB = 64
# CPU seconds, reading of one patient; 10,000 files in a folder and sequences 200 deep are among them.
MOST_SECONDS = 5


@pytest.fixture(scope="module", autouse=True)
def libraries_are_not_searched():
    """What was there before is no garbage of these tests: searched for some before each, it took most of their time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def rows():
    return table["read_rows"]()


def test_there_are_enough_kinds_each_with_a_name_of_its_own():
    assert len(KINDS) >= 60
    assert len({(group, kind) for group, kind, *_ in KINDS}) == len(KINDS)


def test_the_table_of_the_documentation_has_these_kinds_and_no_other(rows):
    assert list(rows) == [(group, kind) for group, kind, *_ in KINDS]


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("group", "kind", "healthy", "damage", "outcome", "words"), KINDS, ids=[k[1] for k in KINDS])
def test_it_is_refused_told_or_read_rightly(tmp_path, rows, capfd, group, kind, healthy, damage, outcome, words):
    path = looking["spoil"](healthy, damage, tmp_path)
    capfd.readouterr()
    before, began = start_measuring(), time.process_time()
    found, said, series = looking["look"](path)
    assert time.process_time() - began < MOST_SECONDS
    assert memory_mb() - before < MOST_MEMORY_MB
    assert found == outcome, said
    assert words in said
    assert capfd.readouterr() == ("", ""), "a library spoke past the program"
    assert str(tmp_path) not in said, "a full path in a message"
    assert rows[group, kind] == table["row"](found, said), "run tests/hostile/write_table.py and read its changes"
    if found == "read":
        assert_right(group, series)


def assert_right(group, series):
    """What is read without a word is the picture that was written."""
    second = series.visits[1]
    (volume,) = second.images.values()
    module = run_path(str(Path(__file__).with_name("damage_dicom.py" if group == "DICOM" else "damage_files.py")))
    truth = module["STORED" if group == "DICOM" else "IMAGE"]
    assert np.corrcoef(volume.data.ravel(), truth.ravel())[0, 1] > 0.99
    assert second.mask is None or set(np.unique(second.mask.data)) <= {0, 1}


def start_measuring():
    gc.collect()
    try:
        looking["forget_peak"]()
    except OSError:  # not Linux: the test then measures no memory
        return 0.0
    return memory_mb()


def memory_mb():
    return looking["peak_mb"]() if looking["PEAK"].exists() else 0.0
