"""Make the committed sample: two simulated patients, one progressing (3 visits) and one improving (4 visits)."""

import sys
from pathlib import Path

from napari_convlstm_tumor.training.patients import PatientPlan, write_patient

PLANS = {
    "progressing": PatientPlan(seed=11, visits=3, course="growing", modalities=("t1c",), spacing_mm=(1.5, 1.5, 2.5)),
    "improving": PatientPlan(seed=15, visits=4, course="shrinking", modalities=("t1c",), spacing_mm=(2.0, 2.0, 3.0)),
}


def main(target: Path) -> None:
    """Write every plan below ``target``."""
    for name, plan in PLANS.items():
        write_patient(plan, target / name)
        print(f"wrote {target / name}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "sample_data"))
