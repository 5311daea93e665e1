"""Settings: one definition that goes to a dictionary, a recipe and the command line and back unchanged."""

import argparse
import dataclasses
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from napari_convlstm_tumor.errors import SettingsError
from napari_convlstm_tumor.measure.response import CRITERIA
from napari_convlstm_tumor.series import MODALITIES
from napari_convlstm_tumor.settings import (
    CRITERION_CHOICES,
    DEVICES,
    MASK_CHOICES,
    Settings,
    add_arguments,
    from_arguments,
)

NAMES = [f.name for f in dataclasses.fields(Settings)]

any_settings = st.builds(
    Settings,
    modality=st.lists(st.sampled_from(MODALITIES), max_size=3).map(tuple),
    masks=st.sampled_from(MASK_CHOICES),
    prompts=st.none() | st.just(Path("some folder/prompts.json")),
    device=st.sampled_from(DEVICES),
    reference=st.integers(1, 50),
    register=st.booleans(),
    model=st.sampled_from(["default", "my model.safetensors"]),
    spacing=st.one_of(*[st.tuples(*[st.floats(0.1, 20)] * n) for n in (0, 1, 3)]),
    horizon_days=st.none() | st.integers(1, 1000),
    resample_uneven=st.booleans(),
    criterion=st.sampled_from(CRITERION_CHOICES),
    baseline=st.none() | st.integers(1, 50),
    clinical=st.none() | st.just(Path("some folder/clinic.csv")),
    links=st.none() | st.just(Path("some folder/links.json")),
    log_growth=st.booleans(),
    log_jacobian=st.booleans(),
    dicom=st.booleans(),
)


def parser():
    made = argparse.ArgumentParser(prog="convlstm-tumor", exit_on_error=False)
    add_arguments(made)
    return made


def parse(*words, base=None):
    return from_arguments(parser().parse_args(words), base)


def command_line(settings):
    """The options that give these settings."""
    words = [f"--{name}={getattr(settings, name)}" for name in ("masks", "device", "reference", "model", "criterion")]
    words += [f"--modality={','.join(settings.modality)}"] if settings.modality else []
    words += [f"--spacing={','.join(map(repr, settings.spacing))}"] if settings.spacing else []
    for name in ("prompts", "clinical", "links", "baseline"):
        words += [f"--{name}={getattr(settings, name)}"] if getattr(settings, name) else []
    words += [f"--horizon-days={settings.horizon_days}"] if settings.horizon_days else []
    words += [] if settings.register else ["--no-register"]
    flags = ("resample_uneven", "log_growth", "log_jacobian", "dicom")
    return words + ["--" + name.replace("_", "-") for name in flags if getattr(settings, name)]


# ---- there and back ----


@given(any_settings)
def test_dictionary_and_back(settings):
    assert Settings.from_dict(settings.to_dict()) == settings


@given(any_settings)
def test_recipe_and_back(settings):
    assert Settings.from_dict(yaml.safe_load(yaml.safe_dump(settings.to_dict()))) == settings


@given(any_settings)
def test_command_line_and_back(settings):
    assert parse(*command_line(settings)) == settings


def test_settings_can_be_compared_and_hashed():
    assert hash(Settings(spacing=[1, 1, 3])) == hash(Settings(spacing=(1.0, 1.0, 3.0)))
    assert Settings(modality=["t1"]) == Settings(modality=("t1",))


def test_a_recipe_of_fewer_settings_is_filled_with_the_defaults():
    assert Settings.from_dict({}) == Settings()
    assert Settings.from_dict({"device": "cpu"}) == Settings(device="cpu")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"spacing": 1.5}, Settings(spacing=(1.5,))),  # a single value, as a person writes it in YAML
        ({"modality": "flair"}, Settings(modality=("flair",))),
        ({"reference": 2.0}, Settings(reference=2)),
        ({"prompts": "p.json"}, Settings(prompts=Path("p.json"))),
        ({"prompts": None, "horizon_days": None}, Settings()),
    ],
)
def test_values_written_by_hand_are_understood(values, expected):
    assert Settings.from_dict(values) == expected


def test_the_criteria_are_those_that_can_be_classified():
    assert ("auto", "none", *CRITERIA) == CRITERION_CHOICES


# ---- refusals ----


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"colour": "red"}, "Unknown setting 'colour'. Known: baseline, clinical"),
        ({"horizon-days": 3}, "Unknown setting 'horizon-days'"),
        ({"device": "tpu"}, "device is one of auto, cpu, cuda; got 'tpu'"),
        ({"criterion": "who"}, "criterion is one of auto, none, rano-2010"),
        ({"baseline": 0}, "baseline is at least 1; got 0"),
        ({"dicom": "yes"}, "dicom is true or false, got 'yes'"),
        ({"masks": "maybe"}, "masks is one of use, ignore; got 'maybe'"),
        ({"modality": ["t1", "pet"]}, "modality is one of t1, t1c, t2, flair, ct, other; got 'pet'"),
        ({"reference": 0}, "reference is at least 1; got 0"),
        ({"horizon_days": -5}, "horizon_days is at least 1; got -5"),
        ({"horizon_days": 0}, "horizon_days is at least 1; got 0"),
        ({"reference": 1.5}, "reference is a whole number, got 1.5"),
        ({"reference": True}, "reference is a whole number, got True"),
        ({"reference": "two"}, "wrong kind"),
        ({"register": "no"}, "register is true or false, got 'no'"),
        ({"resample_uneven": 1}, "resample_uneven is true or false, got 1"),
        ({"model": 3}, "model is text, got 3"),
        ({"spacing": [1, 2]}, "one or three numbers between 0.1 and 20 mm"),
        ({"spacing": [1, 1, 0.01]}, "between 0.1 and 20 mm"),
        ({"spacing": [float("nan")]}, "between 0.1 and 20 mm"),
        ({"spacing": ["fine"]}, "wrong kind"),
    ],
)
def test_what_a_setting_cannot_be_is_refused(values, words):
    with pytest.raises(SettingsError, match=words):
        Settings.from_dict(values)


# ---- command line ----


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], Settings()),
        (["--modality", "t1,FLAIR"], Settings(modality=("t1", "flair"))),
        (["--modality", "t1", "--modality", "flair"], Settings(modality=("t1", "flair"))),
        (["--spacing", "1"], Settings(spacing=(1.0,))),
        (["--spacing", "1,1,2.5"], Settings(spacing=(1.0, 1.0, 2.5))),
        (["--spacing", "1x1x2.5"], Settings(spacing=(1.0, 1.0, 2.5))),
        (["--no-register"], Settings(register=False)),
        (["--resample-uneven"], Settings(resample_uneven=True)),
        (["--horizon-days", "90"], Settings(horizon_days=90)),
        (["--prompts", "clicks.json"], Settings(prompts=Path("clicks.json"))),
        (["--links", "which.json", "--clinical", "c.csv"], Settings(links=Path("which.json"), clinical=Path("c.csv"))),
        (["--criterion", "rano-bm", "--baseline", "2"], Settings(criterion="rano-bm", baseline=2)),
        (["--log-growth", "--dicom"], Settings(log_growth=True, dicom=True)),
        (["--log-jacobian"], Settings(log_jacobian=True)),
    ],
)
def test_options(words, expected):
    assert parse(*words) == expected


def test_an_option_beats_the_recipe_and_the_recipe_beats_the_default():
    recipe = Settings(device="cpu", reference=2, register=False, modality=("t1",))
    assert parse(base=recipe) == recipe
    changed = dataclasses.replace(recipe, reference=3, modality=("flair",))
    assert parse("--reference", "3", "--modality", "flair", base=recipe) == changed


@pytest.mark.parametrize(
    "words", [["--device", "tpu"], ["--reference", "two"], ["--spacing", "wide"], ["--masks", "maybe"]]
)
def test_an_impossible_option_is_refused_by_the_parser(words):
    with pytest.raises(argparse.ArgumentError, match=words[0]):
        parse(*words)


@pytest.mark.parametrize("words", [["--reference", "0"], ["--modality", "pet"], ["--spacing", "1,2"]])
def test_an_impossible_value_is_refused_by_the_settings(words):
    with pytest.raises(SettingsError, match=words[0].strip("-")):
        parse(*words)


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_has_an_option_with_its_help(name):
    text = " ".join(parser().format_help().split())
    flag = "--no-register" if name == "register" else "--" + name.replace("_", "-")
    assert flag in text
    field = Settings.__dataclass_fields__[name]
    assert " ".join(field.metadata["help"].split()) in text
