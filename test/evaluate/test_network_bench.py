"""The bench of the published size, on a narrow network: that both ways compute the same."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch_threads
from published_files import narrow_config

from unirestore_ros.evaluate.bench_command import main
from unirestore_ros.evaluate.network_bench import Plan, PublishedWay, fast_network, measure_network
from unirestore_ros.export.parts import Decoder, Trunk
from unirestore_ros.export.rewrites import TransposedUpsample, copied, transpose_upsampling
from unirestore_ros.model import UniRestore
from unirestore_ros.model.weights import random_network, save_weights

OUTPUTS = ("perception", "segmentation", "detection")
PLAN = Plan((128, 64), OUTPUTS, (8, 4, 2), ("fp32", "bf16"), runs=2)
one_thread = torch_threads.one_thread


@pytest.fixture(scope="module")
def net() -> UniRestore:
    return random_network(dataclasses.replace(narrow_config(), tasks=("ir", "seg", "det")))


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(1, 3, 64, 128, generator=torch.Generator().manual_seed(3))


def relative(ours: torch.Tensor, expected: torch.Tensor) -> float:
    return float((ours - expected).abs().max() / expected.abs().max())


def test_the_published_way_computes_the_same(net: UniRestore, images: torch.Tensor) -> None:
    found = PublishedWay(net)(images, ("ir", "seg", "det"))
    for task, image in zip(("ir", "seg", "det"), found, strict=True):
        with torch.inference_mode():
            # "medium" lets matrix products be in bfloat16 where the processor has it.
            assert relative(image, net.restore(images, task)) < 2e-2, task
    assert torch.get_float32_matmul_precision() == "highest"


def test_the_published_way_is_exact_in_full_precision(
    net: UniRestore, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "set_float32_matmul_precision", lambda _: None)
    (found,) = PublishedWay(net)(images, ("seg",))
    with torch.inference_mode():
        assert relative(found, net.restore(images, "seg")) < 5e-5


@torch.inference_mode()
def test_the_published_gates_convolve_at_full_resolution(net: UniRestore) -> None:
    shapes: list[torch.Size] = []
    way = PublishedWay(net)
    hook = (
        way._network.tfa[0]
        .info_gate[3]
        .register_forward_hook(lambda _, __, output: shapes.append(output.shape))
    )
    way(torch.rand(1, 3, 64, 64), ("ir", "seg"))
    hook.remove()
    assert shapes == [torch.Size((1, 64, 8, 8))] * 2


@torch.inference_mode()
def test_transposed_upsampling_is_exact(net: UniRestore, images: torch.Tensor) -> None:
    quick = copied(net)
    transpose_upsampling(quick)
    count = sum(isinstance(module, TransposedUpsample) for module in quick.modules())
    assert count == 6, "three in the autoencoder's decoder, three in the U-Net"
    assert relative(quick.restore(images, "seg"), net.restore(images, "seg")) < 5e-5


@torch.inference_mode()
def test_the_fast_network_is_the_network(net: UniRestore) -> None:
    frame = torch.randint(0, 256, (1, 64, 128, 3), dtype=torch.uint8)
    images = []
    for network in (net, fast_network(net, "fp32")):
        trunk = Trunk(network, torch.float32, 1)
        decoder = Decoder(network, torch.float32)
        given = dict(zip(trunk.outputs, trunk(frame), strict=True))
        given["prompt"] = net.prompts["seg"][None]
        images.append(decoder(*(given[name] for name in decoder.inputs)).int())
    assert (images[0] - images[1]).abs().max() <= 1


def test_rows_cover_both_ways_every_part_stride_and_precision(net: UniRestore) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (64, 128, 3), dtype=np.uint8)
    rows = measure_network(net, frame, PLAN)
    found = {(row["what"], row["precision"], row["stride"]) for row in rows}
    expected = {("published/3-outputs", "fp32", stride) for stride in PLAN.strides}
    for precision in PLAN.precisions:
        expected |= {("part/trunk", precision, None), ("part/decoder", precision, None)}
        for stride in PLAN.strides:
            expected |= {
                (f"{what}", precision, stride) for what in ("ours/3-outputs", "part/adapter")
            }
    assert found == expected
    assert all(0 < row["median_ms"] <= row["p99_ms"] for row in rows)
    by_key = {(row["what"], row["precision"], row["stride"]): row for row in rows}
    assert by_key["ours/3-outputs", "fp32", 4]["runs"] == 2
    exact = by_key["ours/3-outputs", "fp32", 4]["psnr_to_fp32_db"]
    half = by_key["ours/3-outputs", "bf16", 4]["psnr_to_fp32_db"]
    assert set(exact) == set(half) == {"image", "features at stride 4"}
    assert min(exact.values()) > 55
    assert 20 < min(half.values()) <= max(half.values()) < min(exact.values())


def test_the_command_measures_weights_from_a_file(net: UniRestore, tmp_path: Path) -> None:
    save_weights(net, tmp_path / "narrow.safetensors", torch.float32)
    out = tmp_path / "bench.json"
    arguments = ["--model", "sd-turbo", "--weights", str(tmp_path / "narrow.safetensors")]
    arguments += ["--size", "64x64", "--runs", "1", "--strides", "8", "--precisions", "fp32"]
    assert main([*arguments, "--out", str(out)]) == 0
    content = json.loads(out.read_text())
    assert content["meta"]["model"] == "sd-turbo" and content["meta"]["processor"]
    assert {row["what"] for row in content["rows"]} == {
        *("published/3-outputs", "ours/3-outputs", "part/trunk", "part/decoder", "part/adapter")
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--outputs", "classification"], "no prompt for 'classification': say --outputs"),
        (["--size", "70x64"], "sides must be multiples of 64 from 64 on"),
        (["--precisions", "fp8"], "precision 'fp8': choose from fp32, fp16, bf16"),
        (["--strides", "16"], "(8, 4, 2)"),
    ],
)
def test_what_the_network_cannot_do_is_refused(
    net: UniRestore,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: list[str],
    said: str,
) -> None:
    save_weights(net, tmp_path / "narrow.safetensors")
    arguments = ["--model", "sd-turbo", "--weights", str(tmp_path / "narrow.safetensors")]
    arguments += ["--size", "64x64", "--out", str(tmp_path / "x.json")]
    assert main([*arguments, *change]) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "x.json").exists()
