"""Make the committed sample: two simulated patients, one progressing (3 visits) and one improving (4 visits).

Each has click.json, a click on the tumor at the first visit, for the demo."""

import sys
from pathlib import Path

import numpy as np
from scipy import ndimage

from napari_convlstm_tumor.io.prompts import write_prompts
from napari_convlstm_tumor.io.read import read_volume
from napari_convlstm_tumor.series import Prompt
from napari_convlstm_tumor.training.patients import PatientPlan, write_patient

PLANS = {
    "progressing": PatientPlan(seed=11, visits=3, course="growing", modalities=("t1c",), spacing_mm=(1.5, 1.5, 2.5)),
    "improving": PatientPlan(seed=15, visits=4, course="shrinking", modalities=("t1c",), spacing_mm=(2.0, 2.0, 3.0)),
}


def deepest_point(mask: Path) -> Prompt:
    """A click at visit 1, where the tumor is deepest."""
    volume = read_volume([mask])
    depth = ndimage.distance_transform_edt(volume.data > 0, volume.grid.spacing_mm)
    return Prompt(1, "point", volume.grid.to_mm(np.unravel_index(int(np.argmax(depth)), depth.shape)))


def main(target: Path) -> None:
    """Write every plan below ``target``."""
    for name, plan in PLANS.items():
        folder = write_patient(plan, target / name)
        first = sorted(folder.glob("day-*"))[0] / "mask.nii.gz"
        write_prompts(folder / "click.json", [deepest_point(first)])
        print(f"wrote {target / name}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "sample_data"))
