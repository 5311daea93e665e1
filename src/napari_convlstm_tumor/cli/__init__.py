"""The command line: folders -> pipeline -> files and an exit code (0 done, 1 some patient failed, 2 wrong usage).

parser  what can be asked for · commands  what each command does · signals  SIGTERM, taken as Ctrl-C is ·
allocator  memory that stays flat over the visits
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from napari_convlstm_tumor.cli.allocator import keep_memory_flat
from napari_convlstm_tumor.cli.parser import build_parser
from napari_convlstm_tumor.cli.signals import Terminated
from napari_convlstm_tumor.errors import TumorError

__all__ = ["build_parser", "main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``convlstm-tumor`` with these arguments (default: those of the process); returns the exit code."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    keep_memory_flat()
    try:
        result: int = options.run(options)
        return result
    except TumorError as error:
        print(f"convlstm-tumor: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except KeyboardInterrupt as stop:
        print("convlstm-tumor: stopped; finished patients are kept.", file=sys.stderr)  # noqa: T201
        return 143 if isinstance(stop, Terminated) else 130
