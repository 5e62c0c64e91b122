"""What was played and what came out, joined by stamp from the journals of player and recorder."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from unirestore_ros.demo.journal import Entry, read_journal
from unirestore_ros.demo.names import CAMERA_MODE, RESTORED_MODE


@dataclasses.dataclass(frozen=True)
class Shown:
    """One image that the node published for the driver."""

    index: int
    """Of the frame in the spool."""
    stamp_ns: int
    received_ns: int
    mode: str
    """``restored`` or ``camera``, as the node's status says."""
    age_ms: float | None
    file: Path

    @property
    def latency_ms(self) -> float:
        """From the camera's publication to the recorder's receipt."""
        return (self.received_ns - self.stamp_ns) / 1e6

    def picture(self) -> np.ndarray:
        """(H, W, 3) uint8 BGR."""
        picture: np.ndarray = np.load(self.file)
        return picture


@dataclasses.dataclass(frozen=True)
class FeatureTopic:
    """Form and number of the feature maps of one task, and those that were kept."""

    encoding: str
    height: int
    width: int
    messages: int
    kept: Mapping[int, Path]
    """By frame of the spool: (h, w, c) float32."""


@dataclasses.dataclass(frozen=True)
class Record:
    """A finished play. Messages with stamps that were not played are left out."""

    played_ns: tuple[int, ...]
    """The stamp of each frame of the spool that was played."""
    shown: tuple[Shown, ...]
    features: Mapping[str, FeatureTopic]
    """By task; a task without messages is absent."""
    diagnostics: Mapping[str, str]
    """The values of the node's last diagnostics."""
    verdict: str | None
    """The node's last diagnostics message of the play."""

    @property
    def restored(self) -> list[Shown]:
        return [shown for shown in self.shown if shown.mode == RESTORED_MODE]


def read_record(player: Path, recorder: Path, folder: Path) -> Record:
    """Join two journals; ``folder`` is where the recorder put its arrays."""
    played = [entry for entry in read_journal(player) if "stamp" in entry]
    index_of = {entry["stamp"]: entry["index"] for entry in played}
    entries = read_journal(recorder)
    return Record(
        played_ns=tuple(index_of),
        shown=tuple(_shown(entries, index_of, folder)),
        features=_features(entries, index_of, folder),
        diagnostics=_last_diagnostics(entries),
        verdict=_verdict(entries, max(index_of, default=0)),
    )


def _shown(entries: Iterable[Entry], index_of: Mapping[int, int], folder: Path) -> list[Shown]:
    entries = list(entries)
    status = {entry["stamp"]: entry["values"] for entry in entries if entry["what"] == "status"}
    return [
        Shown(
            index=index_of[entry["stamp"]],
            stamp_ns=entry["stamp"],
            received_ns=entry["received"],
            mode=status.get(entry["stamp"], {}).get("mode", CAMERA_MODE),
            age_ms=_number(status.get(entry["stamp"], {}).get("age_ms")),
            file=folder / entry["file"],
        )
        for entry in entries
        if entry["what"] == "image" and entry["stamp"] in index_of
    ]


def _features(
    entries: Iterable[Entry], index_of: Mapping[int, int], folder: Path
) -> dict[str, FeatureTopic]:
    by_task: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry["what"] == "features" and entry["stamp"] in index_of:
            by_task.setdefault(entry["task"], []).append(entry)
    return {
        task: FeatureTopic(
            encoding=received[0]["encoding"],
            height=received[0]["height"],
            width=received[0]["width"],
            messages=len(received),
            kept={
                index_of[entry["stamp"]]: folder / entry["file"]
                for entry in received
                if entry["file"] is not None
            },
        )
        for task, received in by_task.items()
    }


def _last_diagnostics(entries: Iterable[Entry]) -> dict[str, str]:
    values: dict[str, str] = {}
    for entry in entries:
        if entry["what"] == "diagnostics":
            values.update(entry["values"])
    return values


def _verdict(entries: Iterable[Entry], last_stamp: int) -> str | None:
    """After the play the camera has gone, and the node says so: that is not asked for."""
    said = [entry for entry in entries if entry["what"] == "diagnostics"]
    during = [entry["message"] for entry in said if entry["received"] <= last_stamp]
    return during[-1] if during else None


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
