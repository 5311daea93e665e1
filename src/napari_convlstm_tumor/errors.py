"""Every error this package raises on purpose.

    TumorError
    ├── InputError            a file, folder or value given by a person cannot be used
    │   ├── GeometryError     an affine, spacing or slice order that makes no sense in space
    │   └── SeriesError       the visits of a patient do not form a usable series
    ├── SettingsError         a setting has a value it cannot have
    ├── ModelError            weights or model card missing, damaged or of another kind
    └── MissingDependency     an optional package is not installed; says the install line

A message says what is wrong, in which file (its name, not its full path), the value found and what to do.
"""


class TumorError(Exception):
    """Base of every error raised on purpose."""


class InputError(TumorError):
    """A file, folder or value given by a person cannot be used."""


class GeometryError(InputError):
    """An affine, spacing or slice order that makes no sense in space."""


class SeriesError(InputError):
    """The visits of a patient do not form a usable series."""


class SettingsError(TumorError):
    """A setting has a value it cannot have."""


class ModelError(TumorError):
    """Weights or a model card are missing, damaged or of another kind."""


class MissingDependency(TumorError):
    """An optional package is not installed."""

    def __init__(self, what: str, package: str, extra: str) -> None:
        super().__init__(
            f"{what} needs the package '{package}', which is not installed. "
            f"Install it with: pip install 'napari-convlstm-tumor[{extra}]'"
        )
