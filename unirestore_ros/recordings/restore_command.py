"""`restore IN OUT`: an image, a folder of images or a video restored offline, as the node would."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from tqdm.contrib.logging import logging_redirect_tqdm

from unirestore_ros.engine import BundleError, InferenceError, open_engine
from unirestore_ros.recordings.errors import MediaError
from unirestore_ros.recordings.restoring import DEFAULT_TASK, restore
from unirestore_ros.signals import signals_as_exits

_INTERRUPTED = 130

_log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 when OUT is whole; else 1, or 130 when interrupted, and OUT is as it was."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        with (
            signals_as_exits(),
            logging_redirect_tqdm(),
            open_engine(
                arguments.bundle, arguments.backend, arguments.device, arguments.threads
            ) as engine,
        ):
            count = restore(engine, arguments.input, arguments.out, arguments.task, arguments.fit)
    except (MediaError, BundleError, InferenceError, OSError) as error:
        _log.error("restore: %s", error)
        return 1
    except KeyboardInterrupt:
        _log.error("restore: interrupted")
        return _INTERRUPTED
    print(f"{arguments.out}: {count} {'picture' if count == 1 else 'pictures'} restored")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="unirestore_ros restore", description=__doc__)
    add = parser.add_argument
    add("input", type=Path, metavar="IN", help="an image, a folder of images or a video")
    add("out", type=Path, metavar="OUT", help="the same of restored ones: image, folder or .mp4")
    add("--task", default=DEFAULT_TASK, help=f"whose prompt decodes ({DEFAULT_TASK})")
    add("--fit", action="store_true", help="scale and crop to the size that the bundle takes")
    add("--bundle", default="tiny", help="name or folder of the bundle (tiny)")
    add("--backend", default="auto", help="auto, tensorrt, torch, onnxruntime, openvino (auto)")
    add("--device", type=int, default=0, metavar="N", help="number of the CUDA device (0)")
    add("--threads", type=int, default=0, metavar="N", help="of the CPU; 0: one a core")
    return parser
