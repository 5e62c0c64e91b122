"""The `torch` backend gives the same bytes for the same frame, in both processes."""

from __future__ import annotations

from pathlib import Path

import pytest
from determinism import check_deterministic

from unirestore_ros.export.bundle import Variant, build


@pytest.mark.slow
def test_the_same_frame_gives_the_same_bytes(tmp_path: Path, small_recipe: str) -> None:
    recipe = tmp_path / "small.yaml"
    recipe.write_text(small_recipe.replace("[tensorrt]", "[torch]").replace("fp16", "fp32"))
    bundle = build(recipe, variant=Variant(measure=False))
    check_deterministic(bundle.folder, "torch", (128, 64), ("segmentation",))
