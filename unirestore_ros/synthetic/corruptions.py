"""The ImageNet-C corruptions, seeded so that every method is judged on the same pixels.

Hendrycks and Dietterich, "Benchmarking neural network robustness to common corruptions and
perturbations", ICLR 2019; the pixels come from the PyPI package ``imagecorruptions-imaug``.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import threading
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np

from unirestore_ros.synthetic.noise import Array, Rng

COMMON = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
)
VALIDATION = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
FAMILIES = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "light": ("brightness", "contrast", "fog", "frost", "snow"),
    "blur": (
        "defocus_blur",
        "glass_blur",
        "motion_blur",
        "zoom_blur",
        "pixelate",
        "jpeg_compression",
        "elastic_transform",
    ),
}
SEVERITIES = (1, 2, 3, 4, 5)

# (sigma, largest shift in pixels, passes) of glass_blur at each severity, as ImageNet-C sets them
_GLASS = ((0.7, 1, 2), (0.9, 2, 1), (1.0, 2, 3), (1.1, 3, 2), (1.5, 4, 2))

_global_rng_lock = threading.Lock()


def seed_of(seed_key: str, name: str, severity: int) -> int:
    """Compute the seed in [0, 2^32) of one degraded image: the same on every machine and Python
    version."""
    digest = hashlib.sha256(f"{seed_key}|{name}|{severity}".encode()).digest()
    return int.from_bytes(digest[:4], "little")


def corrupt(image: Array, name: str, severity: int, seed_key: str) -> Array:
    """Return a corrupted copy of an RGB uint8 image (H,W,3), H and W at least 32.

    ``seed_key`` is the file's name: it, ``name`` and ``severity`` together decide the pixels.
    Raises ValueError for an unknown name or severity, ImportError without the library.
    """
    _check(image, name, severity)
    function = _library()[name]
    seed = seed_of(seed_key, name, severity)
    options: dict[str, Any] = {}
    if "seed" in inspect.signature(function).parameters:
        options["seed"] = seed  # these two draw from generators of their own, not the global one
    from PIL import Image

    with _numpy_seeded(seed):
        corrupted = function(Image.fromarray(image), severity, **options)
    return np.uint8(corrupted)


def fast_glass_blur(image: Array, severity: int, rng: Rng) -> Array:
    """Apply ``glass_blur`` without its loop over pixels, for filling training caches.

    Each pass moves every pixel by a random shift at once; the library swaps pixels one after
    another, so that a pixel may travel further. Evaluation uses the library's own.
    """
    _check(image, "glass_blur", severity)
    sigma, reach, passes = _GLASS[severity - 1]
    blurred = cv2.GaussianBlur(image, (0, 0), sigma)
    height, width = image.shape[:2]
    rows, columns = np.indices((height, width), dtype=np.float32)
    for _ in range(passes):
        shifts = rng.integers(-reach, reach, (2, height, width)).astype(np.float32)
        blurred = cv2.remap(
            blurred,
            columns + shifts[0],
            rows + shifts[1],
            cv2.INTER_NEAREST,
            borderMode=cv2.BORDER_REFLECT_101,
        )
    return cv2.GaussianBlur(blurred, (0, 0), sigma)


def _check(image: Array, name: str, severity: int) -> None:
    if name not in COMMON + VALIDATION:
        raise ValueError(f"unknown corruption {name!r}: one of {', '.join(COMMON + VALIDATION)}")
    if severity not in SEVERITIES:
        raise ValueError(f"severity {severity!r} is not one of 1, 2, 3, 4, 5")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"need an RGB uint8 image (H,W,3), got {image.dtype} {image.shape}")
    if min(image.shape[:2]) < 32:
        raise ValueError(f"corruptions need at least 32x32 pixels, got {image.shape}")


def _library() -> dict[str, Callable[..., Array]]:
    try:
        from imagecorruptions import corruption_dict
    except ImportError as error:
        raise ImportError(
            "the ImageNet-C corruptions need the extra `train` and one more package: "
            "pip install 'unirestore_ros[train]' && "
            "pip install --no-deps imagecorruptions-imaug==1.1.5"
        ) from error
    return corruption_dict


@contextlib.contextmanager
def _numpy_seeded(seed: int) -> Iterator[None]:
    """Seed numpy's global generator, which the library draws from; put its state back after."""
    with _global_rng_lock:
        state = np.random.get_state()
        np.random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(state)
