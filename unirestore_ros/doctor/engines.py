"""What runs the network: TensorRT, ONNX Runtime, OpenCV, and the bundles that are here."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path

from unirestore_ros.doctor.finding import ERROR, NOTE, OK, Finding, ProbeError, probe
from unirestore_ros.engine.locate import engine_folders

_TENSORRT = ("tensorrt", "tensorrt_lean", "tensorrt_dispatch")
_ONNXRUNTIME = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-rocm", "onnxruntime-openvino")
_OPENCV = (
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)
_ONNXRUNTIME_CODE = """
import json, onnxruntime
print(json.dumps([onnxruntime.__version__, onnxruntime.get_available_providers()]))
"""
_LOAD_CODE = """
import json, sys, time
import numpy
from unirestore_ros.engine import BundleError, open_engine
start = time.perf_counter()
try:
    with open_engine(sys.argv[1]) as engine:
        width, height = engine.input_size
        engine.run_trunk(numpy.zeros((height, width, 3), numpy.uint8))
        engine.decode(engine.tasks[0])
        print(json.dumps({
            "backend": engine.backend, "width": width, "height": height,
            "tasks": engine.tasks, "seconds": time.perf_counter() - start,
        }))
except BundleError as error:
    print(json.dumps({"problem": error.problem, "mend": error.mend}))
"""


def check_tensorrt() -> Finding:
    """Only whether it is installed: without a driver its run-time crashes when it is touched."""
    name = next((name for name in _TENSORRT if importlib.util.find_spec(name)), None)
    if name is None:
        return Finding("TensorRT", NOTE, "not installed", "only bundles for it need it")
    return Finding("TensorRT", OK, f"{name} {_version(name)}")


def check_onnxruntime() -> Finding:
    check = "ONNX Runtime"
    try:
        version, providers = probe(_ONNXRUNTIME_CODE)
    except ProbeError as error:
        advice = "python -m pip install onnxruntime"
        return Finding(check, ERROR, f"does not work: {error}", advice)
    found = f"{version} ({', '.join(providers)})"
    return _clash(check, _ONNXRUNTIME) or Finding(check, OK, found)


def check_opencv() -> Finding:
    check = "OpenCV"
    try:
        version = probe("import json, cv2; print(json.dumps(cv2.__version__))")
    except ProbeError as error:
        advice = "python -m pip install --force-reinstall --no-deps opencv-python-headless"
        return Finding(check, ERROR, f"does not work: {error}", advice)
    return _clash(check, _OPENCV) or Finding(check, OK, version)


def check_bundles(others: Sequence[str] = ()) -> list[Finding]:
    """Load each bundle that is installed, and those named, as the node would; run one frame."""
    found = [*map(str, installed_bundles(engine_folders())), *others]
    if not found:
        return [
            Finding(
                "bundle", ERROR, "there is none", "python -m unirestore_ros build engines/tiny.yaml"
            )
        ]
    return [check_bundle(bundle) for bundle in found]


def check_bundle(bundle: str) -> Finding:
    """Load a bundle, given its folder or name."""
    check = "bundle"
    try:
        answer = probe(_LOAD_CODE, bundle)
    except ProbeError as error:
        return Finding(check, ERROR, f"{bundle} does not load: {error}", "")
    if "problem" in answer:
        return Finding(check, ERROR, answer["problem"], answer["mend"] or "")
    return Finding(
        check,
        OK,
        f"{bundle} runs on {answer['backend']}, takes {answer['width']}x{answer['height']}"
        f" for {', '.join(answer['tasks'])}; first frame after {answer['seconds']:.1f} s",
    )


def installed_bundles(folders: Iterable[Path]) -> list[Path]:
    """Each bundle once, also where one is reached by several ways."""
    manifests = (path for folder in folders for path in sorted(folder.glob("*/manifest.json")))
    return list({path.resolve().parent: path.parent for path in manifests}.values())


def _clash(check: str, rivals: Iterable[str]) -> Finding | None:
    """Wheels that write the same files: the one installed last is what is imported, mostly."""
    present = [name for name in rivals if _is_wheel(name)]
    if len(present) < 2:
        return None
    keep = present[-1]
    return Finding(
        check,
        NOTE,
        f"{' and '.join(present)} are installed over each other",
        f"python -m pip uninstall -y {' '.join(present)}"
        f" && python -m pip install --no-deps {keep}=={_version(keep)}",
    )


def _is_wheel(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "of unknown version"
