"""Which faults a soak plants, and in which order."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from unirestore_ros.evaluate import soak
from unirestore_ros.evaluate.soak_faults import FAULTS


def test_random_faults_are_of_those_asked_for() -> None:
    cameras = [fault for fault in FAULTS if fault.name.startswith("camera: ")]
    drawn = list(itertools.islice(soak.random_faults(cameras, seed=0), 200))
    assert {fault.name for fault in drawn} == {fault.name for fault in cameras}


def test_two_faults_of_the_engine_do_not_follow_each_other_closely() -> None:
    drawn = list(itertools.islice(soak.random_faults(FAULTS, seed=0), 200))
    assert sum(fault.group == "engine" for fault in drawn) == 1


def test_a_name_that_no_fault_has_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        soak.main(["--only", "no such fault", "--out", str(tmp_path / "out")])
    assert "--only: no fault's name holds no such fault" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("sent", "pause"),
    [
        ([0.0, 1.0, 2.0, 3.0], 1.0),
        ([1.0, 1.1, 2.9, 3.0], 1.8),  # it paused within the gap
        ([0.5, 2.5, 3.0], 2.0),  # from before it
        ([1.0, 1.1, 1.2, 5.0], 3.8),  # until after it
        ([0.0, 1.75, 1.95, 2.1, 2.3], 0.2),  # what had passed before the gap does not count
        ([0.0, 0.1], 0.0),
        ([], 0.0),
    ],
)
def test_a_gap_is_excused_by_a_pause_of_the_camera_that_reaches_into_it(
    sent: list[float], pause: float
) -> None:
    assert soak.camera_pause(sent, (2.0, 3.0)) == pytest.approx(pause)


def test_the_longest_gap_is_the_one_between_neighbours() -> None:
    assert soak.longest_gap([0.0, 1.0, 1.5, 3.5, 4.0]) == (1.5, 3.5)
    assert soak.longest_gap([1.0]) is None
