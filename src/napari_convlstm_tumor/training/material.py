"""What a run trains on: simulated growth and heads, warped real tumors, one's own patients; and who is held out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from napari_convlstm_tumor.training import leakage
from napari_convlstm_tumor.training.anatomy import Anatomy, real_brains, real_glioblastomas, real_tumors, template_brain
from napari_convlstm_tumor.training.dataset import GrowthDataset, GrowthField, Stage, make_fields
from napari_convlstm_tumor.training.heads import simulated_heads
from napari_convlstm_tumor.training.own import MixedDataset, OwnDataset, OwnPatient, own_patients
from napari_convlstm_tumor.training.parallel import Team

# Patients never trained on, so that the numbers in docs are about patients not seen: every fourth sarcoma.
HELD_OUT_SARCOMAS = ("STS-003", "STS-013", "STS-023", "STS-031", "STS-039", "STS-047", "STS-051")
HELD_OUT_GLIOBLASTOMAS = ("GBM-05", "GBM-09")
HELD_OUT = (*HELD_OUT_SARCOMAS, *HELD_OUT_GLIOBLASTOMAS)
# A curriculum: clicks on single visits first, then sequences, then everything (lessons: it went much faster).
STAGES = (
    (0.0, Stage((1, 1), (0.8, 0.0, 0.1, 0.1, 0.0, 0.0, 0.0))),
    (0.03, Stage((2, 3), (0.4, 0.2, 0.15, 0.1, 0.1, 0.05, 0.0))),
    (0.12, Stage((2, 4), (0.32, 0.1, 0.13, 0.08, 0.32, 0.05, 0.0))),
)
# From trained weights on: single visits, too (they show more heads in the same time), nearly half whole heads.
LAST_STAGE = ((0.0, Stage((1, 4), (0.32, 0.15, 0.1, 0.08, 0.3, 0.05, 0.0), head_share=0.45)),)
# The forecast head alone: masks given at every visit, as where growth is measured, or a click carried on. From
# simulated heads: the growth of warped real tumors ends at 12 mm, and a head that saw them expected too little. Not
# more that vanish than are met: how a front moves on is not learned from tumors that have none.
FORECAST_WEIGHTS = (0.25, 0.15, 0.0, 0.1, 0.0, 0.0, 0.5)
FORECAST_STAGE = (
    (0.0, Stage((3, 4), FORECAST_WEIGHTS, distance_share=1.0, backward_share=0.0, head_share=1.0, vanishing=False)),
)
# What the card says of them.
HELD_OUT_TEXT = f"sarcomas {', '.join(HELD_OUT_SARCOMAS)}; glioblastomas {', '.join(HELD_OUT_GLIOBLASTOMAS)}"
# Where a patient has T1c the truth is the core, so it is outlined on these alone (model/cautions).
CORE_ON = ("t1", "t1c")
SHARED_DATA = (
    "growth simulated on 3 brains of the 3D MR image database of MS patients (Lesjak et al. 2017, CC BY)",
    "19 of 26 tumors of the IBSI validation set from TCIA Soft-tissue-Sarcoma (CC BY 3.0), with warped visits",
    "6 visits of 3 of 5 patients of TCIA Brain-Tumor-Progression (doi 10.7937/K9/TCIA.2018.15quzvnb, CC BY 3.0), "
    "with warped visits",
)
# Of the crops that are drawn at every step, how many show simulated brains, the others warped real tumors. With as many
# brains beside whole heads, real tumors became too seldom: clicked sarcomas on T1 fell from Dice 0.65 to 0.61.
BRAINS, BRAINS_BESIDE_HEADS = 0.5, 0.25
SAMPLES_AHEAD = 4  # per worker

Sample = dict[str, Tensor]
Stages = Sequence[tuple[float, Stage]]  # each with the share of the steps after which it begins


@dataclass(frozen=True, eq=False)
class Material:
    """anatomies and fields to simulate with, simulated heads, a person's own patients and their share, fingerprints of
    all images."""

    anatomies: Sequence[Anatomy]
    fields: Sequence[GrowthField]
    heads: Sequence[OwnPatient]
    own: Sequence[OwnPatient]
    own_share: float
    images: frozenset[str]

    def dataset(self, seed: int, stage: Stage) -> Dataset[Sample]:
        """Sample n of a stage, always the same."""
        if self.own and self.own_share == 1:
            return OwnDataset(self.own, seed, stage)
        brains = BRAINS_BESIDE_HEADS if self.heads else BRAINS
        samples: Dataset[Sample] = GrowthDataset(self.anatomies, self.fields, seed, stage, brains)
        for patients, share in ((self.heads, stage.head_share), (self.own, self.own_share)):
            if patients:
                samples = MixedDataset(OwnDataset(patients, seed, stage), samples, share, seed)
        return samples


def load_material(
    data: Path | None,
    patients: Path | None,
    own_share: float,
    fields: int,
    heads: tuple[int, Sequence[int]],
    seed: int,
    kept: Path,
) -> Material:
    """Read, align and simulate, or take what lies in ``kept`` from another time.

    heads: how many, of each of these seeds.
    """
    own = [] if patients is None else own_patients(patients, kept / "patients")
    only_own = bool(own) and own_share == 1
    anatomies = [] if only_own else load_anatomies(data)
    images = {image for patient in own for image in patient.images}
    if data is not None:
        images |= leakage.fingerprints(leakage.anatomy_files([a.name for a in anatomies], data))
    return Material(
        anatomies=anatomies,
        fields=make_fields(anatomies, fields, seed, kept / "fields"),
        heads=[] if only_own else simulated_heads(anatomies, *heads, kept / "heads"),
        own=own,
        own_share=own_share,
        images=frozenset(images),
    )


def load_anatomies(data: Path | None) -> list[Anatomy]:
    """The template, and where data has them the real brains and the tumors of patients who are not held out."""
    anatomies = [template_brain()]
    if data is not None:
        anatomies += real_brains(data / "brains")
        real = [*real_tumors(data / "sarcoma"), *real_glioblastomas(data / "glioblastoma")]
        anatomies += [a for a in real if a.name.rsplit("-", 1)[0] not in HELD_OUT]
    return anatomies


def stage_loader(
    material: Material, step: int, steps: int, seed: int, workers: int, team: Team, stages: Stages
) -> tuple[int, DataLoader[Sample]]:
    """The loader for the stage that ``step`` lies in, from the samples of that step on, and the step that ends it.

    Step n of process r takes sample n * team.size + r.
    """
    starts = [round(share * steps) for share, _ in stages] + [steps]
    index = max(n for n in range(len(stages)) if starts[n] <= step)
    loader = DataLoader(
        material.dataset(seed, stages[index][1]),
        batch_size=1,
        sampler=range(step * team.size + team.rank, starts[index + 1] * team.size, team.size),
        num_workers=workers,
        prefetch_factor=SAMPLES_AHEAD if workers else None,
        worker_init_fn=_use_one_thread,
    )
    return starts[index + 1], loader


def _use_one_thread(worker: int) -> None:
    torch.set_num_threads(1)


def about(data: bool, own: int, start: Mapping[str, Any] | None, baseline: bool) -> dict[str, Any]:
    """What the card will say of a run: which network, what it was trained on, who was held out.

    data: it saw ../shared/data; own: patients of a person's own, whose masks may mean another part of the tumor than
    ours; start: the card of the weights it began with.
    """
    told = [] if start is None else [str(line) for line in start.get("trained_on", ())]
    told.append("growth simulated on ICBM152 2009a tissue maps (Fonov et al. 2011)")
    told += SHARED_DATA if data else ()
    told += [f"{own} patients of a person's own folder"] if own else ()
    held_out = HELD_OUT_TEXT if data else ""
    if start is not None:
        held_out = str(start.get("held_out", held_out))
    steps = 0 if start is None else int(start.get("steps", 0))
    return {
        "baseline": baseline,
        "trained_on": list(dict.fromkeys(told)),
        "held_out": held_out,
        "core_on": [] if own else list((start or {}).get("core_on", CORE_ON)),
        "outline_at": {} if own else dict((start or {}).get("outline_at", {})),
        "steps_before": steps,
    }
