"""`build`: compile a bundle from a recipe, or add a prompt to one."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from unirestore_ros.build.recipe import BUILDABLE, HALF
from unirestore_ros.engine import BundleError
from unirestore_ros.engine.bundle import Bundle
from unirestore_ros.engine.writing import add_prompt


def main(argv: list[str] | None = None) -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("onnxscript").setLevel(logging.WARNING)
    logging.getLogger("onnx_ir").setLevel(logging.WARNING)
    arguments = _parser().parse_args(argv)
    try:
        bundle = _add(arguments) if arguments.add_prompt else _build(arguments)
    except (BundleError, ValueError, OSError) as error:
        sys.stderr.write(f"build: {error}\n")
        return 1
    width, height = bundle.manifest.input_size
    tasks = ", ".join(bundle.manifest.tasks)
    sys.stdout.write(f"{bundle.folder}: {width}x{height}, tasks {tasks}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("build", description=__doc__)
    parser.add_argument("source", type=Path, help="a recipe (.yaml), or a bundle with --add-prompt")
    parser.add_argument("--out", type=Path, help="the bundle's folder (default: beside the recipe)")
    parser.add_argument("--size", type=frame_size, metavar="WxH", help="for frames of another size")
    parser.add_argument("--backend", choices=BUILDABLE, help="only this one of the recipe's")
    parser.add_argument("--precision", choices=("fp32", *HALF), help="the one preferred")
    parser.add_argument("--frames", type=Path, help="images to measure ranges on, in a folder")
    parser.add_argument("--unmeasured", action="store_true", help="do not measure the ranges")
    parser.add_argument("--add-prompt", metavar="NAME=FILE", help="a new task: its prompt")
    return parser


def frame_size(text: str) -> tuple[int, int]:
    """640x480 -> (640, 480), for argparse."""
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"must be like 640x480, is {text!r}")
    return int(width), int(height)


def _build(arguments: argparse.Namespace) -> Bundle:
    from unirestore_ros.build.bundle import Variant, build

    variant = Variant(
        size=arguments.size,
        backend=arguments.backend,
        precision=arguments.precision,
        frames=arguments.frames,
        measure=not arguments.unmeasured,
    )
    return build(arguments.source, arguments.out, variant)


def _add(arguments: argparse.Namespace) -> Bundle:
    name, equals, file = arguments.add_prompt.partition("=")
    if not equals:
        raise ValueError(f"--add-prompt takes NAME=FILE, not {arguments.add_prompt!r}")
    return add_prompt(arguments.source, name, Path(file))
