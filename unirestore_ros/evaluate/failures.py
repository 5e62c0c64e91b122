"""Draw where `tiny` fails: the figure of docs/safety.md.

    python -m unirestore_ros.evaluate.failures --data CAMVID/val --out docs/images/failures.jpg

The places were found on CamVid's val by comparing structure in windows of a pedestrian's size:
where the restored image has some that neither camera nor clean image has, or has lost some. With
other weights look for others.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unirestore_ros.engine import Engine, open_engine
from unirestore_ros.evaluate.conditions import degraded
from unirestore_ros.evaluate.strips import write_figure
from unirestore_ros.recordings.figure import Row, draw_figure
from unirestore_ros.tasks import DRIVERS_TASK
from unirestore_ros.train.prepare import read_photograph

WIDTH, HEIGHT = 160, 120


@dataclasses.dataclass(frozen=True)
class Failure:
    """A place in an image of CamVid's val where restoration goes wrong under a degradation."""

    what: str
    image: str
    condition: str
    severity: int
    left: int
    top: int


FAILURES = (
    Failure("fog: dark masses, a man lost", "0016E5_08113", "driving/fog", 5, 96, 73),
    Failure("a road marking with the flakes", "0016E5_08155", "driving/snow", 3, 137, 180),
    Failure("snow: streaks stay, halos come", "0016E5_07987", "snow", 3, 0, 0),
    Failure("ice stays, the bicycle does not", "0016E5_08141", "frost", 3, 255, 160),
    Failure("low contrast: a wall's light is guessed", "0016E5_08113", "contrast", 3, 0, 24),
)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("failures", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="CamVid's val: images/")
    parser.add_argument("--bundle", default="tiny", help="(%(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="JPEG file")
    options = parser.parse_args(argv)
    with open_engine(options.bundle) as engine:
        rows = [_row(engine, options.data / "images", failure) for failure in FAILURES]
    figure = draw_figure(
        "Where restoration fails",
        f"parts of {WIDTH}x{HEIGHT} pixels of 480x360 images",
        ("camera", "restored", "clean"),
        rows,
    )
    write_figure(options.out, figure)
    return 0


def _row(engine: Engine, folder: Path, failure: Failure) -> Row:
    (file,) = folder.glob(f"{failure.image}.*")
    clean = read_photograph(file).image
    camera = degraded(clean, failure.condition, failure.severity, file.name)
    engine.run_trunk(np.ascontiguousarray(camera))
    restored = engine.decode(DRIVERS_TASK)
    images = {"camera": camera, "restored": restored, "clean": clean}
    condition = f"{failure.condition.replace('_', ' ')} {failure.severity}"
    return Row(
        failure.what,
        {"clean": condition},
        {name: _part(image, failure) for name, image in images.items()},
    )


def _part(image: NDArray[np.uint8], failure: Failure) -> NDArray[np.uint8]:
    """Cut the place out of an image (H, W, 3) RGB, as BGR."""
    rows = slice(failure.top, failure.top + HEIGHT)
    return np.ascontiguousarray(image[rows, failure.left : failure.left + WIDTH, ::-1])


if __name__ == "__main__":
    sys.exit(main())
