"""How freed memory goes back to the system, so that the memory of a long series stays as it is after a few visits.

glibc keeps freed blocks of up to 32 MiB for later. Torch's are aligned, so a block often does not fit into the gap
that one of its size has left, and peaks creep up with the visits. Blocks from LARGE_BYTES on are therefore given back
at once, and asked for in huge pages, which makes fetching them anew cheap (docs/performance.md: memory and time).
"""

from __future__ import annotations

import ctypes
import os

LARGE_BYTES = 8 * 1024**2
M_MMAP_THRESHOLD = -3  # of malloc.h
# glibc reads its own when a process starts, so it serves the processes that this one starts; torch reads the second at
# its first tensor.
ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": str(LARGE_BYTES), "THP_MEM_ALLOC_ENABLE": "1"}


def keep_memory_flat() -> None:
    """For this process and those it starts; call it before torch makes its first tensor.

    Where one of ENVIRONMENT is set already it stays. Does nothing where the allocator is not glibc's.
    """
    try:
        os.confstr("CS_GNU_LIBC_VERSION")
    except (AttributeError, ValueError, OSError):  # Windows; macOS; musl
        return
    asked = "MALLOC_MMAP_THRESHOLD_" in os.environ
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if not asked:
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)
