"""Phases as TensorRT reports them: nested, finished early, of unknown number."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from unirestore_ros.export.progress import BuildProgress


@pytest.fixture
def progress() -> Iterator[BuildProgress]:
    progress = BuildProgress("trunk")
    yield progress
    progress.close()


def test_a_phase_within_a_phase_fills_its_step(progress: BuildProgress) -> None:
    progress.phase_start("Building", None, 2)
    progress.phase_start("Tactics", "Building", 4)
    assert progress.fraction() == 0
    assert progress.step_complete("Tactics", 0)
    assert progress.fraction() == pytest.approx(1 / 8)
    progress.step_complete("Tactics", 2)
    assert progress.fraction() == pytest.approx(3 / 8)
    progress.phase_finish("Tactics")
    progress.step_complete("Building", 0)
    assert progress.fraction() == pytest.approx(1 / 2)
    progress.phase_finish("Building")
    assert progress.fraction() == 1


def test_the_next_outermost_phase_starts_anew(progress: BuildProgress) -> None:
    progress.phase_start("Parsing", None, 1)
    progress.phase_finish("Parsing")
    assert progress.fraction() == 1
    progress.phase_start("Building", None, 10)
    assert progress.fraction() == 0
    progress.step_complete("Building", 4)
    assert progress.fraction() == pytest.approx(1 / 2)


def test_it_says_what_is_done_and_what_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    progress = BuildProgress("trunk")
    progress.phase_start("Building", None, 4)
    progress.step_complete("Building", 0)
    progress.close()
    assert "trunk: Building:   25 %|" in capsys.readouterr().err


def test_steps_of_phases_that_nobody_started_are_passed_over(progress: BuildProgress) -> None:
    assert progress.step_complete("Unknown", 3)
    progress.phase_finish("Unknown")
    assert progress.fraction() == 0


def test_a_build_is_cancelled_at_its_next_step(progress: BuildProgress) -> None:
    progress.phase_start("Building", None, 2)
    progress.cancelled = True
    assert not progress.step_complete("Building", 0)


def test_it_is_drawn_ten_times_a_second_at_most(capsys: pytest.CaptureFixture[str]) -> None:
    progress = BuildProgress("trunk")
    progress.phase_start("Building", None, 5000)
    for step in range(5000):
        progress.step_complete("Building", step)
    progress.close()
    shown = capsys.readouterr().err
    assert "100 %" in shown and shown.count("left") < 100
