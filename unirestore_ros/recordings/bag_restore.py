"""`bag restore IN OUT`: restore every camera of a bag offline, resumable after a kill.

First the frames go through the network into segments in a working folder beside OUT. Then input
and segments are merged into a bag there, which is renamed to OUT. Killed at any moment, the same
command goes on with the segments that are whole, and OUT is absent or complete.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import math
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from rosbags.interfaces import Connection
from sensor_msgs.msg import CameraInfo
from tqdm import tqdm

from unirestore_ros.engine import Engine, open_engine
from unirestore_ros.files import written_beside
from unirestore_ros.msgs.cdr import MalformedMessage
from unirestore_ros.msgs.encodings import ENCODINGS
from unirestore_ros.recordings import RecordingError
from unirestore_ros.recordings.cameras import find_cameras, in_namespaces, read_names
from unirestore_ros.recordings.fitting import read_info
from unirestore_ros.recordings.frames import FrameRestorer
from unirestore_ros.recordings.job import Job, Options, add_options, make_job, options_of
from unirestore_ros.recordings.many import Fleet, restore_many
from unirestore_ros.recordings.storage import (
    CAMERA_INFO,
    COMPRESSED_IMAGE,
    IMAGE,
    Reader,
    files_of,
    open_reader,
)
from unirestore_ros.recordings.workspace import (
    SKIPPED,
    SegmentWriter,
    Workspace,
    finished_frames,
    read_records,
    workspace,
)
from unirestore_ros.recordings.writing import copy_connection, new_connection, new_writer

# In the metadata of a restored bag: what it was made of and how.
MARK = "unirestore_ros.restored"

_EXAMPLES = """\
  bag restore drive drive_restored                  one bag
  bag restore drive_* --out restored --jobs 2       many, two at a time
  bag restore drive_* --out restored --ray auto     many, on a Ray cluster
"""

_log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("bags", type=Path, nargs="+", metavar="BAG", help="IN OUT; with --out any number of INs")
    add("--out", type=Path, metavar="FOLDER", help="folder for the results of many bags")
    add_options(parser)
    add("--report", type=Path, metavar="FILE", help="write what became of the bags as JSON")
    add("--jobs", type=_count, default=1, metavar="N", help="bags at a time on this machine (1)")
    add(
        "--ray",
        metavar="ADDRESS",
        help="run on Ray: local, auto (the cluster of this machine) or a cluster's address;"
        " BAG and FOLDER must be seen by all of its machines",
    )
    add("--cpus", type=_count, metavar="N", help="with --ray: CPUs of a bag's task (--threads)")
    add("--gpus", type=float, default=0.0, metavar="N", help="with --ray: GPUs of a task (0)")
    add("--retries", type=int, default=2, metavar="N", help="of a task that dies (2)")


def run(arguments: argparse.Namespace) -> int:
    options = options_of(arguments)
    if arguments.out is not None:
        fleet = Fleet(
            jobs=arguments.jobs,
            ray=arguments.ray,
            cpus=arguments.cpus or max(1, arguments.threads),
            gpus=arguments.gpus,
            retries=arguments.retries,
        )
        return restore_many(arguments.bags, arguments.out, options, fleet, arguments.report)
    if arguments.ray is not None or arguments.jobs > 1:
        raise RecordingError("--ray and --jobs are for many bags: give --out FOLDER")
    if len(arguments.bags) != 2:
        raise RecordingError(
            f"give IN OUT, or --out FOLDER for many: {len(arguments.bags)} were given"
        )
    source, out = arguments.bags
    summary = restore_bag(source, out, options)
    if arguments.report is not None:
        with written_beside(arguments.report) as beside:
            text = json.dumps(dataclasses.asdict(summary), indent=2)
            beside.write_text(text + "\n", encoding="utf-8")
    print(f"{out}: {summary.restored} of {summary.frames} frames restored")
    return 0


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return value


@dataclasses.dataclass(frozen=True)
class Summary:
    """What became of a bag."""

    bag: str
    frames: int
    restored: int
    skipped: Mapping[str, int]
    """Frames that were copied only, by reason."""
    resumed_at: int
    """Frames that an earlier run had restored."""
    seconds: float


def restore_bag(source: Path, out: Path, options: Options) -> Summary:
    """Restore a bag to ``out``; RecordingError, BundleError or InferenceError where that fails."""
    begun = time.monotonic()
    out = out.absolute()
    with (
        open_engine(options.bundle, options.backend, options.device_id, options.threads) as engine,
        open_reader(source) as reader,
    ):
        job = _plan(reader, reader.path, engine, options)
        if _is_done(out, job):
            _log.info("%s is there already, of this very bag and command", out)
            Workspace(out).remove()
            return _summary(source, job, Counter(), job.frames, begun)
        with workspace(out) as space:
            space.begin(job.text(), options.anew)
            _check_room(job, engine, out.parent)
            done = finished_frames(space.segments)
            _announce(job, engine, done)
            with SegmentWriter(space.segments, done, options.every_s) as segments:
                _restore_frames(reader, job, engine, segments, done)
            skipped = _assemble(reader, job, space)
            space.publish()
    return _summary(source, job, skipped, done, begun)


def _plan(reader: Reader, folder: Path, engine: Engine, options: Options) -> Job:
    cameras = find_cameras(
        reader, options.topics, options.node, assume_encoding=options.assume_encoding
    )
    names = read_names(options.cameras) if options.cameras else {}
    unknown = set(names) - {camera.base for camera in cameras} - {c.topic for c in cameras}
    if unknown:
        raise RecordingError(
            f"--cameras: the bag {folder} has no camera {', '.join(sorted(unknown))}"
        )
    cameras = in_namespaces(cameras, names)
    job = make_job(folder, cameras, engine, options, options.storage or reader.storage)
    present = {connection.topic for connection in reader.connections}
    for output in job.outputs:
        if output.topic in present:
            raise RecordingError(
                f"the bag {folder} has the topic {output.topic} already: give the restored topics"
                " another name with --name"
            )
    return job


def _is_done(out: Path, job: Job) -> bool:
    """Whether ``out`` is this job's finished bag; RecordingError where it is anything else."""
    if not out.exists():
        return False
    if (out / "metadata.yaml").is_file():
        with open_reader(out) as reader:
            if reader.metadata.custom.get(MARK) == job.text():
                return True
    raise RecordingError(f"{out} exists, and is no result of this bag and command: name another")


def _check_room(job: Job, engine: Engine, folder: Path) -> None:
    """Raise RecordingError where the disk will not hold segments and bag; JPEGs are not counted."""
    manifest, image_bytes = engine.bundle.manifest, 0
    for output in job.outputs:
        camera = job.cameras[output.camera]
        size = camera.size
        if output.what == "features":
            shape = manifest.feature_shape(manifest.sizes.sizes_for(size))
            image_bytes += camera.messages * math.prod(shape) * 4
        elif output.what in ("image", "task_image"):
            image_bytes += camera.messages * size[0] * size[1] * ENCODINGS["bgr8"].channels
    need = 2 * image_bytes + sum(files_of(job.folder).values())
    free = shutil.disk_usage(folder).free
    if need > free:
        raise RecordingError(
            f"about {need / 1e9:.1f} GB are needed in {folder}, where {free / 1e9:.1f} GB are free:"
            " name an OUT on a larger disk, fewer --tasks, or --outputs compressed"
        )


def _announce(job: Job, engine: Engine, done: int) -> None:
    for camera in job.cameras:
        node = next(output.topic for output in job.outputs if job.cameras[output.camera] is camera)
        _log.info("%s: %d frames -> %s ...", camera.topic, camera.messages, node)
    if done:
        _log.info("going on after %d frames that are restored already", done)


def _camera_messages(reader: Reader, job: Job) -> Iterator[tuple[int, bytes, CameraInfo | None]]:
    """Yield each camera frame in the bag's order: camera, message, and the CameraInfo that was the
    latest then, or the first where none had come."""
    cameras = {camera.topic: number for number, camera in enumerate(job.cameras)}
    info_topics = {camera.info_topic for camera in job.cameras} - {None}
    infos: dict[str, CameraInfo] = {}
    for connection in reader.connections:
        is_wanted = connection.topic in info_topics and connection.msgtype == CAMERA_INFO
        if is_wanted and (info := _first_info(reader, connection)) is not None:
            infos[connection.topic] = info
    # All messages, as when the bag is written: only then do those of one time come in one order.
    damaged = 0
    for connection, _, data in reader.messages():
        if connection.topic in info_topics and connection.msgtype == CAMERA_INFO:
            try:
                infos[connection.topic] = read_info(data)
            except MalformedMessage:
                damaged += 1
        elif connection.topic in cameras and connection.msgtype in (IMAGE, COMPRESSED_IMAGE):
            number = cameras[connection.topic]
            yield number, data, infos.get(job.cameras[number].info_topic or "")
    if damaged:
        _log.warning("%d CameraInfos are damaged: the ones before them are used", damaged)


def _first_info(reader: Reader, connection: Connection) -> CameraInfo | None:
    for _, _, data in reader.messages([connection]):
        try:
            return read_info(data)
        except MalformedMessage:
            continue
    return None


def _restore_frames(
    reader: Reader, job: Job, engine: Engine, segments: SegmentWriter, done: int
) -> None:
    restorer = FrameRestorer(job, engine)
    frames = enumerate(_camera_messages(reader, job))
    with tqdm(total=job.frames, initial=done, desc="restoring", unit="frame") as bar:
        for number, (camera, data, info) in frames:
            if number < done:
                restorer.observe(number, camera, data)
                continue
            segments.add(number, restorer.restore(number, camera, data, info))
            bar.update()


def _assemble(reader: Reader, job: Job, space: Workspace) -> Counter[str]:
    """Write the whole bag into the working folder; returns why frames were skipped."""
    skipped: Counter[str] = Counter()
    records = read_records(space.segments)
    waiting = next(records, None)
    frame = -1
    cameras = {camera.topic for camera in job.cameras}
    writer = new_writer(space.bag, job.storage, like=reader)
    for key, value in {**reader.metadata.custom, MARK: job.text()}.items():
        writer.set_custom_data(key, value)
    with writer, tqdm(total=reader.message_count, desc="writing", unit="message") as bar:
        copies = {c.id: copy_connection(writer, c) for c in reader.connections}
        made = [new_connection(writer, output.topic, output.kind) for output in job.outputs]
        for connection, stamp, data in reader.messages():
            writer.write(copies[connection.id], stamp, data)
            bar.update()
            if connection.topic not in cameras or connection.msgtype not in (
                IMAGE,
                COMPRESSED_IMAGE,
            ):
                continue
            frame += 1
            while waiting is not None and waiting.frame == frame:
                if waiting.output == SKIPPED:
                    skipped[waiting.data.decode()] += 1
                else:
                    writer.write(made[waiting.output], stamp, waiting.data)
                waiting = next(records, None)
    return skipped


def _summary(
    source: Path, job: Job, skipped: Counter[str], resumed_at: int, begun: float
) -> Summary:
    for reason, count in skipped.items():
        _log.warning("%d frames of %s were copied only: %s", count, source, reason)
    return Summary(
        bag=str(source),
        frames=job.frames,
        restored=job.frames - skipped.total(),
        skipped=dict(skipped),
        resumed_at=resumed_at,
        seconds=round(time.monotonic() - begun, 3),
    )
