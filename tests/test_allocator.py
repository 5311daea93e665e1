"""The allocator is set once, for what follows, and never against what a person set."""

import ctypes
import os

import pytest

from napari_convlstm_tumor.cli.allocator import ENVIRONMENT, LARGE_BYTES, M_MMAP_THRESHOLD, keep_memory_flat


@pytest.fixture
def asked_of_glibc(monkeypatch):
    """The calls of mallopt; none is carried out."""
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "confstr", lambda name: "glibc 2.36", raising=False)
    calls = []
    libc = type("Libc", (), {"mallopt": lambda self, *given: calls.append(given)})
    monkeypatch.setattr(ctypes, "CDLL", lambda name: libc())
    yield calls
    for name in ENVIRONMENT:
        os.environ.pop(name, None)


def test_this_process_and_those_it_starts_give_large_blocks_back(asked_of_glibc):
    keep_memory_flat()
    assert asked_of_glibc == [(M_MMAP_THRESHOLD, LARGE_BYTES)]
    assert {name: os.environ[name] for name in ENVIRONMENT} == ENVIRONMENT


def test_what_a_person_set_stays(asked_of_glibc, monkeypatch):
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "1000000")
    keep_memory_flat()
    assert not asked_of_glibc and os.environ["MALLOC_MMAP_THRESHOLD_"] == "1000000"


def test_another_allocator_is_left_alone(asked_of_glibc, monkeypatch):
    def unknown(name):
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr(os, "confstr", unknown)
    keep_memory_flat()
    assert not asked_of_glibc and not set(ENVIRONMENT) & set(os.environ)
