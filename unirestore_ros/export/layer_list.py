"""What became of a graph, by the compiler's own list of layers: no GPU is needed to read it.

`python -m unirestore_ros.export.layer_list trunk.onnx --size 512x512 --gpu 8.9`

TensorRT for RTX prints each kernel that it made with the tensors that it reads and writes. The sum
of their bytes is what a frame moves at the least; what is in float32 or cast there costs twice.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from unirestore_ros.engine.backends.tensorrt_versions import RTX, load_tensorrt
from unirestore_ros.engine.working_size import Size
from unirestore_ros.export.tensorrt_compile import Compiled, Compiler
from unirestore_ros.tables import markdown_table

_BITS = {
    "Float": 32,
    "Half": 16,
    "BFloat16": 16,
    "Int8": 8,
    "UInt8": 8,
    "FP8": 8,
    "Int32": 32,
    "Int64": 64,
    "Bool": 8,
}
_NO_KERNELS = ("signal", "wait")
"""Layers that only order the others."""
_TENSOR = re.compile(r"Name: [^,]+, Dimensions: \[([\d,]*)\].*?Datatype: (\w+)")
HEAD = ("graph", "kernels", "with a cast", "norm + SiLU", "moved MB", "of it float32", "engine MB")


@dataclasses.dataclass(frozen=True)
class LayerList:
    """Counts over the kernels of an engine."""

    kernels: int
    casts: int
    """Kernels that convert a type, alone or on the way."""
    fused_norms: int
    """Kernels that normalise and apply SiLU in one pass."""
    moved: Counter[str]
    """Bytes of activations read and written, by type."""

    def cells(self, name: str, compiled: Compiled) -> tuple[str, ...]:
        total = self.moved.total()
        share = 100 * self.moved["Float"] / max(total, 1)
        return (
            name,
            str(self.kernels),
            str(self.casts),
            str(self.fused_norms),
            f"{total / 1e6:.1f}",
            f"{share:.0f} %",
            f"{compiled.engine.nbytes / 1e6:.1f}",
        )


def read_layer_list(lines: Iterable[str]) -> LayerList:
    """Count over the lines of ``Compiler.layer_list``."""
    kernels = [line for line in lines if _field(line, "LayerType") not in _NO_KERNELS]
    names = [_field(line, "Name") for line in kernels]
    moved: Counter[str] = Counter()
    for line in kernels:
        for sides, kind in _TENSOR.findall(_without_constants(line)):
            count = math.prod(int(side) for side in sides.split(",") if side)
            moved[kind] += count * _BITS[kind] // 8
    return LayerList(
        kernels=len(kernels),
        casts=sum("Cast" in name for name in names),
        fused_norms=sum("Gnor" in name and "Silu" in name for name in names),
        moved=moved,
    )


def _field(line: str, name: str) -> str:
    found = re.search(rf"\b{name}: ([^,]*)", line)
    return found[1] if found else ""


def _without_constants(line: str) -> str:
    """Keep inputs and outputs: weights are read once whatever is done with them."""
    line = line[line.find("Inputs: ") :]
    return re.sub(r"Constants: \[.*?\], Outputs", "Outputs", line)


def compiled_list(onnx_file: Path, size: Size, gpu: str) -> tuple[Compiled, list[str]]:
    """Compile a graph for one working size (width, height) and one compute capability; returns the
    engine and the compiler's lines."""
    compiler = Compiler(load_tensorrt(RTX), (size, size, size))
    compiler.gpus, compiler.layer_list = (gpu,), []
    compiled = compiler.compile(onnx_file)
    return compiled, compiler.layer_list


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("layer_list", description=__doc__)
    parser.add_argument("graphs", type=Path, nargs="+", metavar="GRAPH.onnx")
    parser.add_argument("--size", default="512x512", metavar="WxH", help="padded working size")
    parser.add_argument("--gpu", default="8.9", metavar="CC", help="compute capability")
    parser.add_argument("--layers", action="store_true", help="print the compiler's lines too")
    arguments = parser.parse_args(argv)
    width, height = map(int, arguments.size.split("x"))
    rows = []
    for graph in arguments.graphs:
        compiled, lines = compiled_list(graph, (width, height), arguments.gpu)
        if arguments.layers:
            sys.stdout.write("\n".join(lines) + "\n")
        rows.append(read_layer_list(lines).cells(str(graph), compiled))
    sys.stdout.write(markdown_table(HEAD, rows) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
