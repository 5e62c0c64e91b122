"""Readers of JSON values: each returns the typed value, or raises ValueError with what it wants."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")
Reader = Callable[[Any], T]


def whole(low: int, high: int) -> Reader[int]:
    def read(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(f"must be a whole number from {low} to {high}, is {value!r}")
        return value

    return read


def number(low: float, high: float) -> Reader[float]:
    def read(value: Any) -> float:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value) or not low <= value <= high:
            raise ValueError(f"must be a number from {low:g} to {high:g}, is {value!r}")
        return float(value)

    return read


def flag(value: Any) -> bool:
    """Read true or false."""
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, is {value!r}")
    return value


def text(pattern: str, meaning: str) -> Reader[str]:
    def read(value: Any) -> str:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise ValueError(f"must be {meaning}, is {value!r}")
        return value

    return read


def one_of(choices: Iterable[str]) -> Reader[str]:
    known = tuple(choices)

    def read(value: Any) -> str:
        if value not in known:
            raise ValueError(f"must be one of {', '.join(known)}, is {value!r}")
        return str(value)

    return read


def optional(reader: Reader[T]) -> Reader[T | None]:
    def read(value: Any) -> T | None:
        return None if value is None else reader(value)

    return read


def array(
    reader: Reader[T], length: int | None = None, distinct: bool = False
) -> Reader[tuple[T, ...]]:
    """Read a JSON list of ``length`` items, or of one or more."""

    def read(value: Any) -> tuple[T, ...]:
        wanted = f"{length} items" if length else "one or more items"
        is_list = isinstance(value, (list, tuple)) and len(value) > 0
        if not is_list or length not in (None, len(value)):
            raise ValueError(f"must be a list of {wanted}, is {value!r}")
        items = tuple(reader(item) for item in value)
        if distinct and len(set(items)) != len(items):
            raise ValueError(f"must not name one thing twice, is {value!r}")
        return items

    return read


def table(key: Reader[str], item: Reader[T]) -> Reader[dict[str, T]]:
    """Read a JSON object with free keys."""

    def read(value: Any) -> dict[str, T]:
        if not isinstance(value, Mapping):
            raise ValueError(f"must be an object, is {value!r}")
        return {key(name): _named(name, item, content) for name, content in value.items()}

    return read


def record(readers: Mapping[str, Reader[Any]]) -> Reader[dict[str, Any]]:
    """Read a JSON object that has exactly the keys of ``readers``."""

    def read(value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise ValueError(f"must be an object, is {value!r}")
        for name in value:
            if name not in readers:
                raise ValueError(f"{name}: unknown field")
        for name in readers:
            if name not in value:
                raise ValueError(f"{name}: field is missing")
        return {name: _named(name, reader, value[name]) for name, reader in readers.items()}

    return read


def _named(name: str, reader: Reader[T], value: Any) -> T:
    try:
        return reader(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
