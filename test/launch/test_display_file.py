"""`driver_display.launch.py`: what its arguments mean, and a real launch whose page answers."""

from __future__ import annotations

import re
import time
import urllib.request
from pathlib import Path
from types import ModuleType

import pytest
from launched import Launched, arguments, load_file

from unirestore_ros.msgs.camera_info import CameraTopics

TIMEOUT_S = 60.0


@pytest.fixture(scope="module")
def launch_file(repository: Path) -> Path:
    return repository / "launch" / "driver_display.launch.py"


@pytest.fixture(scope="module")
def module(launch_file: Path) -> ModuleType:
    return load_file(launch_file)


def test_only_what_is_said_goes_before_the_parameter_file(module: ModuleType) -> None:
    said = arguments(module, restorer="front", page_port="0", page="false", params_file="/p.yaml")
    assert module.parameters(said) == [
        "/p.yaml",
        {"restorer": "front", "use_sim_time": False, "page_port": 0, "page": False},
    ]


def test_a_switch_that_is_neither_on_nor_off_is_refused(module: ModuleType) -> None:
    with pytest.raises(ValueError, match="page: 'maybe' is neither true nor false"):
        module.parameters(arguments(module, page="maybe"))


def test_the_vehicle_says_only_what_there_is(module: ModuleType, repository: Path) -> None:
    """vehicle.launch.py passes arguments on by name, and launch drops unknown ones silently."""
    vehicle = load_file(repository / "launch" / "vehicle.launch.py")
    camera = CameraTopics("/front", "/front/image_raw", "/front/camera_info")
    said = vehicle.display_arguments(camera, "8081", arguments(vehicle, image="/front/image_raw"))
    assert said["assume_encoding"] == ""
    assert set(said) <= {argument.name for argument in module.ARGUMENTS}
    assert module.parameters(
        said | {"page": "", "page_address": "", "page_token": "", "page_origin": ""}
    )


@pytest.mark.dds
@pytest.mark.slow
def test_the_page_answers_and_all_ends_cleanly(launch_file: Path, tmp_path: Path) -> None:
    with Launched(launch_file, ["page_port:=0", "respawn:=false"], tmp_path) as launched:
        end = time.monotonic() + TIMEOUT_S
        while not (url := re.search(r"page: (http://\S+)", launched.log())):
            assert time.monotonic() < end, launched.log()
            time.sleep(0.1)
        with urllib.request.urlopen(url[1], timeout=10) as answer:
            assert b"Driver display" in answer.read()
        assert launched.interrupt(TIMEOUT_S) == 0
        assert "process has finished cleanly" in launched.log()
