"""The form is Settings, no more and no less."""

import dataclasses

import pytest

pytest.importorskip("qtpy")
from napari_convlstm_tumor._napari.form import SettingsForm
from napari_convlstm_tumor.errors import SettingsError
from napari_convlstm_tumor.settings import Settings


@pytest.fixture
def form(qtbot):
    made = SettingsForm()
    qtbot.addWidget(made)
    return made


def test_untouched_form_is_the_defaults(form):
    assert form.settings() == Settings()


def test_every_setting_has_an_editor_and_its_help(form):
    for field in dataclasses.fields(Settings):
        assert form.editors[field.name].toolTip() == field.metadata["help"]


@pytest.mark.parametrize(
    "settings",
    [
        Settings(modality=("t1c", "flair"), masks="ignore", device="cpu", reference=2, register=False),
        Settings(prompts="a/prompts.json", model="weights.safetensors", horizon_days=90, resample_uneven=True),
        Settings(spacing=(1.0,)),
        Settings(spacing=(0.9, 0.9, 6.5), horizon_days=1),
    ],
)
def test_what_is_set_is_read_back(form, settings):
    form.set(settings)
    assert form.settings() == settings


def test_nonsense_is_refused_by_settings(form):
    form.editors["spacing"].setText("fine")
    with pytest.raises(SettingsError, match="wrong kind"):
        form.settings()
    form.editors["spacing"].setText("1, 2")
    with pytest.raises(SettingsError, match="one or three numbers"):
        form.settings()
