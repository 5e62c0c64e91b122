"""Evaluations read back from their files, and the figures in them by name."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unirestore_ros.evaluate.scores import OURS
from unirestore_ros.evaluate.table import Row, column

Json = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Sure:
    """A difference or share with the interval that holds the central 95 % of draws."""

    value: float
    low: float
    high: float

    @property
    def above(self) -> bool:
        return self.low > 0

    @property
    def below(self) -> bool:
        return self.high < 0


class Results:
    """Rows of one or several evaluations of the same weights on the same images."""

    def __init__(self, name: str, contents: Sequence[Json]) -> None:
        self.name = name
        self.metas: list[Json] = [content["meta"] for content in contents]
        self._rows: dict[tuple[str, str | None, str | None], Row] = {}
        self._differences: list[Json] = []
        self._won_back: list[Json] = []
        self.prompts: list[Json] = []
        for content in contents:
            for row in content["rows"]:
                self._rows.setdefault((row["method"], row["task"], row["corruption"]), row)
            _add_new(self._differences, content["differences"], ("over", "task", "less"))
            _add_new(self._won_back, content["won_back"], ("over", "method", "task", "figure"))
            self.prompts = self.prompts or content["prompts"]

    @property
    def methods(self) -> list[tuple[str, str | None]]:
        """Methods with their prompts, in the order in which they were measured."""
        return list(dict.fromkeys((method, task) for method, task, _ in self._rows))

    @property
    def corruptions(self) -> set[str]:
        return {name for _, _, name in self._rows if name is not None}

    def figure(
        self, figure: str, method: str, task: str | None, corruption: str | None
    ) -> float | None:
        row = self._rows.get((method, task, corruption))
        return None if row is None else row[figure]

    def mean(
        self, figure: str, method: str, task: str | None, names: Iterable[str]
    ) -> float | None:
        """Over the corruptions; None where one of them was not measured."""
        values = [self.figure(figure, method, task, name) for name in names]
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if known and len(known) == len(values) else None

    def gain(
        self,
        figure: str,
        ours: tuple[str, str | None],
        other: tuple[str, str | None],
        names: Iterable[str | None],
    ) -> float | None:
        """Mean of the differences of two methods over the corruptions."""
        gains = []
        for name in names:
            mine, theirs = self.figure(figure, *ours, name), self.figure(figure, *other, name)
            if mine is None or theirs is None:
                return None
            gains.append(mine - theirs)
        return float(np.mean(gains)) if gains else None

    def difference(
        self, over: str, task: str, method: str, prompt: str | None = None
    ) -> Sure | None:
        """Of the figure of one of our tasks, with its own prompt, and another method's."""
        for entry in self.differences(over):
            other, other_prompt = entry["less"]
            same = other == method and (method != OURS or other_prompt == prompt)
            if entry["task"] == task and same:
                return sure(entry)
        return None

    def differences(self, over: str) -> list[Json]:
        return [entry for entry in self._differences if entry["over"] == over]

    def won_back(self, over: str, figure: str, method: str, task: str | None) -> Sure | None:
        wanted = {"over": over, "figure": figure, "method": method, "task": task}
        for entry in self._won_back:
            if wanted.items() <= entry.items():
                return sure(entry)
        return None

    def change(self, task: str, stride: int) -> float | None:
        """Of an adapter's output by a task's prompt against perception's, as a share."""
        for entry in self.prompts:
            if entry["task"] == task and entry["stride"] == stride:
                return float(entry["change"])
        return None


def _add_new(known: list[Json], entries: Iterable[Json], keys: Sequence[str]) -> None:
    """Entries of what no earlier file has: the same methods may be in several."""
    there = [[entry[key] for key in keys] for entry in known]
    known += [entry for entry in entries if [entry[key] for key in keys] not in there]


def sure(entry: Json) -> Sure:
    return Sure(entry["value"], entry["low"], entry["high"])


@dataclasses.dataclass(frozen=True)
class Evaluations:
    """All that a page is written from."""

    main: Results
    main_file: int
    """Index of its first file."""
    others: tuple[Results, ...]
    """Of other weights, images or severities."""
    video: Json | None
    heads: Json | None
    demo: Json | None


def read_evaluations(files: Sequence[Path]) -> Evaluations:
    """The first evaluation is the main one; those of the same weights, images, severity and
    judging networks are one with it. ValueError for a file that is none of ours."""
    groups: dict[tuple[str, ...], list[Json]] = {}
    names: dict[tuple[str, ...], str] = {}
    single: dict[str, Json] = {}
    main_file = 0
    for index, file in enumerate(files):
        content = json.loads(file.read_text())
        kind = next((k for k in ("rows", "video", "heads", "stretches") if k in content), None)
        if kind is None:
            raise ValueError(
                f"{file} is no file of `evaluate`, `train head-compare` or `demo`: it has none of"
                " rows, video, heads, stretches"
            )
        if kind == "rows":
            meta = content["meta"]
            keys = ("weights_sha256", "data", "images", "severity", "downstream_sha256")
            key = tuple(str(meta.get(k)) for k in keys)
            main_file = main_file if groups else index
            groups.setdefault(key, []).append(content)
            names.setdefault(key, file.stem)
        else:
            single[kind] = content
    if not groups:
        raise ValueError("no evaluation of images among the files: `evaluate --data` writes one")
    main, *others = (Results(names[key], contents) for key, contents in groups.items())
    video, heads, demo = (single.get(kind) for kind in ("video", "heads", "stretches"))
    return Evaluations(main, main_file, tuple(others), video, heads, demo)


def method_name(method: str, task: str | None) -> str:
    return column({"method": method, "task": task})
