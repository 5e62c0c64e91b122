"""Helpers of the launch tests, which import-mode importlib does not find."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
