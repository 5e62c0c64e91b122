"""Find a bundle and read it, once every byte of it is what its manifest says."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from unirestore_ros.engine import bundle_files
from unirestore_ros.engine.manifest import PROMPTS_FILE, Manifest
from unirestore_ros.files import share_folders
from unirestore_ros.tasks import long_name

MANIFEST_FILE = "manifest.json"
HASH_FILE = "manifest.sha256"
_ATTEMPTS = 25
_LONGEST_PROBLEM = 1000
_MAX_TENSORS_BYTES = 64 << 20

_log = logging.getLogger(__name__)

Prompts = Mapping[str, NDArray[np.float32]]
"""Prompts (T, C) by task name, the long one."""
T = TypeVar("T")


class BundleError(Exception):
    """A bundle, prompt or backend that is refused. One line: which field or file, and the fix."""

    def __init__(self, problem: str, fix: str | None = None) -> None:
        """``fix``: the command, or the action, that fixes the problem."""
        self.problem = _one_line(problem)
        self.fix = fix
        super().__init__(f"{self.problem}; fix: {fix}" if fix else self.problem)


def _one_line(text: str) -> str:
    """Join lines, escape what cannot be printed (names may hold any byte), and cut what is long."""
    words = " ".join(text.split())
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in words[: 2 * _LONGEST_PROBLEM])
    return line if len(line) <= _LONGEST_PROBLEM else f"{line[:_LONGEST_PROBLEM]}..."


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
    try:
        path = Path(bundle).expanduser()
    except RuntimeError as error:
        raise BundleError(f"bundle {bundle}: {error}") from error
    if isinstance(bundle, Path) or os.sep in bundle or bundle.startswith((".", "~")):
        return path
    folders = [*engine_folders(), Path.cwd()]
    for folder in folders:
        if path.name and identity(folder / path) is not None:
            return folder / path
    raise BundleError(
        f"bundle {bundle}: no folder of that name in {', '.join(map(str, folders))}",
        _guessed_command(path),
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

    def read(self, path: str) -> bytes:
        """Read a file of the bundle; what is returned is what was hashed.

        BundleError where it is not the manifest's file any more, or is a program that somebody else
        could have written.
        """
        try:
            home = bundle_files.home_of(self.folder, MANIFEST_FILE)
            self._check_trust(home, path)
            content = bundle_files.read_file(home, path)
        except (OSError, ValueError) as error:
            problem = f"bundle {self.folder}: {path}: {_reason(error)}"
            raise BundleError(problem, self.build_command()) from error
        if hashlib.sha256(content).hexdigest() != self.manifest.files.get(path):
            problem = f"{path} does not have the SHA-256 that files in {MANIFEST_FILE} gives"
            raise BundleError(f"bundle {self.folder}: {problem}", self.build_command())
        return content

    def read_graph(self, path: str) -> bytes | str:
        """Read an ONNX graph; return its path where its weights lie in a file beside it, as large
        models have them, since both runtimes find that through the path only. Both files have then
        been hashed by ``read_bundle``, and not again."""
        if f"{path}.data" not in self.manifest.files:
            return self.read(path)
        return str(self.folder / path)

    def _check_trust(self, home: Path, path: str) -> None:
        """Refuse an executable part that somebody else could have written, warn of another file."""
        why = bundle_files.distrust(home, path)
        if why is None:
            return
        if path.partition("/")[0] in bundle_files.EXECUTABLE:
            fix = f"see who wrote it, then chown it to this user, and: chmod -R o-w {home}"
            raise BundleError(f"bundle {self.folder}: {path} is a program, and {why}", fix)
        _log.warning("bundle %s: %s: %s", self.folder, path, why)


def read_bundle(folder: Path) -> Bundle:
    """Read and verify a bundle; BundleError names the field or file that does not fit."""
    home, manifest = _read_manifest(folder)
    try:
        _check_files(home, manifest)
        manifest.check_consistent()
        prompts = _read_prompts(Bundle(folder, manifest, {}))
    except (OSError, ValueError) as error:
        problem = f"bundle {folder}: {_reason(error)}"
        raise BundleError(problem, build_command(manifest.recipe)) from error
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


def identity(folder: Path) -> tuple[int, int, int] | None:
    """Return what changes when another folder takes the place: device, inode and the time when it
    was renamed, for a new folder may get the inode of the one before the last. None if absent."""
    try:
        status = folder.stat()
    except (OSError, ValueError):  # ValueError: no name can be that
        return None
    return status.st_dev, status.st_ino, status.st_ctime_ns


def manifest_hash_line(content: bytes) -> str:
    """Return the content of ``manifest.sha256``, in the form of sha256sum."""
    return f"{hashlib.sha256(content).hexdigest()}  {MANIFEST_FILE}\n"


def read_tensors(path: Path) -> dict[str, NDArray[np.generic]]:
    """Read every tensor of a safetensors file; ValueError where it is none, OSError where it cannot
    be read."""
    folder, name = os.path.split(os.path.realpath(path))
    return _tensors_of(bundle_files.read_file(Path(folder), name, _MAX_TENSORS_BYTES))


def _tensors_of(content: bytes) -> dict[str, NDArray[np.generic]]:
    try:
        return dict(load(content))
    except (SafetensorError, KeyError, TypeError) as error:  # KeyError: a type that NumPy lacks
        raise ValueError(f"not a safetensors file: {error}") from error


def check_prompt(name: str, prompt: NDArray[np.generic], shape: tuple[int, int]) -> None:
    """Check that a prompt is float32, of the bundle's (T, C), and finite; ValueError otherwise."""
    if prompt.dtype != np.float32:
        raise ValueError(f"tensor {name} must be float32, is {prompt.dtype}")
    if prompt.shape != shape:
        raise ValueError(f"tensor {name} must have the shape {shape}, has {prompt.shape}")
    if not np.isfinite(prompt).all():
        raise ValueError(f"tensor {name} has values that are not finite")


def _guessed_command(folder: Path) -> str:
    """Return the command that builds a bundle of that name, which has no manifest to say it."""
    name = folder.name if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", folder.name) else "tiny"
    return build_command(f"engines/{name}.yaml")


def _read_manifest(folder: Path) -> tuple[Path, Manifest]:
    """Read the manifest, once it is what its own hash says; also return where the bundle lies."""
    guess = _guessed_command(folder)
    name = MANIFEST_FILE
    try:
        folder.stat()
        home = bundle_files.home_of(folder, MANIFEST_FILE)
        content = bundle_files.read_file(home, MANIFEST_FILE, bundle_files.MAX_TEXT_BYTES)
        name = HASH_FILE
        expected = bundle_files.read_file(home, HASH_FILE, bundle_files.MAX_TEXT_BYTES)
        name = MANIFEST_FILE
        if expected != manifest_hash_line(content).encode():
            raise ValueError(f"it does not have the SHA-256 that {HASH_FILE} gives")
        return home, Manifest.from_json(content.decode())
    except FileNotFoundError:
        missing = "there is no such folder" if identity(folder) is None else f"{name} is missing"
        raise BundleError(f"bundle {folder}: {missing}", guess) from None
    except OSError as error:
        raise BundleError(f"bundle {folder}: {name}: {error.strerror}", guess) from error
    except RecursionError as error:
        raise BundleError(f"bundle {folder}: {name}: it is nested too deeply", guess) from error
    except ValueError as error:
        raise BundleError(f"bundle {folder}: {name}: {error}", guess) from error


def _check_files(home: Path, manifest: Manifest) -> None:
    """Compare the folder with the manifest's list: no file absent, none added, none changed."""
    if PROMPTS_FILE not in manifest.files:
        raise ValueError(f"files: {PROMPTS_FILE} is missing")
    present = bundle_files.list_files(home)
    for path in manifest.files:
        if path not in present:
            raise ValueError(f"{path} is missing")
    for path in sorted(present - set(manifest.files) - {MANIFEST_FILE, HASH_FILE}):
        raise ValueError(f"{path} is not in the manifest's files")
    for path, expected in manifest.files.items():
        try:
            found = bundle_files.hash_file(home, path)
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror}") from error
        if found != expected:
            raise ValueError(
                f"{path} does not have the SHA-256 that files in {MANIFEST_FILE} gives"
            )


def _read_prompts(bundle: Bundle) -> Prompts:
    """Read the prompts, one of the manifest's shape for each of its tasks."""
    manifest = bundle.manifest
    tensors = _tensors_of(bundle.read(PROMPTS_FILE))
    prompts = {long_name(key): tensor for key, tensor in tensors.items()}
    if set(prompts) != set(manifest.tasks):
        raise ValueError(f"{PROMPTS_FILE} does not hold one tensor for each of the tasks")
    for task, prompt in prompts.items():
        check_prompt(task, prompt, manifest.prompt_shape)
    return {task: prompt.astype(np.float32, copy=False) for task, prompt in prompts.items()}


def _reason(error: OSError | ValueError) -> str:
    """What the error says, without the path that an OSError adds."""
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
