"""What one can do without a network: the classical methods, and a rule to choose among them.

``METHODS`` maps a name to a function from an RGB uint8 image (H,W,3) to another. The demo compares
with the best of them on every stretch (``best_of``, which knows the clean frame: an upper bound);
``choose`` picks one without a reference, as a vehicle would have to.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from unirestore_ros.evaluate.metrics import psnr

# Limits of the rule in ``choose``.
NOISY_SIGMA = 8.0  # grey levels
HAZY_DARK_CHANNEL = 0.45  # of the airlight: a clear street has dark pixels everywhere
LOW_CONTRAST = 32.0  # standard deviation of lightness, grey levels
DARK_MEAN = 60.0  # mean lightness, grey levels

_PATCH = 15  # pixels, of the dark channel (He et al. 2009)
_HAZE_KEPT = 0.95  # omega: a little haze is left, for depth
_LEAST_TRANSMISSION = 0.1
_GUIDE_RADIUS = 30
_GUIDE_EPSILON = 1e-3


def untouched(image: np.ndarray) -> np.ndarray:
    return image.copy()


def clahe(image: np.ndarray) -> np.ndarray:
    """Equalise CIELAB lightness, adaptively and contrast-limited (CLAHE, Zuiderveld 1994)."""
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    lightness = cv2.createCLAHE(clipLimit=2.0, tileGridSize=(8, 8)).apply(lab[..., 0])
    return cv2.cvtColor(np.dstack((lightness, lab[..., 1:])), cv2.COLOR_LAB2RGB)


def non_local_means(image: np.ndarray) -> np.ndarray:
    """Apply non-local means (Buades et al. 2005), its strength set by the estimated noise."""
    strength = float(np.clip(0.9 * noise_sigma(image), 3.0, 40.0))
    return cv2.fastNlMeansDenoisingColored(image, None, strength, strength, 5, 15)


def dehaze(image: np.ndarray) -> np.ndarray:
    """Remove haze by the dark channel (He, Sun and Tang, CVPR 2009) and a guided filter.

    The guided filter (He et al., ECCV 2010) is a linear model of the image in boxes.
    """
    light = image.astype(np.float32) / 255.0
    dark = _dark_channel(light)
    airlight = _airlight(light, dark)
    rough = 1.0 - _HAZE_KEPT * _dark_channel(light / airlight)
    grey = cv2.cvtColor(light, cv2.COLOR_RGB2GRAY)
    transmission = np.maximum(_guided(grey, rough), _LEAST_TRANSMISSION)
    clear = (light - airlight) / transmission[..., None] + airlight
    return np.clip(255.0 * clear + 0.5, 0, 255).astype(np.uint8)


METHODS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "untouched": untouched,
    "clahe": clahe,
    "non_local_means": non_local_means,
    "dehaze": dehaze,
}


def choose(image: np.ndarray) -> str:
    """Choose the method for this image, from the image alone; returns its name.

    Noise first, because the other methods amplify it: an estimated deviation over NOISY_SIGMA takes
    non-local means. Then haze: a mean dark channel over HAZY_DARK_CHANNEL of the airlight takes
    dehazing. Then darkness or low contrast takes CLAHE. Anything else is left as it is.
    """
    if noise_sigma(image) > NOISY_SIGMA:
        return "non_local_means"
    if haze(image) > HAZY_DARK_CHANNEL:
        return "dehaze"
    lightness = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    if lightness.std() < LOW_CONTRAST or lightness.mean() < DARK_MEAN:
        return "clahe"
    return "untouched"


def best_of(degraded: np.ndarray, clean: np.ndarray) -> tuple[str, float]:
    """Find the method that comes closest to the clean frame: its name and PSNR in dB."""
    scores = {name: psnr(method(degraded), clean) for name, method in METHODS.items()}
    return max(scores.items(), key=lambda item: item[1])


def noise_sigma(image: np.ndarray) -> float:
    """Estimate the deviation of white noise in grey levels (Immerkaer, "Fast noise variance
    estimation", 1996), over the flatter three quarters of the image, where texture adds least."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    kernel = np.array(((1, -2, 1), (-2, 4, -2), (1, -2, 1)), np.float32)
    response = np.abs(cv2.filter2D(grey, cv2.CV_32F, kernel))[1:-1, 1:-1]
    edges = np.abs(cv2.Sobel(cv2.blur(grey, (5, 5)), cv2.CV_32F, 1, 0))
    edges += np.abs(cv2.Sobel(cv2.blur(grey, (5, 5)), cv2.CV_32F, 0, 1))
    flat = edges[1:-1, 1:-1] <= np.percentile(edges, 75)
    # the luma weights average the channels' noise: undo that, as if it were alike in all three
    averaged = float(np.sqrt(0.299**2 + 0.587**2 + 0.114**2))
    return float(np.sqrt(np.pi / 2) / 6.0 * response[flat].mean()) / averaged


def haze(image: np.ndarray) -> float:
    """Compute the mean dark channel as a share of the airlight: near 0 in clear air, near 1 in
    dense fog."""
    light = image.astype(np.float32) / 255.0
    dark = _dark_channel(light)
    return float(dark.mean() / _airlight(light, dark).mean())


def _dark_channel(light: np.ndarray) -> np.ndarray:
    kernel = np.ones((_PATCH, _PATCH), np.uint8)
    return cv2.erode(np.ascontiguousarray(light.min(axis=2)), kernel)


def _airlight(light: np.ndarray, dark: np.ndarray) -> np.ndarray:
    """Average the colour of the haziest thousandth of the pixels, RGB, never quite black."""
    count = max(1, dark.size // 1000)
    haziest = np.argpartition(dark.ravel(), -count)[-count:]
    return np.maximum(light.reshape(-1, 3)[haziest].mean(axis=0), 0.05)


def _guided(guide: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Filter ``target`` so that it has the edges of ``guide``."""
    box = (2 * _GUIDE_RADIUS + 1, 2 * _GUIDE_RADIUS + 1)
    mean_guide, mean_target = cv2.blur(guide, box), cv2.blur(target, box)
    covariance = cv2.blur(guide * target, box) - mean_guide * mean_target
    variance = cv2.blur(guide * guide, box) - mean_guide * mean_guide
    slope = covariance / (variance + _GUIDE_EPSILON)
    offset = mean_target - slope * mean_guide
    return cv2.blur(slope, box) * guide + cv2.blur(offset, box)
