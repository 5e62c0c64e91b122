"""Many bags, a process each, here or on Ray: refusals are reported, deaths are tried again."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from bag_maker import START_NS, BagMaker, make_drive, messages

from unirestore_ros.recordings import many
from unirestore_ros.recordings.bag_command import main
from unirestore_ros.recordings.job import Options
from unirestore_ros.recordings.many import Fleet, TaskDied, make_tasks, restore_many, run_task


@pytest.fixture
def bags(tmp_path: Path) -> list[Path]:
    """Two that can be restored, and one that cannot."""
    maker = BagMaker(tmp_path / "silent")
    with maker.writer:
        maker.text("/chatter", START_NS, "no camera here")
    drives = [make_drive(tmp_path / name, 2) for name in ("one", "two")]
    return [*drives, tmp_path / "silent"]


def check(bags: list[Path], folder: Path, rows: list[dict[str, Any]], text: str) -> None:
    """What either way of running comes to."""
    status = {Path(row["source"]).name: row["status"] for row in rows}
    assert status == {"one": "restored", "two": "restored", "silent": "refused"}
    assert "has no topic of sensor_msgs/Image" in text
    assert sorted(path.name for path in (folder / "restored").iterdir()) == ["one", "two"]
    for bag in bags[:2]:
        made = messages(folder / "restored" / bag.name)
        assert [each for each in made if "unirestore" not in each[0]] == messages(bag)


@pytest.mark.slow
def test_on_this_machine(
    bags: list[Path], miniature: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.json"
    words = ["--out", tmp_path / "restored", "--jobs", 2, "--report", report]
    words += ["--bundle", miniature, "--tasks", "detection"]
    assert main(["restore", *map(str, bags), *map(str, words)]) == 1
    check(bags, tmp_path, json.loads(report.read_text()), capsys.readouterr().out)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
def test_on_ray(bags: list[Path], miniature: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    words = ["--out", tmp_path / "restored", "--ray", "local", "--report", report]
    words += ["--bundle", miniature, "--tasks", "detection"]
    result = subprocess.run(
        [sys.executable, "-m", "unirestore_ros", "bag", "restore", *map(str, [*bags, *words])],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1, result.stderr
    check(bags, tmp_path, json.loads(report.read_text()), result.stdout)


def test_without_ray_the_command_to_get_it_is_reported(
    bags: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    words = ["--out", str(tmp_path / "restored"), "--ray", "local"]
    assert main(["restore", *map(str, bags), *words]) == 1
    assert "pip install 'unirestore_ros[ray]'" in caplog.text


def test_a_task_that_dies_is_tried_again_and_then_given_up(
    bags: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    genuine = subprocess.run
    deaths = {"one": 1, "two": 9}

    def killed(command: list[str], **rest: Any) -> Any:
        name = Path(command[5]).name
        if deaths.get(name, 0) > 0:
            deaths[name] -= 1
            script = f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})"
            command = [sys.executable, "-c", script]
        elif name == "one":
            report = command[command.index("--report") + 1]
            script = f"open({report!r}, 'w').write('{{}}')"
            command = [sys.executable, "-c", script]
        return genuine(command, **rest)

    monkeypatch.setattr(many.subprocess, "run", killed)
    fleet = Fleet(retries=2)
    assert restore_many(bags[:2], tmp_path / "restored", Options(), fleet, None) == 1
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line.split()[1:3] for line in lines if line.startswith(("one", "two"))}
    assert rows["one"] == ["restored", "2"]
    assert any(line.split()[:3] == ["two", "failed", "3"] for line in lines)


def test_death_is_reported_with_the_last_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (task,) = make_tasks([make_drive(tmp_path / "one", 1)], tmp_path / "out", Options())
    script = f"import os; print('so far'); os._exit({os.EX_SOFTWARE})"
    genuine = subprocess.run
    monkeypatch.setattr(
        many.subprocess, "run", lambda _, **rest: genuine([sys.executable, "-c", script], **rest)
    )
    with pytest.raises(TaskDied, match="exit status 70"):
        run_task(task)


def test_two_results_of_one_name_are_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bags = [make_drive(tmp_path / place / "drive", 1) for place in ("a", "b")]
    words = ["--out", str(tmp_path / "restored")]
    assert main(["restore", *map(str, bags), *words]) == 1
    assert "two bags are called drive" in caplog.text
