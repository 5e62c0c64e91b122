"""Errors that are planted for the guard, and the fit that learns from them."""

from __future__ import annotations

import numpy as np
import pytest

from unirestore_ros.evaluate.guard_errors import (
    VISIBLE_RMS,
    Cutout,
    Image,
    Planted,
    plant_errors,
)
from unirestore_ros.evaluate.guard_fit import fit, frame_logits, report
from unirestore_ros.evaluate.guard_pairs import GOOD, Samples, Scene, planted_samples
from unirestore_ros.node.guard import FEATURES, SUSPICIOUS, GuardModel


def texture(seed: int) -> Image:
    """Coarse random structure, (360,480,3)."""
    small = np.random.default_rng(seed).integers(0, 256, (36, 48, 3)).astype(np.uint8)
    return small.repeat(10, 0).repeat(10, 1)


@pytest.fixture(scope="module")
def planted() -> list[Planted]:
    person = Cutout(np.full((40, 16, 3), 250, np.uint8), np.ones((40, 16), np.float32))
    objects = [((100, 100, 30, 40), np.ones((40, 30), np.float32))]
    rng = np.random.default_rng(0)
    return list(plant_errors(texture(0), [texture(1), texture(2)], [person], objects, rng))


def test_an_error_of_each_kind_is_planted(planted: list[Planted]) -> None:
    assert [error.kind for error in planted] == [
        "pasted 12x30",
        "pasted 24x48",
        "person inserted",
        "object removed",
        "mirrored",
        "another frame",
        "broken",
    ]


def test_local_errors_are_visible_and_lie_in_their_boxes(planted: list[Planted]) -> None:
    before = texture(0).astype(int)
    for error in planted:
        if error.box is None:
            continue
        x, y, w, h = error.box
        difference = np.abs(error.image - before).mean(axis=2)
        inside = difference[y : y + h, x : x + w]
        assert np.sqrt((inside**2).mean()) > 0.5 * VISIBLE_RMS
        margin = 3
        difference[max(y - margin, 0) : y + h + margin, max(x - margin, 0) : x + w + margin] = 0
        assert not difference.any()


def test_samples_hold_every_pair_and_where_its_error_is() -> None:
    person = Cutout(np.full((40, 16, 3), 250, np.uint8), np.ones((40, 16), np.float32))
    scenes = [Scene(texture(i)[None], texture(i)[None], ("clean0",)) for i in range(2)]
    samples = planted_samples(scenes, [person], 0)
    assert list(samples.kinds).count(GOOD) == 2
    assert samples.cells.shape == (len(samples.kinds), 45, 60, FEATURES)
    local = np.char.startswith(samples.kinds, "pasted 12x30")
    assert 2 * 4 <= samples.inside[local].sum() / 2 <= 4 * 6
    assert samples.inside[~local & (samples.kinds == GOOD)].all()


@pytest.fixture(scope="module")
def toy() -> Samples:
    """Noise, in which a bad frame has more of the first feature in one cell."""
    rng = np.random.default_rng(0)
    count = 260
    cells = rng.normal(2, 0.3, (count, 45, 60, FEATURES)).astype(np.float16)
    inside = np.zeros((count, 45, 60), np.bool_)
    inside[:, 20:24, 30:33] = True
    kinds = np.array([GOOD] * 130 + ["planted"] * 130)
    cells[130:, 22, 31, 0] += 10
    return Samples(cells, kinds, np.array(["clean0"] * count), inside)


@pytest.fixture(scope="module")
def model(toy: Samples) -> GuardModel:
    return fit(toy, epochs=10, hidden=4)


def test_fit_parts_good_from_bad(toy: Samples, model: GuardModel) -> None:
    results = report(toy, frame_logits(model, toy))
    assert results["roc"]["planted"][4] > 0.95  # where one in a hundred good frames is refused
    assert results["good_frames"] == 130


def test_larger_errors_than_those_planted_are_found_too(toy: Samples, model: GuardModel) -> None:
    larger = toy.cells[130].astype(np.float32)
    larger[22, 31, SUSPICIOUS] += 2
    assert model.logits(larger)[22, 31] > model.logits(toy.cells[130].astype(np.float32))[22, 31]
