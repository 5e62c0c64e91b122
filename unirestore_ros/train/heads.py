"""Feature heads: trained on the adapter's features of frozen weights, exported and scored.

Features are made once from whole frames and kept on disk: the adapter's gates are pooled over the
frame, so that a crop has other features than the same place in its frame. A head belongs to the
weights whose features it learned on; folders and files carry their SHA-256.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.swa_utils import update_bn
from tqdm import tqdm

from unirestore_ros.files import sha256_of, written_beside
from unirestore_ros.model import UniRestore
from unirestore_ros.model.detail import enlarged
from unirestore_ros.model.heads import (
    DetectionNetwork,
    FeatureStem,
    Head,
    HeadOrigin,
    SegmentationNetwork,
    load_head,
    make_head,
    save_head,
)
from unirestore_ros.model.unirestore import pad_to_multiple
from unirestore_ros.model.weights import load_weights, placed
from unirestore_ros.synthetic.corruptions import COMMON, corrupt
from unirestore_ros.tasks import DETECTION_CLASSES, SEGMENTATION_CLASSES, long_name
from unirestore_ros.train.data import (
    DRIVE_PREFIX,
    MERGED_SEQUENCE,
    SUFFIX,
    Annotation,
    Image,
    Truth,
    boxes_in_crop,
    crop_corner,
    label_counts,
    to_tensor,
)
from unirestore_ros.train.dataset import read_labelled
from unirestore_ros.train.findings import Finding, figures_of, finding
from unirestore_ros.train.loop import Plan, Run, Setting
from unirestore_ros.train.losses import (
    STRIDE,
    Losses,
    class_weights,
    detection_loss,
    segmentation_loss,
)
from unirestore_ros.train.prepare import photographs, read_photograph, spread
from unirestore_ros.train.task_networks import NORM_BATCHES, near_box

TASKS = ("seg", "det")  # in the order in which they lie in a file of features
CLASS_NAMES = {"seg": tuple(c.lower() for c in SEGMENTATION_CLASSES), "det": DETECTION_CLASSES}
BATCH, CROP_CELLS = 8, 48
CLEAN_EVERY = 3  # each frame is taken in a degraded version, and so many clean as well
DRIVE_SHARE = 0.2  # of the crops: from the synthetic drive
STATISTICS_MAPS = 64
SEVERITY = 3
SHORT_SHA = 12


# --- features


def trunk(network: UniRestore, images: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Return latent and skips for the decoder, of images (B, 3, H, W) padded to a multiple."""
    z0, skips = network.encode(pad_to_multiple(images, network.config.multiple))
    return network.denoise(z0), skips


@torch.inference_mode()
def features_of(network: UniRestore, images: Tensor) -> NDArray[np.float16]:
    """Return the adapter's features of one image (1, 3, H, W): (tasks, C, H/4, W/4)."""
    zt, skips = trunk(network, images)
    height, width = (side // STRIDE for side in images.shape[-2:])
    maps = [network.adapt(zt, skips, task, STRIDE)[0, :, :height, :width] for task in TASKS]
    return torch.stack(maps).half().cpu().numpy()


def cache_features(frames: Path, cache: Path, network: UniRestore, device: torch.device) -> None:
    """Write ``NAME.VERSION.npy``, (tasks, C, h, w) float16, for every labelled frame; files that
    are there already stay."""
    cache.mkdir(parents=True, exist_ok=True)
    wanted = [
        (name, version)
        for i, name in enumerate(labelled_names(frames))
        for version in (degraded_version(frames, name), *([0] if i % CLEAN_EVERY == 0 else []))
    ]
    for name, version in tqdm(wanted, desc="features", unit="frame"):
        file = cache / f"{name}.{version}.npy"
        if not file.exists():
            image = np.load(frames / f"{name}.npy", mmap_mode="r")[version]
            beside = file.with_name(f".{os.getpid()}.{file.name}")
            np.save(beside, features_of(network, to_tensor([image], device)))
            os.replace(beside, file)


def labelled_names(frames: Path) -> list[str]:
    """List the prepared frames that have an annotation; ValueError where there is none."""
    names = [file.name.removesuffix(SUFFIX) for file in sorted(frames.glob(f"[!.]*{SUFFIX}"))]
    if not names:
        raise ValueError(f"no labelled frames in {frames}: run `train prepare` first")
    return names


def degraded_version(frames: Path, name: str) -> int:
    """Draw one of a frame's degraded versions, always the same for its name."""
    versions = len(np.load(frames / f"{name}.npy", mmap_mode="r"))
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[4:8], "big")
    return int(np.random.default_rng(seed).integers(1, versions))


class MapSampler:
    """Draws crops of maps with their truth; the same places for one seed, whatever the maps.

    A map is (C, h, w), its cells ``STRIDE`` pixels wide, or an image (3, H, W) uint8.
    """

    def __init__(
        self,
        maps: Sequence[NDArray],
        notes: Sequence[Annotation],
        seed: int,
        device: torch.device,
        chances: NDArray[np.float64] | None = None,
    ) -> None:
        self.maps, self.notes, self.device = maps, notes, device
        self.chances = np.full(len(maps), 1 / len(maps)) if chances is None else chances
        with_boxes = self.chances * [len(note.boxes) > 0 for note in notes]
        # Where no frame has a box, crops near one are drawn anywhere.
        self.chances_near_box = with_boxes / with_boxes.sum() if with_boxes.any() else self.chances
        self.reseed(seed)

    def reseed(self, seed: int) -> None:
        """Start drawing from another seed: a run that resumes draws crops that it has not seen."""
        self.rng = np.random.default_rng(seed)

    def __call__(self, cells: int, near: Sequence[bool]) -> tuple[Tensor, Truth]:
        """Draw crops of ``cells`` a side, one for each of ``near``: around one of the boxes or not.

        Returns (B, C, S, S) float32, images in [0, 1], and the truth of the pixels they cover.
        """
        crops = [self._crop(cells, near_box) for near_box in near]
        maps, labels, boxes = zip(*crops, strict=True)
        return head_input(np.stack(maps), self.device), Truth(
            labels=torch.from_numpy(np.stack(labels)).to(self.device).long(),
            boxes=[torch.from_numpy(b) for b in boxes],
        )

    def _crop(self, cells: int, near_box: bool) -> tuple[NDArray, NDArray, NDArray]:
        chances = self.chances_near_box if near_box else self.chances
        i = int(self.rng.choice(len(self.maps), p=chances))
        values, note = self.maps[i], self.notes[i]
        height, width = (side // STRIDE for side in note.labels.shape)
        size = (width * STRIDE, height * STRIDE)
        near_box = near_box and len(note.boxes) > 0
        corner = crop_corner(note, size, cells * STRIDE, near_box, self.rng)
        u, v = (int(side) // STRIDE for side in corner)
        # Pixels of the map in a cell: 1 for features, STRIDE for an image.
        step = STRIDE if values.dtype == np.uint8 else 1
        rows, columns = (slice(at * step, (at + cells) * step) for at in (v, u))
        x, y, side = u * STRIDE, v * STRIDE, cells * STRIDE
        labels = note.labels[y : y + side, x : x + side]
        boxes = boxes_in_crop(note.boxes, x, y, side, flipped=False)
        return values[:, rows, columns], labels, boxes


def head_input(values: NDArray, device: torch.device) -> Tensor:
    """Convert (B, C, H, W) to what a head reads: features as they are, uint8 images to [0, 1]."""
    x = torch.from_numpy(values).to(device).float()
    if values.dtype == np.uint8:
        x = x / 255
    return x.contiguous(memory_format=torch.channels_last)


def set_statistics(stem: FeatureStem, maps: Sequence[NDArray]) -> None:
    """Give a stem the mean and deviation of each channel, over a spread of the maps."""
    few = [m.astype(np.float32) for m in maps[:: max(len(maps) // STATISTICS_MAPS, 1)]]
    mean = np.mean([m.mean(axis=(1, 2)) for m in few], axis=0)
    square = np.mean([np.square(m).mean(axis=(1, 2)) for m in few], axis=0)
    deviation = np.sqrt(np.maximum(square - mean**2, 0)) + 1e-3
    for buffer, values in ((stem.mean, mean), (stem.deviation, deviation)):
        buffer.copy_(torch.from_numpy(values).view(1, -1, 1, 1))


# --- training


def train_head(setting: Setting, plan: Plan, task: str, weights: Path) -> Run:
    """Train the head of ``task`` on the features that ``weights`` give; its file is in the run's
    folder once the plan is done."""
    network = placed(load_weights(weights), setting.device)
    sampler = _sampler(setting, task, weights, network)
    head = make_head(long_name(task), len(CLASS_NAMES[task]), _channels(network))
    assert isinstance(head.backbone.stem, FeatureStem)
    set_statistics(head.backbone.stem, sampler.maps)
    head = head.to(setting.device)
    run = setting.run(run_folder(setting.work, task, weights), head, plan)
    sampler.reseed(setting.seed + run.iteration)
    counts = label_counts(sampler.notes, len(SEGMENTATION_CLASSES)).to(setting.device)

    def step(iteration: int) -> Losses:
        x, truth = sampler(CROP_CELLS, [near_box(task, iteration)] * BATCH)
        return {task: head_loss(head, x, truth, class_weights(counts))}

    average = run.train(step)
    few = (sampler(CROP_CELLS, [near_box(task, i)] * BATCH)[0] for i in range(NORM_BATCHES))
    update_bn(few, average)
    run.finish()
    origin = HeadOrigin(
        long_name(task), CLASS_NAMES[task], STRIDE, _channels(network), sha256_of(weights)
    )
    save_head(average, origin, run.folder / "head.safetensors")
    return run


def _sampler(setting: Setting, task: str, weights: Path, network: UniRestore) -> MapSampler:
    cache = setting.work / f"features-{_short(weights)}"
    cache_features(setting.frames, cache, network, setting.device)
    files = sorted(cache.glob("[!.]*.npy"))
    if task == "det":
        files = [file for file in files if not file.name.startswith(MERGED_SEQUENCE)]
    maps = [np.load(file, mmap_mode="r")[TASKS.index(task)] for file in files]
    names = [file.name.rsplit(".", 2)[0] for file in files]
    notes = [Annotation.load(setting.frames / f"{name}{SUFFIX}") for name in names]
    chances = _chances([name.startswith(DRIVE_PREFIX) for name in names])
    return MapSampler(maps, notes, setting.seed, setting.device, chances)


def _chances(from_drive: list[bool]) -> NDArray[np.float64] | None:
    """Return each map's chance of being drawn: those of the synthetic drive share DRIVE_SHARE."""
    share = np.mean(from_drive)
    if share in (0, 1):
        return None
    each = np.where(from_drive, DRIVE_SHARE / share, (1 - DRIVE_SHARE) / (1 - share))
    return np.asarray(each / each.sum())


def head_loss(head: Head, x: Tensor, truth: Truth, weights: Tensor) -> Tensor:
    """Return a head's loss; ``weights`` (K,) are those of the segmentation classes."""
    if isinstance(head, SegmentationNetwork):
        return segmentation_loss(head(x), truth.labels, weights)
    logits, shapes = head(x)
    return detection_loss(logits, shapes, truth.boxes)


def export_head(work: Path, task: str, weights: Path) -> Path:
    """Copy a head to ``WEIGHTS-head-TASK.safetensors`` beside the weights that it belongs to.

    Raises ValueError where its training is not done.
    """
    finished = run_folder(work, task, weights) / "head.safetensors"
    if not finished.exists():
        raise ValueError(f"{finished} is not there: run `train head-{task}` to its end first")
    file = head_file(weights, long_name(task))
    with written_beside(file) as beside:
        shutil.copyfile(finished, beside)
    return file


def head_file(weights: Path, task: str) -> Path:
    """Return the file of the head for a task (long name) that belongs to these weights."""
    return weights.with_name(f"{weights.stem}-head-{task}.safetensors")


def run_folder(work: Path, task: str, weights: Path) -> Path:
    return work / f"head-{task}-{_short(weights)}"


def _short(weights: Path) -> str:
    return sha256_of(weights)[:SHORT_SHA]


def _channels(network: UniRestore) -> int:
    return network.config.tfa.feature_channels[network.level_of(STRIDE)]


# --- scores


def score_heads(weights: Path, data: Path, limit: int | None) -> list[str]:
    """Score the exported heads on a labelled folder: a line for clean, one for degraded images."""
    network: UniRestore = load_weights(weights)
    segmenter, _ = load_head(head_file(weights, "segmentation"))
    detector, _ = load_head(head_file(weights, "detection"))
    assert isinstance(segmenter, SegmentationNetwork) and isinstance(detector, DetectionNetwork)

    @torch.inference_mode()
    def found_in(image: Image, note: Annotation) -> Finding:
        maps = features_of(network, to_tensor([image], torch.device("cpu")))
        seg, det = (torch.from_numpy(one).float()[None] for one in maps)
        size = torch.empty(1, 1, *image.shape[:2])
        labels = enlarged(segmenter.logits(seg), size).argmax(1)[0].numpy()
        heat, boxes = (found[0].numpy() for found in detector.detect(det))
        return finding(labels, heat, boxes * STRIDE, note, np.zeros(0, bool))

    found: dict[str, list[Finding]] = {"clean": [], "degraded": []}
    for clean, degraded, note in scoring_images(data, limit):
        found["clean"].append(found_in(clean, note))
        found["degraded"].append(found_in(degraded, note))
    lines = []
    for name, findings in found.items():
        miou, map50 = (figures_of(findings)[figure] for figure in ("miou", "map50"))
        lines.append(f"{name}, {len(findings)} images: mIoU {miou:.3f}, mAP50 {map50:.3f}")
    return lines


def scoring_images(data: Path, limit: int | None) -> Iterator[tuple[Image, Image, Annotation]]:
    """Yield images of a labelled folder, evenly spread: clean, degraded by one of the 15 common
    corruptions in turn at severity 3, and the annotation."""
    notes = read_labelled(data)
    files = spread(photographs([data / "images"]), limit)
    for i, file in enumerate(tqdm(files, desc="scoring", unit="image")):
        clean = read_photograph(file).image
        degraded = corrupt(clean, COMMON[i % len(COMMON)], SEVERITY, file.name)
        yield clean, degraded, notes[file.stem]
