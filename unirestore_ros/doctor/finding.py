"""One line of the doctor's report, and code run apart to find out."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from typing import Any

OK, NOTE, ERROR = "ok", "note", "error"
_PROBE_LIMIT_S = 120.0


@dataclasses.dataclass(frozen=True)
class Finding:
    """What was checked, what was found, what to do.

    ``level``: ``ok``; ``note`` where something works less well; ``error`` where it cannot work.
    """

    check: str
    level: str
    found: str
    advice: str = ""

    @property
    def row(self) -> tuple[str, str, str]:
        advice = f" -> {self.advice}" if self.advice else ""
        return self.level, self.check, f"{self.found}{advice}"


class ProbeError(Exception):
    """A probe failed; the text is the last line that it wrote."""


def probe(code: str, *arguments: str, python: str = sys.executable) -> Any:
    """Run Python code in another process, where a library may crash, and return the JSON that it
    prints last; ProbeError where it does not get that far. ``python`` is the interpreter."""
    try:
        done = subprocess.run(
            [python, "-c", code, *arguments],
            capture_output=True,
            text=True,
            timeout=_PROBE_LIMIT_S,
        )
    except subprocess.TimeoutExpired:
        raise ProbeError(f"no answer in {_PROBE_LIMIT_S:g} s") from None
    except OSError as error:
        raise ProbeError(f"{python}: {error.strerror}") from error
    if done.returncode < 0:
        raise ProbeError(f"it was ended by signal {-done.returncode}")
    lines = (done.stderr if done.returncode else done.stdout).strip().splitlines() or ["nothing"]
    if done.returncode:
        raise ProbeError(lines[-1])
    return json.loads(lines[-1])
