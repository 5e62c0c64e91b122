"""`fetch`: local files and a local server in place of the originals, which are not reached here."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cutting_server import COMMIT, CuttingServer
from published_files import Published, edit_checkpoint

from unirestore_ros.model import UniRestore
from unirestore_ros.model.published import WEIGHTS_NAME, from_released
from unirestore_ros.model.weights import load_weights, read_sources

pytest.importorskip("gdown")

from huggingface_hub import constants

from unirestore_ros.model import fetch
from unirestore_ros.model.fetch import FetchError, download, download_from_hub, kept_as, main

Original = tuple[Published, UniRestore]
UNET = f"sd-turbo/unet/{WEIGHTS_NAME}"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def goes_on(server: CuttingServer, name: str) -> bool:
    """Whether the last request for a file was for what was missing of it."""
    last = server.ranges_of(name)[-1]
    return last is not None and re.fullmatch(r"bytes=[1-9][0-9]*-", last) is not None


def assert_same(out: Path, network: UniRestore) -> None:
    found = load_weights(out).state_dict()
    expected = network.state_dict()
    assert set(found) == set(expected)
    assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_local_files_become_one_safetensors_with_its_sources(
    original: Original, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files, network = original
    out = tmp_path / "sd-turbo.safetensors"
    assert main([*files.options(), "--out", str(out), "--downloads", str(tmp_path / "no")]) == 0
    assert_same(out, network)
    said = capsys.readouterr().out
    assert "MIT" in said and "non-commercial research" in said
    recorded = read_sources(out)
    assert recorded["stage1"] == f"{files.stage1} sha256:{sha256(files.stage1)}"
    unet = files.sd_turbo.parent / UNET
    assert recorded[UNET] == f"{unet} sha256:{sha256(unet)}"
    assert {"stage2", "null-embedding", "sd-turbo/vae/config.json"} < set(recorded)


def test_the_parity_files_are_converted_to_what_they_compute(
    shared_reference: Path, tmp_path: Path
) -> None:
    parity = shared_reference / "parity"
    names = ("backbone", "unirestore_stage1.ckpt", "unirestore_stage2.ckpt")
    sd_turbo, stage1, stage2 = (parity / name for name in names)
    files = Published(sd_turbo, stage1, stage2, parity / "null_embedding.safetensors")
    out = tmp_path / "narrow.safetensors"
    assert main([*files.options(), "--out", str(out)]) == 0
    assert_same(out, from_released(**vars(files)))


def test_nothing_is_downloaded_before_the_licences_are_accepted(
    original: Original, server: CuttingServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--stage1", f"{server.url}/s1.ckpt", "--downloads", str(tmp_path / "kept")]
    assert main([*arguments, "--out", str(tmp_path / "x")]) == 1
    said = capsys.readouterr()
    assert "non-commercial research" in said.out
    assert "--accept-licence" in said.err
    assert server.asked == []
    assert not (tmp_path / "kept").exists()


def test_everything_from_a_server_that_cuts_connections(
    original: Original, server: CuttingServer, tmp_path: Path
) -> None:
    files, network = original
    server.cuts = {"s1.ckpt": 1, UNET: 1}
    out = tmp_path / "sd-turbo.safetensors"
    options = [
        "--accept-licence",
        *("--stage1", f"{server.url}/s1.ckpt", "--stage2", f"{server.url}/s2.ckpt"),
        *("--null-embedding", f"{server.url}/empty.pt"),
        *("--sha256", f"stage1={sha256(files.stage1)}"),
        *("--sha256", f"stage2={sha256(files.stage2)}"),
        *("--sha256", f"null-embedding={sha256(files.null_embedding)}"),
        *("--downloads", str(tmp_path / "kept"), "--out", str(out)),
    ]
    environment = {**os.environ, "HF_ENDPOINT": server.url, "HF_HUB_DISABLE_XET": "1"}
    environment["HF_HOME"] = str(tmp_path / "hub")
    done = subprocess.run(
        [sys.executable, "-m", "unirestore_ros", "fetch", *options],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert_same(out, network)
    assert goes_on(server, "s1.ckpt")
    assert len(server.ranges_of(UNET)) == 2, "the hub's library goes on by pieces of 10 MB"
    assert "100%" in done.stderr, "progress is shown"
    recorded = read_sources(out)
    assert recorded["stage2"] == f"{server.url}/s2.ckpt sha256:{sha256(files.stage2)}"
    unet_sha256 = sha256(files.sd_turbo.parent / UNET)
    assert recorded[UNET] == f"stabilityai/sd-turbo@{COMMIT} sha256:{unet_sha256}"


def test_a_download_given_up_is_resumed_by_the_next_run(
    original: Original,
    server: CuttingServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fetch, "RETRIES", 0)
    server.cuts = {"s1.ckpt": 1}
    path = tmp_path / "kept" / "s1.ckpt"
    with pytest.raises(FetchError, match="Run the command again, what has come is kept in"):
        download(f"{server.url}/s1.ckpt", path)
    assert not path.exists(), "half a file does not have its name"
    download(f"{server.url}/s1.ckpt", path)
    assert path.read_bytes() == original[0].stage1.read_bytes()
    assert goes_on(server, "s1.ckpt")


@pytest.mark.parametrize("scheme", ["http", "HTTP", "ftp", "file"])
def test_an_address_that_is_not_https_needs_a_checksum(
    original: Original,
    server: CuttingServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    scheme: str,
) -> None:
    address = f"{scheme}://{server.url.partition('://')[2]}/s1.ckpt"
    files = dataclasses.replace(original[0], stage1=address)
    options = [*files.options(), "--accept-licence", "--downloads", str(tmp_path / "kept")]
    assert main([*options, "--out", str(tmp_path / "out")]) == 1
    assert "--sha256 stage1=HEX" in capsys.readouterr().err
    assert server.asked == []


def test_another_address_does_not_take_the_file_of_the_first(
    original: Original, server: CuttingServer, tmp_path: Path
) -> None:
    first, other = f"{server.url}/s1.ckpt", f"{server.url}/s2.ckpt"
    paths = [kept_as(tmp_path, url, "unirestore_stage1.ckpt") for url in (first, other)]
    files = original[0]
    for url, path, expected in zip(
        (first, other), paths, (files.stage1, files.stage2), strict=True
    ):
        download(url, path)
        assert path.read_bytes() == expected.read_bytes()


def test_a_planted_link_is_not_written_through(server: CuttingServer, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    path = kept_as(tmp_path, f"{server.url}/s1.ckpt", "unirestore_stage1.ckpt")
    path.symlink_to(victim)
    with pytest.raises(FetchError, match="is a link"):
        download(f"{server.url}/s1.ckpt", path)
    assert victim.read_text() == "mine"


def test_an_address_without_a_file_is_refused(server: CuttingServer, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="404"):
        download(f"{server.url}/nothing.ckpt", tmp_path / "nothing.ckpt")
    assert not (tmp_path / "nothing.ckpt").exists()


def test_another_checksum_is_refused(
    original: Original, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files, _ = original
    wrong = "0" * 64
    arguments = [*files.options(), "--sha256", f"stage2={wrong}", "--out", str(tmp_path / "out")]
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert f"{files.stage2}: its SHA-256 is {sha256(files.stage2)}, not {wrong}" in said
    assert not (tmp_path / "out").exists()


class Malice:
    """Unpickled without care, it makes a folder."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.trace),)


def test_a_malicious_checkpoint_is_refused_and_not_run(
    original: Original, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = tmp_path / "trace"
    torch.save({"state_dict": {}, "hook": Malice(trace)}, tmp_path / "evil.ckpt")
    files = dataclasses.replace(original[0], stage1=tmp_path / "evil.ckpt")
    assert main([*files.options(), "--out", str(tmp_path / "out")]) == 1
    assert "evil.ckpt holds more than weights: it would run posix.mkdir" in capsys.readouterr().err
    assert not trace.exists()
    assert not (tmp_path / "out").exists()


def test_tensors_that_do_not_fit_are_refused_and_nothing_is_written(
    original: Original, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage2 = tmp_path / "s2.ckpt"
    stage2.write_bytes(original[0].stage2.read_bytes())
    edit_checkpoint(stage2, lambda state: state.update({"optimiser": torch.zeros(2)}))
    files = dataclasses.replace(original[0], stage2=stage2)
    assert main([*files.options(), "--out", str(tmp_path / "out")]) == 1
    assert "'optimiser' is not expected in this checkpoint" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s2.ckpt"]


def test_a_hub_file_that_differs_from_its_checksum_is_refused(
    server: CuttingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.wrong_etags = {UNET}
    address = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, server.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address)
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    name = UNET.removeprefix("sd-turbo/")
    with pytest.raises(FetchError, match=f"not {'0' * 64}"):
        download_from_hub("stabilityai/sd-turbo", (name,), tmp_path / "kept")
