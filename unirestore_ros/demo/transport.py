"""The Fast DDS profile that delivers images, for processes that the package starts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from unirestore_ros.demo.errors import DemoError
from unirestore_ros.engine.locate import engine_folders

PROFILE_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
# Fast DDS 2 knows the second name only, of which Fast DDS 3 warns that it is of old.
_FAST_DDS_2 = ("humble", "iron", "jazzy")
_BUILTIN_TRANSPORTS = "FASTDDS_BUILTIN_TRANSPORTS"


def fast_dds_profile() -> Path:
    """``config/fastdds.xml`` of the checkout, or as installed; DemoError where it is missing."""
    places = [folder.parent / "config" / "fastdds.xml" for folder in engine_folders()]
    for place in places:
        if place.is_file():
            return place
    raise DemoError(
        "the package's config/fastdds.xml, without which images get lost, is missing from "
        f"{' and '.join(str(place.parent) for place in places)}: install the package again"
    )


def with_image_transport(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment with the profile set, unless the user has chosen a transport himself."""
    chosen = any(environment.get(name) for name in (*PROFILE_VARIABLES, _BUILTIN_TRANSPORTS))
    if chosen:
        return dict(environment)
    variable = PROFILE_VARIABLES[environment.get("ROS_DISTRO") in _FAST_DDS_2]
    return {**environment, variable: str(fast_dds_profile())}
