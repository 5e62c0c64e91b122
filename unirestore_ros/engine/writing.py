"""Write a bundle, and add a prompt to one: a reader sees the old bundle or the new one, whole."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from unirestore_ros.engine.bundle import (
    HASH_FILE,
    MANIFEST_FILE,
    Bundle,
    BundleError,
    Prompts,
    check_prompt,
    find_bundle,
    identity,
    manifest_hash_line,
    read_bundle,
    read_tensors,
)
from unirestore_ros.engine.bundle_files import list_files
from unirestore_ros.engine.manifest import PROMPTS_FILE, Manifest
from unirestore_ros.files import folder_written_beside, sha256_of
from unirestore_ros.tasks import check_task_name, long_name, short_name


def write_bundle(folder: Path, manifest: Manifest, prompts: Prompts) -> Bundle:
    """Complete a folder that holds the backends' parts (and heads) with prompts, hashes and
    manifest, then read it back and verify it.

    ``manifest.files`` is ignored and filled. ValueError where a field is wrong or does not fit.
    """
    manifest = Manifest.from_json(dataclasses.replace(manifest, files={}).to_json())
    if set(prompts) != set(manifest.tasks):
        raise ValueError(f"tasks: {manifest.tasks}, but prompts of {tuple(prompts)}")
    for task, prompt in prompts.items():
        check_prompt(task, prompt, manifest.prompt_shape)
    for name in (MANIFEST_FILE, HASH_FILE):
        (folder / name).unlink(missing_ok=True)
    _write_prompts(folder / PROMPTS_FILE, prompts)
    hashes = {path: sha256_of(folder / path) for path in sorted(list_files(folder))}
    manifest = dataclasses.replace(manifest, files=hashes)
    manifest.check_consistent()
    _write_manifest(folder, manifest)
    return read_bundle(folder)


def add_prompt(bundle: str | Path, name: str, file: Path) -> Bundle:
    """Add a task to a bundle, given its folder or name: its prompt, from a safetensors file. The
    graphs stay as they are.

    ``name`` is any snake_case name that is not taken; the short name of a published task means that
    task. The file holds one float32 tensor (T, C), or one of that name. BundleError otherwise.
    """
    folder = find_bundle(bundle)
    before = identity(folder)
    old = read_bundle(folder)
    task = _new_task(old, name)
    prompt = _read_new_prompt(file, task, old.manifest.prompt_shape)
    with folder_written_beside(folder) as beside:
        link_files(old, beside, lambda path: True)
        added = _with_prompt(beside, old, task, prompt)
        if identity(folder) != before:
            raise BundleError(f"bundle {folder}: it was replaced meanwhile", "add the prompt again")
    return dataclasses.replace(added, folder=folder)


def _new_task(bundle: Bundle, name: str) -> str:
    try:
        task = long_name(check_task_name(name))
    except ValueError as error:
        raise BundleError(f"bundle {bundle.folder}: {error}") from None
    if task in bundle.manifest.tasks:
        raise BundleError(
            f"bundle {bundle.folder}: it has a prompt for {task}", "choose another name"
        )
    return task


def _read_new_prompt(path: Path, task: str, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Read the tensor (T, C) named after the task in either way, or the only one of the file."""
    try:
        tensors = read_tensors(path)
        names = [name for name in (task, short_name(task)) if name in tensors]
        if not names and len(tensors) != 1:
            raise ValueError(
                f"it holds {', '.join(sorted(tensors)) or 'nothing'}; "
                f"wanted is one tensor, or one named {task}"
            )
        name = names[0] if names else next(iter(tensors))
        check_prompt(name, tensors[name], shape)
        return tensors[name].astype(np.float32, copy=False)
    except (ValueError, OSError) as error:
        raise BundleError(f"prompt file {path}: {error}") from error


def link_files(bundle: Bundle, beside: Path, wanted: Callable[[str], bool]) -> None:
    """Put the bundle's files but the prompts, as far as they are wanted, into another folder: as
    hard links, so that no graph is copied; as copies where the file system has none."""
    for path in filter(wanted, bundle.manifest.files):
        if path == PROMPTS_FILE:
            continue
        source, target = (bundle.folder / path).resolve(), beside / path
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, target)
        except OSError:
            shutil.copy2(source, target)


def _with_prompt(beside: Path, bundle: Bundle, task: str, prompt: NDArray[np.float32]) -> Bundle:
    manifest = dataclasses.replace(bundle.manifest, tasks=(*bundle.manifest.tasks, task))
    _write_prompts(beside / PROMPTS_FILE, {**bundle.prompts, task: prompt})
    files = {**manifest.files, PROMPTS_FILE: sha256_of(beside / PROMPTS_FILE)}
    _write_manifest(beside, dataclasses.replace(manifest, files=files))
    return read_bundle(beside)


def _write_prompts(path: Path, prompts: Prompts) -> None:
    """Write one float32 tensor (T, C) for each task, under its published short name."""
    tensors = {short_name(task): np.ascontiguousarray(prompt) for task, prompt in prompts.items()}
    path.unlink(missing_ok=True)  # it may be a hard link into another bundle
    save_file(tensors, path)
    path.chmod(0o644)  # safetensors gives its owner alone the right to read


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    content = manifest.to_json().encode()
    (folder / MANIFEST_FILE).write_bytes(content)
    (folder / HASH_FILE).write_text(manifest_hash_line(content), encoding="utf-8")
