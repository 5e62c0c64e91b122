"""The locks: complete, with a hash for each package, and what setup.py asks for."""

from __future__ import annotations

import importlib.metadata
import os
import re
import runpy
from pathlib import Path
from typing import Any

import pytest
import setuptools
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LOCKED = re.compile(r"^([a-z0-9][^=\s]*)==([^\s;]+)(?: ; (.*?))? \\$")
RUN_TIME_EXTRAS = ("bag", "page", "ros", "headless")
TEST_EXTRAS = ("build", "fetch", "train", "docs", "test", "corruptions")
LOCKS = ("run-time", "test", "torch", "torch-cuda", "stubs")
# What one level of make-venv installs from them; CUDA's libraries only beside a PyTorch for CUDA.
INSTALLED = {"run-time": ("run-time",), "test": ("run-time", "test", "torch")}
# imagecorruptions-imaug asks for it, and gets opencv-python-headless: see setup.py.
REPLACED = {"opencv-python"}


def entries(repository: Path, lock: str) -> list[str]:
    text = (repository / ".ci" / f"{lock}.lock").read_text()
    found = re.split(r"\n(?=[a-z0-9])", text)
    return [entry for entry in found if not entry.startswith("#")]


def locked(repository: Path, *locks: str) -> dict[str, str]:
    """Versions by name, of what this Python would be given."""
    versions: dict[str, str] = {}
    for lock in locks:
        for entry in entries(repository, lock):
            found = LOCKED.match(entry.splitlines()[0])
            assert found, entry.splitlines()[0]
            name, version, marker = canonicalize_name(found[1]), found[2], found[3]
            wanted = Requirement(f"{name}; {marker}" if marker else name)
            if wanted.marker is None or wanted.marker.evaluate():
                assert versions.get(name, version) == version, f"{name} in two versions"
                versions[name] = version
    return versions


def asked_for(
    repository: Path, monkeypatch: pytest.MonkeyPatch, extras: tuple[str, ...]
) -> list[Requirement]:
    said: dict[str, Any] = {}
    monkeypatch.setattr(setuptools, "setup", lambda **arguments: said.update(arguments))
    runpy.run_path(str(repository / "setup.py"))
    lines = [*said["install_requires"]]
    for extra in extras:
        lines += said["extras_require"][extra]
    return [Requirement(line) for line in lines]


@pytest.mark.parametrize("lock", LOCKS)
def test_every_package_has_hashes(repository: Path, lock: str) -> None:
    found = entries(repository, lock)
    assert len(found) > {"run-time": 50, "test": 50}.get(lock, 0)
    for entry in found:
        assert LOCKED.match(entry.splitlines()[0]), entry.splitlines()[0]
        assert re.search(r"^    --hash=sha256:[0-9a-f]{64}", entry, re.MULTILINE), entry


@pytest.mark.parametrize(
    ("level", "extras"),
    [("run-time", RUN_TIME_EXTRAS), ("test", (*RUN_TIME_EXTRAS, *TEST_EXTRAS))],
)
def test_it_holds_what_setup_asks_for(
    repository: Path, monkeypatch: pytest.MonkeyPatch, level: str, extras: tuple[str, ...]
) -> None:
    versions = locked(repository, *INSTALLED[level])
    for wanted in asked_for(repository, monkeypatch, extras):
        if wanted.marker is None or wanted.marker.evaluate():
            version = versions.get(canonicalize_name(wanted.name), "")
            assert wanted.specifier.contains(version, prereleases=True), (
                f"{wanted}, but locked is {version or 'none'}: make the lock again"
            )


@pytest.mark.parametrize("level", INSTALLED)
def test_it_holds_what_those_need_in_turn(repository: Path, level: str) -> None:
    versions = locked(repository, *INSTALLED[level])
    known = versions.keys() | locked(repository, "torch-cuda").keys() | REPLACED
    for name in versions:
        try:
            needed = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # on a sourced ROS much of it is not there
        for wanted in map(Requirement, needed):
            if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
                is_known = canonicalize_name(wanted.name) in (
                    known if name == "torch" else versions.keys() | REPLACED
                )
                assert is_known, f"{name} needs {wanted}"


@pytest.mark.skipif("ROS_DISTRO" in os.environ, reason="a sourced ROS has versions of its own")
@pytest.mark.parametrize("level", INSTALLED)
def test_the_tests_run_with_what_is_locked(repository: Path, level: str) -> None:
    for name, version in locked(repository, *INSTALLED[level]).items():
        assert importlib.metadata.version(name).partition("+")[0] == version, name


def test_the_pytorch_is_the_tested_one(repository: Path) -> None:
    (torch,) = re.findall(
        r"^tested_torch=(.*)$", (repository / ".ci/make-venv").read_text(), re.MULTILINE
    )
    assert f"torch=={locked(repository, 'torch')['torch']}" == torch


def test_every_licence_is_listed(repository: Path) -> None:
    text = (repository / "docs" / "licences.md").read_text()
    at_run_time, _, else_ = text.partition("## For tests")
    for lock in LOCKS:
        listed = at_run_time if lock == "run-time" else text
        names = set(re.findall(r"[a-z0-9][a-z0-9-]*", listed))
        for entry in entries(repository, lock):
            name = canonicalize_name(re.split(r"[=\[]", entry)[0])
            assert name in names, f"{name} is not in docs/licences.md"
    assert "not stated" not in text and else_
