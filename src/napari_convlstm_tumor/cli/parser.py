"""Every command and option; imports nothing heavy."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from napari_convlstm_tumor import RESEARCH_USE, __version__
from napari_convlstm_tumor.cli import commands
from napari_convlstm_tumor.settings import add_arguments


def build_parser() -> argparse.ArgumentParser:
    """All commands and options; imports nothing heavy."""
    parser = argparse.ArgumentParser(
        prog="convlstm-tumor",
        description="Segment, measure and forecast a tumor over the visits of a patient.",
        epilog=RESEARCH_USE,
    )
    parser.add_argument("--version", action="version", version=f"convlstm-tumor {__version__}")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_info(subparsers)
    _add_run(subparsers)
    _add_batch(subparsers)
    _add_simulate(subparsers)
    _add_train(subparsers)
    _add_evaluate(subparsers)
    _add_bundle(subparsers)
    return parser


def _add_info(subparsers: Any) -> None:
    parser = subparsers.add_parser("info", help="what would be read: patients, visits, days, modalities, problems")
    parser.add_argument("path", type=Path, help="patient folder, folder of patients, or manifest CSV")
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    add_arguments(parser)
    parser.set_defaults(run=commands.info)


def _add_run(subparsers: Any) -> None:
    parser = subparsers.add_parser("run", help="analyse one patient", epilog=RESEARCH_USE)
    parser.add_argument("patient", type=Path, help="patient folder or manifest CSV of one patient")
    _add_output(parser)
    parser.set_defaults(run=commands.run)


def _add_batch(subparsers: Any) -> None:
    parser = subparsers.add_parser("batch", help="analyse every patient of a folder", epilog=RESEARCH_USE)
    parser.add_argument("folder", type=Path, help="folder of patients, or manifest CSV")
    _add_output(parser)
    _add_batch_options(parser)
    parser.set_defaults(run=commands.batch)


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


def _add_simulate(subparsers: Any) -> None:
    parser = subparsers.add_parser("simulate", help="write patients with known growth")
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
    parser.set_defaults(run=commands.simulate)


def _add_train(subparsers: Any) -> None:
    parser = subparsers.add_parser("train", help="train the network; goes on where the run folder stands")
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
    parser.set_defaults(run=commands.train)


def _add_evaluate(subparsers: Any) -> None:
    parser = subparsers.add_parser("evaluate", help="accuracy of a model on patients it was not trained on")
    parser.add_argument("--data", type=Path, help="folder with sarcoma/, glioblastoma/ and brains/")
    parser.add_argument("--model", default="default", help="name of a shipped model, or a .safetensors file")
    parser.add_argument("--baseline", type=Path, metavar="FILE", help="weights of a per-visit U-Net to compare with")
    parser.add_argument("--sets", help="of sarcoma,glioblastoma,warped,simulated,brains (default: all possible)")
    parser.add_argument("--measures", help="of dice,hausdorff,volume,change,memory,forecast,consistency (default: all)")
    parser.add_argument("--patients", type=int, default=50, help="simulated patients (default 50)")
    parser.add_argument("--quick", action="store_true", help="8 simulated patients; dice, change, memory and forecast")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the simulated patients for the next time")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="every number of every patient and visit")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--into-card", action="store_true", help="also write the table into the model's card")
    parser.set_defaults(run=commands.evaluate)


def _add_bundle(subparsers: Any) -> None:
    parser = subparsers.add_parser("bundle", help="write a model as a MONAI bundle", epilog=RESEARCH_USE)
    parser.add_argument("out", type=Path, help="new folder of the bundle")
    parser.add_argument("--model", default="default", help="name of a shipped model, or a .safetensors file")
    parser.set_defaults(run=commands.bundle)
