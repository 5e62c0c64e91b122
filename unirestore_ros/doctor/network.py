"""What runs the network (TensorRT, ONNX Runtime, OpenVINO), OpenCV, the bundles, their weights."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open

from unirestore_ros.doctor.finding import ERROR, NOTE, OK, Finding, ProbeError, probe
from unirestore_ros.doctor.opencv import check_conflict, version_of
from unirestore_ros.engine.backends import missing_module
from unirestore_ros.engine.backends.tensorrt_versions import RTX, is_known_wrong
from unirestore_ros.engine.bundle import MANIFEST_FILE, engine_folders
from unirestore_ros.engine.manifest import Manifest
from unirestore_ros.files import sha256_of

Size = tuple[int, int]

_TENSORRT = ("tensorrt", "tensorrt_lean", "tensorrt_dispatch")
# Wheels that install the same files, so that an environment may have one of them only.
_ONNXRUNTIME = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-rocm", "onnxruntime-openvino")
_ONNXRUNTIME_CODE = """
import json, onnxruntime
print(json.dumps([onnxruntime.__version__, onnxruntime.get_available_providers()]))
"""
_OPENVINO_CODE = """
import json, openvino
found = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
print(json.dumps([openvino.__version__, list(found)]))
"""
_LOAD_CODE = """
import json, sys, time
import numpy
from unirestore_ros.engine import BundleError, open_engine
start = time.perf_counter()
try:
    with open_engine(sys.argv[1]) as engine:
        width, height = engine.sizes.frame
        engine.run_trunk(numpy.zeros((height, width, 3), numpy.uint8))
        engine.decode(engine.tasks[0])
        print(json.dumps({
            "backend": engine.backend, "width": width, "height": height,
            "tasks": engine.tasks, "heads": list(engine.bundle.manifest.heads),
            "seconds": time.perf_counter() - start,
        }))
except BundleError as error:
    print(json.dumps({"problem": error.problem, "fix": error.fix}))
"""


def check_tensorrt() -> Finding:
    """Check only whether it is installed: without a driver it crashes when it is touched."""
    name = next((name for name in _TENSORRT if importlib.util.find_spec(name)), None)
    if name is None:
        return Finding("TensorRT", NOTE, "not installed", "only bundles for it need it")
    version = version_of(name)
    found = f"{name} {version or 'of unknown version'}"
    if version is not None and is_known_wrong(version):
        return Finding(
            "TensorRT",
            NOTE,
            f"{found}: reported to compute wrong numbers from 10.3 (JetPack 6.2), fixed in 10.14",
            "each compiled bundle is compared with its reference when it is loaded; install 10.14",
        )
    return Finding("TensorRT", OK, found)


def check_tensorrt_rtx() -> Finding:
    """Check only whether it is installed, as for TensorRT."""
    check, wheel = "TensorRT for RTX", "tensorrt-rtx-cu12-bindings"
    if missing_module(RTX) is not None:
        return Finding(check, NOTE, "not installed", "only bundles for an RTX card need it")
    return Finding(check, OK, f"{wheel} {version_of(wheel) or 'of unknown version'}")


def check_openvino() -> Finding:
    """Check whether it is there, and whether the processor computes in bfloat16."""
    check = "OpenVINO"
    if importlib.util.find_spec("openvino") is None:
        return Finding(check, NOTE, "not installed", "only `backend: openvino` needs it")
    try:
        version, capabilities = probe(_OPENVINO_CODE)
    except ProbeError as error:
        advice = "python -m pip install --force-reinstall openvino"
        return Finding(check, NOTE, f"does not work: {error}", advice)
    if "BF16" not in capabilities:
        advice = "`backend: openvino` is faster than ONNX Runtime, and takes 100 MB more memory"
        return Finding(check, NOTE, f"{version}, float32 only", advice)
    return Finding(check, OK, f"{version}, bfloat16: `backend: auto` takes it")


def check_onnxruntime() -> Finding:
    check = "ONNX Runtime"
    try:
        version, providers = probe(_ONNXRUNTIME_CODE)
    except ProbeError as error:
        advice = "python -m pip install onnxruntime"
        return Finding(check, ERROR, f"does not work: {error}", advice)
    found = f"{version} ({', '.join(providers)})"
    return check_conflict(check, _ONNXRUNTIME) or Finding(check, OK, found)


def check_bundles(others: Sequence[str] = ()) -> list[Finding]:
    """Load each installed bundle and those named, as the node would, and run one frame."""
    found = [*map(str, installed_bundles(engine_folders())), *others]
    if not found:
        advice = "python -m unirestore_ros build engines/tiny.yaml"
        return [Finding("bundle", ERROR, "there is none", advice)]
    return [check_bundle(bundle) for bundle in found]


def check_bundle(bundle: str) -> Finding:
    """Load a bundle, given its folder or name, and run one frame."""
    check = "bundle"
    try:
        answer = probe(_LOAD_CODE, bundle)
    except ProbeError as error:
        advice = f"run it alone to see more: doctor {bundle}"
        return Finding(check, ERROR, f"{bundle} does not load: {error}", advice)
    if "problem" in answer:
        return Finding(check, ERROR, answer["problem"], answer["fix"] or "")
    heads = f", heads for {', '.join(answer['heads'])}" if answer["heads"] else ""
    found = (
        f"{bundle} runs on {answer['backend']}, works at {answer['width']}x{answer['height']} for"
        f" {', '.join(answer['tasks'])}{heads}; first frame after {answer['seconds']:.1f} s"
    )
    return Finding(check, OK, found)


def installed_bundles(folders: Iterable[Path]) -> list[Path]:
    """List each bundle once, also where links lead to it by several ways."""
    manifests = (path for folder in folders for path in sorted(folder.glob(f"*/{MANIFEST_FILE}")))
    return list({path.resolve().parent: path.parent for path in manifests}.values())


def check_weights(folders: Iterable[Path]) -> list[Finding]:
    """Check the safetensors that bundles are built from: can each be read, and was the bundle
    beside it built from it as it is now?"""
    weights = [path for folder in folders for path in sorted(folder.glob("weights/*.safetensors"))]
    files = {path.resolve(): path for path in weights}
    if not files:
        advice = "only `build` needs them: they are in a checkout, under engines/weights/"
        return [Finding("weights", NOTE, "there are none", advice)]
    return [_check_weight_file(path) for path in files.values()]


def _check_weight_file(path: Path) -> Finding:
    check = "weights"
    try:
        with safe_open(path, framework="np") as stream:
            count = len(stream.keys())
    except (SafetensorError, OSError) as error:
        advice = "restore the file (git checkout, or git lfs pull where it is a pointer)"
        return Finding(check, ERROR, f"{path} cannot be read: {error}", advice)
    manifest = path.parent.parent / path.stem / MANIFEST_FILE
    if manifest.is_file() and not _is_built_from(manifest, path):
        advice = f"python -m unirestore_ros build engines/{path.stem}.yaml"
        return Finding(check, NOTE, f"{path}: the bundle was built from others", advice)
    megabytes = path.stat().st_size / 1e6
    return Finding(check, OK, f"{path}, {count} tensors, {megabytes:.1f} MB")


def _is_built_from(manifest: Path, weights: Path) -> bool:
    try:
        recorded = Manifest.from_json(manifest.read_text(encoding="utf-8")).weights_sha256
    except ValueError:
        return True  # the line of that bundle says what is wrong with its manifest
    return recorded == sha256_of(weights)
