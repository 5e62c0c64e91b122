"""The table of methods: which run, what each makes, and what is said where weights are missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from random_weights import fill_zeros

from unirestore_ros.evaluate.conditions import Conditions
from unirestore_ros.evaluate.methods import (
    METHODS,
    Sources,
    available,
    check,
    make_methods,
    own_network_files,
)
from unirestore_ros.evaluate.scoring import TaskEvaluator, score_all
from unirestore_ros.model.baselines import BASELINES, save_baseline
from unirestore_ros.tasks import SHORT_NAMES
from unirestore_ros.train.data import Annotation
from unirestore_ros.train.task_networks import (
    Classifier,
    Detector,
    Segmenter,
    TaskNetworks,
    save_task_networks,
)

NEED_NO_BASELINES = {"clean", "degraded", "classical", "unirestore"}
FRAME = np.random.default_rng(0).integers(0, 256, (72, 90, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    """Every baseline, untrained, with something in the place of zeros."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    for name, kind in BASELINES.items():
        network = kind.make()
        fill_zeros(network, 0.05)
        save_baseline(name, network, {}, folder / f"{name}.safetensors")
    networks = TaskNetworks(Segmenter(), Detector(), Classifier())
    save_task_networks(networks, folder / "retrained.safetensors")
    return Sources(baselines=folder)


def test_every_method_gives_a_frame_of_the_same_size(sources: Sources) -> None:
    names = available(sources)
    assert set(names) == set(METHODS)
    check(names, sources)
    frames = {name: method(FRAME) for name, method in make_methods(names, sources).items()}
    for name, made in frames.items():
        assert all(frame.shape == FRAME.shape and frame.dtype == np.uint8
                   for frame in made.values()), name  # fmt: skip
    tasks = {name: set(made) for name, made in frames.items()}
    assert tasks["unirestore"] == set(SHORT_NAMES)
    assert tasks["unirestore-without-cfrm"] == {"perception"}
    assert tasks["nafnet"] == tasks["retrained"] == tasks["unirestore-single-prompt"] == {None}
    different = {name: next(iter(made.values())).tobytes() for name, made in frames.items()}
    for name in ("clean", "degraded", "retrained"):
        assert different.pop(name) == FRAME.tobytes()
    assert len(set(different.values())) == len(different), "no two methods do the same"


def test_without_their_weights_methods_are_left_out_or_refused(tmp_path: Path) -> None:
    sources = Sources(baselines=tmp_path)
    assert set(available(sources)) == NEED_NO_BASELINES
    message = f"needs {tmp_path}/nafnet.safetensors, which is not there: `train nafnet` makes it"
    with pytest.raises(ValueError, match=message):
        check(["clean", "nafnet"], sources)


def test_the_retrained_networks_judge_their_own_images(sources: Sources, tmp_path: Path) -> None:
    import cv2

    cv2.imwrite(str(tmp_path / "frame.png"), FRAME)
    files = own_network_files(METHODS, sources)
    assert set(files) == {"retrained"}
    torch.manual_seed(1)
    save_task_networks(
        TaskNetworks(Segmenter(), Detector(), Classifier()), tmp_path / "j.safetensors"
    )
    labels = np.random.default_rng(1).integers(0, 11, FRAME.shape[:2]).astype(np.uint8)
    note = Annotation(labels, np.array([[0, 10, 10, 30, 30]], np.float32))
    scores = score_all(
        [tmp_path / "frame.png"],
        make_methods(["degraded", "retrained"], sources),
        Conditions(("contrast",), 3),
        TaskEvaluator(tmp_path / "j.safetensors"),
        {"frame": note},
        {name: TaskEvaluator(file) for name, file in files.items()},
    )
    theirs, ours = (scores[name, None, "contrast"] for name in ("degraded", "retrained"))
    assert theirs.fidelity == ours.fidelity
    assert not np.array_equal(theirs.findings[0].confusion, ours.findings[0].confusion)
