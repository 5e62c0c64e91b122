"""Training as a user runs it: every stage for a few steps, on frames of the synthetic drive."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from published_files import write_published
from safetensors.torch import load_file

from unirestore_ros.files import sha256_of
from unirestore_ros.model.heads import load_head
from unirestore_ros.model.published import WEIGHTS_NAME
from unirestore_ros.model.weights import load_weights
from unirestore_ros.synthetic.corruptions import COMMON
from unirestore_ros.synthetic.programme import DEMO_SEED, TRAINING_SEEDS
from unirestore_ros.train.data import (
    VERSION_WEIGHTS,
    Annotation,
    at_dusk,
    boxes_in_crop,
    column_step,
    draw_version,
)
from unirestore_ros.train.heads import run_folder
from unirestore_ros.train.loop import Plan, Run
from unirestore_ros.train.losses import centre_loss, detection_targets
from unirestore_ros.train.prepare import DRIVING, HELD_OUT, LeftOut, synthetic_frames
from unirestore_ros.train.task_networks import Detector
from unirestore_ros.train.train_command import main

ONE_THREAD = ("--threads", "1")
"""Two would wait for each other wherever another process takes a core."""


def average(work: Path, stage: str) -> dict[str, torch.Tensor]:
    return torch.load(work / stage / "checkpoint.pt", weights_only=True)["average"]


def changed(work: Path, before: str, after: str) -> set[str]:
    old, new = average(work, before), average(work, after)
    return {key for key in old if not torch.equal(old[key], new[key])}


@pytest.mark.slow
def test_stage1_trains_what_restores_and_leaves_the_backbone(work: Path) -> None:
    keys = changed(work, "stage0", "stage1")
    assert {key.split(".")[0] for key in keys} == {"cfrm"}


@pytest.mark.slow
def test_stage2_trains_adapters_and_prompts(work: Path) -> None:
    keys = changed(work, "stage1", "stage2")
    assert {key.split(".")[0] for key in keys} == {"tfa", "prompts"}
    assert {"prompts.ir", "prompts.cls", "prompts.seg"} <= keys
    assert "prompts.det" not in keys


@pytest.mark.slow
def test_stage3_changes_one_prompt_and_no_other_output_by_a_bit(work: Path) -> None:
    assert changed(work, "stage2", "stage3") == {"prompts.det"}


@pytest.mark.slow
def test_training_resumes_where_it_stopped(work: Path) -> None:
    assert main([*ONE_THREAD, "--work", str(work), "seg", "--iterations", "5"]) == 0
    state = torch.load(work / "seg" / "checkpoint.pt", weights_only=True)
    assert state["iteration"] == 5
    assert (work / "stage0" / "checkpoint.pt").exists()


@pytest.mark.slow
def test_export_writes_weights_that_load(work: Path, tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    assert main([*ONE_THREAD, "--work", str(work), "export", str(file)]) == 0
    assert load_weights(file).config.name == "tiny"


@pytest.mark.slow
def test_heads_learn_on_frozen_weights_resume_and_are_exported(work: Path, tmp_path: Path) -> None:
    weights = tmp_path / "w.safetensors"
    assert main([*ONE_THREAD, "--work", str(work), "export", str(weights)]) == 0
    options = ["--weights", str(weights)]
    for words in (["head-seg", "--iterations", "2"], ["head-det", "--iterations", "2"]):
        assert main([*ONE_THREAD, "--work", str(work), *words, *options]) == 0
    folder = run_folder(work, "seg", weights)
    assert main([*ONE_THREAD, "--work", str(work), "head-seg", "--iterations", "3", *options]) == 0
    assert torch.load(folder / "checkpoint.pt", weights_only=True)["iteration"] == 3
    assert (folder / "losses.png").exists()
    assert main(["--work", str(work), "head-export", *options]) == 0
    for task in ("segmentation", "detection"):
        head, origin = load_head(tmp_path / f"w-head-{task}.safetensors")
        assert (origin.task, origin.stride, origin.channels) == (task, 4, 48)
        assert origin.weights_sha256 == sha256_of(weights)
        statistics = [v for k, v in head.state_dict().items() if k.endswith("running_mean")]
        assert len(statistics) > 0 and all(mean.any() for mean in statistics)


def test_a_head_that_was_not_trained_is_not_exported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--work", str(tmp_path), "head-export"]) == 1
    assert "run `train head-seg` to its end first" in capsys.readouterr().err


def test_a_stage_without_the_one_before_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--work", str(tmp_path), "stage1"]) == 1
    assert "run `train stage0` first" in capsys.readouterr().err


def test_training_never_sees_the_demo_drive_or_the_held_out_degradation() -> None:
    assert DEMO_SEED not in TRAINING_SEEDS
    assert all(seed in TRAINING_SEEDS for _, seed, _ in synthetic_frames(200))
    assert HELD_OUT not in DRIVING


@pytest.mark.parametrize(
    ("text", "name", "left_out"),
    [
        ("0001TP", "0001TP_006690", True),
        ("0001TP", "0016E5_00390", False),
        ("0016E5:7500", "0016E5_07500", True),
        ("0016E5:7500", "0016E5_07470", False),
    ],
)
def test_frames_are_left_out_by_sequence_and_number(text: str, name: str, left_out: bool) -> None:
    assert LeftOut.parse(text).holds(name) is left_out


def test_what_is_no_sequence_is_refused() -> None:
    with pytest.raises(ValueError, match="'a:b' is neither SEQUENCE nor SEQUENCE:NUMBER"):
        LeftOut.parse("a:b")


def test_corruptions_are_drawn_by_their_weights() -> None:
    rng = np.random.default_rng(0)
    draws = [draw_version(rng, 28, clean_share=0, driving_share=0) for _ in range(6000)]
    shares = np.bincount(draws, minlength=16)[1:16] / len(draws)
    chances = np.array([VERSION_WEIGHTS.get(name, 1.0) for name in COMMON])
    chances /= chances.sum()
    deviations = np.sqrt(chances * (1 - chances) / len(draws))
    assert np.all(np.abs(shares - chances) < 4 * deviations)


def test_what_has_a_direction_is_not_mirrored() -> None:
    rng = np.random.default_rng(0)
    steps = {name: {column_step(rng, 1 + COMMON.index(name)) for _ in range(50)} for name in COMMON}
    assert {name for name, seen in steps.items() if seen == {1}} == {"glass_blur", "motion_blur"}
    assert steps["fog"] == {column_step(rng, 0) for _ in range(50)} == {-1, 1}


def test_at_dusk_frame_and_target_are_darker_alike() -> None:
    rng = np.random.default_rng(0)
    degraded, clean = (rng.integers(0, 256, (8, 8, 3), np.uint8) for _ in range(2))
    pairs = [at_dusk(rng, degraded, clean) for _ in range(400)]
    darker = [(a, b) for a, b in pairs if not np.array_equal(b, clean)]
    assert 0.15 < len(darker) / len(pairs) < 0.35
    for a, b in darker:
        factors = [dark.sum() / light.sum() for dark, light in ((a, degraded), (b, clean))]
        assert 0.5 < factors[0] < 1
        assert factors[0] == pytest.approx(factors[1], abs=0.02)


@pytest.mark.slow
def test_the_published_size_trains_from_sd_turbo(work: Path, tmp_path: Path) -> None:
    """Stage 1 and 2 on a narrow SD-Turbo: its own tensors stay, and the stages find its widths."""
    published, _ = write_published(tmp_path / "published")
    shutil.copytree(work, tmp_path / "work", ignore=shutil.ignore_patterns("stage*"))
    start = ["--work", str(tmp_path / "work")]
    size = ["--iterations", "1", "--batch", "1", "--crop", "128"]
    files = [
        "--sd-turbo",
        str(published.sd_turbo),
        "--null-embedding",
        str(published.null_embedding),
    ]
    assert main([*ONE_THREAD, *start, "stage1", *size, *files, "--rate", "0"]) == 0
    (tmp_path / "work" / "stage1").rename(tmp_path / "work" / "before")
    assert main([*ONE_THREAD, *start, "stage1", *size, *files]) == 0
    assert main([*ONE_THREAD, *start, "stage2", *size]) == 0
    learned = {
        ".".join(key.split(".")[: 1 + key.startswith("denoiser.")])
        for key in changed(tmp_path / "work", "before", "stage1")
    }
    assert learned == {"cfrm", "controller", "denoiser.csc_editors"}
    after = average(tmp_path / "work", "stage2")
    original = load_file(published.sd_turbo / "unet" / WEIGHTS_NAME)
    key = "conv_in.weight"
    assert torch.equal(after[f"denoiser.unet.{key}"], original[key].float())
    assert changed(tmp_path / "work", "stage1", "stage2") >= {"prompts.ir"}


@pytest.mark.slow
def test_two_processes_learn_the_same_weights_from_batches_of_their_own(
    repository: Path, tmp_path: Path
) -> None:
    """As `accelerate launch` starts them on two GPUs, by torchrun, here on the CPU."""
    script = tmp_path / "two.py"
    script.write_text(TWO_PROCESSES)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    environment["PYTHONPATH"] = str(repository)
    done = subprocess.run(
        [*command, str(script), str(tmp_path)],
        env=environment, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, second = (torch.load(tmp_path / f"{i}.pt", weights_only=True) for i in range(2))
    assert torch.equal(first["weight"], second["weight"])
    assert not torch.equal(first["drawn"], second["drawn"])
    assert (tmp_path / "run" / "checkpoint.pt").exists()


TWO_PROCESSES = """
import sys
from pathlib import Path
import torch
from unirestore_ros.train.loop import Plan, Run, process_index

torch.manual_seed(0)
network = torch.nn.Linear(3, 1)
groups = [{"params": list(network.parameters())}]
run = Run(Path(sys.argv[1]) / "run", network, groups, Plan(3, 0.1))
drawn = torch.rand(8, 3)
run.train(lambda _: {"fit": (network(drawn) - drawn.sum(1, keepdim=True)).square().mean()})
state = {"weight": network.weight.detach(), "drawn": drawn}
torch.save(state, Path(sys.argv[1]) / f"{process_index()}.pt")
"""


def test_learning_rate_warms_up_and_falls() -> None:
    plan = Plan(iterations=100, learning_rate=1.0, warm_up=10)
    rates = [plan.learning_rate_at(i) for i in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[10] == pytest.approx(1.0)
    assert rates[100] == pytest.approx(0.01)


def test_the_loop_learns_and_records(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = torch.nn.Linear(3, 1)
    groups: list[dict[str, object]] = [{"params": list(network.parameters())}]
    run = Run(tmp_path / "run", network, groups, Plan(60, 0.05, warm_up=5, ema_decay=0.5))
    x = torch.rand(64, 3)
    run.train(lambda _: {"fit": (network(x) - x.sum(1, keepdim=True)).square().mean()})
    lines = (tmp_path / "run" / "losses.jsonl").read_text().splitlines()
    fits = [json.loads(line)["fit"] for line in lines]
    assert fits[-1] < fits[0]
    assert list((tmp_path / "run").glob("events.out.tfevents.*")), "nothing for TensorBoard"


def test_boxes_follow_crop_and_flip() -> None:
    note = Annotation(
        torch.zeros(4, 4).byte().numpy(),
        torch.tensor([[1, 10.0, 20.0, 8.0, 6.0], [0, 90.0, 90.0, 4.0, 4.0]]).numpy(),
    )
    kept = boxes_in_crop(note.boxes, 8, 16, 32, flipped=False)
    assert kept.tolist() == [[1, 2, 4, 8, 6]]
    flipped = boxes_in_crop(note.boxes, 8, 16, 32, flipped=True)
    assert flipped.tolist() == [[1, 22, 4, 8, 6]]


def test_detection_targets_peak_at_the_centre_and_loss_falls_on_it() -> None:
    boxes = [torch.tensor([[2.0, 8.0, 12.0, 8.0, 16.0]])]
    heat, cells, targets = detection_targets(boxes, torch.Size((1, 4, 16, 16)))
    assert cells.tolist() == [[0, 5, 3]]
    assert heat[0, 2, 5, 3] == 1
    assert targets[0, 2:].exp().tolist() == pytest.approx([2.0, 4.0])
    right = torch.where(heat.eq(1), 4.0, -6.0)
    assert centre_loss(right, heat, 1) < centre_loss(-right, heat, 1)
    assert Detector()(torch.rand(1, 3, 64, 64))[0].shape == (1, 4, 16, 16)
