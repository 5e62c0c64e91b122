"""`bag compare BAG`: report on a bag with restored topics, recorded or made by `bag restore`.

The report says of each topic how often it came and how old it was, of each camera which of its
frames have no restored image or features, and, where the bag has the clean images too, how near to
them camera and restored image are. A contact sheet shows frames before and after.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from unirestore_ros.evaluate.metrics import psnr
from unirestore_ros.files import written_beside
from unirestore_ros.msgs.camera_frame import CameraTraits
from unirestore_ros.msgs.cdr import MalformedMessage
from unirestore_ros.recordings import RecordingError
from unirestore_ros.recordings.arrivals import (
    TOPIC_HEAD,
    Series,
    statuses_of,
    topic_rows,
)
from unirestore_ros.recordings.cameras import (
    CLEAN,
    BagCamera,
    add_assume_encoding,
    find_cameras,
    tell_frames_apart,
)
from unirestore_ros.recordings.figure import Row, draw_figure
from unirestore_ros.recordings.fitting import decode_message, fault_of
from unirestore_ros.recordings.headers import Header, has_header, read_header
from unirestore_ros.recordings.images import fit_image
from unirestore_ros.recordings.storage import (
    COMPRESSED_IMAGE,
    IMAGE,
    Reader,
    open_reader,
)
from unirestore_ros.tables import text_table

REPORT, SHEET = "report.json", "contact_sheet.png"
_STATUS = "diagnostic_msgs/msg/DiagnosticArray"
# A restored image is recorded some frames after the camera's.
_WAITING = 128

_log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("bag", type=Path, metavar="BAG", help="folder of a rosbag2, or one of its files")
    add("--out", type=Path, default=Path("out/compare"), metavar="FOLDER", help="(out/compare)")
    add("--topic", action="append", default=[], help="a camera's topic; may be repeated (all)")
    add("--clean", metavar="TOPIC", help=f"clean images of the one camera ({CLEAN} beside it)")
    add("--name", default="unirestore", help="name of the node whose topics are looked at")
    add("--rows", type=int, default=6, metavar="N", help="frames on the sheet (6)")
    add_assume_encoding(parser)


def run(arguments: argparse.Namespace) -> int:
    with open_reader(arguments.bag) as reader:
        report, shown = compare(reader, arguments)
        report["bag"], report["storage"] = str(arguments.bag), reader.storage
    arguments.out.mkdir(parents=True, exist_ok=True)
    with written_beside(arguments.out / REPORT) as path:
        path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if shown:
        drawn = draw_sheet(f"{arguments.bag.name}: camera and restored", shown)
        encoded, content = cv2.imencode(".png", drawn)
        if not encoded:
            raise RecordingError(f"{SHEET} cannot be encoded")
        with written_beside(arguments.out / SHEET) as path:
            path.write_bytes(content.tobytes())
    print(text(report))
    print(f"\nwritten to {arguments.out}")
    return 0


def compare(reader: Reader, arguments: argparse.Namespace) -> tuple[dict[str, Any], list[Pair]]:
    """Make the report, and the frames for the contact sheet."""
    assumed = arguments.assume_encoding
    cameras = find_cameras(reader, arguments.topic, arguments.name, assumed)
    if arguments.clean is not None and len(cameras) != 1:
        raise RecordingError("--clean is for one camera: choose it with --topic")
    series, headers, modes, damaged = _read_times(reader)
    restored = _restored_topics(reader, cameras, headers, arguments.name)
    entries = []
    shown: list[Pair] = []
    for camera in cameras:
        topics = restored[camera.topic]
        entry = _camera_report(camera, topics, headers, series)
        by_stamp = tell_frames_apart(reader, camera.topic)
        if not by_stamp:
            _count_by_order(entry)
        entry["paired_by"] = "stamp" if by_stamp else "order"
        entry["damaged"] = damaged[camera.topic]
        entry["modes"] = dict(modes.get(topics.get("status", ""), {}))
        image = topics.get("image") or topics.get("image/compressed")
        if image is not None:
            clean = arguments.clean or _clean_topic(reader, camera)
            same = {"camera": camera.topic, "restored": image}
            if clean is not None:
                same["clean"] = clean
            entry["psnr_db"], pairs = measure_pairs(reader, same, arguments.rows, by_stamp, assumed)
            entry["clean"] = clean
            shown += pairs
        entries.append(entry)
    topics_report = {topic: each.report() for topic, each in series.items()}
    seconds = round(reader.duration * 1e-9, 3)
    return {"seconds": seconds, "cameras": entries, "topics": topics_report}, shown


def text(report: Mapping[str, Any]) -> str:
    """Write the report out for the user."""
    parts = [text_table(TOPIC_HEAD, topic_rows(report["topics"]))]
    for camera in report["cameras"]:
        head = f"{camera['topic']}: {camera['frames']} frames, {camera['gaps']} gaps"
        head += f", {camera['damaged']} damaged" if camera["damaged"] else ""
        lines = [f"\n{head}" + ("" if camera["outputs"] else "; nothing restored is in the bag")]
        rows = [
            [name, each["messages"], each["missing"], f"{each['share']:.1%}"]
            for name, each in camera["outputs"].items()
        ]
        if rows:
            lines.append(text_table(("output", "messages", "frames without", "share"), rows))
        if camera["paired_by"] == "order":
            lines.append("stamps are all alike: frames are paired by their order")
        if camera["modes"]:
            lines.append("modes: " + ", ".join(f"{k} {v}" for k, v in camera["modes"].items()))
        if measured := camera.get("psnr_db"):
            lines.append(
                f"PSNR to {camera['clean']}: camera {measured['camera']:.2f} dB,"
                f" restored {measured['restored']:.2f} dB, over {measured['frames']} frames"
            )
        parts += lines
    return "\n".join(parts)


def _read_times(
    reader: Reader,
) -> tuple[dict[str, Series], dict[str, set[Header]], dict[str, Counter[str]], Counter[str]]:
    """Collect by topic: times, headers, for statuses how often each mode occurs, and how many
    messages are damaged, which count nowhere else."""
    stamped = {connection.id for connection in reader.connections if has_header(connection)}
    series = {c.topic: Series(c.msgtype) for c in reader.connections}
    headers: dict[str, set[Header]] = {c.topic: set() for c in reader.connections}
    modes: dict[str, Counter[str]] = {}
    damaged: Counter[str] = Counter()
    for connection, when, data in reader.messages():
        if fault_of(connection.msgtype, data) is not None:
            damaged[connection.topic] += 1
            continue
        header = read_header(data) if connection.id in stamped else None
        series[connection.topic].add(when, None if header is None else header.stamp_ns)
        if header is not None:
            headers[connection.topic].add(header)
        if connection.msgtype == _STATUS and connection.topic.endswith("/status"):
            try:
                statuses = statuses_of(data)
            except MalformedMessage:
                damaged[connection.topic] += 1
                continue
            found = [values["mode"] for _, _, values in statuses if "mode" in values]
            modes.setdefault(connection.topic, Counter()).update(found)
    for topic, count in damaged.items():
        _log.warning("%d messages of %s are damaged and not counted", count, topic)
    return series, headers, modes, damaged


def _restored_topics(
    reader: Reader, cameras: list[BagCamera], headers: Mapping[str, set[Header]], node: str
) -> dict[str, dict[str, str]]:
    """Find each camera's restored topics, by their name after the node's. A node belongs to the
    camera whose headers its messages carry."""
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
    camera: BagCamera,
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


def _count_by_order(entry: dict[str, Any]) -> None:
    """Count missing frames where stamps do not tell which."""
    frames = entry["frames"]
    for output in entry["outputs"].values():
        output["missing"] = max(0, frames - output["messages"])
        output["share"] = round(1 - output["missing"] / max(frames, 1), 4)


def _gaps(series: Series) -> int:
    """Count frames that the camera itself left out: stamps over one and a half periods apart."""
    stamps = sorted(series.stamps)
    steps = [later - earlier for earlier, later in itertools.pairwise(stamps)]
    if not steps:
        return 0
    usual = sorted(steps)[len(steps) // 2]
    return sum(round(step / usual) - 1 for step in steps if usual and step > 1.5 * usual)


def _clean_topic(reader: Reader, camera: BagCamera) -> str | None:
    """Find the clean images beside a camera's, where the bag has them."""
    beside = f"{camera.base.rpartition('/')[0]}/{CLEAN}"
    topics = {connection.topic for connection in reader.connections}
    return next((name for name in (beside, f"{beside}/compressed") if name in topics), None)


class Pair(NamedTuple):
    """One frame: its stamp, its images, (H, W, 3) uint8 BGR, and their PSNR to the clean one."""

    stamp_ns: int
    images: dict[str, np.ndarray]
    psnr: dict[str, float]


def measure_pairs(
    reader: Reader,
    topics: Mapping[str, str],
    rows: int,
    by_stamp: bool = True,
    assume_encoding: str = "",
) -> tuple[dict[str, Any] | None, list[Pair]]:
    """Measure the frames that are on all of the topics, which are given by name: camera, restored,
    perhaps clean; by order where not ``by_stamp``. Returns mean PSNR, None without clean ones, and
    ``rows`` frames for the sheet."""
    counts = (c.msgcount for c in reader.connections if c.topic == topics["restored"])
    every = max(1, max(counts) // max(rows, 1))
    shown: list[Pair] = []
    figures: list[dict[str, float]] = []
    for number, frame in enumerate(_joined(reader, topics, by_stamp, assume_encoding)):
        is_shown = number % every == every // 2 and len(shown) < rows
        if not is_shown and "clean" not in topics:
            continue
        pair = _pair(*frame)
        shown += [pair] if is_shown else []
        figures += [pair.psnr] if pair.psnr else []
    if not figures:
        return None, shown
    means = {
        name: round(sum(each[name] for each in figures) / len(figures), 3) for name in figures[0]
    }
    return {**means, "frames": len(figures)}, shown


def draw_sheet(title: str, pairs: Sequence[Pair]) -> np.ndarray:
    """Draw the contact sheet, (H, W, 3) uint8 BGR."""
    first = min(pair.stamp_ns for pair in pairs)
    drawn = [
        Row(
            f"{(pair.stamp_ns - first) * 1e-9:.2f} s",
            {name: f"{value:.1f} dB" for name, value in pair.psnr.items()},
            pair.images,
        )
        for pair in pairs
    ]
    columns = list(dict.fromkeys(name for pair in pairs for name in pair.images))
    subtitle = "PSNR is to the clean image" if "clean" in columns else "by stamp, in seconds"
    return draw_figure(title, subtitle, columns, drawn)


def _joined(
    reader: Reader, topics: Mapping[str, str], by_stamp: bool, assume_encoding: str
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Yield stamp and images of the frames that are on every topic: of one stamp, or else the
    first of each, the second of each and so on."""
    names = {topic: name for name, topic in topics.items()}
    wanted = [connection for connection in reader.connections if connection.topic in names]
    traits = {name: CameraTraits(assume_encoding) for name in topics}
    counts: Counter[str] = Counter()
    waiting: OrderedDict[int, dict[str, tuple[bytes, bool]]] = OrderedDict()
    for connection, _, data in reader.messages(wanted):
        header = read_header(data)
        if header is None:
            continue
        name = names[connection.topic]
        key = header.stamp_ns if by_stamp else counts[name]
        counts[name] += 1
        messages = waiting.setdefault(key, {})
        messages[name] = data, connection.msgtype == COMPRESSED_IMAGE
        if len(messages) == len(names):
            waiting.pop(key)
            images = _decoded(messages, traits)
            if images is not None:
                yield header.stamp_ns, images
        elif len(waiting) > _WAITING:
            waiting.popitem(last=False)


def _decoded(
    messages: dict[str, tuple[bytes, bool]], traits: Mapping[str, CameraTraits]
) -> dict[str, np.ndarray] | None:
    """Decode the images of one frame; None where one of them cannot be read."""
    try:
        return {
            name: decode_message(*messages[name], traits[name])
            for name in ("camera", "restored", "clean")
            if name in messages
        }
    except ValueError:
        return None


def _pair(stamp_ns: int, images: dict[str, np.ndarray]) -> Pair:
    """Bring all to the size of the restored image, which may be the bundle's, and measure them."""
    height, width = images["restored"].shape[:2]
    same = {name: fit_image(image, (width, height)) for name, image in images.items()}
    figures = {}
    if "clean" in same:
        figures = {name: psnr(same[name], same["clean"]) for name in ("camera", "restored")}
    return Pair(stamp_ns, same, figures)
