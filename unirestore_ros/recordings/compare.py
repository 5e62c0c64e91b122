"""`bag compare BAG`: a report on a bag with restored topics, recorded or made by `bag restore`.

It says of each topic how often it came and how old it was, of each camera which of its frames have
no restored picture or features, and, where the bag has the clean images too, how near to them
camera and restored picture are. A sheet of pictures shows before and after.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.serialization import deserialize_message
from rosbags.rosbag2 import Reader

from unirestore_ros.files import written_beside
from unirestore_ros.recordings.cameras import CLEAN, Camera, find_cameras
from unirestore_ros.recordings.errors import MediaError
from unirestore_ros.recordings.header import Header, has_header, read_header
from unirestore_ros.recordings.series import TOPIC_HEAD, Series, topic_rows
from unirestore_ros.recordings.sheet import Pair, Trio, measure_pairs, sheet
from unirestore_ros.recordings.storage import (
    COMPRESSED_IMAGE,
    IMAGE,
    bag_folder,
    open_reader,
    storage_of,
)
from unirestore_ros.tables import text_table

REPORT, SHEET = "report.json", "contact_sheet.png"
_STATUS = "diagnostic_msgs/msg/DiagnosticArray"

_log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("bag", type=Path, metavar="BAG", help="folder of a rosbag2, or one of its files")
    add("--out", type=Path, default=Path("out/compare"), metavar="FOLDER", help="(out/compare)")
    add("--topic", action="append", default=[], help="a camera's topic; may be repeated (all)")
    add("--clean", metavar="TOPIC", help=f"clean images of the one camera ({CLEAN} beside it)")
    add("--name", default="unirestore", help="name of the node whose topics are looked at")
    add("--rows", type=int, default=6, metavar="N", help="frames on the sheet (6)")


def run(arguments: argparse.Namespace) -> int:
    with open_reader(arguments.bag) as reader:
        report, pictures = compare(reader, arguments)
    report["bag"], report["storage"] = str(arguments.bag), storage_of(bag_folder(arguments.bag))
    arguments.out.mkdir(parents=True, exist_ok=True)
    with written_beside(arguments.out / REPORT) as path:
        path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if pictures:
        drawn = sheet(f"{arguments.bag.name}: camera and restored", pictures, arguments.rows)
        encoded, content = cv2.imencode(".png", drawn)
        if not encoded:
            raise MediaError(f"{SHEET} cannot be encoded")
        with written_beside(arguments.out / SHEET) as path:
            path.write_bytes(content.tobytes())
    print(text(report))
    print(f"\nwritten to {arguments.out}")
    return 0


def compare(reader: Reader, arguments: argparse.Namespace) -> tuple[dict[str, Any], list[Pair]]:
    """The report, and pairs of pictures for the sheet."""
    cameras = find_cameras(reader, arguments.topic, arguments.name)
    if arguments.clean is not None and len(cameras) != 1:
        raise MediaError("--clean is for one camera: choose it with --topic")
    series, headers, modes = _read_times(reader)
    restored = _restored_topics(reader, cameras, headers, arguments.name)
    entries = []
    pictures: list[Pair] = []
    for camera in cameras:
        topics = restored[camera.topic]
        entry = _camera_report(camera, topics, headers, series)
        entry["modes"] = dict(modes.get(topics.get("status", ""), {}))
        picture = topics.get("image") or topics.get("image/compressed")
        if picture is not None:
            clean = arguments.clean or _clean_topic(reader, camera)
            pairs = measure_pairs(reader, Trio(camera.topic, picture, clean), arguments.rows)
            entry["psnr_db"] = pairs.psnr
            entry["clean"] = clean
            pictures += pairs.shown
        entries.append(entry)
    topics_report = {topic: each.report() for topic, each in series.items()}
    seconds = round(reader.duration * 1e-9, 3)
    return {"seconds": seconds, "cameras": entries, "topics": topics_report}, pictures


def text(report: Mapping[str, Any]) -> str:
    """The report for the user."""
    parts = [text_table(TOPIC_HEAD, topic_rows(report["topics"]))]
    for camera in report["cameras"]:
        head = f"{camera['topic']}: {camera['frames']} frames, {camera['gaps']} gaps"
        lines = [f"\n{head}" + ("" if camera["outputs"] else "; nothing restored is in the bag")]
        rows = [
            [name, each["messages"], each["missing"], f"{each['share']:.1%}"]
            for name, each in camera["outputs"].items()
        ]
        if rows:
            lines.append(text_table(("output", "messages", "frames without", "share"), rows))
        if camera["modes"]:
            lines.append("modes: " + ", ".join(f"{k} {v}" for k, v in camera["modes"].items()))
        if psnr := camera.get("psnr_db"):
            lines.append(
                f"PSNR to {camera['clean']}: camera {psnr['camera']:.2f} dB,"
                f" restored {psnr['restored']:.2f} dB, over {psnr['frames']} frames"
            )
        parts += lines
    return "\n".join(parts)


def _read_times(
    reader: Reader,
) -> tuple[dict[str, Series], dict[str, set[Header]], dict[str, Counter[str]]]:
    """By topic: times, headers, and for statuses how often each mode."""
    stamped = {connection.id for connection in reader.connections if has_header(connection)}
    series = {c.topic: Series(c.msgtype) for c in reader.connections}
    headers: dict[str, set[Header]] = {c.topic: set() for c in reader.connections}
    modes: dict[str, Counter[str]] = {}
    for connection, when, data in reader.messages():
        header = read_header(data) if connection.id in stamped else None
        series[connection.topic].add(when, None if header is None else header.stamp_ns)
        if header is not None:
            headers[connection.topic].add(header)
        if connection.msgtype == _STATUS and connection.topic.endswith("/status"):
            _count_modes(data, modes.setdefault(connection.topic, Counter()))
    return series, headers, modes


def _count_modes(data: bytes, modes: Counter[str]) -> None:
    for status in deserialize_message(data, DiagnosticArray).status:
        for pair in status.values:
            if pair.key == "mode":
                modes[pair.value] += 1


def _restored_topics(
    reader: Reader, cameras: list[Camera], headers: Mapping[str, set[Header]], node: str
) -> dict[str, dict[str, str]]:
    """For each camera's topic the node's outputs by their name after the node's; which node is
    whose is told by the headers that it passes on."""
    roots: dict[str, dict[str, str]] = {}
    for connection in reader.connections:
        before, found, name = connection.topic.rpartition(f"/{node}/")
        if not found and "/" in name:
            continue
        if found and (connection.msgtype in (IMAGE, COMPRESSED_IMAGE, _STATUS)):
            roots.setdefault(before, {})[name] = connection.topic
    result: dict[str, dict[str, str]] = {camera.topic: {} for camera in cameras}
    for outputs in roots.values():
        seen = set().union(*(headers[topic] for topic in outputs.values()))
        shared = {camera.topic: len(seen & headers[camera.topic]) for camera in cameras}
        best = max(shared, key=lambda topic: shared[topic])
        if shared[best]:
            result[best] = outputs
    return result


def _camera_report(
    camera: Camera,
    topics: Mapping[str, str],
    headers: Mapping[str, set[Header]],
    series: Mapping[str, Series],
) -> dict[str, Any]:
    frames = headers[camera.topic]
    outputs = {}
    for name, topic in topics.items():
        missing = len(frames - headers[topic])
        outputs[name] = {
            "topic": topic,
            "messages": len(series[topic].times),
            "missing": missing,
            "share": round(1 - missing / max(len(frames), 1), 4),
        }
    return {
        "topic": camera.topic,
        "frames": len(series[camera.topic].times),
        "gaps": _gaps(series[camera.topic]),
        "outputs": outputs,
    }


def _gaps(series: Series) -> int:
    """Frames that the camera itself left out, by stamps further apart than one and a half."""
    stamps = sorted(series.stamps)
    steps = [later - earlier for earlier, later in itertools.pairwise(stamps)]
    if not steps:
        return 0
    usual = sorted(steps)[len(steps) // 2]
    return sum(round(step / usual) - 1 for step in steps if usual and step > 1.5 * usual)


def _clean_topic(reader: Reader, camera: Camera) -> str | None:
    """The clean images beside a camera's, where the bag has them."""
    beside = f"{camera.base.rpartition('/')[0]}/{CLEAN}"
    topics = {connection.topic for connection in reader.connections}
    return next((name for name in (beside, f"{beside}/compressed") if name in topics), None)
