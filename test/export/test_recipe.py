"""Recipes for another size of frame."""

from __future__ import annotations

from pathlib import Path

import pytest

from unirestore_ros.export.command import main
from unirestore_ros.export.recipe import for_size, read_recipe

TINY = Path(__file__).parents[2] / "engines" / "tiny.yaml"


@pytest.mark.parametrize(
    ("size", "working"),
    [((640, 480), (640, 480)), ((1920, 1080), (1920, 1080)), ((642, 361), (640, 360))],
)
def test_another_size_works_at_multiples_of_the_coarsest_stride(
    size: tuple[int, int], working: tuple[int, int]
) -> None:
    recipe = for_size(read_recipe(TINY), size, multiple=8)
    assert recipe.working_size == working
    assert recipe.name == f"tiny-{size[0]}x{size[1]}"
    assert recipe.aspect_error < 0.001


@pytest.mark.parametrize("text", ["640", "640x", "0x480", "axb"])
def test_a_size_that_is_none_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([str(TINY), "--size", text])
    assert "must be like 640x480" in capsys.readouterr().err


def test_a_recipe_that_is_not_there_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "none.yaml")]) == 1
    assert "none.yaml: there is no such recipe" in capsys.readouterr().err


@pytest.mark.parametrize("file", sorted(TINY.parent.glob("*.yaml")), ids=lambda file: file.stem)
def test_every_recipe_can_be_read(file: Path) -> None:
    recipe = read_recipe(file)
    assert recipe.aspect_error < 0.01
    assert recipe.weights.parent == TINY.parent / "weights"


def test_the_published_size_prefers_bf16_until_it_is_measured() -> None:
    recipe = read_recipe(TINY.parent / "sd-turbo.yaml")
    assert (recipe.precision, recipe.model) == ("bf16", "sd-turbo")
    assert min(recipe.working_size) >= 512
