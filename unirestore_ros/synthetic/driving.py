"""What the road does to a camera: fog, rain, drops, noise, darkness, motion and snow.

Every effect is computed in linear light J from a few physical quantities, and
encoded again; ``rng`` decides everything random. For a video, give the effects in ``STEADY`` an
equally seeded generator for every frame (fog and drops do not flicker) and the others a new one:
``frame_rng`` does just that.

- fog: I = J t + A (1 - t), t = exp(-beta d). Koschmieder's law as in Narasimhan and Nayar, "Vision
  and the atmosphere", IJCV 2002. beta = 2.996 / V, where V is the meteorological optical range:
  the distance at which 5 % of the light is left (ITU-R P.1817; WMO). beta varies by up to 15 %
  over the image.
- rain: attenuation of 1.076 R^0.67 dB/km at R mm/h (Carbonneau and Wisely 1998, in ITU-R P.1817)
  as a veil, and streaks that mix in light gathered from a wide view, near the scene's bright mean
  (Garg and Nayar, "Vision and rain", IJCV 2007). Streaks lean away from where the car drives to.
- lens_drops: drops on the windscreen refract a wide view upside down and out of focus (Roser and
  Geiger, "Video-based raindrop detection", ICCV workshops 2009).
- noise: shot and read noise, var = g J + r^2 (Foi et al., "Practical Poissonian-Gaussian noise
  modeling and fitting", IEEE TIP 2008). Gain g scales with severity.
- low_light: exposure lowered by whole stops, then the noise of a sensor with its gain turned up.
- motion_blur: the camera turns during the exposure; the mean of J along a straight path.
- snow: veil as in fog, and bright flakes at three distances, near ones large, blurred and few.

A mixture is several of these one after another in linear light, in the order in which the light
meets them: what is in the air first, then the lens, then the camera. Every part has the severity of
the mixture and a generator of its own, so that a video's fog stays steady while its noise does not.
Nothing is rounded or clipped between the parts.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable

import cv2
import numpy as np

from unirestore_ros.synthetic.noise import Array, Rng

# By severity 1 to 5.
VISIBILITY_M = (600.0, 350.0, 200.0, 120.0, 70.0)
RAIN_MM_PER_H = (5.0, 15.0, 35.0, 70.0, 120.0)
DROPS = (6, 12, 22, 36, 55)
NOISE_GAIN = (0.0015, 0.004, 0.009, 0.018, 0.035)
EXPOSURE_STOPS = (1.5, 2.2, 2.9, 3.6, 4.3)
BLUR_PER_WIDTH = (0.008, 0.014, 0.022, 0.032, 0.045)
SNOW_VISIBILITY_M = (1500.0, 900.0, 500.0, 300.0, 180.0)
FLAKES = (150, 300, 500, 800, 1200)
# share of the flakes; thickness, length and softness in pixels of a frame 480 wide; far to near
_SNOW_LAYERS = ((0.7, 1.0, 2.0, 0.6), (0.24, 2.2, 5.0, 0.9), (0.06, 5.0, 10.0, 2.0))

AIRLIGHT = np.array((0.55, 0.57, 0.60), np.float32)  # linear RGB of a bright overcast horizon
CAMERA_HEIGHT_M = 1.5
CORRIDOR_M = 12.0  # what stands above the camera in a street
FAR_M = 120.0

STEADY = ("fog", "lens_drops", "motion_blur")


def degrade(image: Array, name: str, severity: int, rng: Rng, depth: Array | None = None) -> Array:
    """Return a degraded copy of an RGB uint8 image (H,W,3).

    ``depth``: metres, float32 (H,W); without it ``proxy_depth`` stands in.
    Raises ValueError for an unknown name, severity, or a wrong shape.
    """
    if name not in DEGRADATIONS:
        raise ValueError(f"unknown degradation {name!r}: one of {', '.join(DEGRADATIONS)}")
    metres = checked_depth(image, severity, depth)
    return to_srgb(DEGRADATIONS[name](to_linear(image), severity - 1, rng, metres))


def checked_depth(image: Array, severity: int, depth: Array | None) -> Array:
    """Return ``depth`` or the proxy for it; ValueError for a wrong severity or shape."""
    if severity not in (1, 2, 3, 4, 5):
        raise ValueError(f"severity {severity!r} is not one of 1, 2, 3, 4, 5")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"need an RGB uint8 image (H,W,3), got {image.dtype} {image.shape}")
    if depth is None:
        return proxy_depth(image.shape[0], image.shape[1])
    if depth.shape != image.shape[:2]:
        raise ValueError(f"depth {depth.shape} does not match the image {image.shape[:2]}")
    return depth


def frame_rng(seed_key: str, name: str, frame: int) -> Rng:
    """Make the generator for frame number ``frame`` of a video: always the same if STEADY."""
    number = "steady" if name in STEADY else str(frame)
    digest = hashlib.sha256(f"{seed_key}|{name}|{number}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def proxy_depth(height: int, width: int) -> Array:
    """Guess depth in metres, float32 (H,W), from the row alone: a street as a corridor.

    The horizon lies at 45 % of the height and the focal length f is 0.85 widths (a lens of 61
    degrees). Row v below it is road at CAMERA_HEIGHT_M * f / (v - horizon), above it a ceiling
    CORRIDOR_M up at CORRIDOR_M * f / (horizon - v); nothing is farther than FAR_M.
    """
    below = np.arange(height, dtype=np.float32) + 0.5 - 0.45 * height
    plane = np.where(below > 0, CAMERA_HEIGHT_M, CORRIDOR_M).astype(np.float32)
    metres = plane * np.float32(0.85 * width) / np.maximum(np.abs(below), 1e-3)
    return np.repeat(np.minimum(metres, FAR_M).astype(np.float32)[:, None], width, axis=1)


def transmission(depth: Array, visibility_m: float) -> Array:
    """Compute the share of light left after ``depth`` metres: 5 % at ``visibility_m``."""
    return np.exp(np.float32(-2.996 / visibility_m) * depth)


def _fog(light: Array, level: int, rng: Rng, depth: Array) -> Array:
    density = 1.0 + 0.15 * smooth_field(rng, depth.shape, 5)
    airlight = AIRLIGHT * rng.uniform(0.85, 1.1) * rng.uniform(0.97, 1.03, 3).astype(np.float32)
    return _veil(light, transmission(depth * density, VISIBILITY_M[level]), airlight)


def _rain(light: Array, level: int, rng: Rng, depth: Array) -> Array:
    rate = RAIN_MM_PER_H[level]
    visibility = 13_000.0 / (1.076 * rate**0.67)  # 13 dB leave 5 %
    bright = float(light.mean()) * 1.6 + 0.05
    dim = 1.0 - 0.07 * (level + 1)  # rain clouds take light away
    veiled = _veil(light * np.float32(dim), transmission(depth, visibility), AIRLIGHT * bright)
    streaks = _streaks(depth.shape, round(14 * rate), rng)
    return veiled + streaks[..., None] * (np.float32(bright) - 0.75 * veiled)


def _lens_drops(light: Array, level: int, rng: Rng, depth: Array) -> Array:
    height, width = depth.shape
    wet = light.copy()
    soft = cv2.GaussianBlur(cv2.resize(light, (width // 4, height // 4)), (0, 0), 1.2)
    for _ in range(DROPS[level]):
        centre = rng.uniform((0, 0), (width, height))
        radius = width * float(np.clip(rng.lognormal(-4.0, 0.45), 0.008, 0.05))
        _add_drop(wet, soft, centre, radius, rng.uniform(0.85, 1.25))
    return wet


def _noise(light: Array, level: int, rng: Rng, depth: Array) -> Array:
    return _sensor_noise(light, NOISE_GAIN[level], rng)


def _low_light(light: Array, level: int, rng: Rng, depth: Array) -> Array:
    dark = light * np.float32(2.0 ** -EXPOSURE_STOPS[level])
    return _sensor_noise(dark, 0.0006 * (1 + level), rng)


def _motion_blur(light: Array, level: int, rng: Rng, depth: Array) -> Array:
    """Average over 32 places along the path: five times over two copies, twice as far apart."""
    height, width = depth.shape
    angle = rng.normal(0.0, 0.35) + np.pi * rng.integers(2)  # a turning camera: mostly sideways
    step = BLUR_PER_WIDTH[level] * width / 31.0 * np.array((np.cos(angle), np.sin(angle)))
    blurred = light
    for doubling in range(5):
        shift = np.array([[1, 0, step[0] * 2**doubling], [0, 1, step[1] * 2**doubling]])
        moved = cv2.warpAffine(blurred, shift, (width, height), borderMode=cv2.BORDER_REFLECT_101)
        blurred = cv2.addWeighted(blurred, 0.5, moved, 0.5, 0.0)
    return _shift(blurred, -step * 15.5)


def _snow(light: Array, level: int, rng: Rng, depth: Array) -> Array:
    veiled = _veil(light, transmission(depth, SNOW_VISIBILITY_M[level]), AIRLIGHT)
    cover = np.zeros(depth.shape, np.uint8)
    width = depth.shape[1]
    scale = width / 480
    for share, size, length, soft in _SNOW_LAYERS:
        count = round(share * FLAKES[level])
        layer = _dashes(depth.shape, count, length * scale, size * scale, rng)
        cover = np.maximum(cover, cv2.GaussianBlur(layer, (0, 0), soft * scale))
    alpha = cover[..., None] * np.float32(0.9 / 255)
    return veiled + alpha * (np.float32(0.85) - veiled)


def _veil(light: Array, share: Array, airlight: Array) -> Array:
    """Compute I = J t + A (1 - t), with t (H,W) and A an RGB colour."""
    return airlight + (light - airlight) * share[..., None]


def _sensor_noise(light: Array, gain: float, rng: Rng) -> Array:
    """Add shot and read noise: variance gain * J + (2.5 gain)^2, drawn as Gaussian."""
    deviation = np.sqrt(np.float32(gain) * light + np.float32((2.5 * gain) ** 2))
    return light + deviation * rng.standard_normal(light.shape, np.float32)


def _streaks(shape: tuple[int, int], count: int, rng: Rng) -> Array:
    """Draw the opacity of rain streaks in [0, 1], float32 (H,W): many thin, few near and wide."""
    scale = shape[1] / 480
    far = cv2.GaussianBlur(_dashes(shape, count, 12 * scale, 0.6, rng), (0, 0), 0.5 * scale)
    near = _dashes(shape, count // 12, 34 * scale, 1.6 * scale, rng)
    near = cv2.GaussianBlur(near, (0, 0), 1.1 * scale)
    return far * np.float32(0.55 / 255) + near * np.float32(0.35 / 255)


def _dashes(shape: tuple[int, int], count: int, length: float, thickness: float, rng: Rng) -> Array:
    """Draw short falling lines, uint8 (H,W); away from the image's middle they lean outwards."""
    height, width = shape
    layer = np.zeros(shape, np.uint8)
    start = rng.uniform((-0.1 * width, -0.1 * height), (1.1 * width, 1.1 * height), (count, 2))
    lean = 0.06 + 0.5 * (start[:, 0] / width - 0.5) + rng.normal(0, 0.04, count)
    reach = length * rng.uniform(0.5, 1.5, count)
    end = start + np.stack((lean * reach, reach), axis=1)
    lines = np.round(np.stack((start, end), axis=1) * 16).astype(np.int32)
    width_px = max(1, round(thickness))
    for third, brightness in enumerate((110, 180, 255)):
        cv2.polylines(
            layer, list(lines[third::3]), False, brightness, width_px, cv2.LINE_AA, shift=4
        )
    return layer


def _add_drop(light: Array, soft: Array, centre: Array, radius: float, gain: float) -> None:
    """Mix one drop into ``light``: the wide view ``soft`` (a quarter the size), upside down."""
    height, width = light.shape[:2]
    reach = radius * 1.4
    left, top = np.maximum(np.floor(centre - reach).astype(int), 0)
    right, bottom = np.minimum(np.ceil(centre + reach).astype(int), (width, height))
    if left >= right or top >= bottom:
        return
    u = (np.arange(left, right, dtype=np.float32) - np.float32(centre[0])) / np.float32(radius)
    v = (np.arange(top, bottom, dtype=np.float32) - np.float32(centre[1])) / np.float32(radius)
    distance = np.sqrt(u[None, :] ** 2 + (v[:, None] * np.float32(0.9)) ** 2)
    bend = 1 + distance**2
    map_x = (np.float32(centre[0]) - u[None, :] * bend * np.float32(0.28 * width)) / 4
    map_y = (np.float32(centre[1]) - v[:, None] * bend * np.float32(0.28 * height)) / 4
    view = cv2.remap(soft, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    rim = 1 - np.float32(0.55) * np.clip((distance - 0.6) / 0.5, 0, 1)
    alpha = np.clip((np.float32(1.12) - distance) / np.float32(0.3), 0, 1)[..., None]
    patch = light[top:bottom, left:right]
    patch += alpha * (view * (rim * np.float32(gain))[..., None] - patch)


def _shift(image: Array, offset: Array) -> Array:
    matrix = np.array([[1, 0, offset[0]], [0, 1, offset[1]]])
    return cv2.warpAffine(
        image, matrix, (image.shape[1], image.shape[0]), borderMode=cv2.BORDER_REFLECT_101
    )


Effect = Callable[[Array, int, Rng, Array], Array]
DEGRADATIONS: dict[str, Effect] = {
    "fog": _fog,
    "rain": _rain,
    "lens_drops": _lens_drops,
    "noise": _noise,
    "low_light": _low_light,
    "motion_blur": _motion_blur,
    "snow": _snow,
}


MIXTURES: dict[str, tuple[str, ...]] = {
    "rain_at_night": ("rain", "low_light"),
    "fog_at_night": ("fog", "low_light"),
    "fog_and_noise": ("fog", "noise"),
    "snow_and_motion_blur": ("snow", "motion_blur"),
    "rain_and_lens_drops": ("rain", "lens_drops"),
    "motion_blur_and_noise": ("motion_blur", "noise"),
}
"""Names of ``driving.DEGRADATIONS`` in the order in which the light meets them. None is trained
on."""

RngOf = Callable[[str], Rng]


def mix(image: Array, name: str, severity: int, rng_of: RngOf, depth: Array | None = None) -> Array:
    """Return a copy of an RGB uint8 image (H,W,3) degraded by every part of the mixture ``name``.

    ``rng_of`` gives the generator of a part by its name; ``depth`` as in ``driving.degrade``.
    Raises ValueError for an unknown name, severity, or a wrong shape.
    """
    if name not in MIXTURES:
        raise ValueError(f"unknown mixture {name!r}: one of {', '.join(MIXTURES)}")
    metres = checked_depth(image, severity, depth)
    light = to_linear(image)
    for part in MIXTURES[name]:
        light = DEGRADATIONS[part](light, severity - 1, rng_of(part), metres)
    return to_srgb(light)


def mix_frame(
    image: Array, name: str, severity: int, seed_key: str, frame: int, depth: Array | None = None
) -> Array:
    """Degrade frame number ``frame`` of a video; what is steady is seeded alike in every frame."""
    return mix(image, name, severity, lambda part: frame_rng(seed_key, part, frame), depth)


_STEPS = 4095  # linear light is quantised this finely before its code value is looked up


@functools.cache
def _decode_table() -> Array:
    code = np.arange(256) / 255.0
    linear = np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)
    return linear.astype(np.float32)


@functools.cache
def _encode_table() -> Array:
    linear = np.arange(_STEPS + 1) / _STEPS
    code = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.round(255.0 * code).astype(np.uint8)


def to_linear(image: Array) -> Array:
    """Decode linear light in [0, 1], float32, from uint8 sRGB code values (IEC 61966-2-1)."""
    return cv2.LUT(image, _decode_table())


def to_srgb(linear: Array) -> Array:
    """Encode linear light as uint8 sRGB code values, clipped to [0, 1] as a sensor does."""
    index = np.clip(linear * _STEPS + 0.5, 0, _STEPS).astype(np.uint16)
    return np.take(_encode_table(), index)


def smooth_field(rng: Rng, shape: tuple[int, int], cells: int) -> Array:
    """Make a smooth random field in about [-1, 1], float32 (H,W), ``cells`` bumps wide."""
    height, width = shape
    rows = max(2, round(cells * height / width))
    coarse = rng.uniform(-1.0, 1.0, (rows + 3, cells + 3)).astype(np.float32)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
