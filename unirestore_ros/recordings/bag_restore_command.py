"""Arguments of `bag restore`: one bag to OUT, or many to a folder."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from unirestore_ros.files import written_beside
from unirestore_ros.recordings.bag_restore import Summary, restore_bag
from unirestore_ros.recordings.errors import MediaError
from unirestore_ros.recordings.job import OUTPUTS, Options
from unirestore_ros.recordings.many import Fleet, restore_many
from unirestore_ros.recordings.storage import STORAGES

_EXAMPLES = """\
  bag restore drive drive_restored                  one bag
  bag restore drive_* --out restored --jobs 2       many, two at a time
  bag restore drive_* --out restored --ray auto     many, on a Ray cluster
"""


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


def add_options(parser: argparse.ArgumentParser) -> None:
    """What a bag is restored with, whoever runs it."""
    add = parser.add_argument
    add("--bundle", default="tiny", help="name or folder of the bundle (tiny)")
    add("--backend", default="auto", help="auto, tensorrt, torch, onnxruntime, openvino (auto)")
    add("--device", type=int, default=0, metavar="N", help="number of the CUDA device (0)")
    add("--threads", type=int, default=0, metavar="N", help="of the CPU; 0: one a core")
    add("--topic", action="append", default=[], help="a camera's topic; may be repeated (all)")
    add("--cameras", default="", metavar="NAME:TOPIC,...", help="their nodes' namespaces")
    add("--name", default="unirestore", help="name of the node whose topics are made (unirestore)")
    add("--tasks", type=_names, help="machine tasks (segmentation,detection); '' for none")
    add(
        "--outputs",
        type=_outputs,
        default=(),
        help=f"of {','.join(OUTPUTS)} (image or compressed, as the camera; features)",
    )
    add("--fit", action="store_true", help="scale and crop frames to the bundle's size")
    add("--jpeg-quality", type=int, default=90, choices=range(1, 101), metavar="1..100")
    add("--storage", choices=STORAGES, default="", help="of the result (as the input's)")
    add(
        "--save-every",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="a kill loses at most so much work (10)",
    )
    add("--anew", action="store_true", help="discard an earlier run's unfinished work")


def options_of(arguments: argparse.Namespace) -> Options:
    return Options(
        bundle=arguments.bundle,
        backend=arguments.backend,
        device_id=arguments.device,
        threads=arguments.threads,
        topics=tuple(arguments.topic),
        cameras=arguments.cameras,
        node=arguments.name,
        tasks=arguments.tasks,
        outputs=arguments.outputs,
        fit=arguments.fit,
        jpeg_quality=arguments.jpeg_quality,
        storage=arguments.storage,
        every_s=arguments.save_every,
        anew=arguments.anew,
    )


def run(arguments: argparse.Namespace) -> int:
    if arguments.out is not None:
        fleet = Fleet(
            jobs=arguments.jobs,
            ray=arguments.ray,
            cpus=arguments.cpus or max(1, arguments.threads),
            gpus=arguments.gpus,
            retries=arguments.retries,
        )
        return restore_many(
            arguments.bags, arguments.out, options_of(arguments), fleet, arguments.report
        )
    if arguments.ray is not None or arguments.jobs > 1:
        raise MediaError("--ray and --jobs are for many bags: say --out FOLDER")
    if len(arguments.bags) != 2:
        raise MediaError(f"say IN OUT, or --out FOLDER for many: {len(arguments.bags)} were given")
    source, out = arguments.bags
    summary = restore_bag(source, out, options_of(arguments))
    if arguments.report is not None:
        _write(arguments.report, summary)
    print(f"{out}: {summary.restored} of {summary.frames} frames restored")
    return 0


def _write(path: Path, summary: Summary) -> None:
    with written_beside(path) as beside:
        beside.write_text(json.dumps(summary.as_json(), indent=2) + "\n", encoding="utf-8")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _outputs(text: str) -> tuple[str, ...]:
    names = _names(text)
    if unknown := set(names) - set(OUTPUTS):
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: there are {', '.join(OUTPUTS)}")
    return names


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is under 1")
    return value
