"""The command line: folders -> pipeline -> files and an exit code (0 done, 1 some patient failed, 2 wrong usage)."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_convlstm_tumor import RESEARCH_USE, __version__
from napari_convlstm_tumor.errors import SettingsError, TumorError
from napari_convlstm_tumor.settings import Settings, add_arguments, from_arguments

if TYPE_CHECKING:
    from napari_convlstm_tumor.batch import Outcome
    from napari_convlstm_tumor.series import PatientFiles


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``convlstm-tumor`` with these arguments (default: those of the process); returns the exit code."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    try:
        result: int = options.run(options)
        return result
    except TumorError as error:
        print(f"convlstm-tumor: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except KeyboardInterrupt:
        print("convlstm-tumor: stopped; finished patients are kept.", file=sys.stderr)  # noqa: T201
        return 130


def build_parser() -> argparse.ArgumentParser:
    """All commands and options; imports nothing heavy."""
    parser = argparse.ArgumentParser(
        prog="convlstm-tumor",
        description="Segment, measure and forecast a tumor over the visits of a patient.",
        epilog=RESEARCH_USE,
    )
    parser.add_argument("--version", action="version", version=f"convlstm-tumor {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_info(commands)
    _add_run(commands)
    _add_batch(commands)
    _add_simulate(commands)
    _add_train(commands)
    _add_evaluate(commands)
    return parser


def _add_info(commands: Any) -> None:
    parser = commands.add_parser("info", help="what would be read: patients, visits, days, modalities, problems")
    parser.add_argument("path", type=Path, help="patient folder, folder of patients, or manifest CSV")
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    add_arguments(parser)
    parser.set_defaults(run=_info)


def _add_run(commands: Any) -> None:
    parser = commands.add_parser("run", help="analyse one patient", epilog=RESEARCH_USE)
    parser.add_argument("patient", type=Path, help="patient folder or manifest CSV of one patient")
    _add_output(parser)
    parser.set_defaults(run=_run)


def _add_batch(commands: Any) -> None:
    parser = commands.add_parser("batch", help="analyse every patient of a folder", epilog=RESEARCH_USE)
    parser.add_argument("folder", type=Path, help="folder of patients, or manifest CSV")
    _add_output(parser)
    parser.set_defaults(run=_batch)


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--out", type=Path, required=True, help="results go to OUT/PATIENT/")
    parser.add_argument("--recipe", type=Path, help="recipe.yaml of an earlier run; options given here win over it")
    parser.add_argument("--quiet", action="store_true", help="no progress bar, no tables")
    add_arguments(parser)


def _add_simulate(commands: Any) -> None:
    parser = commands.add_parser("simulate", help="write patients with known growth")
    parser.add_argument("-o", "--out", type=Path, required=True, help="patients go to OUT/sim-SEED/")
    parser.add_argument("--patients", type=int, default=1, metavar="N")
    parser.add_argument("--visits", type=int, default=4, metavar="N", help="2 to 8 (default 4)")
    parser.add_argument("--seed", type=int, default=1, help="the first patient's; same seed, same patient")
    parser.add_argument("--course", choices=("any", "growing", "shrinking"), default="any")
    parser.add_argument("--modalities", default="t1c,flair", help="comma-separate, of t1, t1c, t2, flair")
    parser.add_argument("--spacing", default="1,1,1", metavar="X,Y,Z", help="voxel size in mm (default 1,1,1)")
    parser.set_defaults(run=_simulate)


def _add_train(commands: Any) -> None:
    parser = commands.add_parser("train", help="train the network; goes on where the run folder stands")
    parser.add_argument("--run", dest="folder", type=Path, required=True, help="run folder (checkpoint, curves)")
    parser.add_argument("--data", type=Path, help="folder with brains/ and sarcoma/ (see docs/training.md)")
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--fields", type=int, default=120, help="growth fields to simulate and keep")
    parser.add_argument("--cell", choices=("lstm", "gru"), default="lstm")
    parser.add_argument("--start", metavar="MODEL", help="begin a new run with the weights of this model")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--export", type=Path, metavar="FILE", help="write the weights of the run to FILE.safetensors")
    parser.set_defaults(run=_train)


def _add_evaluate(commands: Any) -> None:
    parser = commands.add_parser("evaluate", help="accuracy of a model on patients it was not trained on")
    parser.add_argument("--data", type=Path, help="folder with sarcoma/ and glioblastoma/")
    parser.add_argument("--model", default="default")
    parser.add_argument("--sets", default="simulated,sarcoma,glioblastoma", help="comma-separate")
    parser.add_argument("--patients", type=int, default=20, help="simulated patients")
    parser.add_argument("--into-card", action="store_true", help="also write the table into the model's card")
    parser.set_defaults(run=_evaluate)


# ---- what each command does; heavy imports happen here ----


def _info(options: argparse.Namespace) -> int:
    from napari_convlstm_tumor.io.discover import describe, find_patients

    patients = find_patients(options.path, from_arguments(options))
    if options.json:
        print(json.dumps(describe(patients), indent=2))  # noqa: T201
    else:
        from napari_convlstm_tumor.terminal import print_info

        print_info(patients)
    return 1 if any(p.problems for p in patients) else 0


def _settings(options: argparse.Namespace) -> Settings:
    if options.recipe is None:
        return from_arguments(options)
    from napari_convlstm_tumor.results import read_recipe

    return from_arguments(options, read_recipe(options.recipe))


def _run(options: argparse.Namespace) -> int:
    from napari_convlstm_tumor.io.discover import find_patient

    settings = _settings(options)
    return _analyse_all([find_patient(options.patient, settings)], settings, options, summary=False)


def _batch(options: argparse.Namespace) -> int:
    from napari_convlstm_tumor.io.discover import find_patients

    settings = _settings(options)
    patients = find_patients(options.folder, settings)
    if settings.prompts is not None and len(patients) > 1:
        raise SettingsError(
            f"--prompts holds one patient's millimetres, and {len(patients)} patients were found. Use run for each."
        )
    return _analyse_all(patients, settings, options, summary=True)


def _analyse_all(patients: list[PatientFiles], settings: Settings, options: argparse.Namespace, summary: bool) -> int:
    from napari_convlstm_tumor.batch import SUMMARY_FILE, run_batch
    from napari_convlstm_tumor.terminal import Screen

    outcomes: list[Outcome] = []
    with Screen(len(patients), options.quiet) as screen:
        for files, event in run_batch(patients, settings, options.out, summary=summary):
            outcome = screen.show(files.patient, event)
            if outcome is not None:
                outcomes.append(outcome)
    screen.close_with(outcomes, options.out / SUMMARY_FILE if summary else None)
    return 1 if any(o.error for o in outcomes) else 0


def _simulate(options: argparse.Namespace) -> int:
    from napari_convlstm_tumor.training.patients import PatientPlan, write_patient

    for seed in range(options.seed, options.seed + options.patients):
        plan = PatientPlan(
            seed=seed,
            visits=options.visits,
            course=options.course,
            modalities=tuple(m.strip() for m in options.modalities.split(",")),
            spacing_mm=tuple(float(s) for s in options.spacing.split(",")),
        )
        folder = write_patient(plan, options.out / f"sim-{seed:03d}")
        print(f"wrote {folder.name}")  # noqa: T201
    return 0


def _train(options: argparse.Namespace) -> int:
    import torch

    from napari_convlstm_tumor.model.network import NetworkConfig
    from napari_convlstm_tumor.training.train import TrainOptions, export, train

    plan = TrainOptions(
        run=options.folder,
        steps=options.steps,
        data=options.data,
        fields=options.fields,
        network=NetworkConfig(cell=options.cell),
        start=options.start,
        device=options.device,
    )
    torch.manual_seed(plan.seed)
    for record in train(plan):
        print("  ".join(f"{name} {value:.4g}" for name, value in record.items()), flush=True)  # noqa: T201
    if options.export is not None:
        export(options.folder, options.export)
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from napari_convlstm_tumor.model.card import write_accuracy
    from napari_convlstm_tumor.training.evaluate import evaluate, to_markdown

    table = evaluate(options.sets.split(","), options.data, options.model, options.patients)
    print(to_markdown(table))  # noqa: T201
    if options.into_card:
        write_accuracy(options.model, table)
    return 0
