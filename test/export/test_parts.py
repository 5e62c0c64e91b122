"""The exported graphs against the network: every part of the shipped bundle, and a small build."""

from __future__ import annotations

import dataclasses
import zipfile
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnxruntime
import pytest
import torch
from determinism import check_deterministic
from numpy.typing import NDArray
from small_denoiser import TINY_WITH_DENOISER

from unirestore_ros.engine import open_engine
from unirestore_ros.export.bundle import Variant, build
from unirestore_ros.export.export import exported, exported_parts, save_onnx
from unirestore_ros.export.measure import run
from unirestore_ros.export.parts import Spatial
from unirestore_ros.export.plan import Plan
from unirestore_ros.export.recipe import Recipe, RecipeError, read_recipe
from unirestore_ros.export.rewrites import FoldedAdapter, FoldedNAFBlock, folded
from unirestore_ros.files import sha256_of
from unirestore_ros.model import TINY, Config, UniRestore
from unirestore_ros.model.blocks import NAFBlock
from unirestore_ros.model.tfa import TaskFeatureAdapter
from unirestore_ros.model.unirestore import pad_to_multiple
from unirestore_ros.model.weights import load_weights, save_weights
from unirestore_ros.synthetic.drive import demo_frames
from unirestore_ros.tasks import short_name

ENGINES = Path(__file__).parents[2] / "engines"
SHIPPED = ENGINES / "tiny"
RECIPE = """
weights: weights.safetensors
working_size: [{width}, {height}]
steps: 2
stride: 8
backends: [torch, onnxruntime]
"""


def test_folded_block_is_the_same_function() -> None:
    torch.manual_seed(0)
    block = NAFBlock(8)
    torch.nn.init.normal_(block.beta)
    torch.nn.init.normal_(block.gamma)
    x = torch.rand(2, 8, 9, 7)
    torch.testing.assert_close(FoldedNAFBlock(block)(x), block(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "before",
    [torch.nn.Conv2d(5, 8, 3, padding=1), torch.nn.ConvTranspose2d(5, 8, 2, 2)],
    ids=["conv", "transposed"],
)
def test_folded_adapter_is_the_same_function(
    before: torch.nn.Conv2d | torch.nn.ConvTranspose2d,
) -> None:
    torch.manual_seed(0)
    adapter = TaskFeatureAdapter(8, 6, prompt_length=2, next_channels=3, gate_pool=1)
    x, skip, prompt = torch.rand(1, 5, 9, 7), torch.rand(1, 6, 9, 7), torch.rand(1, 2, 6)
    made = before(x)
    skip = torch.nn.functional.interpolate(skip, size=made.shape[-2:])
    gates = adapter.gates(skip)
    expected = adapter(made, skip, gates, prompt)
    folded = FoldedAdapter(adapter)
    torch.testing.assert_close(folded(made, skip, gates, prompt), expected)
    folded.absorb(before)
    torch.testing.assert_close(folded(before(x), skip, gates, prompt), expected)


def test_folding_leaves_the_network_as_it_was(shipped: UniRestore) -> None:
    before = {name: tensor.clone() for name, tensor in shipped.state_dict().items()}
    folded(shipped)
    for name, tensor in shipped.state_dict().items():
        assert torch.equal(tensor, before[name]), name


@pytest.fixture(scope="module")
def frame() -> NDArray[np.uint8]:
    return next(iter(demo_frames(5))).degraded


@pytest.fixture(scope="module")
def shipped() -> UniRestore:
    return load_weights(ENGINES / "weights" / "tiny.safetensors")


def assert_levels_agree(ours: NDArray[np.uint8], expected: NDArray[np.uint8]) -> None:
    difference = np.abs(ours.astype(int) - expected)
    assert difference.max() <= 3
    assert (difference <= 1).mean() >= 0.999


@torch.inference_mode()
def test_shipped_bundle_agrees_with_its_weights(
    shipped: UniRestore, frame: NDArray[np.uint8]
) -> None:
    engine = open_engine(SHIPPED, "onnxruntime")  # in float32
    assert engine.bundle.manifest.detail_gain == shipped.config.detail_gain
    engine.run_trunk(frame)
    images = torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 255
    padded = pad_to_multiple(images, shipped.config.multiple)
    z0, skips = shipped.encode(padded)
    zt = shipped.denoise(z0)
    height, width, _ = frame.shape
    h, w, _ = engine.feature_shape
    for task in engine.tasks:
        image = shipped.decode(zt, skips, short_name(task))[0, :, :height, :width]
        levels = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
        assert_levels_agree(engine.decode(task), levels)
        features = shipped.adapt(zt, skips, short_name(task), 4)[0, :, :h, :w]
        expected = features.permute(1, 2, 0).numpy()
        worst = np.abs(engine.adapt(task) - expected).max() / np.abs(expected).max()
        assert worst <= 1e-3, task


def test_shipped_bundle_was_built_from_the_shipped_weights_and_recipe() -> None:
    engine = open_engine(SHIPPED)
    recipe = read_recipe(ENGINES / "tiny.yaml")
    assert engine.bundle.manifest.weights_sha256 == sha256_of(recipe.weights)
    assert engine.bundle.manifest.working_size == recipe.working_size
    assert engine.tasks[0] == "perception"


def test_shipped_graphs_hold_no_path_of_the_machine_that_exported_them() -> None:
    home = str(Path(__file__).parents[2]).encode()
    for file in sorted(SHIPPED.rglob("*.onnx")):
        content = file.read_bytes()
        assert b"site-packages" not in content and b".py" not in content, file.name
        assert home not in content, file.name


def write_recipe(
    folder: Path, width: int, height: int, config: Config = TINY_WITH_DENOISER
) -> Path:
    torch.manual_seed(0)
    save_weights(UniRestore(config), folder / "weights.safetensors")
    file = folder / "small.yaml"
    file.write_text(RECIPE.format(width=width, height=height))
    return file


@pytest.fixture(scope="module")
def small_build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of random weights, which lie beside it: half a minute's work, for several tests."""
    folder = tmp_path_factory.mktemp("small_build")
    return build(write_recipe(folder, 80, 64), variant=Variant(measure=False)).folder


@pytest.mark.slow
@torch.inference_mode()
def test_a_decoder_with_a_gain_gives_it_at_the_working_size(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = UniRestore(dataclasses.replace(TINY, detail_gain=True))
    assert network.detail is not None
    torch.nn.init.normal_(network.detail.conv_out.weight)
    recipe = Recipe(
        "small", tmp_path / "small.yaml", tmp_path / "none", (160, 128), 1, 8, ("torch",)
    )
    plan = Plan(network, recipe)
    trunk, decoder = (plan.part(part, "fp32", explicit=False) for part in ("trunk", "decoder"))
    programs = exported_parts({"decoder": decoder}, plan.sample(trunk), 16)
    save_onnx(programs, tmp_path / "graphs", {"decoder": decoder})
    frame = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    padded = torch.from_numpy(np.pad(frame, ((0, 8), (0, 0), (0, 0)), mode="reflect"))
    given = {**run(trunk, {"frame": padded[None]}), "prompt": plan.prompts["perception"][None]}
    session = onnxruntime.InferenceSession(tmp_path / "graphs" / "decoder.onnx")
    inputs = {node.name: given[node.name].numpy() for node in session.get_inputs()}
    (gain,) = session.run(["detail_gain"], inputs)
    images = torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 255
    z0, skips = network.encode(pad_to_multiple(images, 16))
    _, expected = network.decode_with_gain(network.denoise(z0), skips, "ir")
    assert expected is not None and gain.shape == (1, 128, 160, 1) and gain.min() >= 0
    np.testing.assert_allclose(gain[0, ..., 0], expected[0, 0], rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@torch.inference_mode()
def test_a_larger_frame_gets_the_enlarged_difference(small_build: Path) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (128, 160, 3), dtype=np.uint8)
    network = load_weights(small_build.with_name("weights.safetensors"))

    def resize(x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        return torch.nn.functional.interpolate(x, size=size, mode="bilinear")

    full = torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 255
    means = (frame.reshape(64, 2, 80, 2, 3).sum((1, 3), dtype=np.int32) + 2) // 4
    working = torch.from_numpy(means).permute(2, 0, 1)[None].float() / 255
    difference = network.restore(working, "ir", steps=2) - working
    expected = (full + resize(difference, (128, 160))).clamp(0, 1)[0] * 255
    levels = expected.round().byte().permute(1, 2, 0).numpy()
    _, skips = network.encode(pad_to_multiple(working, 16))
    zt = network.denoise(network.encode(pad_to_multiple(working, 16))[0], 2)
    features = network.adapt(zt, skips, "seg", 8)[0].permute(1, 2, 0).numpy()
    for backend in ("onnxruntime", "torch"):
        engine = open_engine(small_build, backend)
        engine.run_trunk(frame)
        assert_levels_agree(engine.decode("perception"), levels)
        assert engine.feature_shape == (8, 10, 96)
        assert engine.feature_pitch == (16, 16)
        np.testing.assert_allclose(engine.adapt("segmentation"), features, atol=1e-4)


@pytest.mark.slow
def test_programs_give_the_same_bytes_for_the_same_frame(small_build: Path) -> None:
    """The `torch` backend, in this process and in engine processes."""
    check_deterministic(small_build, "torch", (160, 128), ("segmentation",))


@pytest.mark.slow
def test_programs_hold_no_path_of_the_machine_that_exported_them(small_build: Path) -> None:
    for file in sorted((small_build / "torch").iterdir()):
        with zipfile.ZipFile(file) as archive:
            (graph,) = (name for name in archive.namelist() if name.endswith("model.json"))
            content = archive.read(graph)
        assert b"conv2d" in content and b".py" not in content, file.name


def test_constants_are_folded_and_what_is_not_read_is_gone() -> None:
    class Part(torch.nn.Module):
        inputs, outputs = ("x",), ("y", "z")
        spatial: ClassVar[dict[str, Spatial]] = {}

        def __init__(self) -> None:
            super().__init__()
            self.layer, self.unread = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            times = torch.arange(3).float().exp()
            return x + self.layer(times), x * times

    part = Part()
    x = torch.rand(2, 3)
    program = exported(part, {"x": x}, 16)
    assert list(program.state_dict) == ["folded0", "folded1"]
    results = program.module()(x=x)
    torch.testing.assert_close(results["y"], part(x)[0])
    torch.testing.assert_close(results["z"], part(x)[1])


@pytest.mark.parametrize(
    ("line", "replacement", "message"),
    [
        ("steps: 2", "", "steps is missing"),
        ("steps: 2", "steps: two", "steps must be a whole number"),
        ("steps: 2", "steps: 2\ncolour: red", "colour is not a field"),
        ("[torch, onnxruntime]", "[abacus]", "abacus is not known"),
        ("[64, 48]", "128", r"working_size must be \[width, height\]"),
    ],
)
def test_a_wrong_recipe_is_refused_by_its_field(
    tmp_path: Path, line: str, replacement: str, message: str
) -> None:
    file = tmp_path / "r.yaml"
    file.write_text(RECIPE.format(width=64, height=48).replace(line, replacement))
    with pytest.raises(RecipeError, match=message):
        read_recipe(file)


def test_a_working_size_off_the_stride_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="multiples of 8"):
        build(write_recipe(tmp_path, 60, 45))
    assert not (tmp_path / "small").exists()


def test_more_than_one_step_of_weights_without_a_denoiser_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="steps must be 1, is 2: the weights have no denoiser"):
        build(write_recipe(tmp_path, 80, 64, TINY))
    assert not (tmp_path / "small").exists()
