"""Recipes for another size of frame."""

from __future__ import annotations

from pathlib import Path

import pytest

from unirestore_ros.export.command import main
from unirestore_ros.export.compile import narrowed
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


def test_a_recipe_narrows_the_sizes_that_are_compiled_for(tmp_path: Path) -> None:
    recipe = tmp_path / "narrow.yaml"
    recipe.write_text(TINY.read_text() + "compiled_sides: [352, 640]\n")
    assert read_recipe(recipe).compiled_sides == (352, 640)

    extremes = ((64, 64), (480, 368), (832, 832))
    assert narrowed(extremes, None) == extremes
    assert narrowed(extremes, (352, 640)) == ((352, 352), (480, 368), (640, 640))
    with pytest.raises(ValueError, match="480x368, the padded working size, is outside of 384 to"):
        narrowed(extremes, (384, 640))
