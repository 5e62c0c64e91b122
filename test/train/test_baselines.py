"""Training what UniRestore is compared with, as a user runs it: a few steps on the drive."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from unirestore_ros.model.baselines import BASELINES, load_baseline, read_baseline
from unirestore_ros.model.weights import SHIPPED_WEIGHTS
from unirestore_ros.train.loop import Plan
from unirestore_ros.train.task_networks import load_task_networks
from unirestore_ros.train.train_command import main

WORDS = {
    "nafnet": [
        *("nafnet", "--iterations", "3", "--trial", "2", "--rate", "1e-3", "1"),
        *("--batch", "2", "--crop", "96"),
    ],
    "unirestore-single-prompt": [
        "single-prompt",
        "--iterations",
        "3",
        "--batch",
        "1",
        "--crop",
        "96",
    ],
    "unirestore-control": ["control", "--iterations", "2"],
    "unirestore-without-cfrm": ["without-cfrm", "--iterations", "2"],
}


def train(work: Path, *words: str) -> int:
    return main(["--threads", "1", "--work", str(work), *words])


@pytest.mark.slow
@pytest.mark.parametrize("name", WORDS)
def test_a_baseline_learns_and_is_exported(work: Path, tmp_path: Path, name: str) -> None:
    assert train(work, *WORDS[name]) == 0
    assert train(work, "export-baselines", name, "--to", str(tmp_path)) == 0
    file = tmp_path / f"{name}.safetensors"
    torch.manual_seed(0)
    fresh, learned = BASELINES[name].make().state_dict(), load_baseline(name, file).state_dict()
    same = [torch.equal(value, fresh[key].half().float()) for key, value in learned.items()]
    assert not all(same), "nothing was learned"
    training = read_baseline(file)["training"]
    assert training["iterations"] == int(WORDS[name][2])
    assert training["losses"] and all(loss > 0 for loss in training["losses"].values())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["control", "without-cfrm"])
def test_an_ablation_starts_from_what_stage_1_gave(work: Path, tmp_path: Path, name: str) -> None:
    for part in ("frames", "stage1"):
        (tmp_path / part).symlink_to(work / part)
    assert train(tmp_path, name, "--iterations", "1", "--rate", "0") == 0
    whole, left = (
        torch.load(tmp_path / run / "checkpoint.pt", weights_only=True)["average"]
        for run in ("stage1", name)
    )
    assert all(torch.equal(value, whole[key]) for key, value in left.items())
    assert (len(left) < len(whole)) == (name != "control")


@pytest.mark.slow
def test_downstream_networks_are_trained_on_with_degraded_crops(work: Path, tmp_path: Path) -> None:
    for task in ("seg", "det", "cls"):
        assert train(work, f"retrained-{task}", "--iterations", "2") == 0
    assert train(work, "export-baselines", "retrained", "--to", str(tmp_path)) == 0
    assert train(work, "export-downstream", str(tmp_path / "clean.safetensors")) == 0
    retrained = load_task_networks(tmp_path / "retrained.safetensors")
    for network, before in zip(
        retrained, load_task_networks(tmp_path / "clean.safetensors"), strict=True
    ):
        old = before.state_dict()
        assert any(not torch.equal(v, old[k]) for k, v in network.state_dict().items())


@pytest.mark.slow
def test_the_best_rate_is_trained_on_and_all_curves_are_kept(work: Path) -> None:
    assert train(work, *WORDS["nafnet"]) == 0
    table = json.loads((work / "nafnet" / "rates.json").read_text())
    assert table["best"] == 1e-3, "a rate of 1 destroys the image"
    assert table["losses"]["0.001"] < table["losses"]["1"]
    reached = {
        rate: torch.load(work / "nafnet" / f"rate-{rate}" / "checkpoint.pt", weights_only=True)
        for rate in ("0.001", "1")
    }
    assert {rate: state["iteration"] for rate, state in reached.items()} == {"0.001": 3, "1": 2}
    assert (work / "nafnet" / "rates.png").exists()


def test_nafnet_is_trained_on_from_finished_weights(work: Path, tmp_path: Path) -> None:
    (tmp_path / "frames").symlink_to(work / "frames")
    start = SHIPPED_WEIGHTS / "baselines" / "nafnet.safetensors"
    words = ("--iterations", "1", "--trial", "1", "--rate", "0", "--batch", "1", "--crop", "64")
    assert train(tmp_path, "nafnet", *words, "--start", str(start)) == 0
    assert train(tmp_path, "export-baselines", "nafnet", "--to", str(tmp_path)) == 0
    before = load_baseline("nafnet", start).state_dict()
    after = load_baseline("nafnet", tmp_path / "nafnet.safetensors").state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())


def test_what_was_not_trained_is_not_exported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path, "export-baselines", "nafnet", "--to", str(tmp_path)) == 1
    assert "run `train nafnet` first" in capsys.readouterr().err
    assert train(tmp_path, "export-baselines", "unirestore-control", "--to", str(tmp_path)) == 1
    assert "run `train control` first" in capsys.readouterr().err


def test_a_trial_has_the_rates_of_the_whole_plan() -> None:
    plan = Plan(1000, 1.0, warm_up=10)
    trial = plan.first(100)
    assert trial.iterations == 100
    assert [trial.learning_rate_at(i) for i in range(100)] == [
        plan.learning_rate_at(i) for i in range(100)
    ]
