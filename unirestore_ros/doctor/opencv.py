"""OpenCV and cv_bridge: which are installed, and whether they work with the NumPy that is there.

This is asked first, and in a process apart: most of this package imports OpenCV.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from unirestore_ros.doctor.finding import ERROR, NOTE, OK, Finding, ProbeError, probe

# Wheels that install the same files, so that an environment may have one of them only.
_OPENCV = (
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)
_OLDER_NUMPY = 'python -m pip install "numpy<2": apt compiled it for NumPy 1'
_CV_BRIDGE_CODE = """
import json, numpy
from cv_bridge import CvBridge
bridge, image = CvBridge(), numpy.zeros((4, 6, 3), numpy.uint8)
bridge.imgmsg_to_cv2(bridge.cv2_to_imgmsg(image, "bgr8"), "mono8")
print(json.dumps(numpy.__version__))
"""


def check_opencv() -> Finding:
    check = "OpenCV"
    try:
        version = probe("import json, cv2; print(json.dumps(cv2.__version__))")
    except ProbeError as error:
        if _is_of_system("cv2") and _major("numpy") >= 2:
            return Finding(
                check,
                ERROR,
                f"apt's does not work with NumPy {version_of('numpy')}: {error}",
                _OLDER_NUMPY,
            )
        advice = "python -m pip install --force-reinstall --no-deps opencv-python-headless"
        return Finding(check, ERROR, f"does not work: {error}", advice)
    return check_conflict(check, _OPENCV) or Finding(check, OK, version)


def check_cv_bridge() -> list[Finding]:
    """Check apt's cv_bridge, which consumers use, where it is installed: it needs the NumPy that it
    was compiled with."""
    check = "cv_bridge"
    if importlib.util.find_spec(check) is None:
        return []
    try:
        return [Finding(check, OK, f"converts with NumPy {probe(_CV_BRIDGE_CODE)}")]
    except ProbeError as error:
        found = f"does not work with NumPy {version_of('numpy')}: {error}"
        advice = _OLDER_NUMPY if _major("numpy") >= 2 else "install it from apt for this ROS"
        return [Finding(check, NOTE, f"{found} (this package does not need it)", advice)]


def _is_of_system(module: str) -> bool:
    """Whether a module is the distribution's, not this environment's own."""
    spec = importlib.util.find_spec(module)
    return spec is not None and "dist-packages" in Path(spec.origin or "").parts


def _major(wheel: str) -> int:
    first = (version_of(wheel) or "").partition(".")[0]
    return int(first) if first.isdigit() else 0


def check_conflict(check: str, wheels: Iterable[str]) -> Finding | None:
    """Report wheels installed over each other: mostly, the last one installed is imported."""
    present = [name for name in wheels if version_of(name) is not None]
    if len(present) < 2:
        return None
    keep = present[-1]
    return Finding(
        check,
        NOTE,
        f"{' and '.join(present)} are installed over each other",
        f"python -m pip uninstall -y {' '.join(present)}"
        f" && python -m pip install --no-deps {keep}=={version_of(keep)}",
    )


def version_of(wheel: str) -> str | None:
    try:
        return metadata.version(wheel)
    except metadata.PackageNotFoundError:
        return None
