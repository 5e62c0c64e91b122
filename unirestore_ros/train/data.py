"""Training crops, drawn from the stacks of frames and the annotations that `train prepare` wrote.

A stack, ``NAME.npy``, is (versions, H, W, 3) uint8 RGB: the clean frame, its 15 common corruptions,
then the road's degradations. Its annotation, where there is one, is ``NAME.labels.npz``: ``labels``
(H, W) uint8, an index into ``SEGMENTATION_CLASSES`` or UNLABELLED; ``boxes`` (N, 5) float32 with
class (an index into ``DETECTION_CLASSES``), left, top, width and height in pixels.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from unirestore_ros.synthetic import driving
from unirestore_ros.synthetic.corruptions import COMMON, FAMILIES, corrupt
from unirestore_ros.synthetic.frame import Frame
from unirestore_ros.tasks import DETECTION_CLASSES

Image = NDArray[np.uint8]

# Four crops of 192 are the work of nine of 128, which hold too little of a scene to tell how thick
# a fog is.
BATCH, CROP = 4, 192
SUFFIX = ".labels.npz"
DRIVE_PREFIX = "drive_"  # begins the names of frames from the synthetic drive
# CamVid's car parks, where queued cars became one box: left out of detection.
MERGED_SEQUENCE = "0006R0"

# --- which version of a frame is drawn
COMMON_VERSIONS = 1 + len(COMMON)
# How often a common corruption is drawn, where that is not 1. Blurred crops take longest to learn;
# in motion blur, once it is learned, there is most to win, in noise more than in bad light.
VERSION_WEIGHTS = (
    {name: 8.0 for name in FAMILIES["noise"]}
    | {name: 4.0 for name in FAMILIES["blur"]}
    | {"motion_blur": 6.0}
)
DRIVING_SHARE = 0.3  # of the degraded crops: by the road's degradations, not ImageNet-C's
DRIVE_SHARE = 0.25  # of the crops: from the synthetic drive
# How many crops are left clean, so that a clean image is left alone. The image loss weighs an error
# on them most: with more, a network that cannot yet tell a soft image from a sharp one changes
# neither. The losses of the task networks have no such weight.
CLEAN_SHARE, LABELLED_CLEAN_SHARE = 0.03, 0.06
# Versions with a direction: as imagecorruptions makes them, they displace the image to one side.
# Mirrored they would be degradations that no evaluation has.
DIRECTED = [1 + COMMON.index(name) for name in ("glass_blur", "motion_blur")]

# Chances of severities 1 to 5: 3, at which quality is measured, is drawn most.
SEVERITY_CHANCE = (0.12, 0.2, 0.36, 0.2, 0.12)
# Degradations that are cheap enough, and local enough, to be drawn anew for each crop.
FRESH_COMMON = (*FAMILIES["noise"], "brightness", "pixelate", "jpeg_compression")
FRESH_DRIVING = ("noise", "low_light")
# How many degraded crops get mild noise or JPEG on top, as cameras add them to bad weather.
SECOND_SHARE = 0.08

# A street at dusk is no degradation and must not be lit up: in this share of the crops, the light
# of frame and target is taken down together.
DUSK_SHARE = 0.25
MOST_STOPS = 2.0
GAMMA = 2.2


@dataclasses.dataclass(frozen=True)
class Annotation:
    """Labels and boxes of one frame, as the head of this file describes them."""

    labels: NDArray[np.uint8]
    boxes: NDArray[np.float32]

    def save(self, file: Path) -> None:
        beside = file.with_name(f".{os.getpid()}.{file.name}")
        np.savez_compressed(beside, labels=self.labels, boxes=self.boxes)
        os.replace(beside, file)

    @classmethod
    def load(cls, file: Path) -> Annotation:
        with np.load(file) as stored:
            return cls(stored["labels"], stored["boxes"])

    @classmethod
    def of_drive(cls, frame: Frame) -> Annotation:
        """Take the annotation that the synthetic drive rendered with a frame."""
        rows = [
            [DETECTION_CLASSES.index(b.category), b.x, b.y, b.width, b.height] for b in frame.boxes
        ]
        return cls(frame.labels, np.array(rows, np.float32).reshape(-1, 5))


def label_counts(annotations: Iterable[Annotation], classes: int) -> Tensor:
    """Count the pixels of each class, (K,) float32, in every fourth row and column."""
    labels = np.concatenate([note.labels[::4, ::4].ravel() for note in annotations])
    return torch.from_numpy(np.bincount(labels, minlength=classes)[:classes]).float()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Truth:
    """Labels (B, S, S) int64 of a batch of crops, and for each crop its boxes (N, 5)."""

    labels: Tensor
    boxes: list[Tensor]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelledBatch(Truth):
    """Degraded and clean crops, (B, 3, S, S) float32 in [0, 1], with their labels and boxes."""

    degraded: Tensor
    clean: Tensor


class Stored(NamedTuple):
    """A labelled batch as it is stored: degraded and clean (B, S, S, 3) and labels (B, S, S),
    uint8, and for each crop its boxes (N, 5)."""

    degraded: Tensor
    clean: Tensor
    labels: Tensor
    boxes: list[Tensor]


class PairSampler:
    """Draws batches of random crops: (degraded, clean), each (B, 3, S, S) float32 in [0, 1].

    ``fresh``: names of the driving degradations in the order in which the stacks hold them; where
    given, degradations that are cheap are drawn anew for each crop. ``clean_share``: of crops that
    are not degraded.
    """

    def __init__(
        self,
        cache: Path,
        seed: int,
        device: torch.device,
        fresh: Sequence[str] = (),
        clean_share: float = CLEAN_SHARE,
    ) -> None:
        files = sorted(cache.glob("[!.]*.npy"))
        if not files:
            raise ValueError(f"no prepared frames in {cache}: run `train prepare` first")
        stacks = [(f.name, np.load(f, mmap_mode="r")) for f in files]
        drives = [stack for name, stack in stacks if name.startswith(DRIVE_PREFIX)]
        photos = [stack for name, stack in stacks if not name.startswith(DRIVE_PREFIX)]
        self.sources = [source for source in (photos, drives) if source]
        self.shares = [1 - DRIVE_SHARE, DRIVE_SHARE] if len(self.sources) == 2 else [1.0]
        self.rng = np.random.default_rng(seed)
        self.device, self.fresh, self.clean_share = device, fresh, clean_share

    def reseed(self, *seed: int) -> None:
        """Start drawing from another seed."""
        self.rng = np.random.default_rng(seed)

    def __call__(self, batch: int, size: int) -> tuple[Tensor, Tensor]:
        degraded, clean = self.draw(batch, size)
        return as_images(degraded, self.device), as_images(clean, self.device)

    def draw(self, batch: int, size: int) -> tuple[Tensor, Tensor]:
        """Draw a batch as it is stored: degraded and clean, each (B, S, S, 3) uint8."""
        crops = [self._crop(size) for _ in range(batch)]
        degraded, clean = zip(*crops, strict=True)
        return torch.from_numpy(np.stack(degraded)), torch.from_numpy(np.stack(clean))

    def _crop(self, size: int) -> tuple[Image, Image]:
        source = self.sources[self.rng.choice(len(self.sources), p=self.shares)]
        stack = source[self.rng.integers(len(source))]
        k = draw_version(self.rng, len(stack), self.clean_share)
        height, width = stack.shape[1:3]
        y = int(self.rng.integers(height - size + 1))
        x = int(self.rng.integers(width - size + 1))
        step = column_step(self.rng, k)
        window = (slice(y, y + size), slice(x, x + size))
        clean = np.ascontiguousarray(stack[0][window][:, ::step])
        degraded = stack[k][window][:, ::step]
        if self.fresh:
            degraded = degraded_anew(self.rng, clean, degraded, k, self.fresh)
        return at_dusk(self.rng, degraded, clean)


class LabelledSampler:
    """Draws crops with their labels and boxes from the prepared frames that have an annotation."""

    def __init__(
        self,
        cache: Path,
        seed: int,
        device: torch.device,
        clean_share: float = LABELLED_CLEAN_SHARE,
    ) -> None:
        files = sorted(cache.glob(f"[!.]*{SUFFIX}"))
        names = [file.name.removesuffix(SUFFIX) for file in files]
        kept = [(f, n) for f, n in zip(files, names, strict=True) if (cache / f"{n}.npy").exists()]
        if not kept:
            raise ValueError(f"no labelled frames in {cache}: run `train prepare` first")
        self.annotations = [Annotation.load(file) for file, _ in kept]
        self.stacks = [np.load(cache / f"{name}.npy", mmap_mode="r") for _, name in kept]
        self.has_boxes = [not name.startswith(MERGED_SEQUENCE) for _, name in kept]
        self.device, self.clean_share = device, clean_share
        self.reseed(seed)

    def reseed(self, *seed: int) -> None:
        """Start drawing from another seed: a run that resumes draws crops that it has not seen."""
        self.rng = np.random.default_rng(seed)

    def __call__(self, batch: int, size: int, near_box: bool = False) -> LabelledBatch:
        """Draw crops of ``size`` pixels a side; ``near_box``: each around a box that is right."""
        return labelled_batch(self.draw(batch, size, near_box), self.device)

    def draw(self, batch: int, size: int, near_box: bool = False) -> Stored:
        """Draw a batch as it is stored."""
        crops = [self._crop(size, near_box) for _ in range(batch)]
        degraded, clean, labels, boxes = zip(*crops, strict=True)
        images, targets, truth = (
            torch.from_numpy(np.stack(arrays)) for arrays in (degraded, clean, labels)
        )
        return Stored(images, targets, truth, [torch.from_numpy(b) for b in boxes])

    def _crop(self, size: int, near_box: bool) -> tuple[NDArray, NDArray, NDArray, NDArray]:
        while True:
            i = int(self.rng.integers(len(self.stacks)))
            note = self.annotations[i]
            if not near_box or (self.has_boxes[i] and len(note.boxes)):
                break
        stack = self.stacks[i]
        height, width = stack.shape[1:3]
        x, y = crop_corner(note, (width, height), size, near_box, self.rng)
        window = (slice(y, y + size), slice(x, x + size))
        k = draw_version(self.rng, len(stack), self.clean_share)
        step = column_step(self.rng, k)
        pair = at_dusk(self.rng, stack[k][window][:, ::step], stack[0][window][:, ::step])
        labels = np.ascontiguousarray(note.labels[window][:, ::step])
        return *pair, labels, boxes_in_crop(note.boxes, x, y, size, flipped=step < 0)


def draw_version(
    rng: np.random.Generator,
    versions: int,
    clean_share: float,
    driving_share: float = DRIVING_SHARE,
) -> int:
    """Draw an index into a stack of so many versions: clean, a common corruption, or the road's."""
    if rng.random() < clean_share:
        return 0
    if versions > COMMON_VERSIONS and rng.random() < driving_share:
        return int(rng.integers(COMMON_VERSIONS, versions))
    weights = np.array([VERSION_WEIGHTS.get(name, 1.0) for name in COMMON])
    return 1 + int(rng.choice(len(COMMON), p=weights / weights.sum()))


def draw_severity(rng: np.random.Generator) -> int:
    return int(rng.choice(5, p=SEVERITY_CHANCE)) + 1


def degraded_anew(
    rng: np.random.Generator,
    clean: Image,
    stored: Image,
    version: int,
    driving_names: Sequence[str],
) -> Image:
    """Degrade a crop (S, S, 3) by its version: anew where that is cheap, else as it is stored.

    Now and then mild noise or JPEG is added. ``driving_names``: of the versions that follow the
    common ones, repeated as often as need be.
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


def column_step(rng: np.random.Generator, version: int) -> int:
    """Draw the step through the columns of a crop of that version: -1 mirrors it."""
    return -1 if version not in DIRECTED and rng.random() < 0.5 else 1


def at_dusk(rng: np.random.Generator, degraded: Image, clean: Image) -> tuple[Image, Image]:
    """Return the pair, or in a share of the calls a darker one: up to ``MOST_STOPS`` stops."""
    if rng.random() >= DUSK_SHARE:
        return degraded, clean
    darker = np.arange(256) * 2 ** (-rng.uniform(0, MOST_STOPS) / GAMMA)
    table = darker.round().astype(np.uint8)
    return table[degraded], table[clean]


def crop_corner(
    note: Annotation,
    image_size: tuple[int, int],
    size: int,
    near_box: bool,
    rng: np.random.Generator,
) -> tuple[int, int]:
    """Draw left and top of a crop of an image (width, height); ``near_box``: around a box of it."""
    width, height = image_size
    x = int(rng.integers(width - size + 1))
    y = int(rng.integers(height - size + 1))
    if near_box:
        _, bx, by, bw, bh = note.boxes[rng.integers(len(note.boxes))]
        jitter = rng.uniform(-size / 4, size / 4, 2)
        x = int(np.clip(bx + bw / 2 - size / 2 + jitter[0], 0, width - size))
        y = int(np.clip(by + bh / 2 - size / 2 + jitter[1], 0, height - size))
    return x, y


def boxes_in_crop(
    boxes: NDArray[np.float32], x: int, y: int, size: int, flipped: bool
) -> NDArray[np.float32]:
    """Keep the boxes (N, 5) whose centre lies in the crop, clipped to it, in its coordinates."""
    moved = boxes - np.array([0, x, y, 0, 0], np.float32)
    centre = moved[:, 1:3] + moved[:, 3:5] / 2
    moved = moved[((centre >= 0) & (centre < size)).all(axis=1)]
    corner = np.clip(moved[:, 1:3], 0, size)
    end = np.clip(moved[:, 1:3] + moved[:, 3:5], 0, size)
    if flipped:
        corner[:, 0], end[:, 0] = size - end[:, 0], size - corner[:, 0]
    return np.concatenate([moved[:, :1], corner, end - corner], axis=1).astype(np.float32)


Drawn = TypeVar("Drawn")


class _Draws(Dataset[Drawn]):
    def __init__(self, draw: Callable[[int], Drawn]) -> None:
        self._draw = draw

    def __getitem__(self, iteration: int) -> Drawn:
        return self._draw(iteration)


def loaded(
    draw: Callable[[int], Drawn], iterations: range, workers: int, device: torch.device
) -> Iterator[Drawn]:
    """Yield what ``draw`` returns for the iterations, in order, drawn ahead by ``workers``
    processes; 0: by this one. ``draw`` must depend on nothing but the iteration."""
    pinned = device.type == "cuda"
    yield from DataLoader(
        _Draws(draw), batch_size=None, sampler=iterations, num_workers=workers, pin_memory=pinned
    )


def to_tensor(images: Sequence[Image], device: torch.device) -> Tensor:
    """Stack RGB images (H, W, 3) uint8 into (B, 3, H, W) float32 in [0, 1], channels last."""
    return as_images(torch.from_numpy(np.stack(images)), device)


def as_images(stored: Tensor, device: torch.device) -> Tensor:
    """Convert (B, H, W, 3) uint8 to (B, 3, H, W) float32 in [0, 1], channels last."""
    return stored.to(device, non_blocking=True).permute(0, 3, 1, 2).float() / 255


def labelled_batch(stored: Stored, device: torch.device) -> LabelledBatch:
    """Convert a batch as it is stored to what the losses take."""
    degraded, clean, labels, boxes = stored
    return LabelledBatch(
        degraded=as_images(degraded, device),
        clean=as_images(clean, device),
        labels=labels.to(device, non_blocking=True).long(),
        boxes=boxes,
    )
