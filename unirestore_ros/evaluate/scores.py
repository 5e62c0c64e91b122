"""What was measured of each method: an entry an image, before it becomes rows."""

from __future__ import annotations

import dataclasses

from unirestore_ros.train.findings import Finding

OURS = "unirestore"


@dataclasses.dataclass
class Score:
    """Of one method, with one prompt, under one condition: an entry an image."""

    eye: list[dict[str, float]] = dataclasses.field(default_factory=list)
    machine: list[Finding] = dataclasses.field(default_factory=list)


Key = tuple[str, str | None, str | None]
"""Method, task, corruption."""
Scores = dict[Key, Score]
