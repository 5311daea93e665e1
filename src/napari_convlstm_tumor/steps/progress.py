"""Progress of a step inside another: its fractions told in other words."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeVar

Told = TypeVar("Told")
Answer = TypeVar("Answer")


def relayed(work: Generator[float, None, Answer], told: Callable[[float], Told]) -> Generator[Told, None, Answer]:
    """``told`` of every fraction of the work; returns what the work returns."""
    while True:
        try:
            fraction = next(work)
        except StopIteration as finished:
            result: Answer = finished.value
            return result
        yield told(fraction)
