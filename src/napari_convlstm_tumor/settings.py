"""Settings: every choice a person makes, once. The command line, the widget form and recipe.yaml are made from it."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from napari_convlstm_tumor.errors import SettingsError
from napari_convlstm_tumor.series import MODALITIES

DEVICES = ("auto", "cpu", "cuda")
# Settings that name a file, and those that are a whole number.
PATHS = ("prompts", "clinical", "links")
WHOLE_NUMBERS = ("reference", "horizon_days", "baseline")
MASK_CHOICES = ("use", "ignore")
# Response criteria (the keys of measure.response.CRITERIA, a test compares them), and two words about them.
CRITERION_CHOICES = (
    "auto",
    "none",
    "rano-2010",
    "rano-2.0-area",
    "rano-2.0-volume",
    "rano-lgg",
    "rano-bm",
    "rano-meningioma",
    "recist-1.1",
    "lung-volume",
    "lung-rads",
    "fleischner",
)


def _choice(default: Any, help: str, **extra: Any) -> Any:
    return field(default=default, metadata={"help": help, **extra})


@dataclass(frozen=True)
class Settings:
    """One analysis. Paths are as the person gave them; lists are tuples so that settings can be compared and hashed."""

    modality: tuple[str, ...] = _choice(
        (),
        "use only these modalities (repeat or comma-separate); an image of unknown kind counts as the one given",
        choices=MODALITIES,
    )
    masks: str = _choice(
        "use",
        "use: masks found beside the images are taken as they are, and prompt the network at visits without one; "
        "ignore: the network segments every visit",
        choices=MASK_CHOICES,
    )
    prompts: Path | None = _choice(None, "JSON file with points, boxes or masks that show the tumor")
    device: str = _choice("auto", "where the network runs", choices=DEVICES)
    reference: int = _choice(1, "number of the visit that gives the common space (1 = first in time)", minimum=1)
    register: bool = _choice(True, "lay every visit on the reference by rigid registration")
    model: str = _choice(
        "default",
        "name of a shipped model, the path of a .safetensors file, or the folder of a MONAI bundle, which runs its "
        "maker's code: only one that you trust",
    )
    spacing: tuple[float, ...] = _choice(
        (), "voxel size of the common grid in mm: one number or x,y,z (default: that of the reference image)"
    )
    horizon_days: int | None = _choice(
        None, "forecast this many days after the last visit (default: the last gap between visits)", minimum=1
    )
    resample_uneven: bool = _choice(False, "accept DICOM series with missing or uneven slices by resampling them")
    criterion: str = _choice(
        "auto",
        "response criterion; auto: RANO 2.0 by volume for MR, RECIST 1.1 where there is CT or an image of unknown kind",
        choices=CRITERION_CHOICES,
    )
    baseline: int | None = _choice(
        None, "number of the visit that changes and responses are counted from (default: the first)", minimum=1
    )
    clinical: Path | None = _choice(None, "CSV file with steroids, clinical state and end of radiotherapy")
    links: Path | None = _choice(None, "JSON file that corrects by hand which lesion is which")
    log_growth: bool = _choice(False, "also write the map of voxel log-growth")
    log_jacobian: bool = _choice(
        False, "also write the map of the log-Jacobian rate, by a deformable registration of every two visits (minutes)"
    )
    dicom: bool = _choice(False, "also write DICOM SEG, SR and growth maps, for patients read from DICOM")

    keep_dates: bool = _choice(
        False, "write the visits' dates to identity.csv beside the result: private, do not share that file"
    )
    keep_ids: bool = _choice(
        False, "write the patient ID of the DICOM headers to identity.csv beside the result: private, do not share it"
    )

    def __post_init__(self) -> None:
        for name in PATHS:
            if isinstance(getattr(self, name), str):
                object.__setattr__(self, name, Path(getattr(self, name)))
        object.__setattr__(self, "modality", tuple(self.modality))
        object.__setattr__(self, "spacing", tuple(float(s) for s in self.spacing))
        for name in ("modality", "masks", "device", "criterion"):
            _check_choice(name, getattr(self, name))
        for name in WHOLE_NUMBERS:
            _check_minimum(name, getattr(self, name))
        if len(self.spacing) not in (0, 1, 3) or any(not 0.1 <= s <= 20 for s in self.spacing):
            raise SettingsError(f"spacing is one or three numbers between 0.1 and 20 mm, got {self.spacing}.")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for recipe.yaml and run.json."""
        values = dataclasses.asdict(self)
        values["modality"], values["spacing"] = list(self.modality), list(self.spacing)
        for name in PATHS:
            values[name] = None if values[name] is None else str(values[name])
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Settings:
        """The inverse of to_dict. Unknown names and wrong types are refused with SettingsError."""
        known = {f.name: f for f in dataclasses.fields(cls)}
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise SettingsError(f"Unknown setting {unknown[0]!r}. Known: {', '.join(sorted(known))}.")
        try:
            return cls(**{name: _plain(known[name], value) for name, value in values.items()})
        except (TypeError, ValueError, OverflowError) as error:
            raise SettingsError(f"A setting has a value of the wrong kind: {error}") from error


def _plain(setting: dataclasses.Field[Any], value: Any) -> Any:
    """Value read from YAML or a form, checked against the type of the default."""
    default = setting.default
    if isinstance(default, tuple):
        return tuple(value) if isinstance(value, (list, tuple)) else (value,)
    if isinstance(default, bool) and not isinstance(value, bool):
        raise TypeError(f"{setting.name} is true or false, got {value!r}")
    if isinstance(default, str) and not isinstance(value, str):
        raise TypeError(f"{setting.name} is text, got {value!r}")
    if setting.name in WHOLE_NUMBERS and value is not None:
        if isinstance(value, bool) or int(value) != value:
            raise TypeError(f"{setting.name} is a whole number, got {value!r}")
        return int(value)
    return value


def _metadata(name: str) -> Mapping[str, Any]:
    return Settings.__dataclass_fields__[name].metadata


def _check_choice(name: str, value: Any) -> None:
    choices = _metadata(name)["choices"]
    for item in value if isinstance(value, tuple) else (value,):
        if item not in choices:
            raise SettingsError(f"{name} is one of {', '.join(choices)}; got {item!r}.")


def _check_minimum(name: str, value: int | None) -> None:
    minimum = _metadata(name)["minimum"]
    if value is not None and value < minimum:
        raise SettingsError(f"{name} is at least {minimum}; got {value}.")


# ---- command line ----


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One option per setting; an option not given stays out of the namespace, so that a recipe can fill it."""
    group = parser.add_argument_group("settings")
    for setting in dataclasses.fields(Settings):
        flag = "--" + setting.name.replace("_", "-")
        text = setting.metadata["help"].replace("%", "%%")
        options: dict[str, Any] = {"dest": setting.name, "default": argparse.SUPPRESS, "help": text}
        if setting.default is True:
            group.add_argument("--no-" + setting.name, action="store_false", **{**options, "help": "do not " + text})
        elif setting.default is False:
            group.add_argument(flag, action="store_true", **options)
        elif setting.name == "modality":
            group.add_argument(flag, action="extend", type=_names, metavar="NAME[,NAME]", **options)
        elif setting.name == "spacing":
            group.add_argument(flag, type=_numbers, metavar="MM", **options)
        else:
            integer = setting.name in WHOLE_NUMBERS
            choices = {"choices": setting.metadata["choices"]} if "choices" in setting.metadata else {}
            metavar: dict[str, Any] = {} if choices else {"metavar": "N" if integer else setting.name.upper()}
            group.add_argument(flag, type=int if integer else str, **choices, **metavar, **options)


def from_arguments(namespace: argparse.Namespace, base: Settings | None = None) -> Settings:
    """Settings from parsed arguments; what was not given comes from ``base`` (a recipe) or the defaults."""
    given = {f.name: getattr(namespace, f.name) for f in dataclasses.fields(Settings) if hasattr(namespace, f.name)}
    return Settings.from_dict({**(base or Settings()).to_dict(), **given})


def _names(text: str) -> list[str]:
    return [part.strip().lower() for part in text.split(",") if part.strip()]


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.replace("x", ",").split(",") if part.strip())
