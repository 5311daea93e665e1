"""What a person may choose, and what is refused."""

import pytest

from napari_convlstm_tumor.batch.plan import BatchPlan, choose, cores, free_memory, parse_bytes, parse_part
from napari_convlstm_tumor.errors import SettingsError
from napari_convlstm_tumor.series import PatientFiles
from napari_convlstm_tumor.terminal import time_left_s

GB = 1000**3
NAMES = ("GBM-01", "GBM-02", "GBM-03", "STS-01", "STS-02")
PATIENTS = [PatientFiles(name, ()) for name in NAMES]


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({}, NAMES),
        ({"only": ["GBM-*"]}, NAMES[:3]),
        ({"only": ["GBM-01", "STS-*"]}, ("GBM-01", "STS-01", "STS-02")),
        ({"exclude": ["*-01"]}, ("GBM-02", "GBM-03", "STS-02")),
        ({"only": ["GBM-*"], "exclude": ["*-02"]}, ("GBM-01", "GBM-03")),
        ({"only": ["gbm-*"]}, ()),  # names are as the folders are called
        ({"part": (1, 2)}, ("GBM-01", "GBM-03", "STS-02")),
        ({"part": (2, 2)}, ("GBM-02", "STS-01")),
        ({"part": (7, 7)}, ()),
    ],
)
def test_patients_are_chosen_by_name_and_part(chosen, expected):
    assert tuple(p.patient for p in choose(PATIENTS, **chosen)) == expected


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_the_parts_together_are_every_patient_once(parts):
    together = [p.patient for k in range(parts) for p in choose(PATIENTS, part=(k + 1, parts))]
    assert sorted(together) == sorted(NAMES)


def test_a_part_is_k_of_n():
    assert parse_part(" 3/8 ") == (3, 8)
    for wrong in ("0/3", "4/3", "3", "a/b", "1/0", "-1/2", "1/2/3", ""):
        with pytest.raises(SettingsError, match="K/N"):
            parse_part(wrong)


@pytest.mark.parametrize(
    ("text", "size"),
    [("6GB", 6 * GB), ("6 gb", 6 * GB), ("1.5G", 1.5 * GB), ("512MiB", 512 * 1024**2), ("2000000000", 2 * GB)],
)
def test_memory_with_units(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "much", "6XB", "-1GB", "GB", "1e9"])
def test_memory_that_is_no_size(text):
    with pytest.raises(SettingsError, match="like 6GB"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("jobs", "limit", "memory", "expected"),
    [
        (8, 2 * GB, 16 * GB, 8),
        (8, 2 * GB, 9 * GB, 4),
        (8, None, 1 * GB, 8),  # without a limit nothing is promised
        (8, 2 * GB, None, 8),  # a system that does not say what is free
        (0, 2 * GB, 4 * GB, 0),
    ],
)
def test_no_more_jobs_than_memory_holds(jobs, limit, memory, expected):
    assert BatchPlan(jobs, memory_limit=limit).fitted(memory).jobs == expected


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"jobs": -1}, "--jobs"),
        ({"jobs": 1, "memory_limit": 1000}, "at least 1.0 GB"),
        ({"scheduler": "myhost"}, "tcp://host:8786"),
    ],
)
def test_plans_that_make_no_sense(values, message):
    with pytest.raises(SettingsError, match=message):
        BatchPlan(**values)


def test_a_limit_that_fits_nowhere_is_refused():
    with pytest.raises(SettingsError, match=r"64.0 GB per worker, and 8.0 GB are free"):
        BatchPlan(2, memory_limit=64 * GB).fitted(8 * GB)
    with pytest.raises(SettingsError, match="dask worker --memory-limit"):
        BatchPlan(2, memory_limit=2 * GB, scheduler="tcp://there:1").fitted(8 * GB)


def test_what_this_machine_has():
    assert cores() >= 1
    assert free_memory() is None or free_memory() > 0


@pytest.mark.parametrize(
    ("elapsed", "done", "total", "left"),
    [(10, 0, 5, None), (10, 0.2, 5, None), (10, 1, 5, 40), (10, 5, 5, 0), (30, 1.5, 4, 50), (10, 6, 5, 0)],
)
def test_time_left(elapsed, done, total, left):
    assert time_left_s(elapsed, done, total) == left
