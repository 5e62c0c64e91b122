"""Published files, narrow and random: read exactly, or refused with the reason."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from published_files import Published, edit_checkpoint, edit_safetensors, write_published
from safetensors.torch import save_file

from unirestore_ros.model import SD_TURBO, UniRestore
from unirestore_ros.model.published import WEIGHTS_NAME, from_released
from unirestore_ros.model.weights import WeightsError

Change = Callable[[dict[str, torch.Tensor]], None]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Published, UniRestore]:
    return write_published(tmp_path_factory.mktemp("published") / "files")


@pytest.fixture
def files(original: tuple[Published, UniRestore], tmp_path: Path) -> Published:
    """A copy of its own for a test to spoil."""
    source = original[0].stage1.parent
    shutil.copytree(source, tmp_path / "files")
    return Published(*(tmp_path / "files" / p.name for p in vars(original[0]).values()))


def read(files: Published) -> UniRestore:
    return from_released(**vars(files))


def refusal(files: Published) -> str:
    with pytest.raises(WeightsError) as caught:
        read(files)
    return str(caught.value)


def test_every_width_and_tensor_comes_from_the_files(
    original: tuple[Published, UniRestore],
) -> None:
    files, written = original
    network = read(files)
    ours, theirs = network.config.to_dict(), written.config.to_dict()
    assert ours == {**theirs, "min_side": 512}, "the size rule is the published one"
    state = network.state_dict()
    assert set(state) == set(written.state_dict())
    for key, value in written.state_dict().items():
        assert torch.equal(state[key], value), key
    assert torch.equal(network.alphas, written.alphas)
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())


def test_an_autoencoder_saved_by_an_old_diffusers_is_the_same(
    original: tuple[Published, UniRestore], files: Published
) -> None:
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def change(state: dict[str, torch.Tensor]) -> None:
        for key in [key for key in state if ".attentions.0.to_" in key]:
            value = state.pop(key)
            for new, old in names.items():
                key = key.replace(f".{new}.", f".{old}.")
            state[key] = value[..., None, None] if key.endswith("weight") else value

    edit_safetensors(files.sd_turbo / "vae" / WEIGHTS_NAME, change)
    found = read(files).state_dict()
    for key, value in original[1].state_dict().items():
        assert torch.equal(found[key], value), key


def drop(key: str) -> Change:
    return lambda state: state.__delitem__(key)


def put(key: str, *shape: int) -> Change:
    return lambda state: state.__setitem__(key, torch.zeros(shape))


TUNER = "model.base_model.csc_editors.0.proj.weight"
GATE = "model.ae.vae.decoder.task_editors.1.info_gate.3.weight"
PROMPT = "model.ae.vae.decoder.task_prompts.ir"


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("stage1", drop(TUNER), "missing: denoiser.csc_editors.0.proj.weight"),
        ("stage1", put(TUNER, 32, 31, 1, 1), r"csc_editors.0.proj.weight is (32, 31, 1, 1), must"),
        ("stage1", put("model.controller.extra", 1), "not expected: controller.extra"),
        ("stage1", drop("model.controller.fea_tran.0.conv1.weight"), "no tensor controller."),
        ("stage1", put("discriminator.weight", 3), "'discriminator.weight' is not expected in"),
        ("stage1", put(GATE, 3), "s1.ckpt: 'model.ae.vae.decoder.task_editors"),
        ("stage2", put(PROMPT, 2, 64), "prompts.ir is (2, 64), must be (1, 64)"),
        ("stage2", put(GATE, 3), "of another shape: tfa.1.info_gate.3.weight is (3,)"),
        (f"unet/{WEIGHTS_NAME}", drop("conv_in.weight"), "missing: denoiser.unet.conv_in.weight"),
        (f"vae/{WEIGHTS_NAME}", put("x.bias", 1), "not expected: autoencoder.vae.x"),
    ],
)
def test_tensors_that_do_not_fit_are_refused_by_name(
    files: Published, file: str, change: Change, said: str
) -> None:
    if file.startswith("stage"):
        edit_checkpoint(getattr(files, file), change)
    else:
        edit_safetensors(files.sd_turbo / file, change)
    assert said in refusal(files)


def test_prompts_of_no_task_are_refused(files: Published) -> None:
    def change(state: dict[str, torch.Tensor]) -> None:
        for key in [key for key in state if "task_prompts" in key]:
            del state[key]

    edit_checkpoint(files.stage2, change)
    assert "no prompt (T, C) of any task" in refusal(files)


def test_whole_numbers_for_weights_are_refused(files: Published) -> None:
    edit_checkpoint(files.stage2, lambda s: s.update({PROMPT: torch.zeros(1, 64).long()}))
    assert "kind: prompts.ir is torch.int64, must be floating point" in refusal(files)


@pytest.mark.parametrize(
    ("file", "field", "value", "said"),
    [
        ("scheduler/scheduler_config.json", "prediction_type", "v_prediction", "'epsilon'"),
        ("scheduler/scheduler_config.json", "beta_end", 0.02, "beta_end is 0.02"),
        ("unet/config.json", "attention_head_dim", 8, "attention_head_dim must be a list, is 8"),
        ("vae/config.json", "layers_per_block", None, "layers_per_block must be a whole number"),
    ],
)
def test_another_backbone_is_refused_by_field(
    files: Published, file: str, field: str, value: object, said: str
) -> None:
    path = files.sd_turbo / file
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    assert said in refusal(files)


class Malice:
    """Unpickled without care, it makes a folder."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("file", ["stage1", "stage2", "null_embedding"])
def test_code_in_a_checkpoint_is_refused_and_not_run(
    files: Published, tmp_path: Path, file: str
) -> None:
    trace = tmp_path / "trace"
    path: Path = getattr(files, file)
    torch.save({"state_dict": {}, "callbacks": Malice(trace)}, path)
    said = refusal(files)
    assert f"{path} holds more than weights: it would run posix.mkdir" in said
    assert not trace.exists()
    torch.load(path, weights_only=False)
    assert trace.exists(), "the file would have done it"


@pytest.mark.parametrize("file", ["stage1", "stage2", "null_embedding"])
def test_a_checkpoint_cut_short_is_refused(files: Published, file: str) -> None:
    path: Path = getattr(files, file)
    path.write_bytes(path.read_bytes()[:-100])
    assert f"{path} is not a whole checkpoint" in refusal(files)


def test_a_safetensors_cut_short_is_refused(files: Published) -> None:
    path = files.sd_turbo / "unet" / WEIGHTS_NAME
    path.write_bytes(path.read_bytes()[:-100])
    assert f"{path} is not a whole safetensors file" in refusal(files)


def test_a_checkpoint_in_the_format_before_zip_is_read(
    original: tuple[Published, UniRestore], files: Published
) -> None:
    content = torch.load(files.stage2, weights_only=True)
    torch.save(content, files.stage2, _use_new_zipfile_serialization=False)
    assert torch.equal(read(files).prompts["ir"], original[1].prompts["ir"])
    files.stage2.write_bytes(files.stage2.read_bytes()[:-100])
    assert f"{files.stage2} is not a whole checkpoint" in refusal(files)


def test_other_contents_are_refused(files: Published) -> None:
    torch.save({"weights": {}}, files.stage1)
    assert "s1.ckpt is not a Lightning checkpoint: it has no state_dict" in refusal(files)
    torch.save([1, 2], files.stage1)
    assert "it has no state_dict" in refusal(files)


def test_an_embedding_of_another_width_is_refused(files: Published) -> None:
    torch.save(torch.zeros(1, 77, 48), files.null_embedding)
    assert "null_embedding is (1, 77, 48), must be (1, 77, 64)" in refusal(files)
    torch.save(torch.zeros(77, 64), files.null_embedding)
    assert "does not hold one (1, 77, D) tensor" in refusal(files)


def test_the_embedding_may_be_a_safetensors_file(
    original: tuple[Published, UniRestore], files: Published, tmp_path: Path
) -> None:
    embedding = original[1].null_embedding
    assert embedding is not None
    save_file({"null_embeds": embedding}, tmp_path / "empty.safetensors")
    network = from_released(
        files.sd_turbo, files.stage1, files.stage2, tmp_path / "empty.safetensors"
    )
    assert network.null_embedding is not None
    assert torch.equal(network.null_embedding, embedding)


def test_a_missing_file_is_named(files: Published) -> None:
    files.stage1.unlink()
    with pytest.raises(FileNotFoundError, match=r"s1\.ckpt"):
        read(files)


@pytest.fixture(scope="module")
def published_size() -> UniRestore:
    """On the meta device, where only shapes are computed."""
    with torch.device("meta"):
        return UniRestore(SD_TURBO)


def test_the_published_size_has_the_published_count_of_parameters(
    published_size: UniRestore,
) -> None:
    network = published_size
    vae = network.autoencoder.vae
    parts = {
        "encoder": (vae.encoder, vae.quant_conv),
        "decoder": (vae.decoder, vae.post_quant_conv),
        "cfrm": (network.cfrm,),
        "tfa": (network.tfa,),
        "prompts": (network.prompts,),
        "controller": (network.controller,),
        "tuner": (network.denoiser.csc_editors,),
        "unet": (network.denoiser.unet,),
    }
    counted = {
        part: round(sum(p.numel() for m in modules for p in m.parameters()) / 1e6, 3)
        for part, modules in parts.items()
    }
    assert counted == {
        "encoder": 34.164,
        "decoder": 49.490,
        "cfrm": 25.961,
        "tfa": 21.031,
        "prompts": 0.002,
        "controller": 52.494,
        "tuner": 22.147,
        "unet": 865.911,
    }


@pytest.mark.parametrize(
    ("size", "inside"),
    [
        ((400, 600), (512, 768)),
        ((500, 612), (512, 640)),
        ((300, 452), (512, 832)),
        ((720, 1280), (768, 1280)),
        ((512, 512), (512, 512)),
    ],
)
def test_the_published_size_rule(
    published_size: UniRestore, size: tuple[int, int], inside: tuple[int, int]
) -> None:
    """The shorter side is enlarged to 512, then both are padded to multiples of 64."""
    images = torch.zeros(1, 3, *size, device="meta")
    seen: list[torch.Size] = []
    first = published_size.autoencoder.vae.encoder.conv_in
    hook = first.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape[-2:]))
    assert published_size.restore(images).shape == images.shape
    hook.remove()
    assert seen == [inside]
