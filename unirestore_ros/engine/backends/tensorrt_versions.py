"""Every difference between the versions of TensorRT and of cuda-python that this package meets.

TensorRT 10 (JetPack 6 and 7) and 11. Sources: the Python API of 10.1 to 10.15 and the migration
guide from 10 to 11, docs.nvidia.com/deeplearning/tensorrt. Import this module only where a driver
was found (``cuda_driver``): TensorRT's run-time crashes without one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorrt as trt
else:
    try:
        import tensorrt as trt
    except ModuleNotFoundError:  # the run-time half alone: it loads engines and builds none
        import tensorrt_lean as trt

try:
    from cuda.bindings import runtime as cudart
except ModuleNotFoundError:  # cuda-python before 12.6.1
    from cuda import cudart

__all__ = ["VERSION", "can_build", "cudart", "strongly_typed", "trt"]

VERSION: str = trt.__version__


def can_build() -> bool:
    return hasattr(trt, "Builder")


def strongly_typed() -> int:
    """Flags for ``create_network``: from 11 on there is nothing but strong typing to ask for."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)
