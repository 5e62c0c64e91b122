"""What the package is and installs; colcon (ament_python) and pip both read this file."""

import runpy
from pathlib import Path

from setuptools import find_packages, setup

NAME = "unirestore_ros"
HERE = Path(__file__).resolve().parent
SHARE = Path("share") / NAME

VERSION = runpy.run_path(str(HERE / NAME / "__init__.py"))["__version__"]

RUN_TIME = [
    "numpy>=1.21",
    "onnxruntime>=1.15",
    "safetensors>=0.4",
    "tqdm>=4.57",
]
# OpenCV is needed too, but is left to the machine: apt's python3-opencv on a vehicle (a wheel would
# take its place, and cv_bridge is built against apt's), the extra `headless` elsewhere.

# ROS 2 Kilted as wheels, for machines with no ROS installation; never on top of a sourced one.
ROS = [
    "ros-rclpy[fastrtps]==9.1.2",
    "ros-sensor-msgs==5.5.1",
    "ros-std-srvs==5.5.1",
    "ros-diagnostic-msgs==5.5.1",
    "ros-lifecycle-msgs==2.3.0",
    "ros-visualization-msgs==5.5.1",
]
# Jazzy, for the tests that are to pass on it too: `make test WHEELS=jazzy`.
ROS_JAZZY = [
    "ros-rclpy[fastrtps]==7.1.6",
    "ros-sensor-msgs==5.3.6",
    "ros-std-srvs==5.3.6",
    "ros-diagnostic-msgs==5.3.6",
    "ros-lifecycle-msgs==2.0.3",
    "ros-visualization-msgs==5.3.6",
]
# rosbags writes bags; damaged ones are read with what it brings itself.
BAG = [
    "rosbags>=0.11",
    "ruamel.yaml>=0.17",
    "lz4>=4",
    "backports.zstd>=1; python_version < '3.14'",
]
BUILD = ["PyYAML>=5.4", "torch>=2.6", "diffusers>=0.32", "onnx>=1.16", "onnxscript>=0.1"]
FETCH = [*BUILD, "huggingface_hub>=0.25", "gdown>=6.5", "requests>=2"]
# scipy to Pillow are what imagecorruptions-imaug imports: see the extra `corruptions`.
TRAIN = [
    *BUILD,
    "accelerate>=1.0",
    "tensorboard>=2.14",
    "matplotlib>=3.5",
    "scipy>=1.8",
    "scikit-image>=0.19",
    "numba>=0.56",
    "Pillow>=9",
]
X86_64 = "platform_machine == 'x86_64'"
RTX = [
    f"tensorrt-rtx-cu12-libs==1.7.1.116; {X86_64}",
    f"tensorrt-rtx-cu12-bindings==1.7.1.116; {X86_64}",
    "cuda-python>=12.6,<13",
]
# What the tests that use ROS need; those of the network are left out where PyTorch is missing.
TEST_ROS = [
    "pytest>=8",
    *BAG,
    "hypothesis>=6.100",  # parameters of every type and value
    "onnx>=1.16",
    "packaging>=21",
    "psutil>=5.9",
    "PyYAML>=5.4",
]
TEST = [
    *TEST_ROS,
    *RTX,  # its compiler judges every graph
    "ruff>=0.6",
    "mypy>=1.8",
    "selenium>=4.11",  # drives a Chromium that the machine has
    "colcon-common-extensions",
    "setuptools<80",  # colcon-python-setup-py calls setup.py commands that 80 took away
]
EXTRAS = {
    "ros": ROS,
    "ros-jazzy": ROS_JAZZY,
    # Only where no other OpenCV is installed: the wheels and apt's package hold the same files.
    "headless": ["opencv-python-headless>=4.5"],
    "page": ["aiohttp>=3.8"],
    "bag": BAG,
    "ray": ["ray>=2.9"],
    "build": BUILD,
    "fetch": FETCH,
    "train": TRAIN,
    # It asks for opencv-python, which overwrites the headless wheel and apt's OpenCV and needs
    # libGL: where there is an OpenCV, install it with --no-deps, as the Makefile does.
    "corruptions": ["imagecorruptions-imaug==1.1.5"],
    "docs": ["sphinx>=7", "myst-parser>=3"],
    "test": TEST,
    "test-ros": TEST_ROS,
    # 0.4 of ONNX Runtime's time on a processor with bfloat16, 0.6 on others; runs the same bundles.
    "openvino": ["openvino>=2025.4"],
    # Without TensorRT, which JetPack brings, or NVIDIA's packages.
    "tensorrt": ["cuda-python>=12.6"],
    # TensorRT for RTX: NVIDIA's wheels, under NVIDIA's licence, for x86-64 only.
    "tensorrt-rtx": RTX,
    # For mypy: it asks for TensorRT, so the Makefile installs it with --no-deps, in a folder apart.
    "stubs": ["tensorrt-stubs==10.13.0.35.1"],
}


def share_files() -> list[tuple[str, list[str]]]:
    """What goes to share/: index marker, manifest, launch, config and engines as they stand."""
    entries = [
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (str(SHARE), ["package.xml"]),
    ]
    for top in ("launch", "config", "engines"):
        by_folder: dict[Path, list[str]] = {}
        for path in sorted((HERE / top).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                relative = path.relative_to(HERE)
                by_folder.setdefault(relative.parent, []).append(str(relative))
        entries += [(str(SHARE / folder), files) for folder, files in by_folder.items()]
    return entries


def executables() -> list[str]:
    commands = runpy.run_path(str(HERE / NAME / "cli.py"))["COMMANDS"]
    return [f"{name} = {NAME}.cli:executable" for name in commands]


setup(
    name=NAME,
    version=VERSION,
    description="Restored images for the driver and adapted features for the machine, in ROS 2",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    author="The unirestore_ros developers",
    maintainer="The unirestore_ros developers",
    maintainer_email="maintainers@unirestore-ros.invalid",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    data_files=share_files(),
    package_data={NAME: ["py.typed", "display/web/*", "node/guard.json"]},
    python_requires=">=3.10",
    install_requires=RUN_TIME,
    extras_require=EXTRAS,
    entry_points={"console_scripts": executables()},
    zip_safe=False,
)
