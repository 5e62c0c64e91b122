import shutil
from pathlib import Path

import pytest

from unirestore_ros.engine import BundleError, open_engine
from unirestore_ros.engine.bundle import engine_folders, find_bundle


@pytest.fixture
def prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ROS prefix, sourced after another one, with a bundle in it."""
    prefix = tmp_path / "install"
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"/opt/ros/none:{prefix}:")
    (prefix / "share" / "unirestore_ros" / "engines" / "rainy").mkdir(parents=True)
    return prefix


def test_a_path_is_taken_as_it_is(tmp_path: Path) -> None:
    assert find_bundle(tmp_path / "absent") == tmp_path / "absent"
    assert find_bundle(Path("tiny")) == Path("tiny")
    assert find_bundle("./tiny") == Path("tiny")
    assert find_bundle("~/tiny") == Path.home() / "tiny"


def test_a_name_is_found_in_a_ros_prefix(prefix: Path) -> None:
    assert find_bundle("rainy") == prefix / "share" / "unirestore_ros" / "engines" / "rainy"


def test_the_checkout_comes_first(repository: Path, prefix: Path) -> None:
    assert next(engine_folders()) == repository / "engines"


def test_this_pythons_share_folder_is_looked_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.prefix", str(tmp_path))

    assert tmp_path / "share" / "unirestore_ros" / "engines" in engine_folders()


def test_a_name_is_found_where_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here_only").mkdir()
    monkeypatch.chdir(tmp_path)

    assert find_bundle("here_only") == tmp_path / "here_only"


@pytest.mark.parametrize("name", ["absent_bundle", ""])
def test_an_unknown_name_is_refused_with_the_places(prefix: Path, name: str) -> None:
    with pytest.raises(BundleError) as caught:
        find_bundle(name)

    assert str(prefix) in str(caught.value)
    assert "python -m unirestore_ros build engines/" in str(caught.value)


def test_an_engine_opens_by_name(prefix: Path, bundle_folder: Path) -> None:
    engines = prefix / "share" / "unirestore_ros" / "engines"
    shutil.copytree(bundle_folder, engines / "miniature")

    with open_engine("miniature") as engine:
        assert engine.bundle.folder == engines / "miniature"
