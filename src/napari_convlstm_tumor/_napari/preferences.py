"""Preferences of this plugin, kept by napari (Preferences > Plugin settings); the manifest says which there are."""

from __future__ import annotations

from typing import Any

from napari_convlstm_tumor.errors import SettingsError
from napari_convlstm_tumor.settings import Settings

PLUGIN, GROUP = "napari-convlstm-tumor", "defaults"


def settings() -> Settings:
    """Settings to begin with: the defaults, with the device and the criterion preferred here."""
    preferred = _group()
    if preferred is None:
        return Settings()
    try:
        return Settings(device=preferred.device, criterion=preferred.criterion)
    except SettingsError:
        return Settings()


def show_dates() -> bool:
    """True when the person wants dates on the screen where they are known; they are never written to a result."""
    preferred = _group()
    return preferred is not None and bool(preferred.show_dates)


def show_hint() -> bool:
    """True until the person has seen the six steps."""
    preferred = _group()
    return preferred is None or bool(preferred.show_hint)


def hint_was_seen() -> None:
    """Remember it."""
    preferred = _group()
    if preferred is not None:
        preferred.show_hint = False


def _group() -> Any:
    """napari's settings of this plugin; None where the plugin is not installed (run from its sources)."""
    try:
        from napari.settings import get_plugin_settings

        return getattr(get_plugin_settings(PLUGIN), GROUP)
    except (ImportError, KeyError, AttributeError):
        return None
