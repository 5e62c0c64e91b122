"""The Fast DDS profile and the variable that names it."""

from __future__ import annotations

from importlib import metadata

import pytest

from unirestore_ros.msgs import transport
from unirestore_ros.msgs.transport import how_to_set_profile, profile_path, with_image_transport

NEW, OLD = "FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"


@pytest.mark.parametrize(
    ("distribution", "variable"),
    [("humble", OLD), ("jazzy", OLD), ("kilted", NEW), ("rolling", NEW)],
)
def test_the_variable_is_the_one_that_the_distribution_reads(
    distribution: str, variable: str
) -> None:
    environment = {"ROS_DISTRO": distribution}
    assert with_image_transport(environment) == {**environment, variable: str(profile_path())}
    assert how_to_set_profile(environment) == f"export {variable}={profile_path()}"


@pytest.mark.ros_smoke
@pytest.mark.parametrize(("version", "variable"), [("7.1.6", OLD), ("9.1.2", NEW)])
def test_the_wheels_set_no_distribution(
    version: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadata, "version", lambda name: version)
    assert with_image_transport({}) == {variable: str(profile_path())}


@pytest.mark.parametrize(
    "chosen", [{NEW: "mine.xml"}, {OLD: "mine.xml"}, {"FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA"}]
)
def test_what_the_user_has_chosen_stays(chosen: dict[str, str]) -> None:
    assert with_image_transport(chosen) == chosen


def test_a_missing_profile_is_said_with_the_places(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path_factory.mktemp("empty")
    monkeypatch.setattr(transport, "share_folders", lambda: iter([empty]))
    with pytest.raises(transport.ProfileMissing, match=str(empty)):
        profile_path()
    assert str(empty) in how_to_set_profile({})
