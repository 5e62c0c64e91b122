"""Published files that the tests make for themselves."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(
    0, str(Path(__file__).parents[1])
)  # the helpers, which importlib mode does not find
