import dataclasses
import json
from types import ModuleType
from typing import Any

import pytest

from unirestore_ros.engine.manifest import Manifest

FIELDS = [field.name for field in dataclasses.fields(Manifest)]


@pytest.fixture
def values(miniature: ModuleType) -> dict[str, Any]:
    return json.loads(miniature.manifest().to_json())


def test_json_round_trip(miniature: ModuleType) -> None:
    manifest = miniature.manifest()

    assert Manifest.from_json(manifest.to_json()) == manifest


@pytest.mark.parametrize("wrong", [None, -1, True, "", "a\nb", [], [0], {"x": 1}, float("nan")])
@pytest.mark.parametrize("field", FIELDS)
def test_a_wrong_type_is_refused_by_name(values: dict[str, Any], field: str, wrong: Any) -> None:
    if (field, wrong) in (("shorter_side", None), ("detail_gain", True)):
        pytest.skip("a value of that field")
    values[field] = wrong

    with pytest.raises(ValueError, match=f"^{field}: "):
        Manifest.from_json(json.dumps(values))


@pytest.mark.parametrize("field", FIELDS)
def test_a_missing_field_is_refused_by_name(values: dict[str, Any], field: str) -> None:
    del values[field]

    with pytest.raises(ValueError, match=f"^{field}: field is missing"):
        Manifest.from_json(json.dumps(values))


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("format_version", 1, "this version reads 2"),
        ("steps", 5, "from 1 to 4"),
        ("steps", 1.0, "whole number"),
        ("working_size", [64, 48, 3], "list of 2 items"),
        ("shorter_side", 8, "from 64 to 1088"),
        ("recipe", "../other.yaml", "path"),
        ("recipe", "engines/x.yaml; rm -rf ~", "path"),
        ("strides", [8, 8, 2], "twice"),
        ("tasks", ["perception", "perception"], "twice"),
        ("tasks", ["perception", "Parking"], "snake_case"),
        ("tasks", ["perception", "seg"], "must be 'segmentation'"),
        ("precision", {"trunk": "fp32", "decoder": "fp32"}, "adapter: field is missing"),
        ("precision", {"trunk": "fp64", "decoder": "fp32", "adapter": "fp32"}, "trunk: .*fp16"),
        ("backends", {"openvino": {}}, "onnxruntime"),
        ("backends", {"torch": {"version": "2"}}, "torch: gpu: field is missing"),
        ("files", {"../manifest.json": "ab" * 32}, "path inside"),
        ("files", {"/etc/passwd": "ab" * 32}, "path inside"),
        ("files", {"onnxruntime/trunk.onnx": "ab"}, "trunk.onnx: .*64 hexadecimal"),
    ],
)
def test_a_value_out_of_range_is_refused(
    values: dict[str, Any], field: str, value: Any, reason: str
) -> None:
    values[field] = value

    with pytest.raises(ValueError, match=f"^{field}: .*{reason}"):
        Manifest.from_json(json.dumps(values))


def test_an_unknown_field_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^colour: unknown field"):
        Manifest.from_json(json.dumps({**values, "colour": "red"}))


def test_a_field_given_twice_is_refused(miniature: ModuleType) -> None:
    text = miniature.manifest().to_json().replace('"steps": 1,', '"steps": 1, "steps": 2,')

    with pytest.raises(ValueError, match=r"^steps: field is given twice"):
        Manifest.from_json(text)


@pytest.mark.parametrize("text", ["", "[]", "{", "null"])
def test_what_is_no_json_object_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"JSON|object"):
        Manifest.from_json(text)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("working_size", (60, 45)),
        ("working_size", (400, 48)),
        ("multiple", 12),
        ("channels", (16, 8)),
        ("stride", 16),
        ("feature_channels", 9),
    ],
)
def test_fields_that_do_not_fit_each_other_are_refused(
    miniature: ModuleType, field: str, value: Any
) -> None:
    with pytest.raises(ValueError, match=f"^{field}: "):
        dataclasses.replace(miniature.manifest(), **{field: value}).check_consistent()


def test_a_feature_map_too_large_to_publish_is_refused(miniature: ModuleType) -> None:
    manifest = dataclasses.replace(
        miniature.manifest(),
        working_size=(1024, 1024),
        channels=(256, 256, 256),
        feature_channels=128,
    )

    with pytest.raises(ValueError, match=r"^feature_channels: 33554432 bytes a map are over"):
        manifest.check_consistent()
