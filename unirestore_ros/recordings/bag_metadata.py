"""Read a bag's `metadata.yaml`, of any version, as far as it can be read.

It is a summary that the recorder writes last: absent where the recorder was killed, and wrong where
bags were split, cut or copied in parts. So nothing here decides what is read; it tells which files
belong together, how they are compressed, and what should be in them.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from rosbags.interfaces import Qos
from rosbags.rosbag2 import ReaderError
from rosbags.rosbag2.metadata import parse_qos
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

FILE_NAME = "metadata.yaml"
_LARGEST = 64 << 20
# What reading YAML that is damaged, or that is of something else, ends with.
_FAULTS = (
    YAMLError,
    ReaderError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    RecursionError,
)

TopicKey = tuple[str, str]
"""Name and type of a topic."""


@dataclasses.dataclass(frozen=True)
class Metadata:
    """What the file says; empty where it says nothing or there is none."""

    version: int = 0
    files: tuple[str, ...] = ()
    compression_mode: str = ""
    """``file``, ``message`` or empty."""
    span_ns: tuple[int, int] | None = None
    """Time of the first message and of the last."""
    counts: Mapping[TopicKey, int] = dataclasses.field(default_factory=dict)
    qos: Mapping[TopicKey, list[Qos]] = dataclasses.field(default_factory=dict)
    digests: Mapping[TopicKey, str] = dataclasses.field(default_factory=dict)
    custom: Mapping[str, str] = dataclasses.field(default_factory=dict)
    problem: str = ""
    """Why it is not used, where there is one and it is not."""


def read_metadata(folder: Path) -> Metadata:
    """Read the metadata of a bag's folder; never an error."""
    path = folder / FILE_NAME
    if not path.is_file():
        return Metadata()
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError("it is too large")
        content = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
        return _parsed(content["rosbag2_bagfile_information"])
    except OSError as error:
        return Metadata(problem=f"{FILE_NAME} cannot be read ({error.strerror})")
    except _FAULTS:
        return Metadata(problem=f"{FILE_NAME} is damaged or is none of a bag")


@functools.lru_cache(maxsize=256)
def read_qos(text: str) -> tuple[Qos, ...]:
    """Read offered profiles as files have them, YAML; none where they cannot be read."""
    try:
        return tuple(_sound(parse_qos(text)))
    except _FAULTS:
        return ()


def _parsed(found: dict[str, Any]) -> Metadata:
    """Take over what is there; a field that is missing or wrong alone is left out."""
    topics = [each for each in _list(found, "topics_with_message_count") if _is_topic(each)]
    keys = [_key(each) for each in topics]
    counts: dict[TopicKey, int] = {}
    for key, each in zip(keys, topics, strict=True):
        counts[key] = counts.get(key, 0) + each["message_count"]
    mode = str(found.get("compression_mode") or "").lower()
    return Metadata(
        version=int(found["version"]),
        files=tuple(PurePath(str(each)).name for each in _list(found, "relative_file_paths")),
        compression_mode=mode if mode in ("file", "message") else "",
        span_ns=_span(found),
        counts=counts,
        qos={key: _qos(each) for key, each in zip(keys, topics, strict=True)},
        digests={
            key: str(each["topic_metadata"].get("type_description_hash") or "")
            for key, each in zip(keys, topics, strict=True)
        },
        custom=_custom(found.get("custom_data")),
    )


def _list(found: dict[str, Any], name: str) -> list[Any]:
    value = found.get(name)
    return value if isinstance(value, list) else []


def _is_topic(entry: Any) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("topic_metadata"), dict):
        return False
    count = entry.get("message_count")
    texts = [entry["topic_metadata"].get(name) for name in ("name", "type")]
    return isinstance(count, int) and all(isinstance(text, str) for text in texts)


def _key(entry: dict[str, Any]) -> TopicKey:
    return entry["topic_metadata"]["name"], entry["topic_metadata"]["type"]


def _span(found: dict[str, Any]) -> tuple[int, int] | None:
    try:
        start = int(found["starting_time"]["nanoseconds_since_epoch"])
        return start, start + int(found["duration"]["nanoseconds"])
    except _FAULTS:
        return None


def _qos(entry: dict[str, Any]) -> list[Qos]:
    profiles = entry["topic_metadata"].get("offered_qos_profiles")
    if isinstance(profiles, str):
        return list(read_qos(profiles))
    try:
        return _sound(parse_qos(profiles or []))
    except _FAULTS:
        return []


def _sound(profiles: list[Qos]) -> list[Qos]:
    """Leave out profiles whose numbers are none."""
    return [each for each in profiles if isinstance(each.depth, int) and each.depth >= 0]


def _custom(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        return {}
    return {str(key): str(text) for key, text in value.items()}
