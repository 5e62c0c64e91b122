import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from unirestore_ros.engine import BundleError, Engine, open_engine
from unirestore_ros.engine.bundle import identity, read_bundle, retry_if_replaced
from unirestore_ros.engine.writing import add_prompt
from unirestore_ros.files import rename_twice

NEW = "parking_space"


@pytest.fixture
def prompt_file(tmp_path: Path, miniature: ModuleType) -> Path:
    path = tmp_path / "prompt.safetensors"
    save_file({"anything": miniature.PROMPTS[NEW]}, path)
    return path


def outputs(engine: Engine, frame: NDArray[np.uint8]) -> dict[str, tuple[bytes, bytes]]:
    engine.run_trunk(frame)
    return {t: (engine.decode(t).tobytes(), engine.adapt(t).tobytes()) for t in engine.tasks}


def graphs(folder: Path) -> dict[Path, tuple[bytes, int]]:
    return {
        path.relative_to(folder): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*.onnx")
    }


def test_a_task_is_added_and_no_other_changes_by_a_bit(
    bundle_folder: Path, prompt_file: Path, frame: NDArray[np.uint8], miniature: ModuleType
) -> None:
    files = graphs(bundle_folder)
    with open_engine(bundle_folder, "onnxruntime") as engine:
        before = outputs(engine, frame)

    added = add_prompt(bundle_folder, NEW, prompt_file)

    assert graphs(bundle_folder) == files
    assert added.folder == bundle_folder
    with open_engine(bundle_folder, "onnxruntime") as engine:
        assert engine.tasks == (*miniature.TASKS, NEW) == added.manifest.tasks
        after = outputs(engine, frame)
        _, features = miniature.expected(frame, miniature.PROMPTS[NEW])
        np.testing.assert_allclose(engine.adapt(NEW), features, atol=1e-5)
    assert {task: after[task] for task in before} == before


def test_nothing_is_left_beside(bundle_folder: Path, prompt_file: Path) -> None:
    add_prompt(bundle_folder, NEW, prompt_file)

    assert [path.name for path in bundle_folder.parent.iterdir()] == [bundle_folder.name]


def test_an_open_engine_keeps_running(
    bundle_folder: Path, prompt_file: Path, frame: NDArray[np.uint8]
) -> None:
    with open_engine(bundle_folder, "onnxruntime") as engine:
        before = outputs(engine, frame)
        add_prompt(bundle_folder, NEW, prompt_file)

        assert outputs(engine, frame) == before


@pytest.mark.parametrize("name", ["classification", "cls"])
def test_a_published_task_has_its_published_key(
    bundle_folder: Path, prompt_file: Path, name: str
) -> None:
    add_prompt(bundle_folder, name, prompt_file)

    assert read_bundle(bundle_folder).manifest.tasks[-1] == "classification"
    assert set(load_file(bundle_folder / "prompts.safetensors")) == {"ir", "seg", "det", "cls"}


def test_the_tensor_of_that_name_is_taken(
    bundle_folder: Path, tmp_path: Path, miniature: ModuleType
) -> None:
    path = tmp_path / "several.safetensors"
    save_file({"ir": np.zeros((1, 8), np.float32), NEW: miniature.PROMPTS[NEW]}, path)

    prompts = add_prompt(bundle_folder, NEW, path).prompts

    np.testing.assert_array_equal(prompts[NEW], miniature.PROMPTS[NEW])


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        ({"a": np.zeros((1, 9), np.float32)}, r"shape \(1, 8\), has \(1, 9\)"),
        ({"a": np.zeros(8, np.float32)}, r"shape \(1, 8\), has \(8,\)"),
        ({"a": np.zeros((1, 8), np.float16)}, "float32, is float16"),
        ({"a": np.full((1, 8), np.nan, np.float32)}, "not finite"),
        ({"a": np.zeros((1, 8), np.float32), "b": np.zeros((1, 8), np.float32)}, "holds a, b"),
        ({}, "holds nothing"),
    ],
)
def test_an_unfit_prompt_is_refused(
    bundle_folder: Path, tmp_path: Path, tensors: dict[str, NDArray[np.generic]], reason: str
) -> None:
    path = tmp_path / "prompt.safetensors"
    save_file(tensors, path)
    before = read_bundle(bundle_folder).manifest

    with pytest.raises(BundleError, match=reason):
        add_prompt(bundle_folder, NEW, path)
    assert read_bundle(bundle_folder).manifest == before


@pytest.mark.parametrize("content", [None, b"", b"not a safetensors file"])
def test_an_unreadable_file_is_refused(
    bundle_folder: Path, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "prompt.safetensors"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(BundleError, match=r"prompt\.safetensors"):
        add_prompt(bundle_folder, NEW, path)


@pytest.mark.parametrize("name", ["detection", "det", "Parking", "a-b", "a__b", "1a", "", "a/b"])
def test_an_unfit_name_is_refused(bundle_folder: Path, prompt_file: Path, name: str) -> None:
    with pytest.raises(BundleError, match=r"has a prompt for detection|not snake_case"):
        add_prompt(bundle_folder, name, prompt_file)


def test_a_broken_bundle_gets_no_prompt(bundle_folder: Path, prompt_file: Path) -> None:
    (bundle_folder / "heads" / "segmentation.onnx").unlink()

    with pytest.raises(BundleError, match=r"heads/segmentation\.onnx is missing"):
        add_prompt(bundle_folder, NEW, prompt_file)


def test_linked_files_are_followed(bundle_folder: Path, prompt_file: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    for path in bundle_folder.rglob("*"):
        target = linked / path.relative_to(bundle_folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            target.symlink_to(path)
    before = read_bundle(bundle_folder).manifest

    add_prompt(linked, NEW, prompt_file)

    assert NEW in read_bundle(linked).manifest.tasks
    assert read_bundle(bundle_folder).manifest == before


def test_a_bundle_behind_a_linked_folder_is_changed_where_it_is(
    bundle_folder: Path, prompt_file: Path, tmp_path: Path
) -> None:
    link = tmp_path / "links" / "current"
    link.parent.mkdir()
    link.symlink_to(bundle_folder)

    add_prompt(link, NEW, prompt_file)

    assert link.is_symlink()
    assert NEW in read_bundle(bundle_folder).manifest.tasks
    assert [path.name for path in link.parent.iterdir()] == ["current"]


CRASHING = """
import os, pathlib, shutil, sys
from unirestore_ros.engine.bundle import read_bundle
from unirestore_ros.engine.writing import add_prompt

def writes(event, arguments):
    if event == "open":
        return bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    return event.startswith(("os.", "shutil.", "ctypes.dlsym")) and event not in (
        "os.listdir", "os.scandir", "os.walk", "os.fwalk")

def crash_at(step):
    seen = 0
    def hook(event, arguments):
        nonlocal seen
        if writes(event, arguments):
            seen += 1
            if seen == step:
                os._exit(9)
    sys.addaudithook(hook)

source, prompt, scratch = map(pathlib.Path, sys.argv[1:])
found, step, code = [], 0, 9
while code == 9:
    step += 1
    folder = scratch / str(step) / "miniature"
    shutil.copytree(source, folder)
    child = os.fork()
    if child == 0:
        crash_at(step)
        add_prompt(folder, "parking_space", prompt)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    found.append(len(read_bundle(folder).manifest.tasks))
    shutil.rmtree(folder.parent)
assert code == 0, code
print(*found)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks to crash")
def test_a_crash_at_any_step_leaves_a_whole_bundle(
    bundle_folder: Path, prompt_file: Path, tmp_path: Path
) -> None:
    """It dies before its n-th change of the disk, for every n until none is left to die before."""
    command = [sys.executable, "-c", CRASHING, str(bundle_folder), str(prompt_file), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    tasks = [int(count) for count in done.stdout.split()]
    assert tasks == sorted(tasks)
    assert set(tasks) == {3, 4}
    assert min(tasks.count(3), tasks.count(4)) > 3


def test_a_file_system_without_exchange_gets_two_renames(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
        (folder / "name").write_text(folder.name)

    rename_twice(one, other)

    assert (other / "name").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["other"]
    with pytest.raises(FileNotFoundError):
        rename_twice(one, other)
    assert (other / "name").read_text() == "one"


def test_a_folder_that_takes_the_place_of_another_is_never_taken_for_it(tmp_path: Path) -> None:
    """A file system gives the inode of a folder that is gone to one that is new."""
    folder, beside = tmp_path / "bundle", tmp_path / "beside"
    seen = set()
    for _ in range(20):
        beside.mkdir()
        if folder.exists():
            folder.rmdir()
        beside.rename(folder)
        seen.add(identity(folder))
        time.sleep(0.01)  # times of files advance in steps of some milliseconds
    assert len(seen) == 20


def test_a_reader_never_sees_half_of_it(
    bundle_folder: Path, tmp_path: Path, miniature: ModuleType
) -> None:
    path = tmp_path / "prompt.safetensors"
    save_file({"anything": miniature.PROMPTS[NEW]}, path)
    counts: list[int] = []
    refusals: list[BundleError] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            try:
                bundle = retry_if_replaced(bundle_folder, lambda: read_bundle(bundle_folder))
            except BundleError as refusal:
                refusals.append(refusal)
            else:
                counts.append(len(bundle.prompts))

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(20):
        add_prompt(bundle_folder, f"task_{number}", path)
    done.set()
    reader.join()

    assert refusals == []
    assert counts == sorted(counts)
    assert len(set(counts)) > 1
