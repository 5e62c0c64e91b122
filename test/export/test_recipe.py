"""Recipes for another size of frame."""

from __future__ import annotations

from pathlib import Path

import pytest

from unirestore_ros.export.command import main
from unirestore_ros.export.recipe import read_recipe

TINY = Path(__file__).parents[2] / "engines" / "tiny.yaml"


def test_a_recipe_that_is_not_there_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "none.yaml")]) == 1
    assert "none.yaml: there is no such recipe" in capsys.readouterr().err


@pytest.mark.parametrize("file", sorted(TINY.parent.glob("*.yaml")), ids=lambda file: file.stem)
def test_every_recipe_can_be_read(file: Path) -> None:
    recipe = read_recipe(file)
    assert recipe.weights.parent == TINY.parent / "weights"


def test_the_published_size_prefers_bf16_until_it_is_measured() -> None:
    recipe = read_recipe(TINY.parent / "sd-turbo.yaml")
    assert (recipe.precision, recipe.model) == ("bf16", "sd-turbo")
    assert min(recipe.working_size) >= 512
