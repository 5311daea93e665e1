"""The fixtures of conftest_edit, which tests also import by name."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from conftest_edit import mixed_result, network_result  # noqa: F401
