"""The package's description of itself: one version, a valid manifest, settings that agree."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from unirestore_ros import __version__
from unirestore_ros.cli import COMMANDS

pytestmark = pytest.mark.smoke


@pytest.fixture(scope="module")
def manifest(repository: Path) -> ElementTree.Element:
    return ElementTree.parse(repository / "package.xml").getroot()


def test_every_file_says_the_same_version(repository: Path, manifest: ElementTree.Element) -> None:
    changelog = (repository / "CHANGELOG.rst").read_text(encoding="utf-8")
    latest = re.search(r"^(\d+\.\d+\.\d+) ", changelog, re.MULTILINE)
    assert latest is not None
    setup = subprocess.run(
        [sys.executable, "setup.py", "--version"], cwd=repository, capture_output=True, text=True
    )
    assert setup.returncode == 0, setup.stderr
    versions = {manifest.findtext("version"), latest[1], setup.stdout.split()[-1], __version__}
    assert versions == {__version__}


def test_the_manifest_is_of_an_ament_python_package(manifest: ElementTree.Element) -> None:
    assert (manifest.tag, manifest.get("format")) == ("package", "3")
    assert manifest.findtext("name") == "unirestore_ros"
    assert manifest.findtext("export/build_type") == "ament_python"
    assert manifest.findtext("license") == "Apache-2.0"


def test_the_licence_is_there(repository: Path) -> None:
    text = (repository / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text and "Version 2.0" in text


def test_ament_finds_the_package_and_its_executables(repository: Path) -> None:
    packages = pytest.importorskip("ament_index_python.packages")
    try:
        prefix = Path(packages.get_package_prefix("unirestore_ros"))
    except packages.PackageNotFoundError:
        prefixes = os.environ["AMENT_PREFIX_PATH"]
        pytest.fail(f"unirestore_ros is in none of {prefixes}: `make test` installs it")
    for name in COMMANDS:
        assert os.access(prefix / "lib" / "unirestore_ros" / name, os.X_OK), name
    share = prefix / "share" / "unirestore_ros"
    for folder in ("launch", "config", "engines"):
        here = {p.relative_to(repository) for p in (repository / folder).rglob("*.*")}
        there = {p.relative_to(share) for p in share.joinpath(folder).rglob("*.*")}
        assert {p for p in here if "__pycache__" not in p.parts} <= there
