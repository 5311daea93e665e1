"""The command line: folders -> pipeline -> files and an exit code (0 done, 1 some patient failed, 2 wrong usage)."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_convlstm_tumor import RESEARCH_USE, __version__
from napari_convlstm_tumor.errors import SettingsError, TumorError
from napari_convlstm_tumor.settings import Settings, add_arguments, from_arguments

if TYPE_CHECKING:
    from napari_convlstm_tumor.batch import BatchPlan, Outcome
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
    except KeyboardInterrupt as stop:
        print("convlstm-tumor: stopped; finished patients are kept.", file=sys.stderr)  # noqa: T201
        return 143 if isinstance(stop, _Terminated) else 130


class _Terminated(KeyboardInterrupt):
    """SIGTERM: what a job scheduler sends before it kills, taken as Ctrl-C is."""


@contextmanager
def _terminable() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # only there may signals be handled
        return

    def stop(*_: object) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


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
    _add_bundle(commands)
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
    _add_batch_options(parser)
    parser.set_defaults(run=_batch)


def _add_batch_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("many patients")
    again = group.add_mutually_exclusive_group()
    again.add_argument(
        "--resume",
        action="store_true",
        help="leave alone what is finished and made from the same input, settings and model (the default)",
    )
    again.add_argument("--overwrite", action="store_true", help="do finished patients again, too")
    group.add_argument("--jobs", type=int, default=1, metavar="N", help="patients at once, a process each (default 1)")
    group.add_argument("--part", default="1/1", metavar="K/N", help="every N-th patient from the K-th, for job arrays")
    group.add_argument("--only", action="append", default=[], metavar="PATTERN", help="only patients named so (GBM-*)")
    group.add_argument("--exclude", action="append", default=[], metavar="PATTERN", help="no patients named so")
    group.add_argument("--memory-limit", metavar="SIZE", help="most memory of a process, like 6GB (Linux)")
    group.add_argument("--scheduler", default="", metavar="ADDRESS", help="Dask: local, or tcp://host:8786")
    group.add_argument("--json-log", type=Path, metavar="FILE", help="append every event to FILE, a JSON line each")
    group.add_argument("--dry-run", action="store_true", help="say what would be done with every patient, and end")


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--out", type=Path, required=True, help="results go to OUT/PATIENT/")
    parser.add_argument("--recipe", type=Path, help="recipe.yaml of an earlier run; options given here win over it")
    parser.add_argument("--quiet", action="store_true", help="no progress bar, no tables")
    add_arguments(parser)


def _add_simulate(commands: Any) -> None:
    parser = commands.add_parser("simulate", help="write patients with known growth")
    parser.add_argument("out_folder", nargs="?", type=Path, metavar="OUT", help="patients go to OUT/sim-SEED/")
    parser.add_argument("-o", "--out", type=Path, help="the same as OUT")
    parser.add_argument("--patients", type=int, default=1, metavar="N")
    parser.add_argument("--visits", type=int, default=4, metavar="N", help="2 to 8 (default 4)")
    parser.add_argument("--seed", type=int, default=1, help="the first patient's; same seed, same patient")
    parser.add_argument("--course", default="any", help="any, mixed, or what must happen (see docs/simulator.md)")
    parser.add_argument("--modalities", default="t1c,flair", help="comma-separate, of t1, t1c, t2, flair, ct")
    parser.add_argument("--spacing", default="1,1,1", metavar="X,Y,Z", help="voxel size in mm (default 1,1,1)")
    parser.add_argument("--missing", type=float, default=0.0, metavar="SHARE", help="of images not taken (default 0)")
    parser.add_argument("--skull-stripped", action="store_true", help="images are 0 outside the brain")
    parser.add_argument(
        "--given",
        choices=("none", "first", "all"),
        default="none",
        help="visits whose true mask lies beside the images as a given mask (default none)",
    )
    parser.add_argument("--real", type=Path, metavar="FOLDER", help="warp the sarcomas of this folder instead")
    parser.set_defaults(run=_simulate)


def _add_train(commands: Any) -> None:
    parser = commands.add_parser("train", help="train the network; goes on where the run folder stands")
    parser.add_argument("--run", dest="folder", type=Path, required=True, help="run folder (checkpoint, curves)")
    parser.add_argument("--data", type=Path, help="folder with brains/, sarcoma/, glioblastoma/ (see docs/training.md)")
    parser.add_argument("--patients", type=Path, metavar="FOLDER", help="your own patients, masks at some visits")
    parser.add_argument("--own-share", type=float, default=0.7, help="of the sequences from --patients (default 0.7)")
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--fields", type=int, default=120, help="growth fields to simulate and keep")
    parser.add_argument("--heads", type=int, default=0, help="whole patients to simulate and keep (default 0)")
    parser.add_argument(
        "--head-seeds", type=int, nargs="+", default=(), metavar="SEED", help="of which seeds (default that of the run)"
    )
    parser.add_argument("--forecast-only", action="store_true", help="train the forecast alone, from --start")
    parser.add_argument("--cell", choices=("lstm", "gru", "attention"), default="lstm")
    parser.add_argument("--baseline", choices=("unet",), help="train the per-visit U-Net to compare with instead")
    parser.add_argument("--learning-rate", type=float, default=7e-4, help="at the beginning; falls to 0 (default 7e-4)")
    parser.add_argument("--start", metavar="MODEL", help="begin a new run with the weights of this model")
    parser.add_argument("--seed", type=int, default=1, help="of the samples; a run with --start takes another than its")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--export", type=Path, metavar="FILE", help="write the weights of the run to FILE.safetensors")
    parser.set_defaults(run=_train)


def _add_evaluate(commands: Any) -> None:
    parser = commands.add_parser("evaluate", help="accuracy of a model on patients it was not trained on")
    parser.add_argument("--data", type=Path, help="folder with sarcoma/, glioblastoma/ and brains/")
    parser.add_argument("--model", default="default", help="name of a shipped model, or a .safetensors file")
    parser.add_argument("--baseline", type=Path, metavar="FILE", help="weights of a per-visit U-Net to compare with")
    parser.add_argument("--sets", help="of sarcoma,glioblastoma,simulated,brains (default: all that --data allows)")
    parser.add_argument("--measures", help="of dice,hausdorff,volume,change,memory,forecast,consistency (default: all)")
    parser.add_argument("--patients", type=int, default=50, help="simulated patients (default 50)")
    parser.add_argument("--quick", action="store_true", help="8 simulated patients; dice, change, memory and forecast")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the simulated patients for the next time")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="every number of every patient and visit")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--into-card", action="store_true", help="also write the table into the model's card")
    parser.set_defaults(run=_evaluate)


def _add_bundle(commands: Any) -> None:
    parser = commands.add_parser("bundle", help="write a model as a MONAI bundle", epilog=RESEARCH_USE)
    parser.add_argument("out", type=Path, help="new folder of the bundle")
    parser.add_argument("--model", default="default", help="name of a shipped model, or a .safetensors file")
    parser.set_defaults(run=_bundle)


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
    from napari_convlstm_tumor.batch.plan import BatchPlan, parse_bytes
    from napari_convlstm_tumor.batch.run import tasks

    settings = _settings(options)
    if options.jobs < 1:
        raise SettingsError(f"--jobs is at least 1, got {options.jobs}.")
    limit = None if options.memory_limit is None else parse_bytes(options.memory_limit)
    plan = BatchPlan(options.jobs, options.overwrite, limit, options.scheduler)
    patients = _chosen(options, settings)
    for name in ("prompts", "links"):
        if getattr(settings, name) is not None and len(patients) > 1:
            raise SettingsError(
                f"--{name} holds one patient's millimetres, and {len(patients)} patients were found. Use run for each."
            )
    if options.dry_run:
        from napari_convlstm_tumor.batch.patient import state
        from napari_convlstm_tumor.terminal import print_plan

        print_plan([(task.patient, state(task)) for task in tasks(patients, settings, options.out, plan)])
        return 0
    return _analyse_many(patients, settings, plan, options)


def _chosen(options: argparse.Namespace, settings: Settings) -> list[PatientFiles]:
    """The patients of the folder that this batch is about."""
    from napari_convlstm_tumor.batch.plan import choose, parse_part
    from napari_convlstm_tumor.io.discover import find_patients

    part = parse_part(options.part)
    found = choose(find_patients(options.folder.absolute(), settings), options.only, options.exclude)
    if not found:
        raise SettingsError("No patient is left by --only and --exclude. `convlstm-tumor info` shows their names.")
    return choose(found, part=part)


def _analyse_many(
    patients: list[PatientFiles], settings: Settings, plan: BatchPlan, options: argparse.Namespace
) -> int:
    from napari_convlstm_tumor.batch.log import json_log
    from napari_convlstm_tumor.batch.run import run_batch
    from napari_convlstm_tumor.batch.tables import INDEX_FILE
    from napari_convlstm_tumor.terminal import BatchScreen

    events = run_batch(patients, settings, options.out, plan=plan)
    with json_log(options.json_log) as log, BatchScreen(len(patients), options.quiet) as screen, _terminable():
        log.write("start", patients=len(patients), jobs=plan.jobs, version=__version__)
        try:
            for files, event in events:
                screen.show(files.patient, event)
                log.show(files.patient, event)
        except TumorError as error:
            if not screen.outcomes:
                raise
            print(f"convlstm-tumor: {error}", file=sys.stderr)  # noqa: T201
            return 1
        except KeyboardInterrupt:
            log.write("stopped", **screen.counts())
            raise
        log.write("end", **screen.counts())
    screen.close_with(options.out / INDEX_FILE)
    return 0 if screen.counts()["done"] == len(patients) else 1


def _analyse_all(patients: list[PatientFiles], settings: Settings, options: argparse.Namespace, summary: bool) -> int:
    from napari_convlstm_tumor.batch import SUMMARY_FILE, BatchPlan, run_batch
    from napari_convlstm_tumor.terminal import Screen

    outcomes: list[Outcome] = []
    with Screen(len(patients), options.quiet) as screen:
        for files, event in run_batch(patients, settings, options.out, summary, BatchPlan(overwrite=True)):
            outcome = screen.show(files.patient, event)
            if outcome is not None:
                outcomes.append(outcome)
    screen.close_with(outcomes, options.out / SUMMARY_FILE if summary else None)
    return 1 if any(o.error for o in outcomes) else 0


def _simulate(options: argparse.Namespace) -> int:
    from napari_convlstm_tumor.training.patients import PatientPlan, write_patient

    out = options.out or options.out_folder
    if out is None:
        raise SettingsError("simulate needs a folder to write to: convlstm-tumor simulate OUT.")
    if options.real is not None:
        return _simulate_warped(options, out)
    for seed in range(options.seed, options.seed + options.patients):
        plan = PatientPlan(
            seed=seed,
            visits=options.visits,
            course=options.course,
            modalities=tuple(m.strip() for m in options.modalities.split(",")),
            spacing_mm=_numbers(options.spacing),
            missing=options.missing,
            skull_stripped=options.skull_stripped,
        )
        folder = write_patient(plan, out / f"sim-{seed:03d}", given=options.given)
        print(f"wrote {folder.name}")  # noqa: T201
    return 0


def _simulate_warped(options: argparse.Namespace, out: Path) -> int:
    from napari_convlstm_tumor.training.warped import write_warped

    for name in write_warped(options.real, out, options.patients, options.seed, options.visits, options.given):
        print(f"wrote {name}")  # noqa: T201
    return 0


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise SettingsError(f"spacing is three numbers such as 1,1,3; got {text!r}.") from None


def _train(options: argparse.Namespace) -> int:
    import torch

    from napari_convlstm_tumor.model.network import NetworkConfig
    from napari_convlstm_tumor.training.train import TrainOptions, export, train

    plan = TrainOptions(
        run=options.folder,
        steps=options.steps,
        data=options.data,
        learning_rate=options.learning_rate,
        fields=options.fields,
        heads=options.heads,
        head_seeds=tuple(options.head_seeds),
        forecast_only=options.forecast_only,
        network=NetworkConfig(cell=options.cell),
        start=options.start,
        seed=options.seed,
        device=options.device,
        patients=options.patients,
        own_share=options.own_share,
        baseline=options.baseline is not None,
    )
    torch.manual_seed(plan.seed)
    for record in train(plan):
        print("  ".join(f"{name} {value:.4g}" for name, value in record.items()), flush=True)  # noqa: T201
    if options.export is not None and int(os.environ.get("RANK", 0)) == 0:
        export(options.folder, options.export)
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from napari_convlstm_tumor.model.card import write_accuracy
    from napari_convlstm_tumor.training import evaluate, goals

    plan = evaluate.plan_of(
        data=options.data,
        model=options.model,
        patients=options.patients,
        baseline=options.baseline,
        device=options.device,
        cache=options.keep,
        sets=options.sets,
        measures=options.measures,
        quick=options.quick,
    )
    print(evaluate.check_leakage(plan), flush=True)  # noqa: T201
    found: list[evaluate.Score] = []
    for score in evaluate.score(plan):
        if not found or (found[-1].set, found[-1].patient) != (score.set, score.patient):
            print(f"{score.set}: {score.patient}", file=sys.stderr, flush=True)  # noqa: T201
        found.append(score)
    table = evaluate.table(found)
    print("\n".join(["", goals.to_markdown(table), "", evaluate.to_markdown(table)]))  # noqa: T201
    if options.csv is not None:
        options.csv.write_text(evaluate.to_csv(found), encoding="utf-8")
    if options.into_card:
        write_accuracy(options.model, table)
    return 0


def _bundle(options: argparse.Namespace) -> int:
    from napari_convlstm_tumor.training.bundle import export_bundle

    print(f"wrote the MONAI bundle {export_bundle(options.out, options.model).name}")  # noqa: T201
    return 0
