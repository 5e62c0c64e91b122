"""The projection of features that are wider than a published map may be."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from unirestore_ros.export.plan import (
    keep_projection,
    principal_projection,
    projection_file,
    read_projection,
)
from unirestore_ros.export.recipe import RecipeError

WIDE, RANK, NARROW = 160, 100, 128
SHA = "ab" * 32


def features() -> list[torch.Tensor]:
    """Two maps (1, h, w, C) whose pixels lie in a space of RANK dimensions, off the origin."""
    generator = torch.Generator().manual_seed(0)
    basis = torch.randn(RANK, WIDE, generator=generator)
    return [torch.randn(1, 12, 20, RANK, generator=generator) @ basis + 3 for _ in range(2)]


@torch.no_grad()
def test_components_keep_what_there_is() -> None:
    maps = features()
    projection, kept = principal_projection(maps)
    assert kept == pytest.approx(1.0, abs=1e-6)
    assert projection.weight.shape == (NARROW, WIDE, 1, 1)
    narrow = projection(maps[0].permute(0, 3, 1, 2)).flatten(2)[0].T
    pixels = maps[0].flatten(0, 2)
    distances = [
        torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist") for x in (narrow, pixels)
    ]
    torch.testing.assert_close(*distances, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_a_loss_is_said() -> None:
    maps = [torch.randn(1, 40, 40, WIDE, generator=torch.Generator().manual_seed(0))]
    _, kept = principal_projection(maps)
    assert 0.8 < kept < 0.95


def test_it_is_the_same_on_every_machine() -> None:
    first, again = principal_projection(features())[0], principal_projection(features())[0]
    assert torch.equal(first.weight, again.weight)
    largest = first.weight[..., 0, 0].gather(1, first.weight[..., 0, 0].abs().argmax(1, True))
    assert bool((largest > 0).all())


@torch.no_grad()
def test_strides_are_kept_side_by_side_for_the_weights_they_are_of(tmp_path: Path) -> None:
    file = projection_file(tmp_path / "sd-turbo.safetensors")
    assert read_projection(file, SHA, 4) is None
    projection, kept = principal_projection(features())
    for stride in (8, 4):
        keep_projection(file, SHA, stride, projection, kept)
    found = read_projection(file, SHA, 8)
    assert found is not None and torch.equal(found.weight, projection.weight)
    assert read_projection(file, SHA, 2) is None
    with pytest.raises(RecipeError, match="made for other weights; delete it"):
        read_projection(file, "cd" * 32, 4)
