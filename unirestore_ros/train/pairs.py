"""Pairs of clean and degraded crops, drawn from the stacks that ``prepare`` keeps on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unirestore_ros.synthetic import driving
from unirestore_ros.synthetic.corruptions import COMMON, FAMILIES, corrupt

BATCH, CROP = 4, 192
"""The work of nine crops of 128, which hold too little of a scene to tell how thick a fog is."""
COMMON_VERSIONS = 1 + len(COMMON)
"""The clean frame and its 15 common corruptions, first in every stack."""
WEIGHTS = {name: 4.0 for name in FAMILIES["blur"]} | {"motion_blur": 10.0}
"""Of a common corruption among its like; 1 where none is given. In blurred ones there is less to
win and it takes longer to learn; in motion blur, once it is learned, there is most."""
SEVERITY_CHANCE = (0.12, 0.2, 0.36, 0.2, 0.12)
"""Of severities 1 to 5. At 3 quality is judged, so it is drawn most."""
FRESH_COMMON = (*FAMILIES["noise"], "brightness", "pixelate", "jpeg_compression")
FRESH_DRIVING = ("noise", "low_light")
"""What is cheap enough, and local enough, to be drawn anew for each crop."""
SECOND_SHARE = 0.08
"""Of degraded crops that get mild noise or JPEG on top, as cameras add them to bad weather."""
HANDED = [1 + COMMON.index(name) for name in ("glass_blur", "motion_blur")]
"""Versions with a direction: as imagecorruptions makes them, they displace the picture to one side,
and mirrored they are what no evaluation has."""
CLEAN_SHARE = 0.03
"""Of pairs that are not degraded. An error on a clean crop weighs most: more of them, and a network
that cannot yet tell a soft picture from a sharp one leaves both alone."""
DRIVE_PREFIX = "drive_"
"""Of the names of frames from the synthetic drive."""

DUSK_SHARE = 0.25
"""Of crops whose light is taken down together with their clean target's: a street at dusk is no
degradation, and must not be lit up."""
MOST_STOPS = 2.0
GAMMA = 2.2

Image = NDArray[np.uint8]


class Versions:
    """Draws which version of a frame to train on: clean, a common corruption, one of the road's.

    ``clean_share``: of crops that are not degraded, so that a clean image is left alone;
    ``driving_share``: of the others, those degraded as the road does it, not as ImageNet-C does.
    """

    def __init__(
        self, rng: np.random.Generator, driving_share: float = 0.35, clean_share: float = 0.06
    ) -> None:
        self.rng = rng
        self.driving_share, self.clean_share = driving_share, clean_share
        weights = [WEIGHTS.get(name, 1.0) for name in COMMON]
        self.common_chances = np.array(weights) / sum(weights)

    def draw(self, versions: int) -> int:
        """An index into a stack of so many: the road's degradations follow the common ones."""
        if self.rng.random() < self.clean_share:
            return 0
        if versions > COMMON_VERSIONS and self.rng.random() < self.driving_share:
            return int(self.rng.integers(COMMON_VERSIONS, versions))
        return 1 + int(self.rng.choice(len(COMMON), p=self.common_chances))


def draw_severity(rng: np.random.Generator) -> int:
    return int(rng.choice(5, p=SEVERITY_CHANCE)) + 1


def degraded_anew(
    rng: np.random.Generator,
    clean: Image,
    stored: Image,
    version: int,
    driving_names: Sequence[str],
) -> Image:
    """A crop (S, S, 3) of that version: drawn anew where that is cheap, else ``stored``, the
    stack's; now and then with mild noise or JPEG on top.

    ``driving_names``: of the versions that follow the common ones, repeated as often as need be.
    """
    if version == 0:
        return stored
    crop = stored
    if version < COMMON_VERSIONS:
        name = COMMON[version - 1]
        if name in FRESH_COMMON:
            crop = corrupt(clean, name, draw_severity(rng), str(rng.integers(1 << 40)))
    else:
        name = driving_names[(version - COMMON_VERSIONS) % len(driving_names)]
        if name in FRESH_DRIVING:
            crop = driving.degrade(clean, name, draw_severity(rng), rng)
    if name not in FAMILIES["noise"] and rng.random() < SECOND_SHARE:
        kind = ("gaussian_noise", "jpeg_compression")[int(rng.integers(2))]
        crop = corrupt(np.ascontiguousarray(crop), kind, 1, str(rng.integers(1 << 40)))
    return crop


class PairSampler:
    """Draws batches of random crops: (degraded, clean), each (B, 3, S, S) float32 in [0, 1].

    ``drive_share``: of crops from the synthetic drive. ``fresh``: names of the driving degradations
    in the order in which the stacks hold them; what is cheap is then drawn anew for each crop.
    """

    def __init__(
        self,
        cache: Path,
        seed: int,
        device: torch.device,
        drive_share: float = 0.25,
        fresh: Sequence[str] = (),
    ) -> None:
        files = sorted(cache.glob("[!.]*.npy"))
        if not files:
            raise ValueError(f"no prepared frames in {cache}: run `train prepare` first")
        stacks = [(f.name, np.load(f, mmap_mode="r")) for f in files]
        drives = [stack for name, stack in stacks if name.startswith(DRIVE_PREFIX)]
        photos = [stack for name, stack in stacks if not name.startswith(DRIVE_PREFIX)]
        self.sources = [source for source in (photos, drives) if source]
        self.shares = [1 - drive_share, drive_share] if len(self.sources) == 2 else [1.0]
        self.rng = np.random.default_rng(seed)
        self.device, self.fresh = device, fresh
        self.versions = Versions(self.rng, clean_share=CLEAN_SHARE)

    def __call__(self, batch: int, size: int) -> tuple[Tensor, Tensor]:
        crops = [self._crop(size) for _ in range(batch)]
        degraded, clean = zip(*crops, strict=True)
        return to_tensor(degraded, self.device), to_tensor(clean, self.device)

    def _crop(self, size: int) -> tuple[Image, Image]:
        source = self.sources[self.rng.choice(len(self.sources), p=self.shares)]
        stack = source[self.rng.integers(len(source))]
        versions, height, width = stack.shape[:3]
        k = self.versions.draw(versions)
        y = int(self.rng.integers(height - size + 1))
        x = int(self.rng.integers(width - size + 1))
        flip = mirroring(self.rng, k)
        window = (slice(y, y + size), slice(x, x + size))
        clean = np.ascontiguousarray(stack[0][window][:, ::flip])
        degraded = stack[k][window][:, ::flip]
        if self.fresh:
            degraded = degraded_anew(self.rng, clean, degraded, k, self.fresh)
        return at_dusk(self.rng, degraded, clean)


def mirroring(rng: np.random.Generator, version: int) -> int:
    """Step through the columns of a crop of that version: -1 mirrors it, degraded as it is."""
    return -1 if version not in HANDED and rng.random() < 0.5 else 1


def at_dusk(rng: np.random.Generator, degraded: Image, clean: Image) -> tuple[Image, Image]:
    """The pair, or a darker one with up to ``MOST_STOPS`` stops less of light."""
    if rng.random() >= DUSK_SHARE:
        return degraded, clean
    darker = np.arange(256) * 2 ** (-rng.uniform(0, MOST_STOPS) / GAMMA)
    table = darker.round().astype(np.uint8)
    return table[degraded], table[clean]


def to_tensor(images: Sequence[Image], device: torch.device) -> Tensor:
    """RGB images (H, W, 3) uint8 -> (B, 3, H, W) float32 in [0, 1], in the channels_last layout."""
    return torch.from_numpy(np.stack(images)).to(device).permute(0, 3, 1, 2).float() / 255
