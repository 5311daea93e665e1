"""Coverage-guided fuzzing of the readers, by hand: `pip install atheris`, then

    .venv/bin/python tests/hostile/fuzz_atheris.py nii -max_total_time=600 -rss_limit_mb=2048

with nii, nrrd, mha, dcm, rtstruct, manifest, prompts, links or clinical. Anything but a TumorError stops it and is
kept.
"""

import contextlib
import json
import logging
import os
import sys
import tempfile
from pathlib import Path
from runpy import run_path

import atheris
import nibabel as nib
import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.data import get_testdata_file

with atheris.instrument_imports(include=["napari_convlstm_tumor.io"]):
    from napari_convlstm_tumor.errors import TumorError
    from napari_convlstm_tumor.io.clinical import read_clinical
    from napari_convlstm_tumor.io.dicom_tags import read_header
    from napari_convlstm_tumor.io.discover import find_patients
    from napari_convlstm_tumor.io.links import read_links
    from napari_convlstm_tumor.io.prompts import read_saved_prompts
    from napari_convlstm_tumor.io.read import read_mask, read_volume
    from napari_convlstm_tumor.volume import Grid

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
    "rtstruct": ("x.dcm", lambda p: read_mask(p, Grid((12, 10, 8), np.diag([-1.0, -1, 3, 1])))),
    "manifest": ("x.csv", find_patients),
    "prompts": ("x.json", read_saved_prompts),
    "links": ("x.json", lambda p: read_links(p, 2)),
    "clinical": ("x.csv", lambda p: read_clinical(p, "P", (0, 40))),
}


TABLES = {
    "manifest": "patient,visit,day,modality,path\nP,1,0,t1c,a.nii\nP,2,40,t1c,b.nii\n",
    "clinical": "patient,visit,day,steroid_mg_per_day,status,non_target_progression,event\nP,1,,4,better,no,\n"
    "P,,40,0,worse,yes,\n,,20,,,,radiotherapy end\n",
    "prompts": json.dumps(
        [
            {"visit": 1, "type": "point", "ras_mm": [1, -2.5, 3]},
            {"visit": 2, "type": "box", "ras_mm": [[0, 0, 0], [5, 6, 7]]},
            {"visit": 2, "type": "mask", "path": "m.nii.gz"},
        ]
    ),
    "links": json.dumps(
        [{"visit": 2, "ras_mm": [1, -2.5, 3], "is": 1}, {"visit": 1, "ras_mm": [0, 0, 0], "is_not": 3}]
    ),
}


def valid_file(kind, path):
    """A small file that is read without an error: what the fuzzer changes from there reaches further."""
    image = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    if kind in TABLES:
        path.write_text(TABLES[kind])
    elif kind == "nii":
        nib.save(nib.Nifti1Image(image, np.diag([1.0, 1, 2, 1])), path)
    elif kind == "rtstruct":
        make = run_path(str(Path(__file__).parents[1] / "io" / "make_dicom.py"))
        ring = np.array([[-5.0, -12, 3], [2, -12, 3], [2, -5, 3], [-5, -5, 3]])
        make["write_rtstruct"](path, {"GTV": [ring], "Lung": [ring]})
    elif kind == "dcm":
        pydicom.dcmread(get_testdata_file("CT_small.dcm")).save_as(path)
    else:
        sitk.WriteImage(sitk.GetImageFromArray(image), str(path))


def main():
    """Run libFuzzer on one reader, from one valid file."""
    kind = sys.argv.pop(1)
    name, read = READERS[kind]
    logging.disable(logging.CRITICAL)
    path, corpus = FOLDER / name, FOLDER / "corpus"
    corpus.mkdir()
    valid_file(kind, corpus / name)
    sys.argv.append(str(corpus))

    def one(raw):
        path.write_bytes(raw)
        with contextlib.suppress(TumorError):
            read(path)

    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
