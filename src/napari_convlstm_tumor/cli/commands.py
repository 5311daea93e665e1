"""What each command does, given its options; heavy imports happen inside."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from napari_convlstm_tumor import __version__
from napari_convlstm_tumor.cli.signals import terminable
from napari_convlstm_tumor.errors import SettingsError, TumorError
from napari_convlstm_tumor.settings import Settings, from_arguments

if TYPE_CHECKING:
    from napari_convlstm_tumor.batch import BatchPlan, Outcome
    from napari_convlstm_tumor.series import PatientFiles


def info(options: argparse.Namespace) -> int:
    """What would be read."""
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


def run(options: argparse.Namespace) -> int:
    """One patient."""
    from napari_convlstm_tumor.io.discover import find_patient

    settings = _settings(options)
    return _analyse_all([find_patient(options.patient, settings)], settings, options, summary=False)


def batch(options: argparse.Namespace) -> int:
    """Every patient of a folder."""
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
    with json_log(options.json_log) as log, BatchScreen(len(patients), options.quiet) as screen, terminable():
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


def simulate(options: argparse.Namespace) -> int:
    """Patients with known growth."""
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


def train(options: argparse.Namespace) -> int:
    """A run of training, from where its folder stands."""
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


def evaluate(options: argparse.Namespace) -> int:
    """The accuracy of a model, as a table."""
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


def bundle(options: argparse.Namespace) -> int:
    """A model as a MONAI bundle."""
    from napari_convlstm_tumor.training.bundle import export_bundle

    print(f"wrote the MONAI bundle {export_bundle(options.out, options.model).name}")  # noqa: T201
    return 0
