"""A small play, made by hand: spool, journals and recorded arrays with known contents."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from unirestore_ros.demo.journal import JournalWriter
from unirestore_ros.demo.record import Record, read_record
from unirestore_ros.demo.spool import Entry, Spool, finish, save_frame

MS = 1_000_000
START = 1_700_000_000_000_000_000
PERIOD = 200 * MS
SHAPE = (48, 64, 3)
STRETCHES = ("fog", "fog", "fog", "rain", "rain", "rain")
CLEAN = 100
FEATURES = (12, 16, 4)


def stamp(index: int) -> int:
    return START + index * PERIOD


def picture(level: int) -> np.ndarray:
    return np.full(SHAPE, level, np.uint8)


def make_spool(folder: Path) -> Spool:
    """Six frames of level 100, degraded by 20 levels in the fog and by 10 in the rain."""
    for index, stretch in enumerate(STRETCHES):
        degraded = CLEAN + (20 if stretch == "fog" else 10)
        save_frame(folder, index, picture(degraded), picture(CLEAN))
    entries = [Entry(index * PERIOD, name, True) for index, name in enumerate(STRETCHES)]
    return finish(folder, entries)


def make_record(folder: Path) -> Record:
    """All but frame 2 come out, 50 ms late; frame 3 in camera mode, the others 2 levels off.

    Features of segmentation come for all that are restored, and are kept of frames 1 and 4.
    """
    folder.mkdir(exist_ok=True)
    with JournalWriter(folder / "player.jsonl") as player:
        player.add(slowing=1.0)
        for index in range(len(STRETCHES)):
            player.add(index=index, stamp=stamp(index))
    with JournalWriter(folder / "recorder.jsonl") as recorder:
        # The player's warm-up comes out too, and does not count.
        for index in (-1, 0, 1, 3, 4, 5):
            _record_frame(folder, recorder, index)
        values = {"backend": "onnxruntime", "bundle": "tiny"}
        said = ((0, "restored mode"), (3, "camera mode: disabled"), (11, "no camera"))
        for index, message in said:
            recorder.add(
                what="diagnostics",
                received=stamp(index),
                message=message,
                values=values,
            )
    return read_record(folder / "player.jsonl", folder / "recorder.jsonl", folder)


def _record_frame(folder: Path, recorder: JournalWriter, index: int) -> None:
    mode = "camera" if index == 3 else "restored"
    name = f"image_{stamp(index)}.npy"
    np.save(folder / name, picture(CLEAN + 2))
    form = {"encoding": "bgr8", "height": SHAPE[0], "width": SHAPE[1]}
    received = stamp(index) + 50 * MS
    recorder.add(what="image", stamp=stamp(index), received=received, file=name, **form)
    values = {"mode": mode, "age_ms": "48.5", "latency_ms": "40.0"}
    recorder.add(what="status", stamp=stamp(index), values=values)
    if mode == "restored":
        kept = f"segmentation_{stamp(index)}.npy" if index in (1, 4) else None
        if kept is not None:
            rng = np.random.default_rng(index)
            np.save(folder / kept, rng.normal(size=FEATURES).astype(np.float32))
        form = {"encoding": "32FC4", "height": FEATURES[0], "width": FEATURES[1]}
        recorder.add(
            what="features",
            task="segmentation",
            stamp=stamp(index),
            received=received,
            file=kept,
            **form,
        )


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return make_spool(tmp_path / "spool")


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return make_record(tmp_path / "recorded")
