"""`demo`: play a drive through the real node over DDS, and write what came out of it.

Without --input the package's own synthetic drive is played, degraded on the way. The node is a
process of its own; this one renders or reads the frames, plays them, records and reports.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from pathlib import Path

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from unirestore_ros.demo.drive import DriveBag, record_drive, record_input
from unirestore_ros.demo.figures import before_after, overlay_images
from unirestore_ros.demo.play import Play, run_play
from unirestore_ros.demo.record import Frames, Record, open_frames
from unirestore_ros.demo.report import (
    Report,
    StretchReport,
    make_report,
    measure_stretch,
    table,
)
from unirestore_ros.engine import BundleError
from unirestore_ros.engine.backends import AUTO, RUNNABLE, choose_backend
from unirestore_ros.engine.bundle import find_bundle, read_bundle
from unirestore_ros.evaluate.classical import METHODS
from unirestore_ros.files import folder_written_beside
from unirestore_ros.recordings import RecordingError
from unirestore_ros.recordings.cameras import add_assume_encoding
from unirestore_ros.recordings.images import Size, degradation, write_image, write_video
from unirestore_ros.recordings.sources import open_source
from unirestore_ros.signals import INTERRUPTED, signals_as_exits

REPORT, OVERLAY, FIGURE = "report.json", "overlay.mp4", "before_after.png"
MACHINE_TASKS = ("segmentation", "detection")
DEFAULT_RATE = 10.0
DEFAULT_LIMIT = 300
DRIVE_FRAMES = 120

_log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> int:
    """Return the exit status: 0 when frames were restored and everything is written, else 1."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        with logging_redirect_tqdm():
            report = run(arguments)
    except (RecordingError, BundleError) as error:
        _log.error("demo: %s", error)
        return 1
    except KeyboardInterrupt:
        _log.error("demo: interrupted")
        return INTERRUPTED
    sys.stdout.write(f"\n{table(report)}\n\nwritten to {arguments.out}\n")
    return 0


def run(arguments: argparse.Namespace) -> Report:
    """Prepare, play, measure and write; RecordingError or BundleError where that cannot be done."""
    check_replaceable(arguments.out)
    bundle = read_bundle(find_bundle(arguments.bundle))
    choose_backend(bundle, arguments.backend)  # before the drive is rendered and a node started
    prefix = "unirestore_demo_"
    with signals_as_exits(), tempfile.TemporaryDirectory(prefix=prefix) as name:
        work = Path(name)
        bag = _record_frames(arguments, bundle.manifest.working_size, work / "frames")
        parameters = [f"backend:={arguments.backend}", *arguments.param]
        tasks = [task for task in MACHINE_TASKS if task in bundle.manifest.tasks]
        play = Play(bag, bundle.folder, parameters, tasks, work, arguments.rate)
        record = run_play(play)
        with open_frames(bag, play.recorded) as frames:
            stretches = _measure(frames, record)
            about = {"input": str(arguments.input or "synthetic drive")}
            report = make_report(record, stretches, about)
            with folder_written_beside(arguments.out) as folder:
                _write(folder, frames, record, stretches, report)
    return report


def check_replaceable(folder: Path) -> None:
    """Raise RecordingError unless the folder is absent, or has nothing but what a demo wrote."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise RecordingError(f"{folder} is not a folder: name another with --out")
    others = sorted({path.name for path in folder.iterdir()} - {REPORT, OVERLAY, FIGURE})
    if others:
        raise RecordingError(
            f"{folder} would be replaced, but holds {others[0]}, which no demo wrote:"
            " name another folder with --out"
        )


def _record_frames(arguments: argparse.Namespace, size: Size, folder: Path) -> DriveBag:
    if arguments.input is None:
        if arguments.degrade is not None or arguments.topic is not None:
            raise RecordingError(
                "DEGRADE and --topic need an INPUT: the synthetic drive has its own"
            )
        return record_drive(folder, size, arguments.frames or DRIVE_FRAMES)
    degrade = None
    if arguments.degrade is not None:
        degrade = degradation(arguments.degrade, arguments.severity)
    source = open_source(arguments.input, arguments.topic, arguments.assume_encoding)
    _log.info("playing %s", source.description)
    limit = DEFAULT_LIMIT if arguments.frames is None else arguments.frames
    stretch = arguments.degrade or arguments.input.name
    return record_input(source, folder, arguments.rate, limit, stretch, degrade)


def _measure(frames: Frames, record: Record) -> list[StretchReport]:
    restored = {shown.number: shown for shown in record.restored}
    known = len(restored) if frames.bag.has_clean else 0
    with tqdm(total=known, desc="measuring", unit="frame", disable=not known) as bar:
        return [
            measure_stretch(frames, stretch, restored, METHODS, bar.update)
            for stretch in frames.bag.stretches()
        ]


def _write(
    folder: Path,
    frames: Frames,
    record: Record,
    stretches: list[StretchReport],
    report: Report,
) -> None:
    images = tqdm(overlay_images(frames, record), "drawing", len(record.shown), unit="frame")
    write_video(folder / OVERLAY, images, report["rate"] or DEFAULT_RATE)
    subtitle = (
        f"bundle {report['bundle']} on {report['backend']};"
        f" {report['frames_out']} of {report['frames_in']} frames restored by restore_node"
    )
    write_image(folder / FIGURE, before_after(frames, record, stretches, subtitle))
    (folder / REPORT).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="unirestore_ros demo", description=__doc__)
    add = parser.add_argument
    add("--input", type=Path, metavar="PATH", help="a video, a folder of images or a rosbag2")
    add("--degrade", metavar="NAME", help="degrade the input: fog, rain, snow, noise, ...")
    add("--severity", type=int, choices=range(1, 6), default=3, help="of --degrade (3)")
    add("--topic", help="camera topic of a bag (its first camera)")
    add_assume_encoding(parser)
    add(
        "--rate",
        type=_rate,
        default=DEFAULT_RATE,
        metavar="HZ",
        help="frames/s at most (%(default)g)",
    )
    add(
        "--frames",
        type=_count,
        metavar="N",
        help=f"play the first N; 0: all ({DEFAULT_LIMIT} of an input)",
    )
    add("--bundle", default="tiny", help="name or folder of the bundle (tiny)")
    add("--backend", default=AUTO, help=f"{AUTO}, {', '.join(RUNNABLE)} ({AUTO})")
    add(
        "--param",
        action="append",
        default=[],
        metavar="NAME:=VALUE",
        help="a parameter of the node; may be repeated",
    )
    add("--out", type=Path, default=Path("out/demo"), help="folder for the results (out/demo)")
    return parser


def _rate(text: str) -> float:
    value = float(text)
    if not 0.1 <= value <= 100.0:
        raise argparse.ArgumentTypeError(f"{text} is not from 0.1 to 100")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative")
    return value
