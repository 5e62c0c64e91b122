"""Find a bundle and read it, once every byte of it is what its manifest says."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from unirestore_ros.engine.manifest import PROMPTS_FILE, Manifest
from unirestore_ros.files import sha256_of, share_folders
from unirestore_ros.tasks import long_name

MANIFEST_FILE = "manifest.json"
HASH_FILE = "manifest.sha256"
_ATTEMPTS = 5

Prompts = Mapping[str, NDArray[np.float32]]
"""Prompts (T, C) by task name, the long one."""
T = TypeVar("T")


class BundleError(Exception):
    """A bundle, prompt or backend that is refused. One line: which field or file, and the fix."""

    def __init__(self, problem: str, fix: str | None = None) -> None:
        """``fix``: the command, or the action, that fixes the problem."""
        self.problem = " ".join(problem.split())
        self.fix = fix
        super().__init__(f"{self.problem}; fix: {fix}" if fix else self.problem)


class InferenceError(RuntimeError):
    """A part of the network failed while it ran."""


def build_command(recipe: str, *options: str) -> str:
    """Return the command line that builds a recipe with these options."""
    return " ".join(("python -m unirestore_ros build", recipe, *options))


def find_bundle(bundle: str | Path) -> Path:
    """Return the folder of a bundle, given its path or name; BundleError where no folder has it.

    A Path is taken as it is, and so is text with a separator or with a dot or ~ in front. A bare
    name such as ``tiny`` is looked for in ``engine_folders``, then in the working directory.
    """
    path = Path(bundle).expanduser()
    if isinstance(bundle, Path) or os.sep in bundle or bundle.startswith((".", "~")):
        return path
    folders = [*engine_folders(), Path.cwd()]
    for folder in folders:
        if path.name and (folder / path).is_dir():
            return folder / path
    raise BundleError(
        f"bundle {bundle}: no folder of that name in {', '.join(map(str, folders))}",
        build_command(f"engines/{path.name or 'tiny'}.yaml"),
    )


def engine_folders() -> Iterator[Path]:
    """List the folders that bundles are looked for in: the checkout's, those of the ROS prefixes,
    those of this Python."""
    return (folder / "engines" for folder in share_folders())


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
        """Return the command that builds this bundle again, with other options."""
        return build_command(self.manifest.recipe, *options)


def read_bundle(folder: Path) -> Bundle:
    """Read and verify a bundle; BundleError names the field or file that does not fit."""
    manifest = _read_manifest(folder)
    try:
        _check_files(folder, manifest)
        manifest.check_consistent()
        prompts = _read_prompts(folder, manifest)
    except ValueError as error:
        raise BundleError(f"bundle {folder}: {error}", build_command(manifest.recipe)) from error
    return Bundle(folder, manifest, prompts)


def retry_if_replaced(folder: Path, read: Callable[[], T]) -> T:
    """Call ``read`` until ``folder`` was the same folder before and after, and return its result.

    A bundle is replaced whole, by a rename. A reader that is interrupted by it may see files of
    both, and refuse what is sound; then it reads again.
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
    """Return device and inode, which change when another folder takes the place; None if absent."""
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def manifest_hash_line(content: bytes) -> str:
    """Return the content of ``manifest.sha256``, in the form of sha256sum."""
    return f"{hashlib.sha256(content).hexdigest()}  {MANIFEST_FILE}\n"


def files_in(folder: Path) -> set[str]:
    """List all that is not a folder, as paths below ``folder``.

    A link to a folder counts as a file, so that it is refused.
    """
    found: set[str] = set()
    for root, folders, files in os.walk(folder):
        links = [name for name in folders if (Path(root) / name).is_symlink()]
        found.update((Path(root) / name).relative_to(folder).as_posix() for name in files + links)
    return found


def read_tensors(path: Path) -> dict[str, NDArray[np.generic]]:
    """Read every tensor of a safetensors file; ValueError where it is none."""
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"not a safetensors file: {error}") from error


def check_prompt(name: str, prompt: NDArray[np.generic], shape: tuple[int, int]) -> None:
    """Check that a prompt is float32, of the bundle's (T, C), and finite; ValueError otherwise."""
    if prompt.dtype != np.float32:
        raise ValueError(f"tensor {name} must be float32, is {prompt.dtype}")
    if prompt.shape != shape:
        raise ValueError(f"tensor {name} must have the shape {shape}, has {prompt.shape}")
    if not np.isfinite(prompt).all():
        raise ValueError(f"tensor {name} has values that are not finite")


def _read_manifest(folder: Path) -> Manifest:
    """Read the manifest and check it against its own hash."""
    guess = build_command(f"engines/{folder.name}.yaml")
    if not folder.is_dir():
        raise BundleError(f"bundle {folder}: there is no such folder", guess)
    try:
        content = _read_file(folder, MANIFEST_FILE)
        expected = _read_file(folder, HASH_FILE)
        if expected != manifest_hash_line(content).encode():
            raise ValueError(f"it does not have the SHA-256 that {HASH_FILE} gives")
        return Manifest.from_json(content.decode())
    except FileNotFoundError as error:
        raise BundleError(f"bundle {folder}: {error.filename} is missing", guess) from None
    except ValueError as error:
        raise BundleError(f"bundle {folder}: {MANIFEST_FILE}: {error}", guess) from error


def _read_file(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except FileNotFoundError as error:
        error.filename = name
        raise
    except OSError as error:
        raise BundleError(f"bundle {folder}: {name}: {error.strerror}") from error


def _check_files(folder: Path, manifest: Manifest) -> None:
    """Compare the folder with the manifest's list: no file absent, none added, none changed."""
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


def _read_prompts(folder: Path, manifest: Manifest) -> Prompts:
    """Read the prompts, one of the manifest's shape for each of its tasks."""
    tensors = read_tensors(folder / PROMPTS_FILE)
    prompts = {long_name(key): tensor for key, tensor in tensors.items()}
    if set(prompts) != set(manifest.tasks):
        raise ValueError(f"{PROMPTS_FILE} does not hold one tensor for each of the tasks")
    for task, prompt in prompts.items():
        check_prompt(task, prompt, manifest.prompt_shape)
    return {task: prompt.astype(np.float32, copy=False) for task, prompt in prompts.items()}
