"""What is known of one visit's response while the others are being judged."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Draft:
    """A category with its reason; visits count from 0.

    words: the reason; later: what other visits added. held: a response that only goes on. from_images: False for
    progression by clinical state alone. unchecked: rules used that were not read in the guideline, keys of
    Criterion.unchecked. equivocal: first lesions that alone make it a progression, too small to be sure of.
    """

    visit: int
    category: str
    words: str
    confirmed: bool | None = None
    later: tuple[str, ...] = ()
    held: bool = False
    from_images: bool = True
    unchecked: tuple[str, ...] = ()
    equivocal: frozenset[int] = frozenset()
