"""Exported programs are loaded without unpickling: what could be code is refused and not run."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from unirestore_ros.engine.backends.torch_programs import check_no_pickles, load_program


class Malice:
    """Unpickled, it makes a folder."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.trace),)


class Small(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 4, 3)
        self.register_buffer("bias", torch.ones(4, 1, 1))

    def forward(self, frame: torch.Tensor) -> torch.Tensor:
        constant = torch.tensor([1.0, 2.0, 3.0, 4.0]).reshape(4, 1, 1)
        return self.layer(frame) + self.bias + constant


FRAME = torch.linspace(0, 1, 3 * 8 * 8).reshape(1, 3, 8, 8)


def exported() -> bytes:
    torch.manual_seed(0)
    program = torch.export.export(Small().eval(), (FRAME,))
    program.example_inputs = None
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def content() -> bytes:
    return exported()


def rewritten(content: bytes, change: Callable[[str, bytes], bytes | None], **more: bytes) -> bytes:
    """The archive with records changed, dropped (None) or added."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w") as new:
        top = old.namelist()[0].partition("/")[0]
        for name in old.namelist():
            record = change(name.partition("/")[2], old.read(name))
            if record is not None:
                new.writestr(name, record)
        for name, record in more.items():
            new.writestr(f"{top}/{name}", record)
    return buffer.getvalue()


def evil_pickle(trace: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save((Malice(trace),), buffer)
    return buffer.getvalue()


def test_what_build_writes_is_loaded_and_computes_the_same(content: bytes) -> None:
    torch.manual_seed(0)
    expected = Small().eval()(FRAME)
    program = load_program(content)
    assert torch.equal(program.module()(FRAME), expected)


def test_sample_inputs_that_run_a_command_are_refused_and_not_run(
    content: bytes, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    evil = rewritten(
        content,
        lambda name, old: evil_pickle(trace) if name == "data/sample_inputs/model.pt" else old,
    )
    with pytest.raises(ValueError, match=r"data/sample_inputs/model\.pt is a pickle"):
        load_program(evil)
    assert not trace.exists()
    torch.load(io.BytesIO(evil_pickle(trace)), weights_only=False)
    assert trace.exists(), "the archive is as dangerous as it is meant to be"


@pytest.mark.parametrize("kind", ["weights", "constants"])
def test_pickled_tensors_are_refused_and_not_run(content: bytes, tmp_path: Path, kind: str) -> None:
    trace = tmp_path / "trace"
    config_name = f"data/{kind}/model_{kind}_config.json"
    first = "weight_0" if kind == "weights" else "tensor_0"

    def change(name: str, old: bytes) -> bytes:
        if name == config_name:
            config = json.loads(old)
            for entry in config["config"].values():
                entry["use_pickle"] = True
            return json.dumps(config).encode()
        return evil_pickle(trace) if name == f"data/{kind}/{first}" else old

    with pytest.raises(ValueError, match=r"is pickled, which may be code"):
        load_program(rewritten(content, change))
    assert not trace.exists()


@pytest.mark.parametrize(
    "name",
    [
        "data/weights/model.pt",
        "data/constants/model.pt",
        "data/constants/opaque_obj_0",
        "data/constants/custom_obj_0",
        "data/aotinductor/model/model.so",
        "serialized_state_dict.pt",
        "extra/notes.txt",
        "models/other.json",
    ],
)
def test_records_that_may_be_code_are_refused(content: bytes, tmp_path: Path, name: str) -> None:
    trace = tmp_path / "trace"
    evil = rewritten(content, lambda _, old: old, **{name: evil_pickle(trace)})
    with pytest.raises(ValueError, match="has no place in it"):
        load_program(evil)
    assert not trace.exists()


def test_a_constant_that_is_an_object_is_refused(content: bytes) -> None:
    def change(name: str, old: bytes) -> bytes:
        if not name.endswith("constants_config.json"):
            return old
        config = json.loads(old)
        next(iter(config["config"].values()))["path_name"] = "opaque_obj_0"
        return json.dumps(config).encode()

    with pytest.raises(ValueError, match="is no tensor"):
        load_program(rewritten(content, change))


@pytest.mark.parametrize("broken", [b"", b"no archive", b"PK\x05\x06" + bytes(18)])
def test_what_is_no_archive_is_refused(broken: bytes) -> None:
    with pytest.raises(ValueError):
        load_program(broken)


def test_an_archive_in_the_older_pickled_form_is_refused(tmp_path: Path) -> None:
    trace, buffer = tmp_path / "trace", io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("version", "8.8")
        archive.writestr("serialized_exported_program.json", "{}")
        for name in ("serialized_state_dict.pt", "serialized_constants.pt"):
            archive.writestr(name, evil_pickle(trace))
    with pytest.raises(ValueError):
        load_program(buffer.getvalue())
    assert not trace.exists()


def test_a_truncated_program_is_refused(content: bytes) -> None:
    for share in (0.1, 0.5, 0.9):
        with pytest.raises(ValueError):
            load_program(content[: int(share * len(content))])


def test_the_check_alone_takes_what_build_writes(content: bytes) -> None:
    check_no_pickles(content)
