"""Parameter files: where they are, what is refused, and for which nodes they have something."""

from __future__ import annotations

from pathlib import Path

import pytest

from unirestore_ros.msgs.parameter_files import full_name, node_keys, read_parameter_file

NODES = ["/front/unirestore", "/rear/unirestore"]


@pytest.mark.parametrize(
    ("key", "left"),
    [
        ("/**", []),
        ("/*/unirestore", []),
        ("/**/unirestore", []),
        ("/front/unirestore", NODES[1:]),
        ("front:\n  unirestore", NODES[1:]),
        ("unirestore", NODES),  # that of the launch without cameras:=
        ("/front/unirestored", NODES),
    ],
)
def test_nodes_for_which_a_parameter_file_has_nothing_are_named(
    tmp_path: Path, key: str, left: list[str]
) -> None:
    depth = key.count("\n") + 1
    lines = [f"{key}:", "  " * depth + "ros__parameters:", "  " * (depth + 1) + "enabled: false"]
    file = tmp_path / "my.yaml"
    file.write_text("\n".join(lines))
    found, said = read_parameter_file(str(file), NODES)
    assert found == file
    assert [text.split(", which")[0].split("nothing for ")[1] for text in said] == left


@pytest.mark.parametrize("content", ["", "a: 1", "- a", "unirestore: {enabled: false}"])
def test_a_file_for_no_node_at_all_is_warned_of(tmp_path: Path, content: str) -> None:
    file = tmp_path / "my.yaml"
    file.write_text(content)
    _, said = read_parameter_file(str(file), NODES)
    assert len(said) == 2 and "it is for no node" in said[0]


def test_a_parameter_file_in_the_home_folder_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "my.yaml").write_text("/**: {ros__parameters: {}}")
    assert read_parameter_file("~/my.yaml", NODES) == (tmp_path / "my.yaml", [])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "there is no file"),
        (b"/**: {ros__parameters: [", "cannot be read"),
        (b"/**:\n\tros__parameters:", "cannot be read"),
        (b"\xff\xfe\x00", "cannot be read"),
    ],
)
def test_a_parameter_file_that_is_none_is_refused(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    if content is not None:
        (tmp_path / "my.yaml").write_bytes(content)
    with pytest.raises(ValueError, match=rf"params_file: .*{reason}") as refused:
        read_parameter_file(str(tmp_path / "my.yaml"), NODES)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "node"), [("unirestore", "/unirestore"), ("driver_display", "/driver_display")]
)
def test_the_files_of_the_package_are_for_their_nodes(
    repository: Path, name: str, node: str
) -> None:
    assert read_parameter_file(str(repository / "config" / f"{name}.yaml"), [node])[1] == []


@pytest.mark.parametrize("namespace", ["car", "/car", "/car/"])
def test_names_in_full(namespace: str) -> None:
    assert full_name(namespace, "unirestore") == "/car/unirestore"
    assert full_name("", "unirestore") == full_name("/", "unirestore") == "/unirestore"


def test_levels_are_namespaces() -> None:
    content = {"car": {"front": {"a": {"ros__parameters": {}}}, "/rear/b": {"ros__parameters": {}}}}
    assert list(node_keys(content)) == ["/car/front/a", "/car/rear/b"]
