"""The frames on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from unirestore_ros.demo.spool import Entry, Spool, finish, save_frame


def frame(level: int) -> np.ndarray:
    return np.full((6, 8, 3), level, np.uint8)


def test_frames_come_back_as_they_went_in(tmp_path: Path) -> None:
    save_frame(tmp_path, 1, frame(3))
    save_frame(tmp_path, 0, frame(1), frame(2))
    finish(tmp_path, [Entry(0, "fog", True), Entry(200, "rain", False)])
    spool = Spool(tmp_path)
    assert len(spool) == 2
    assert (spool.camera(0) == 1).all() and (spool.clean(0) == 2).all()
    assert [entry.has_clean for entry in spool.entries] == [True, False]
    assert [entry.offset_ns for entry in spool.entries] == [0, 200]


def test_stretches_are_runs_of_one_name(tmp_path: Path) -> None:
    names = ("fog", "fog", "rain", "fog")
    spool = finish(tmp_path, [Entry(index, name, False) for index, name in enumerate(names)])
    assert list(spool.stretches()) == [
        ("fog", range(0, 2)),
        ("rain", range(2, 3)),
        ("fog", range(3, 4)),
    ]


def test_spool_without_its_index_is_none(tmp_path: Path) -> None:
    save_frame(tmp_path, 0, frame(0))
    with pytest.raises(FileNotFoundError):
        Spool(tmp_path)
