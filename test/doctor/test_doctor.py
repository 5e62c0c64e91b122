"""The doctor: each check on what it can be shown here, and the command as a whole."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from unirestore_ros.doctor import examine, machine, network, opencv, ros
from unirestore_ros.doctor.finding import ERROR, NOTE, OK, Finding, ProbeError, probe

PROFILE = """<?xml version="1.0" encoding="UTF-8" ?>
<dds xmlns="http://www.eprosima.com"><profiles><transport_descriptors><transport_descriptor>
<transport_id>shm</transport_id><type>SHM</type><segment_size>{size}</segment_size>
</transport_descriptor></transport_descriptors></profiles></dds>
"""
FAST_DDS = "rmw_fastrtps_cpp"
KILTED = {"ROS_DISTRO": "kilted"}


def test_probe_returns_what_the_code_printed_last() -> None:
    code = "import json, sys; print('chatter'); print(json.dumps(sys.argv[1:]))"
    assert probe(code, "a") == ["a"]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise ImportError('libGL.so.1: cannot open')", "libGL.so.1"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "signal 11"),
    ],
)
def test_probe_survives_what_it_runs(code: str, words: str) -> None:
    with pytest.raises(ProbeError, match=words):
        probe(code)


def test_shared_memory_that_is_missing_or_there(tmp_path: Path) -> None:
    assert machine.check_shared_memory(tmp_path / "none").level == NOTE
    finding = machine.check_shared_memory(tmp_path)
    enough = shutil.disk_usage(tmp_path).free >= 256 << 20
    assert finding.level == (OK if enough else NOTE)


@pytest.mark.parametrize(
    ("receive", "send", "level", "words"),
    [
        (8 << 20, 8 << 20, OK, ""),
        (212992, 212992, NOTE, "net.core.rmem_max=4194304 net.core.wmem_max=4194304"),
        (8 << 20, 212992, NOTE, "sysctl -w net.core.wmem_max=4194304"),
    ],
)
def test_socket_buffers(tmp_path: Path, receive: int, send: int, level: str, words: str) -> None:
    (tmp_path / "rmem_max").write_text(f"{receive}\n")
    (tmp_path / "wmem_max").write_text(f"{send}\n")
    finding = machine.check_socket_buffers(tmp_path)
    assert finding.level == level
    assert words in finding.advice


def test_profile_with_a_large_segment_is_ok(tmp_path: Path) -> None:
    path = tmp_path / "profile.xml"
    path.write_text(PROFILE.format(size=64 << 20))
    for variable in ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"):
        environment = {**KILTED, variable: str(path)}
        assert ros.check_transport(FAST_DDS, environment).level == OK


@pytest.mark.parametrize("distribution", ["humble", "jazzy"])
def test_a_variable_that_fast_dds_2_does_not_read_is_noted(
    distribution: str, tmp_path: Path
) -> None:
    path = tmp_path / "profile.xml"
    path.write_text(PROFILE.format(size=64 << 20))
    old, new = (f"FAST{kind}_DEFAULT_PROFILES_FILE" for kind in ("RTPS", "DDS"))
    environment = {"ROS_DISTRO": distribution, new: str(path)}
    finding = ros.check_transport(FAST_DDS, environment)
    assert finding.level == NOTE and f"does not read {new}" in finding.found
    assert finding.advice.startswith(f"export {old}=")
    assert ros.check_transport(FAST_DDS, {**environment, old: str(path)}).level == OK


def test_profile_with_a_small_segment_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "profile.xml"
    path.write_text(PROFILE.format(size=524288))
    finding = ros.check_transport(FAST_DDS, {**KILTED, "FASTDDS_DEFAULT_PROFILES_FILE": str(path)})
    assert finding.level == NOTE
    assert "export FASTDDS_DEFAULT_PROFILES_FILE=" in finding.advice


@pytest.mark.parametrize("content", [None, "not XML"])
def test_profile_that_cannot_be_read_is_an_error(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "profile.xml"
    if content is not None:
        path.write_text(content)
    finding = ros.check_transport(FAST_DDS, {**KILTED, "FASTDDS_DEFAULT_PROFILES_FILE": str(path)})
    assert finding.level == ERROR
    assert str(path) in finding.found


def test_no_profile_says_how_to_set_the_package_own() -> None:
    finding = ros.check_transport(FAST_DDS, KILTED)
    assert finding.level == NOTE
    profile = Path(finding.advice.partition("FASTDDS_DEFAULT_PROFILES_FILE=")[2])
    assert max(ros.segment_sizes(profile)) >= 16 << 20


def test_other_transports_are_left_alone() -> None:
    assert ros.check_transport("rmw_cyclonedds_cpp", {}).level == OK
    assert ros.check_transport(FAST_DDS, {"FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA"}).level == OK


def test_bundle_that_does_not_load_is_an_error_with_the_fix(tmp_path: Path) -> None:
    bundle = tmp_path / "broken"
    bundle.mkdir()
    (bundle / "manifest.json").write_text("{}")
    finding = network.check_bundle(str(bundle))
    assert finding.level == ERROR
    assert str(bundle) in finding.found
    assert "build" in finding.advice


def test_weights_that_are_cut_short_are_an_error(repository: Path, tmp_path: Path) -> None:
    source = repository / "engines" / "weights" / "tiny.safetensors"
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "tiny.safetensors").write_bytes(source.read_bytes()[:1000])
    (finding,) = network.check_weights([tmp_path])
    assert finding.level == ERROR
    assert "git checkout" in finding.advice


def test_weights_that_a_bundle_was_not_built_from_are_noted(
    repository: Path, tmp_path: Path
) -> None:
    shipped = repository / "engines"
    for path in ("weights/tiny.safetensors", "tiny/manifest.json"):
        (tmp_path / path).parent.mkdir()
        shutil.copy(shipped / path, tmp_path / path)
    (finding,) = network.check_weights([tmp_path])
    assert finding.level == OK
    manifest = tmp_path / "tiny" / "manifest.json"
    text = manifest.read_text()
    now = json.loads(text)["weights_sha256"]
    manifest.write_text(text.replace(now, "ab" * 32))
    (finding,) = network.check_weights([tmp_path])
    assert finding.level == NOTE
    assert "build engines/tiny.yaml" in finding.advice


def test_no_weights_are_no_error(tmp_path: Path) -> None:
    (finding,) = network.check_weights([tmp_path])
    assert finding.level == NOTE


def test_driver_version_is_read_from_the_kernel(tmp_path: Path) -> None:
    file = tmp_path / "version"
    file.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22\nGCC\n")
    assert machine.driver_version(file) == "550.54.14 "
    assert machine.driver_version(tmp_path / "none") == ""


def test_bundle_reached_by_two_ways_is_listed_once(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / "engines" / name).mkdir(parents=True)
        (tmp_path / "engines" / name / "manifest.json").touch()
    (tmp_path / "share").symlink_to(tmp_path / "engines")
    found = network.installed_bundles([tmp_path / "engines", tmp_path / "share", tmp_path / "no"])
    assert [path.name for path in found] == ["one", "two"]


def test_wheels_over_each_other_are_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("opencv_python", "opencv_python_headless"):
        info = tmp_path / f"{name}-5.0.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Name: {name}\nVersion: 5.0.0\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    finding = opencv.check_opencv()
    assert finding.level == NOTE
    assert "pip uninstall -y opencv-python opencv-python-headless" in finding.advice
    assert finding.advice.endswith("opencv-python-headless==5.0.0")


BROKEN_CV2 = 'raise ImportError("numpy.core.multiarray failed to import")'


@pytest.fixture
def with_broken_cv2(tmp_path: Path) -> dict[str, str]:
    """An environment in which apt's OpenCV does not work with the NumPy that is there."""
    package = tmp_path / "dist-packages" / "cv2"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(BROKEN_CV2)
    return {**os.environ, "PYTHONPATH": str(package.parent)}


def test_a_newer_numpy_under_the_distributions_opencv_is_seen(
    with_broken_cv2: dict[str, str],
) -> None:
    """The doctor itself runs where OpenCV does not."""
    code = "from unirestore_ros.doctor.opencv import check_opencv; print(*check_opencv().row)"
    code += "; from unirestore_ros.doctor.examine import main; main(['--listen', '0'])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=with_broken_cv2
    )
    assert done.returncode == 0, done.stderr
    assert "cannot run here" in done.stdout
    version = metadata.version("numpy")
    assert f"error OpenCV apt's does not work with NumPy {version}" in done.stdout
    assert 'pip install "numpy<2"' in done.stdout


def test_a_cv_bridge_that_does_not_work_is_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cv_bridge").mkdir()
    (tmp_path / "cv_bridge" / "__init__.py").write_text("class CvBridge: pass")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (finding,) = opencv.check_cv_bridge()
    assert finding.level == NOTE and "does not work with NumPy" in finding.found


def executables(folder: Path, first_line: str) -> dict[str, str]:
    """An installed package whose scripts begin with that line; its environment."""
    scripts = folder / "lib" / "unirestore_ros"
    scripts.mkdir(parents=True)
    (scripts / "restore_node").write_text(f"{first_line}\nprint()\n")
    return {"AMENT_PREFIX_PATH": f"/nowhere{os.pathsep}{folder}"}


def test_executables_of_this_python_are_well(tmp_path: Path) -> None:
    (finding,) = ros.check_executables(executables(tmp_path, f"#!{sys.executable}"))
    assert finding.level == OK
    assert ros.check_executables({}) == []


def test_executables_of_another_python_that_lacks_the_network_are_an_error(tmp_path: Path) -> None:
    """As apt's colcon writes them, which runs in /usr/bin/python3."""
    other = tmp_path / "python3"
    complaint = "ModuleNotFoundError: No module named 'onnxruntime'"
    other.write_text(f'#!/bin/sh\necho "{complaint}" >&2\nexit 1\n')
    other.chmod(0o755)
    (finding,) = ros.check_executables(executables(tmp_path / "install", f"#!{other}"))
    assert finding.level == ERROR
    assert f"start {other}, which lacks" in finding.found and "onnxruntime" in finding.found
    assert f"{sys.executable} -m colcon build" in finding.advice
    (finding,) = ros.check_executables(executables(tmp_path / "gone", "#!/nowhere/python3"))
    assert finding.level == ERROR and "No such file" in finding.found


def test_executables_that_ignore_the_active_environment_are_named(tmp_path: Path) -> None:
    """Started by `ros2 run`, the doctor runs in the same wrong Python."""
    environment = executables(tmp_path, f"#!{sys.executable}")
    (finding,) = ros.check_executables({**environment, "VIRTUAL_ENV": "/home/me/venv"})
    assert finding.level != OK
    assert "/home/me/venv/bin/python3 -m colcon build" in finding.advice


def test_row_has_level_check_finding_and_advice() -> None:
    row = Finding("GPU", NOTE, "no NVIDIA driver", "the network runs on the CPU").row
    assert row == ("note", "GPU", "no NVIDIA driver -> the network runs on the CPU")


def test_command_examines_all_and_its_status_says_whether_the_node_can_run() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "unirestore_ros", "doctor", "--json", "--listen", "0.5"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    report = json.loads(done.stdout)
    checks = {finding["check"] for finding in report["findings"]}
    assert {"machine", "ROS 2", "GPU", "TensorRT", "ONNX Runtime", "OpenCV"} <= checks
    assert {"weights", "bundle", "ROS graph"} <= checks
    levels = {finding["level"] for finding in report["findings"]}
    assert report["healthy"] == (ERROR not in levels)
    assert done.returncode == (0 if report["healthy"] else 1)


def test_bundle_that_is_named_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One broken bundle among those asked for: the status says so."""
    # The libraries are examined in the test above; here each would cost a process.
    monkeypatch.setattr(examine, "check_ros", lambda: [Finding("ROS 2", OK, "not asked")])
    for module, name in (
        (network, "check_onnxruntime"),
        (network, "check_openvino"),
        (opencv, "check_opencv"),
    ):
        monkeypatch.setattr(module, name, lambda: Finding("library", OK, "not asked"))
    monkeypatch.setattr(network, "installed_bundles", lambda folders: [])
    assert examine.main(["--listen", "0", str(tmp_path / "no_bundle")]) == 1
    assert "no such folder" in capsys.readouterr().out


def test_openvino_is_found_with_what_the_processor_computes_in() -> None:
    pytest.importorskip("openvino", reason="only where OpenVINO is installed")
    finding = network.check_openvino()
    text = Path("/proc/cpuinfo").read_text(errors="replace")
    in_half = "avx512_bf16" in text or "amx_bf16" in text
    assert (finding.level, "bfloat16: " in finding.found) == (OK if in_half else NOTE, in_half)


def test_a_machine_without_openvino_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network.importlib.util, "find_spec", lambda name: None)
    finding = network.check_openvino()
    assert (finding.level, finding.found) == (NOTE, "not installed")


@pytest.mark.parametrize(
    ("version", "level"), [("10.1.0", OK), ("10.3.0.30", NOTE), ("10.13.3", NOTE), ("10.14.1", OK)]
)
def test_a_tensorrt_that_is_reported_to_be_wrong_is_noted(
    monkeypatch: pytest.MonkeyPatch, version: str, level: str
) -> None:
    monkeypatch.setattr(network.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(network, "version_of", lambda name: version)
    finding = network.check_tensorrt()
    assert finding.level == level
    assert ("wrong numbers from 10.3 (JetPack 6.2), fixed in 10.14" in finding.found) == (
        level == NOTE
    )
