"""Coverage-guided fuzzing of the readers, by hand: `pip install atheris`, then

    .venv/bin/python tests/hostile/fuzz_atheris.py nii -max_total_time=600 -rss_limit_mb=2048

with nii, nrrd, mha, dcm, manifest, prompts, links or clinical. Anything but a TumorError stops it and is kept.
"""

import contextlib
import logging
import os
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["napari_convlstm_tumor.io"]):
    from napari_convlstm_tumor.errors import TumorError
    from napari_convlstm_tumor.io.clinical import read_clinical
    from napari_convlstm_tumor.io.dicom_tags import read_header
    from napari_convlstm_tumor.io.discover import find_patients
    from napari_convlstm_tumor.io.links import read_links
    from napari_convlstm_tumor.io.prompts import read_saved_prompts
    from napari_convlstm_tumor.io.read import read_volume

FOLDER = Path(tempfile.mkdtemp(dir=os.environ.get("TMPDIR")))


def dicom(path):
    """Header, then pixels."""
    read_header(path)
    read_volume([path])


READERS = {
    "nii": ("x.nii", lambda p: read_volume([p])),
    "nrrd": ("x.nrrd", lambda p: read_volume([p])),
    "mha": ("x.mha", lambda p: read_volume([p])),
    "dcm": ("x.dcm", dicom),
    "manifest": ("x.csv", find_patients),
    "prompts": ("x.json", read_saved_prompts),
    "links": ("x.json", lambda p: read_links(p, 2)),
    "clinical": ("x.csv", lambda p: read_clinical(p, "P", (0, 40))),
}


def main():
    """Run libFuzzer on one reader."""
    name, read = READERS[sys.argv.pop(1)]
    logging.disable(logging.CRITICAL)
    path = FOLDER / name

    def one(raw):
        path.write_bytes(raw)
        with contextlib.suppress(TumorError):
            read(path)

    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
