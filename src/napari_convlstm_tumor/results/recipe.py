"""recipe.yaml: the settings of a run, to be replayed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from napari_convlstm_tumor.errors import InputError
from napari_convlstm_tumor.settings import PATHS, Settings


def recipe_text(settings: dict[str, Any]) -> str:
    """recipe.yaml; read_recipe says why it cannot name a bundle."""
    note = ""
    if Path(settings["model"]).is_dir():
        note = f"# Outlined by the MONAI bundle {Path(settings.pop('model')).name}: to replay, give --model FOLDER.\n"
    return note + yaml.safe_dump(settings, sort_keys=False)


def read_recipe(path: Path) -> Settings:
    """Settings from a recipe.yaml; files named in it are looked for beside it."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not valid YAML"
        raise InputError(f"The recipe {path.name} cannot be read: {reason}.") from error
    if not isinstance(values, dict):
        raise InputError(f"The recipe {path.name} is not a list of settings (name: value).")
    for name in PATHS:
        if isinstance(values.get(name), str):
            values[name] = path.parent / values[name]
    settings = Settings.from_dict(values)
    if Path(settings.model).is_dir():
        raise InputError(
            f"The recipe {path.name} names the folder '{Path(settings.model).name}' as the model. A MONAI bundle runs "
            "its maker's code, so a recipe cannot ask for one: take the line 'model' out, and give --model yourself if "
            "you trust the bundle."
        )
    return settings
