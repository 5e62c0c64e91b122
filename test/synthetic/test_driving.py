"""Driving degradations: the stated physics, seeding, and severity."""

from __future__ import annotations

import numpy as np
import pytest

from unirestore_ros.evaluate.metrics import psnr
from unirestore_ros.synthetic import driving
from unirestore_ros.synthetic.drive import Drive
from unirestore_ros.synthetic.driving import (
    DEGRADATIONS,
    STEADY,
    degrade,
    frame_rng,
    proxy_depth,
    smooth_field,
    to_linear,
    to_srgb,
)
from unirestore_ros.synthetic.frame import Frame


@pytest.fixture(scope="module")
def frame() -> Frame:
    return Drive(5, (240, 180)).frame(3.0)


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_severity_costs_quality(frame: Frame, name: str) -> None:
    quality = [
        psnr(
            degrade(frame.image, name, severity, np.random.default_rng(1), frame.depth), frame.image
        )
        for severity in (1, 2, 3, 4, 5)
    ]
    assert quality == sorted(quality, reverse=True)
    assert quality[0] < 45
    assert quality[0] - quality[4] > 2


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_equal_generators_give_equal_pixels(frame: Frame, name: str) -> None:
    before = frame.image.copy()
    one, same, other = (
        degrade(frame.image, name, 3, np.random.default_rng(seed), frame.depth)
        for seed in (1, 1, 2)
    )
    assert one.dtype == np.uint8
    assert one.shape == frame.image.shape
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    assert np.array_equal(frame.image, before)


def test_fog_follows_koschmieder() -> None:
    """At the visibility range 5 % of the light is left, give or take the fog's own unevenness."""
    black = np.zeros((64, 96, 3), np.uint8)
    fogs = {}
    for visibilities in (0.1, 1.0, 20.0):
        depth = np.full((64, 96), driving.VISIBILITY_M[2] * visibilities, np.float32)
        rng = np.random.default_rng(4)
        fogs[visibilities] = to_linear(degrade(black, "fog", 3, rng, depth)).mean(axis=(0, 1))
    airlight = fogs[20.0]
    assert fogs[1.0] / airlight == pytest.approx(np.full(3, 0.95), abs=0.03)
    assert fogs[0.1] / airlight == pytest.approx(np.full(3, 1 - np.exp(-0.2996)), abs=0.04)


def test_transmission_at_known_depths() -> None:
    depth = np.array([[0.0, 100.0, 200.0]], np.float32)
    share = driving.transmission(depth, 200.0)
    assert share[0] == pytest.approx([1.0, 0.2236, 0.05], abs=1e-3)


def test_noise_grows_with_light_as_a_sensor_says() -> None:
    gain = driving.NOISE_GAIN[1]
    for code in (90, 160):
        image = np.full((200, 200, 3), code, np.uint8)
        noisy = to_linear(degrade(image, "noise", 2, np.random.default_rng(0)))
        light = float(to_linear(image)[0, 0, 0])
        expected = np.sqrt(gain * light + (2.5 * gain) ** 2)
        assert noisy.std() == pytest.approx(expected, rel=0.06)
        assert noisy.mean() == pytest.approx(light, rel=0.03)


def test_low_light_takes_whole_stops() -> None:
    image = np.full((200, 200, 3), 200, np.uint8)
    dark = to_linear(degrade(image, "low_light", 3, np.random.default_rng(0)))
    expected = float(to_linear(image)[0, 0, 0]) / 2 ** driving.EXPOSURE_STOPS[2]
    assert dark.mean() == pytest.approx(expected, rel=0.05)


def test_motion_blur_keeps_the_picture_in_place() -> None:
    image = np.zeros((120, 240, 3), np.uint8)
    image[50:70, 110:130] = 255
    blurred = to_linear(degrade(image, "motion_blur", 5, np.random.default_rng(1))).mean(axis=2)
    rows, columns = np.indices(blurred.shape)
    assert (blurred * columns).sum() / blurred.sum() == pytest.approx(119.5, abs=0.6)
    assert (blurred * rows).sum() / blurred.sum() == pytest.approx(59.5, abs=0.6)


def test_what_flickers_in_a_video_and_what_does_not(frame: Frame) -> None:
    for name in DEGRADATIONS:
        first, second = (
            degrade(frame.image, name, 3, frame_rng("drive", name, number), frame.depth)
            for number in (0, 1)
        )
        assert np.array_equal(first, second) == (name in STEADY)


def test_photographs_without_depth_take_the_proxy(frame: Frame) -> None:
    proxy = proxy_depth(180, 240)
    given = degrade(frame.image, "fog", 3, np.random.default_rng(1), proxy)
    left_out = degrade(frame.image, "fog", 3, np.random.default_rng(1))
    assert np.array_equal(given, left_out)
    below = proxy[int(0.5 * 180) :, 0]
    assert (np.diff(below) < 0).all()
    assert proxy.max() <= driving.FAR_M


def test_bad_input_is_refused(frame: Frame) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="hail"):
        degrade(frame.image, "hail", 3, rng)
    with pytest.raises(ValueError, match="severity 6"):
        degrade(frame.image, "fog", 6, rng)
    with pytest.raises(ValueError, match="float32"):
        degrade(frame.image.astype(np.float32), "fog", 3, rng)
    with pytest.raises(ValueError, match="depth"):
        degrade(frame.image, "fog", 3, rng, frame.depth[:10])


def test_linear_light_and_back() -> None:
    codes = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    linear = to_linear(codes)
    assert linear[0, 0, 0] == 0.0
    assert linear[15, 15, 0] == 1.0
    assert linear[7, 16 - 1, 0] == pytest.approx(0.2122, abs=1e-3)  # code 127
    assert np.abs(to_srgb(linear).astype(int) - codes).max() <= 1
    assert to_srgb(np.array([-0.5, 1.5], np.float32)).tolist() == [0, 255]


def test_smooth_field_is_smooth_and_bounded() -> None:
    field = smooth_field(np.random.default_rng(2), (90, 120), 5)
    assert field.shape == (90, 120)
    assert np.abs(field).max() < 1.5
    assert np.abs(np.diff(field, axis=1)).max() < 0.2
