"""One patient, one process: a lock file per patient, and what dead processes left behind.

The lock is the operating system's own (flock): it is gone the moment its process is, however that ended, so no stale
lock is ever in the way. Several batches, or the parts of a job array, may thus share one output folder.
"""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from napari_convlstm_tumor.errors import InputError

LOCKS = ".locks"
TABLES = "."  # as the "patient" whose lock guards the tables: no patient's name begins with a dot
TABLES_WAIT_S = 600.0
# results.save and io.write put these beside the place they write to, and move them in when complete.
PART = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}\.part")
TEMPORARY = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}\.tmp")


def prepare(out: Path) -> None:
    """Make the output folder and see that it can be written. Raises InputError with the reason when not."""
    probe = out / LOCKS / f".probe.{secrets.token_hex(4)}"
    try:
        (out / LOCKS).mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"-")
        probe.unlink()
    except OSError as error:
        with suppress(OSError):
            probe.unlink()
        reason = error.strerror or "unknown reason"
        raise InputError(f"The output folder '{out.name}' cannot be written: {reason}. Choose another.") from error


def is_prepared(out: Path) -> bool:
    """False on a worker that does not see the folder the batch writes to."""
    return (out / LOCKS).is_dir()


@contextmanager
def claimed(out: Path, patient: str, wait_s: float = 0.0) -> Iterator[bool]:
    """Holds the lock of one patient; False when another process has it for longer than ``wait_s``."""
    lock = FileLock(out / LOCKS / f"{patient}.lock", timeout=wait_s)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def sweep(out: Path) -> None:
    """Remove the unfinished folders and files of processes that are gone; what a live one writes is left alone."""
    for path in list(out.iterdir()):
        if found := PART.fullmatch(path.name):
            _remove(out, found["name"], path)
        elif TEMPORARY.fullmatch(path.name):
            _remove(out, TABLES, path)


def _remove(out: Path, owner: str, path: Path) -> None:
    with suppress(OSError), claimed(out, owner) as free:
        if not free:
            return
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
