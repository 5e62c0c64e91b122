"""Count good frames that the guard refuses on a drive: minutes of video that nothing was fitted on.

    python -m unirestore_ros.evaluate.guard_drive --frames 1800

The drive is the demonstration's, through fog, rain, noise, low light and snow, at 10 frames a
second of its own time. Prints a row a stretch: frames, refused, highest score.
"""

from __future__ import annotations

import argparse
import collections
import sys
from collections.abc import Sequence

import numpy as np

from unirestore_ros.engine import open_engine
from unirestore_ros.node.guard import REFUSED_FROM, Guard
from unirestore_ros.synthetic.drive import demo_frames
from unirestore_ros.tables import text_table
from unirestore_ros.tasks import DRIVERS_TASK

_SIZE = (480, 360)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("guard_drive", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--frames", type=int, default=1800, help="(%(default)s)")
    parser.add_argument("--bundle", default="tiny", help="(%(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of the engine (%(default)s)")
    options = parser.parse_args(argv)
    guard = Guard()
    scores = collections.defaultdict[str, list[float]](list)
    with open_engine(options.bundle, threads=options.threads) as engine:
        for frame in demo_frames(options.frames, _SIZE):
            engine.run_trunk(np.ascontiguousarray(frame.degraded))
            verdict = guard.check(frame.degraded, engine.decode(DRIVERS_TASK))
            scores[frame.stretch].append(verdict.score)
    rows = [
        (stretch, len(found), sum(score >= REFUSED_FROM for score in found), f"{max(found):.2f}")
        for stretch, found in scores.items()
    ]
    print(text_table(("stretch", "frames", "refused", "highest score"), rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
