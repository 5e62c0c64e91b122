"""The demo's programme: every stretch, a drive of its own, degraded as it says."""

from __future__ import annotations

import numpy as np
import pytest

from unirestore_ros.evaluate.metrics import psnr
from unirestore_ros.synthetic.drive import DemoFrame, demo_frames
from unirestore_ros.synthetic.programme import DEMO_SEED, RATE_HZ, STRETCHES, TRAINING_SEEDS

SIZE = (160, 120)


@pytest.fixture(scope="module")
def frames() -> list[DemoFrame]:
    return list(demo_frames(7, SIZE))


def test_training_never_sees_the_demo() -> None:
    assert DEMO_SEED not in TRAINING_SEEDS


def test_all_stretches_in_order(frames: list[DemoFrame]) -> None:
    assert len(frames) == 7
    names = [frame.stretch for frame in frames]
    assert list(dict.fromkeys(names)) == [stretch.name for stretch in STRETCHES]
    assert names == sorted(names, key=[stretch.name for stretch in STRETCHES].index)


def test_every_stretch_is_degraded(frames: list[DemoFrame]) -> None:
    """What is not degraded cannot be restored nearer to itself."""
    assert max(psnr(frame.degraded, frame.clean) for frame in frames) < 30.0


def test_stamps(frames: list[DemoFrame]) -> None:
    offsets = [frame.offset_s for frame in frames]
    assert offsets == pytest.approx([k / RATE_HZ for k in range(7)])


def test_programme_repeats_exactly_also_in_parts(frames: list[DemoFrame]) -> None:
    parts = (range(3), range(3, 7))
    again = [frame for part in parts for frame in demo_frames(7, SIZE, part)]
    assert all(np.array_equal(a.degraded, b.degraded) for a, b in zip(again, frames, strict=True))
    assert [a.offset_s for a in again] == [b.offset_s for b in frames]


@pytest.mark.parametrize("count", [5, 6, 7, 60, 301])
def test_every_count_is_filled(count: int) -> None:
    from unirestore_ros.synthetic.programme import stretch_of_each

    stretches = stretch_of_each(count)
    assert len(stretches) == count
    assert set(stretches) == set(STRETCHES)


def test_too_few_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 5"):
        next(demo_frames(4, SIZE))
