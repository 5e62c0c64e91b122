"""A bundle on disk, read only when every byte of it is what its manifest says."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from unirestore_ros.engine.errors import BundleError, build_command
from unirestore_ros.engine.manifest import ENGINE_SUFFIX, PROMPTS_FILE, Manifest
from unirestore_ros.engine.part_metadata import read_metadata
from unirestore_ros.engine.prompts import Prompts, check_prompt, read_prompts
from unirestore_ros.files import sha256_of

MANIFEST_FILE = "manifest.json"
HASH_FILE = "manifest.sha256"
_ATTEMPTS = 5

_IN_GRAPHS = (
    "format_version",
    "name",
    "model",
    "recipe",
    "weights_sha256",
    "steps",
    "input_size",
    "working_size",
    "aspect_error",
    "strides",
    "channels",
    "stride",
    "feature_shape",
    "prompt_shape",
    "precision",
    "largest_activation",
)
_IN_HEADS = ("weights_sha256", "stride", "feature_shape")
_IN_PROMPTS = ("weights_sha256", "prompt_shape", "tasks")

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Bundle:
    """A verified bundle."""

    folder: Path
    manifest: Manifest
    prompts: Prompts

    @property
    def name(self) -> str:
        return self.manifest.name

    def build_command(self, *options: str) -> str:
        """The command that builds this bundle again, with other options."""
        return build_command(self.manifest.recipe, *options)


def read_bundle(folder: Path) -> Bundle:
    """Read and verify; BundleError names the field or file that does not fit."""
    manifest = _read_manifest(folder)
    mend = build_command(manifest.recipe)
    try:
        _check_files(folder, manifest)
        _check_copies(folder, manifest)
        prompts = _read_prompts(folder, manifest)
        manifest.check_consistent()
        _check_hash(folder)
    except ValueError as error:
        raise BundleError(f"bundle {folder}: {error}", mend) from error
    return Bundle(folder, manifest, prompts)


def steadily(folder: Path, read: Callable[[], T]) -> T:
    """Call ``read`` until ``folder`` was one and the same before and after.

    A bundle is replaced whole, by a rename. Who reads meanwhile may see files of both, and refuse
    what is sound; then it is read again.
    """
    for _ in range(_ATTEMPTS - 1):
        before = identity(folder)
        try:
            result = read()
        except BundleError:
            if identity(folder) == before:
                raise
        else:
            if identity(folder) == before:
                return result
    return read()


def identity(folder: Path) -> tuple[int, int] | None:
    """Changes when another folder takes the place; None where there is none."""
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def copies_for(path: str, manifest: Manifest) -> dict[str, str]:
    """What a bundle's file repeats of the manifest in its own metadata, so that a manifest that was
    edited is told from the files that it describes, field by field."""
    folder, _, rest = path.partition("/")
    fields: tuple[str, ...] = ()
    if path == PROMPTS_FILE:
        fields = _IN_PROMPTS
    elif folder == "heads":
        fields = (*_IN_HEADS, f"heads.{rest.removesuffix('.onnx')}")
    elif folder == "tensorrt" and path.endswith(".onnx"):
        fields = _IN_GRAPHS  # it serves every GPU
    elif path.endswith((".onnx", ".pt2", ENGINE_SUFFIX)):
        fields = (*_IN_GRAPHS, f"backends.{folder}")
    return {f"unirestore.{field}": manifest.value_of(field) for field in fields}


def manifest_hash_line(content: bytes) -> str:
    """Content of ``manifest.sha256``, in the form of sha256sum."""
    return f"{hashlib.sha256(content).hexdigest()}  {MANIFEST_FILE}\n"


def _read_manifest(folder: Path) -> Manifest:
    guess = build_command(f"engines/{folder.name}.yaml")
    if not folder.is_dir():
        raise BundleError(f"bundle {folder}: there is no such folder", guess)
    try:
        return Manifest.from_json((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BundleError(f"bundle {folder}: {MANIFEST_FILE} is missing", guess) from None
    except OSError as error:
        raise BundleError(f"bundle {folder}: {MANIFEST_FILE}: {error.strerror}") from error
    except ValueError as error:
        raise BundleError(f"bundle {folder}: {MANIFEST_FILE}: {error}", guess) from error


def _check_files(folder: Path, manifest: Manifest) -> None:
    if PROMPTS_FILE not in manifest.files:
        raise ValueError(f"files: {PROMPTS_FILE} is missing")
    present = files_in(folder)
    for path in manifest.files:
        if path not in present:
            raise ValueError(f"{path} is missing")
    for path in sorted(present - set(manifest.files) - {MANIFEST_FILE, HASH_FILE}):
        raise ValueError(f"{path} is not in the manifest's files")
    for path, expected in manifest.files.items():
        try:
            found = sha256_of(folder / path)
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror}") from error
        if found != expected:
            raise ValueError(
                f"{path} does not have the SHA-256 that files in {MANIFEST_FILE} gives"
            )


def files_in(folder: Path) -> set[str]:
    """All that is not a folder; a link to a folder counts as a file, so that it is refused."""
    found: set[str] = set()
    for root, folders, files in os.walk(folder):
        links = [name for name in folders if (Path(root) / name).is_symlink()]
        found.update((Path(root) / name).relative_to(folder).as_posix() for name in files + links)
    return found


def _check_copies(folder: Path, manifest: Manifest) -> None:
    for path in sorted(manifest.files):
        expected = copies_for(path, manifest)
        try:
            found = read_metadata(folder / path) if expected else {}
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        for key, value in expected.items():
            if found.get(key) != value:
                field = key.removeprefix("unirestore.")
                raise ValueError(
                    f"{field} is {value} in {MANIFEST_FILE}, {found.get(key, 'absent')} in {path}"
                )


def _read_prompts(folder: Path, manifest: Manifest) -> Prompts:
    prompts, _ = read_prompts(folder / PROMPTS_FILE)
    if set(prompts) != set(manifest.tasks):
        raise ValueError(f"{PROMPTS_FILE} does not hold one tensor for each of the tasks")
    for task, prompt in prompts.items():
        check_prompt(task, prompt, manifest.prompt_shape)
    return prompts


def _check_hash(folder: Path) -> None:
    try:
        found = (folder / HASH_FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ValueError(f"{HASH_FILE} is missing") from None
    except OSError as error:
        raise ValueError(f"{HASH_FILE}: {error.strerror}") from error
    if found != manifest_hash_line((folder / MANIFEST_FILE).read_bytes()):
        raise ValueError(f"{MANIFEST_FILE} does not have the SHA-256 that {HASH_FILE} gives")
