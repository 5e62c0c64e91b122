"""What a bundle's folder may hold, who may have written it, and that every refusal is one line."""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from unirestore_ros.engine import BundleError, bundle_files, open_engine
from unirestore_ros.engine import engine as engine_module
from unirestore_ros.engine.backends import open_backend
from unirestore_ros.engine.bundle import Bundle, find_bundle, manifest_hash_line, read_bundle

PART = "onnxruntime/trunk.onnx"


def refusal(folder: Path | str) -> str:
    """What opening says: a BundleError of one printable line, not too long."""
    with pytest.raises(BundleError) as caught:
        open_engine(folder)
    message = str(caught.value)
    assert message.isprintable() and len(message) < 1200
    return message


def write_manifest(folder: Path, content: bytes) -> None:
    (folder / "manifest.json").write_bytes(content)
    (folder / "manifest.sha256").write_text(manifest_hash_line(content))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b"\xff\xfe{}", "utf-8"),
        (b"9" * 5000, "manifest.json: "),
        (b"NaN", "manifest.json: "),
        (b" " * (1 << 20) + b"{}", "at most 1048576 are read"),
        (b'{"\\ud800\\u0000\\n": 1}', "unknown field"),
        (json.dumps({"x" * 500_000: 1}).encode(), "xxx...; fix: "),
    ],
)
def test_a_hostile_manifest_is_refused_in_a_line(
    bundle_folder: Path, content: bytes, why: str
) -> None:
    write_manifest(bundle_folder, content)
    assert why in refusal(bundle_folder)


@pytest.mark.parametrize(
    "name",
    ["x" * 300, "a/" + "x" * 300, "~nobody-of-this-name/x", "a\0b", "line\nbreak", "\udcff/x", "/"],
)
def test_a_name_that_no_folder_can_have_is_refused_in_a_line(name: str) -> None:
    refusal(name)
    refusal(Path(name))


def test_a_parent_that_may_not_be_read(bundle_folder: Path) -> None:
    """As another user: root may read everything."""
    closed = bundle_folder.parent / "closed"
    closed.mkdir()
    shutil.move(bundle_folder, closed / "bundle")
    closed.chmod(0o000)
    code = (
        "import os, sys; from unirestore_ros.engine import bundle as b\n"
        "if os.geteuid() == 0: os.setegid(65534); os.seteuid(65534)\n"
        "for read in (b.find_bundle, b.read_bundle):\n"
        "    try: read(__import__('pathlib').Path(sys.argv[1]))\n"
        "    except b.BundleError as error: print(error)\n"
    )
    words = [sys.executable, "-c", code, str(closed / "bundle")]
    done = subprocess.run(words, capture_output=True, text=True)
    closed.chmod(0o700)
    assert done.returncode == 0, done.stderr
    assert "Permission denied" in done.stdout and done.stdout.count("\n") == 1


def test_a_file_that_vanishes_while_the_bundle_is_opened(
    bundle_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = bundle_files.list_files

    def list_and_lose(folder: Path) -> set[str]:
        found = listed(folder)
        (folder / PART).unlink()
        return found

    monkeypatch.setattr(bundle_files, "list_files", list_and_lose)
    with pytest.raises(BundleError, match=f"{PART} cannot be read: No such file"):
        read_bundle(bundle_folder)


def test_what_changes_after_the_check_is_not_loaded(bundle_folder: Path) -> None:
    bundle = read_bundle(bundle_folder)
    whole = bundle.read(PART)
    assert whole == (bundle_folder / PART).read_bytes()
    (bundle_folder / PART).write_bytes(whole + b"\0")
    with pytest.raises(BundleError, match=f"{PART} does not have the SHA-256"):
        bundle.read(PART)
    (bundle_folder / PART).unlink()
    with pytest.raises(BundleError, match=f"{PART}: No such file"):
        bundle.read(PART)


def test_a_link_that_leaves_the_folder_is_refused(bundle_folder: Path) -> None:
    outside = bundle_folder.parent / "trunk.onnx"
    shutil.move(bundle_folder / PART, outside)
    (bundle_folder / PART).symlink_to(outside)
    assert f"{PART} is a link that leaves the folder, to {outside}" in refusal(bundle_folder)


def test_a_link_within_the_folder_is_read(bundle_folder: Path) -> None:
    manifest = json.loads((bundle_folder / "manifest.json").read_text())
    shutil.move(bundle_folder / PART, bundle_folder / "heads" / "trunk.onnx")
    (bundle_folder / PART).symlink_to("../heads/trunk.onnx")
    manifest["files"]["heads/trunk.onnx"] = manifest["files"][PART]
    manifest["heads"]["trunk"] = manifest["heads"]["segmentation"]
    write_manifest(bundle_folder, json.dumps(manifest).encode())
    assert read_bundle(bundle_folder).read(PART)


def test_an_installation_of_links_is_the_bundle_that_they_lead_to(
    bundle_folder: Path, tmp_path: Path
) -> None:
    """As colcon's --symlink-install makes it."""
    installed = tmp_path / "installed" / "bundle"
    for path in bundle_files.list_files(bundle_folder):
        (installed / path).parent.mkdir(parents=True, exist_ok=True)
        (installed / path).symlink_to(bundle_folder / path)
    bundle = read_bundle(installed)
    assert bundle.read(PART) == (bundle_folder / PART).read_bytes()


def test_links_that_lead_nowhere_or_round(bundle_folder: Path) -> None:
    (bundle_folder / PART).unlink()
    (bundle_folder / PART).symlink_to("trunk.onnx")
    assert PART in refusal(bundle_folder)
    (bundle_folder / "manifest.json").unlink()
    (bundle_folder / "manifest.json").symlink_to("manifest.json")
    assert "manifest.json" in refusal(bundle_folder)


@pytest.mark.parametrize("path", [PART, "manifest.json", "manifest.sha256", "prompts.safetensors"])
def test_a_fifo_is_refused_and_not_waited_for(bundle_folder: Path, path: str) -> None:
    (bundle_folder / path).unlink()
    os.mkfifo(bundle_folder / path)
    assert f"{path} is a FIFO, not a file" in refusal(bundle_folder)


def test_sockets_devices_and_folders_are_refused(
    bundle_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bundle_folder / PART).unlink()
    (bundle_folder / PART).mkdir()
    assert f"{PART} is missing" in refusal(bundle_folder)
    (bundle_folder / PART).rmdir()
    monkeypatch.chdir(bundle_folder / "onnxruntime")  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("trunk.onnx")
        assert f"{PART} is a socket, not a file" in refusal(bundle_folder)
    (bundle_folder / PART).unlink()
    (bundle_folder / PART).symlink_to("/dev/zero")
    assert f"{PART} is a link that leaves the folder" in refusal(bundle_folder)
    (bundle_folder / "manifest.json").unlink()
    (bundle_folder / "manifest.json").symlink_to("/dev/zero")
    assert "manifest.json is missing" in refusal(bundle_folder), "/dev is no bundle"


def test_what_is_too_large_is_not_read(bundle_folder: Path) -> None:
    with (bundle_folder / PART).open("r+b") as stream:
        stream.truncate(bundle_files.MAX_FILE_BYTES + 1)  # a hole: it takes no space
    assert f"{PART} has {bundle_files.MAX_FILE_BYTES + 1} bytes" in refusal(bundle_folder)
    with (bundle_folder / PART).open("r+b") as stream:
        stream.truncate(bundle_files.MAX_BUNDLE_BYTES)
    assert "more than 1000 files or 64 GiB" in refusal(bundle_folder)


def test_too_many_files_are_not_counted_to_the_end(bundle_folder: Path) -> None:
    for number in range(bundle_files.MAX_FILES + 1):
        (bundle_folder / f"f{number}").touch()
    assert "more than 1000 files or 64 GiB" in refusal(bundle_folder)


def test_a_program_that_everybody_may_write_is_refused(
    bundle_folder: Path, miniature: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    if not (bundle_folder / "torch").is_dir():
        pytest.skip("the bundle has programs only where there is PyTorch")
    program, graph = "torch/trunk.pt2", PART
    for writable in (program, "torch", "."):
        (bundle_folder / writable).chmod(0o777)
        bundle = read_bundle(bundle_folder)
        with pytest.raises(BundleError) as caught:
            bundle.read(program)
        assert f"{program} is a program, and" in str(caught.value)
        assert "may be written by everybody; fix: see who wrote it" in str(caught.value)
        (bundle_folder / writable).chmod(0o755)
    assert read_bundle(bundle_folder).read(program)
    (bundle_folder / graph).chmod(0o666)
    with caplog.at_level(logging.WARNING):
        assert read_bundle(bundle_folder).read(graph), "a graph is data: it is warned of"
    assert f"{graph}: " in caplog.text and "may be written by everybody" in caplog.text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_a_program_of_another_user_is_refused(bundle_folder: Path) -> None:
    if not (bundle_folder / "torch").is_dir():
        pytest.skip("the bundle has programs only where there is PyTorch")
    os.chown(bundle_folder / "torch/trunk.pt2", 4242, -1)
    with pytest.raises(BundleError, match=r"trunk\.pt2 belongs to user 4242"):
        read_bundle(bundle_folder).read("torch/trunk.pt2")


def test_a_folder_above_that_everybody_may_write_counts_unless_it_is_sticky(
    bundle_folder: Path,
) -> None:
    above = bundle_folder.parent
    assert bundle_files.distrust(bundle_folder, PART) is None
    above.chmod(0o777)
    assert bundle_files.distrust(bundle_folder, PART) == f"{above} may be written by everybody"
    above.chmod(0o1777)
    assert bundle_files.distrust(bundle_folder, PART) is None
    above.chmod(0o755)


def test_a_bundle_of_that_name_is_found_though_another_place_cannot_be_read(
    bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"{closed}/nowhere:{'x' * 300}")
    monkeypatch.chdir(bundle_folder.parent)
    assert find_bundle(bundle_folder.name) == bundle_folder


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino", "torch"])
def test_what_a_backend_loads_is_what_was_hashed(
    bundle_folder: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    """Another sound part, put in place after the bundle was verified, is not loaded."""
    pytest.importorskip(backend)
    suffix = "pt2" if backend == "torch" else "onnx"
    folder = bundle_folder / ("torch" if backend == "torch" else "onnxruntime")
    if not folder.is_dir():
        pytest.skip("the bundle has programs only where there is PyTorch")

    def replace_and_open(bundle: Bundle, *more: Any) -> Any:
        shutil.copyfile(folder / f"adapter.{suffix}", folder / f"decoder.{suffix}")
        return open_backend(bundle, *more)

    monkeypatch.setattr(engine_module, "open_backend", replace_and_open)
    with pytest.raises(BundleError, match=f"decoder.{suffix} does not have the SHA-256"):
        open_engine(bundle_folder, backend)
