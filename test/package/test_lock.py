"""The lock of the run-time: complete, with a hash for each package, and what setup.py asks for."""

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
EXTRAS = ("bag", "page", "ros", "headless")


@pytest.fixture(scope="module")
def lock(repository: Path) -> str:
    return (repository / ".ci" / "run-time.lock").read_text()


@pytest.fixture(scope="module")
def locked(lock: str) -> dict[str, str]:
    """Versions by name, of what this Python would be given."""
    versions: dict[str, str] = {}
    for line in lock.splitlines():
        if found := LOCKED.match(line):
            name, version, marker = found.groups()
            wanted = Requirement(f"{name}; {marker}" if marker else name)
            if wanted.marker is None or wanted.marker.evaluate():
                assert canonicalize_name(name) not in versions, f"{name} twice"
                versions[canonicalize_name(name)] = version
    return versions


def asked_for(repository: Path, monkeypatch: pytest.MonkeyPatch) -> list[Requirement]:
    said: dict[str, Any] = {}
    monkeypatch.setattr(setuptools, "setup", lambda **arguments: said.update(arguments))
    runpy.run_path(str(repository / "setup.py"))
    lines = [*said["install_requires"]]
    for extra in EXTRAS:
        lines += said["extras_require"][extra]
    return [Requirement(line) for line in lines]


def test_every_package_has_hashes(lock: str) -> None:
    entries = [block for block in re.split(r"\n(?=[a-z0-9])", lock) if not block.startswith("#")]
    assert len(entries) > 50
    for entry in entries:
        assert LOCKED.match(entry.splitlines()[0]), entry.splitlines()[0]
        assert re.search(r"^    --hash=sha256:[0-9a-f]{64}", entry, re.MULTILINE), entry


def test_it_holds_what_setup_asks_for(
    repository: Path, locked: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for wanted in asked_for(repository, monkeypatch):
        if wanted.marker is None or wanted.marker.evaluate():
            version = locked.get(canonicalize_name(wanted.name), "")
            assert wanted.specifier.contains(version, prereleases=True), (
                f"{wanted}, but locked is {version or 'none'}: make the lock again"
            )


def test_it_holds_what_those_need_in_turn(locked: dict[str, str]) -> None:
    for name in locked:
        try:
            needed = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # on a sourced ROS much of it is not there
        for wanted in map(Requirement, needed):
            if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
                assert canonicalize_name(wanted.name) in locked, f"{name} needs {wanted}"


@pytest.mark.skipif("ROS_DISTRO" in os.environ, reason="a sourced ROS has versions of its own")
def test_the_tests_run_with_what_is_locked(locked: dict[str, str]) -> None:
    for name, version in locked.items():
        assert importlib.metadata.version(name) == version, name


def test_every_licence_is_listed(lock: str, repository: Path) -> None:
    listed = (repository / "docs" / "licences.md").read_text().partition("## For tests")[0]
    names = set(re.findall(r"[a-z0-9][a-z0-9-]*", listed))
    for line in lock.splitlines():
        if found := LOCKED.match(line):
            assert canonicalize_name(found[1]) in names, f"{found[1]} is not in docs/licences.md"
    assert "not stated" not in listed
