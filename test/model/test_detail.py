"""The camera's detail: the gain of fresh weights, weights without one, and how it is put back."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from unirestore_ros.model import TINY, UniRestore
from unirestore_ros.model.detail import fused, reduced_by
from unirestore_ros.model.weights import load_weights, save_weights


def test_fresh_weights_keep_all_of_the_detail() -> None:
    torch.manual_seed(0)
    network = UniRestore(dataclasses.replace(TINY, detail_gain=True)).eval()
    network.requires_grad_(False)
    z0, skips = network.encode(torch.rand(2, 3, 64, 80))
    image, gain = network.decode_with_gain(network.denoise(z0), skips, "ir")
    assert gain is not None and gain.shape == (2, 1, 64, 80)
    torch.testing.assert_close(gain, torch.ones_like(gain))
    assert torch.equal(image, network.decode(network.denoise(z0), skips, "ir"))


def test_weights_say_whether_they_predict_a_gain(tmp_path: Path) -> None:
    for gain in (False, True):
        save_weights(UniRestore(dataclasses.replace(TINY, detail_gain=gain)), tmp_path / "w")
        network = load_weights(tmp_path / "w")
        assert network.config.detail_gain is gain
        z0, skips = network.encode(torch.rand(1, 3, 64, 64))
        assert (network.decode_with_gain(z0, skips, "ir")[1] is not None) is gain


def test_a_frame_that_is_left_alone_comes_back_whole() -> None:
    frame = torch.rand(1, 3, 48, 60)
    reduced = reduced_by(frame, 3)
    torch.testing.assert_close(fused(reduced, None, frame, reduced), frame)
    torch.testing.assert_close(fused(reduced, torch.ones(1, 1, 16, 20), frame, reduced), frame)


def test_a_gain_of_zero_leaves_the_enlarged_image() -> None:
    frame = torch.rand(1, 3, 48, 60)
    restored, none = torch.full((1, 3, 16, 20), 0.25), torch.zeros(1, 1, 16, 20)
    expected = torch.full_like(frame, 0.25)
    torch.testing.assert_close(fused(restored, none, frame, reduced_by(frame, 3)), expected)


def test_at_the_working_size_nothing_is_added() -> None:
    frame, restored = torch.rand(1, 3, 16, 20), torch.rand(1, 3, 16, 20)
    torch.testing.assert_close(
        fused(restored, 5 * torch.rand(1, 1, 16, 20), frame, frame), restored
    )
