from pathlib import Path
from types import ModuleType

import onnx
import onnxruntime
import pytest

from unirestore_ros.engine.onnx_metadata import add_metadata, read_metadata

ENTRIES = {"unirestore.name": '"miniature"', "long": "ü" * 300, "empty": ""}


@pytest.fixture
def graph(tmp_path: Path, miniature: ModuleType) -> Path:
    path = tmp_path / "trunk.onnx"
    miniature.save_trunk(path)
    return path


def test_what_is_added_is_read_back_by_all(graph: Path) -> None:
    before = onnx.load(graph)
    add_metadata(graph, ENTRIES)

    assert read_metadata(graph) == ENTRIES
    after = onnx.load(graph)
    assert {entry.key: entry.value for entry in after.metadata_props} == ENTRIES
    assert after.graph == before.graph
    session = onnxruntime.InferenceSession(graph)
    assert session.get_modelmeta().custom_metadata_map == ENTRIES


def test_entries_written_by_onnx_are_read(graph: Path) -> None:
    model = onnx.load(graph)
    onnx.helper.set_model_props(model, ENTRIES)
    onnx.save(model, graph)

    assert read_metadata(graph) == ENTRIES


def test_adding_twice_adds_once(graph: Path) -> None:
    add_metadata(graph, ENTRIES)
    size = graph.stat().st_size
    add_metadata(graph, ENTRIES)

    assert graph.stat().st_size == size


def test_another_value_is_refused_and_nothing_written(graph: Path) -> None:
    add_metadata(graph, {"steps": "1"})
    content = graph.read_bytes()

    with pytest.raises(ValueError, match="carries steps = 1, not 2"):
        add_metadata(graph, {"new": "x", "steps": "2"})
    assert graph.read_bytes() == content


@pytest.mark.parametrize("content", [b"\x0b", b"\x0a\xff\xff\x03abc", b"\x08", b"not an ONNX file"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "trunk.onnx"
    path.write_bytes(content)

    with pytest.raises(ValueError, match=r"not an ONNX file|cut short"):
        read_metadata(path)
