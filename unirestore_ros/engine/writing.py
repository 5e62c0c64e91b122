"""Writing a bundle, and adding a prompt to one: a reader sees the old one or the new one, whole."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unirestore_ros.engine.bundle import (
    HASH_FILE,
    MANIFEST_FILE,
    Bundle,
    copies_for,
    files_in,
    identity,
    manifest_hash_line,
    read_bundle,
)
from unirestore_ros.engine.errors import BundleError
from unirestore_ros.engine.locate import find_bundle
from unirestore_ros.engine.manifest import PROMPTS_FILE, Manifest
from unirestore_ros.engine.part_metadata import add_metadata
from unirestore_ros.engine.prompts import Prompts, check_prompt, read_new_prompt, write_prompts
from unirestore_ros.files import folder_written_beside, sha256_of
from unirestore_ros.tasks import check_task_name, long_name


def write_bundle(folder: Path, manifest: Manifest, prompts: Prompts) -> Bundle:
    """Complete a folder that holds the backends' parts (and heads): prompts, the manifest's copy in
    each part, hashes, manifest. It is read back and verified.

    ``manifest.files`` is ignored and filled. ValueError where a field is wrong or does not fit.
    """
    manifest = Manifest.from_json(dataclasses.replace(manifest, files={}).to_json())
    if set(prompts) != set(manifest.tasks):
        raise ValueError(f"tasks: {manifest.tasks}, but prompts of {tuple(prompts)}")
    for task, prompt in prompts.items():
        check_prompt(task, prompt, manifest.prompt_shape)
    for name in (MANIFEST_FILE, HASH_FILE, PROMPTS_FILE):
        (folder / name).unlink(missing_ok=True)
    for path in files_in(folder):
        if copies := copies_for(path, manifest):
            add_metadata(folder / path, copies)
    write_prompts(folder / PROMPTS_FILE, prompts, copies_for(PROMPTS_FILE, manifest))
    hashes = {path: sha256_of(folder / path) for path in sorted(files_in(folder))}
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
    prompt = read_new_prompt(file, task, old.manifest.prompt_shape)
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


def link_files(bundle: Bundle, beside: Path, wanted: Callable[[str], bool]) -> None:
    """The bundle's files but the prompts, as far as they are wanted, in another folder: hard links,
    so that no graph is copied; copies where the file system has none."""
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
    prompts = {**bundle.prompts, task: prompt}
    write_prompts(beside / PROMPTS_FILE, prompts, copies_for(PROMPTS_FILE, manifest))
    files = {**manifest.files, PROMPTS_FILE: sha256_of(beside / PROMPTS_FILE)}
    _write_manifest(beside, dataclasses.replace(manifest, files=files))
    return read_bundle(beside)


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    content = manifest.to_json().encode()
    (folder / MANIFEST_FILE).write_bytes(content)
    (folder / HASH_FILE).write_text(manifest_hash_line(content), encoding="utf-8")
