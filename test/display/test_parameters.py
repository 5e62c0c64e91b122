"""Parameters of the display, and the file that documents them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import ros_parameter_file
from rclpy.parameter import Parameter

from unirestore_ros.display.parameters import DisplayParameters
from unirestore_ros.msgs.parameter_struct import ParameterRefused

TOKEN = "0123456789abcdef"


def changed(**values: Any) -> DisplayParameters:
    changes = [Parameter(name, value=value) for name, value in values.items()]
    return DisplayParameters().changed(changes)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"view": "best"}, "view: 'best' is not one of restored, split, side, raw"),
        ({"divider": 101}, "divider: 101 is not in 0 to 100 %"),
        ({"max_age_ms": 10}, "max_age_ms: 10 is not in 50 to 10000 ms"),
        ({"restorer": ""}, "restorer: name the restore_node"),
        ({"page_address": "localhost"}, "page_address: 'localhost' is not an IP address"),
        ({"page_address": "0.0.0.0"}, "page_token must be set"),
        ({"page_address": "::"}, "page_token must be set"),
        ({"page_address": "192.168.1.5", "page_token": "secret"}, "shorter than 16 characters"),
        ({"page_token": "secret"}, "shorter than 16 characters"),
        ({"page_origin": "https://vehicle.example"}, "page_origin: a proxy's clients need"),
        ({"page_origin": "http://a.example", "page_token": TOKEN}, "is not like https://"),
        ({"page_origin": "https://a.example/x", "page_token": TOKEN}, "is not like https://"),
        ({"page_origin": "https://[", "page_token": TOKEN}, "is not like https://"),
    ],
)
def test_refused_with_a_reason(values: dict[str, Any], why: str) -> None:
    with pytest.raises(ParameterRefused, match=re.escape(why)):
        changed(**values)


def test_another_address_with_a_token_or_without_a_page() -> None:
    assert changed(page_address="0.0.0.0", page_token=TOKEN).page_address == "0.0.0.0"
    assert not changed(page_address="0.0.0.0", page=False).page
    assert changed(page_address="::1").page_address == "::1"


def test_the_file_agrees_with_the_code(repository: Path) -> None:
    path = repository / "config" / "driver_display.yaml"
    ros_parameter_file.check_agrees(path, DisplayParameters())
