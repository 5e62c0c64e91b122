import dataclasses
import importlib.util
import json
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from unirestore_ros.engine import BundleError
from unirestore_ros.engine.bundle import manifest_hash_line, read_bundle
from unirestore_ros.engine.manifest import PARTS, HeadInfo, Manifest
from unirestore_ros.engine.writing import folder_written_beside, write_bundle

TORCH = importlib.util.find_spec("torch") is not None
FILES = (
    "manifest.json",
    "manifest.sha256",
    "prompts.safetensors",
    "onnxruntime/trunk.onnx",
    "onnxruntime/decoder.onnx",
    "onnxruntime/adapter.onnx",
    "heads/segmentation.onnx",
    *(("torch/trunk.pt2", "torch/decoder.pt2", "torch/adapter.pt2") if TORCH else ()),
)
UNCOMPILED = {"version": None, "gpu": None, "compute_capability": None}
CHANGES: dict[str, Any] = {
    "format_version": 3,
    "name": "other",
    "model": "sd-turbo",
    "recipe": "engines/other.yaml",
    "weights_sha256": "cd" * 32,
    "steps": 2,
    "working_size": [64, 56],
    "shorter_side": 64,
    "multiple": 32,
    "least_side": 8,
    "strides": [8, 4, 1],
    "channels": [16, 9, 4],
    "stride": 8,
    "feature_channels": 7,
    "prompt_shape": [1, 7],
    "tasks": ["segmentation", "perception", "detection"],
    "detail_gain": True,
    "precision": {"trunk": "fp32", "decoder": "fp16", "adapter": "fp32"},
    "largest_activation": {"trunk": 12.5, "decoder": 3.5, "adapter": None},
    "reference_db": 35.0,
    "backends": {
        name: {"version": "1.1", "gpu": None, "compute_capability": None}
        for name in ("onnxruntime", "torch")[: 1 + TORCH]
    },
    "heads": {"segmentation": {"stride": 4, "classes": ["road", "tram"]}},
}
"""Another valid value for every field."""
CONTRADICTIONS: dict[str, Any] = {
    "format_version": CHANGES["format_version"],
    "working_size": [64, 49],
    "channels": [16, 8],
    "stride": 16,
    "feature_channels": 9,
    "multiple": 12,
    "prompt_shape": CHANGES["prompt_shape"],
    "tasks": ["perception", "detection"],
    "backends": {"onnxruntime" if TORCH else "torch": CHANGES["backends"]["onnxruntime"]},
    "heads": {"detection": {"stride": 4, "classes": ["car"]}},
}
"""Values that do not fit the other fields or the files."""
NAMED = {"prompt_shape": "shape (1, 7)", "tasks": "tasks"}
"""What the refusal says where that is not the changed field's name."""


def refusal(folder: Path) -> str:
    """The message; it must be one line, and name the command that fixes the bundle."""
    with pytest.raises(BundleError) as caught:
        read_bundle(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert "python -m unirestore_ros build engines/" in message
    return message


def edit_manifest(folder: Path, hash_it: bool, **changes: Any) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    if hash_it:
        (folder / "manifest.sha256").write_text(manifest_hash_line(path.read_bytes()))


def test_what_is_written_is_read_back(bundle_folder: Path, miniature: ModuleType) -> None:
    bundle = read_bundle(bundle_folder)

    assert dataclasses.replace(bundle.manifest, files={}) == miniature.manifest()
    assert set(bundle.manifest.files) == set(FILES) - {"manifest.json", "manifest.sha256"}
    assert set(bundle.prompts) == set(miniature.TASKS)
    for task, prompt in bundle.prompts.items():
        np.testing.assert_array_equal(prompt, miniature.PROMPTS[task])
    assert (bundle.name, bundle.folder) == ("miniature", bundle_folder)


def test_every_field_is_among_the_changes() -> None:
    assert {*CHANGES, "files"} == {field.name for field in dataclasses.fields(Manifest)}


@pytest.mark.parametrize("field", CHANGES)
def test_a_manifest_that_was_edited_is_refused_by_name(bundle_folder: Path, field: str) -> None:
    edit_manifest(bundle_folder, False, **{field: CHANGES[field]})

    assert "manifest.json: it does not have the SHA-256 that manifest.sha256 gives" in refusal(
        bundle_folder
    )


@pytest.mark.parametrize("field", CONTRADICTIONS)
def test_a_field_that_contradicts_the_rest_is_refused_by_name(
    bundle_folder: Path, field: str
) -> None:
    """Also in a manifest with the right hash."""
    edit_manifest(bundle_folder, True, **{field: CONTRADICTIONS[field]})

    message = refusal(bundle_folder)
    assert NAMED.get(field, f": {field}") in message


@pytest.mark.parametrize("path", FILES[2:])
def test_a_changed_file_hash_is_refused_by_name(bundle_folder: Path, path: str) -> None:
    files = json.loads((bundle_folder / "manifest.json").read_text())["files"]
    edit_manifest(bundle_folder, True, files={**files, path: "ab" * 32})

    message = refusal(bundle_folder)
    assert path in message
    assert "files" in message


@pytest.mark.parametrize("path", FILES)
def test_a_flipped_byte_is_refused_by_file(bundle_folder: Path, path: str) -> None:
    content = bytearray((bundle_folder / path).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle_folder / path).write_bytes(content)

    assert path in refusal(bundle_folder)


@pytest.mark.parametrize("path", FILES)
def test_a_missing_file_is_refused_by_name(bundle_folder: Path, path: str) -> None:
    (bundle_folder / path).unlink()

    assert f"{path} is missing" in refusal(bundle_folder)


@pytest.mark.parametrize("path", ["notes.txt", "onnxruntime/.hidden", "tensorrt/trunk.plan"])
def test_an_unlisted_file_is_refused_by_name(bundle_folder: Path, path: str) -> None:
    (bundle_folder / path).parent.mkdir(exist_ok=True)
    (bundle_folder / path).write_text("x")

    assert f"{path} is not in the manifest's files" in refusal(bundle_folder)


def test_a_linked_folder_is_refused(bundle_folder: Path, tmp_path: Path) -> None:
    (bundle_folder / "extra").symlink_to(tmp_path)

    assert "extra is not in the manifest's files" in refusal(bundle_folder)


def test_linked_files_are_read(bundle_folder: Path, tmp_path: Path) -> None:
    """As ``colcon build --symlink-install`` installs them."""
    linked = tmp_path / "share" / "miniature"
    for path in FILES:
        (linked / path).parent.mkdir(parents=True, exist_ok=True)
        (linked / path).symlink_to(bundle_folder / path)

    assert read_bundle(linked).manifest == read_bundle(bundle_folder).manifest


def test_a_graph_of_another_bundle_is_refused_by_name(bundle_folder: Path) -> None:
    """A sound graph that this manifest does not describe."""
    trunk, adapter = (bundle_folder / "onnxruntime" / f"{part}.onnx" for part in PARTS[::2])
    shutil.copy(adapter, trunk)

    message = refusal(bundle_folder)
    assert "onnxruntime/trunk.onnx does not have the SHA-256 that files in" in message


def test_an_absent_folder_is_refused(tmp_path: Path) -> None:
    assert "no such folder" in refusal(tmp_path / "absent")


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    assert "manifest.json is missing" in refusal(tmp_path)


def test_an_unreadable_encoding_is_refused(bundle_folder: Path) -> None:
    (bundle_folder / "manifest.json").write_bytes(b"\xff\xfe{}")

    assert "manifest.json" in refusal(bundle_folder)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("heads", {}),
        ("heads", {"detection": HeadInfo(4, ("car",))}),
        ("tasks", ("perception",)),
        ("prompt_shape", (1, 9)),
        ("steps", 0),
        ("stride", 2),
    ],
)
def test_writing_what_does_not_fit_is_refused(
    tmp_path: Path, miniature: ModuleType, field: str, value: Any
) -> None:
    miniature.save_parts(tmp_path)
    manifest = dataclasses.replace(miniature.manifest(), **{field: value})
    prompts = {task: miniature.PROMPTS[task] for task in miniature.TASKS}

    with pytest.raises(ValueError, match=r"heads|tasks|shape|steps|feature_channels"):
        write_bundle(tmp_path, manifest, prompts)
    assert not (tmp_path / "manifest.json").exists()


def test_an_error_while_writing_leaves_the_old_bundle(bundle_folder: Path) -> None:
    before = read_bundle(bundle_folder).manifest

    with pytest.raises(RuntimeError), folder_written_beside(bundle_folder) as beside:
        (beside / "manifest.json").write_text("{}")
        raise RuntimeError

    assert read_bundle(bundle_folder).manifest == before
    assert [path.name for path in bundle_folder.parent.iterdir()] == [bundle_folder.name]
