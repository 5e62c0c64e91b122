"""Renders a part of the synthetic drive into a spool: one of several processes that share the work.

python -m unirestore_ros.demo.renderer FOLDER JOURNAL COUNT WIDTH HEIGHT START STOP
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np

from unirestore_ros.demo.journal import JournalWriter
from unirestore_ros.demo.spool import save_frame
from unirestore_ros.synthetic.drive import demo_frames


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("journal", type=Path)
    for name in ("count", "width", "height", "start", "stop"):
        parser.add_argument(name, type=int)
    arguments = parser.parse_args(argv)
    # There is a process for each core: threads within them only cost.
    cv2.setNumThreads(1)
    part = range(arguments.start, arguments.stop)
    frames = demo_frames(arguments.count, (arguments.width, arguments.height), part)
    with JournalWriter(arguments.journal) as journal:
        for index, frame in zip(part, frames, strict=True):
            save_frame(arguments.folder, index, _bgr(frame.degraded), _bgr(frame.clean))
            journal.add(index=index, stretch=frame.stretch, offset_ns=round(frame.offset_s * 1e9))
    return 0


def _bgr(rgb: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(rgb[:, :, ::-1])


if __name__ == "__main__":
    sys.exit(main())
