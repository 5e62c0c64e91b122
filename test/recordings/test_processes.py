"""Supervision: every child is ended, and the death of one is reported with its last output."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from unirestore_ros.evaluate.dds_measures import is_running
from unirestore_ros.recordings import RecordingError
from unirestore_ros.recordings.processes import Child, Children
from unirestore_ros.signals import signals_as_exits

SLEEPER = "import time; print('ready', flush=True); time.sleep(60)"
POLITE = """
import signal, sys, time
signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
print('ready', flush=True)
time.sleep(60)
"""
STUBBORN = """
import signal, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print('ready', flush=True)
time.sleep(60)
"""


def wait_for_words(child: Child, words: str = "ready") -> None:
    deadline = time.monotonic() + 20
    while words not in child.tail():
        assert time.monotonic() < deadline, child.tail()
        time.sleep(0.02)


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 20
    while is_running(pid):
        assert time.monotonic() < deadline, f"{pid} still runs"
        time.sleep(0.02)


def test_death_is_reported_with_its_status_and_log(tmp_path: Path) -> None:
    with Children(os.environ, tmp_path) as group:
        child = group.start("node", "-c", "print('no such bundle'); raise SystemExit(3)")
        while child.exit_code() is None:
            time.sleep(0.02)
        with pytest.raises(RecordingError, match=r"(?s)node ended .* status 3.*no such bundle"):
            group.check()


def test_death_by_a_signal_names_it(tmp_path: Path) -> None:
    with Children(os.environ, tmp_path) as group:
        child = group.start("player", "-c", SLEEPER)
        wait_for_words(child)
        os.kill(child.pid, signal.SIGKILL)
        wait_until_gone(child.pid)
        with pytest.raises(RecordingError, match="player was ended by SIGKILL"):
            group.check()


def test_running_children_are_no_error_and_one_that_ends_by_itself_is(tmp_path: Path) -> None:
    with Children(os.environ, tmp_path) as group:
        group.start("node", "-c", SLEEPER)
        group.check()
        group.start("camera", "-c", "")
        with pytest.raises(RecordingError, match="the camera ended with exit status 0"):
            group.wait(20)


def test_sigint_comes_first(tmp_path: Path) -> None:
    with Children(os.environ, tmp_path) as group:
        child = group.start("recorder", "-c", POLITE)
        wait_for_words(child)
        assert child.end() == 0


def test_the_stubborn_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = ((signal.SIGINT, 0.1), (signal.SIGTERM, 0.1), (signal.SIGKILL, 5.0))
    monkeypatch.setattr("unirestore_ros.recordings.processes.END_STEPS", quick)
    with Children(os.environ, tmp_path) as group:
        child = group.start("node", "-c", STUBBORN)
        wait_for_words(child)
        assert child.end() == -signal.SIGKILL


def test_all_are_ended_when_the_block_fails(tmp_path: Path) -> None:
    pids = []
    with pytest.raises(KeyError), Children(os.environ, tmp_path) as group:
        for name in ("node", "recorder"):
            child = group.start(name, "-c", POLITE)
            wait_for_words(child)
            pids.append(child.pid)
        raise KeyError
    assert not any(is_running(pid) for pid in pids)


def test_sigterm_leaves_the_block() -> None:
    with pytest.raises(SystemExit) as left, signals_as_exits():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    assert left.value.code == 128 + signal.SIGTERM


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_children_go_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    parent_code = f"""
import os, pathlib, time
from unirestore_ros.recordings.processes import Children
with Children(os.environ, pathlib.Path({str(tmp_path)!r})) as group:
    print(group.start("node", "-c", {SLEEPER!r}).pid, flush=True)
    time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", parent_code], stdout=subprocess.PIPE)
    try:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert is_running(child)
    finally:
        parent.kill()
        parent.communicate()
    wait_until_gone(child)
