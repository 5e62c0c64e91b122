"""`build`: make a bundle from a recipe, compile one for this GPU, or add a prompt to one."""

from __future__ import annotations

import argparse
import logging
import re
import sys
from pathlib import Path

from unirestore_ros.engine import BundleError
from unirestore_ros.engine.bundle import Bundle
from unirestore_ros.engine.manifest import COMPILED
from unirestore_ros.engine.writing import add_prompt
from unirestore_ros.export.compile import RTX_GPUS, CompileOptions, compile_bundle
from unirestore_ros.export.recipe import BUILDABLE, HALF


def main(argv: list[str] | None = None) -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("onnxscript").setLevel(logging.WARNING)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    logging.getLogger("onnx_ir").setLevel(logging.WARNING)
    arguments = _parser().parse_args(argv)
    try:
        bundle = _make(arguments)
    except (BundleError, ValueError, OSError) as error:
        sys.stderr.write(f"build: {error}\n")
        return 1
    width, height = bundle.manifest.working_size
    tasks = ", ".join(bundle.manifest.tasks)
    sys.stdout.write(f"{bundle.folder}: working size {width}x{height}, tasks {tasks}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("build", description=__doc__)
    parser.add_argument(
        "source", type=Path, help="a recipe (.yaml); or a bundle, to compile or to add to"
    )
    parser.add_argument("--out", type=Path, help="the bundle's folder (default: beside the recipe)")
    parser.add_argument("--backend", choices=BUILDABLE, help="only this one of the recipe's")
    parser.add_argument("--precision", choices=("fp32", *HALF), help="the one preferred")
    parser.add_argument("--frames", type=Path, help="images to measure ranges on, in a folder")
    parser.add_argument("--unmeasured", action="store_true", help="do not measure the ranges")
    parser.add_argument("--onnx-only", action="store_true", help="leave TensorRT to the vehicle")
    parser.add_argument(
        "--gpu",
        type=_capabilities,
        default=RTX_GPUS,
        metavar="CC,…",
        help=f"compute capabilities for tensorrt_rtx ({','.join(RTX_GPUS)})",
    )
    parser.add_argument("--device", type=int, default=0, help="CUDA device to compile for")
    parser.add_argument("--workspace", type=int, metavar="MIB", help="limit for TensorRT's kernels")
    parser.add_argument("--timing-cache", type=Path, help="file of TensorRT's kernel timings")
    parser.add_argument("--add-prompt", metavar="NAME=FILE", help="a new task: its prompt")
    return parser


def _capabilities(text: str) -> tuple[str, ...]:
    """8.6,8.9 -> ("8.6", "8.9"), for argparse."""
    found = tuple(text.split(","))
    if not all(re.fullmatch(r"\d+\.\d+", capability) for capability in found):
        raise argparse.ArgumentTypeError(f"must be like 8.6 or 8.9,12.0, is {text!r}")
    return found


def _make(arguments: argparse.Namespace) -> Bundle:
    if arguments.add_prompt:
        return _add(arguments)
    return _compile(arguments) if arguments.source.is_dir() else _build(arguments)


def _compile(arguments: argparse.Namespace) -> Bundle:
    backends = COMPILED if arguments.backend is None else (arguments.backend,)
    return compile_bundle(arguments.source, _compile_options(arguments), backends)


def _compile_options(arguments: argparse.Namespace) -> CompileOptions:
    return CompileOptions(
        arguments.device,
        None if arguments.workspace is None else arguments.workspace << 20,
        arguments.timing_cache,
        arguments.gpu,
    )


def _build(arguments: argparse.Namespace) -> Bundle:
    from unirestore_ros.export.bundle import Variant, build

    variant = Variant(
        backend=arguments.backend,
        precision=arguments.precision,
        frames=arguments.frames,
        measure=not arguments.unmeasured,
        onnx_only=arguments.onnx_only,
        compile_options=_compile_options(arguments),
    )
    return build(arguments.source, arguments.out, variant)


def _add(arguments: argparse.Namespace) -> Bundle:
    name, equals, file = arguments.add_prompt.partition("=")
    if not equals:
        raise ValueError(f"--add-prompt takes NAME=FILE, not {arguments.add_prompt!r}")
    return add_prompt(arguments.source, name, Path(file))
