"""Reads labelled images from a user's own folder, and checks them as it reads.

    FOLDER/images/NAME.jpg or .png   clean images
    FOLDER/labels/NAME.png           8 bits, one channel, of the image's size: a pixel's class
    FOLDER/boxes.json                COCO's layout: images, annotations, categories
    FOLDER/classes.json              what the label values mean, where they are not CamVid's; may
                                     lie beside FOLDER instead, for several splits

Every class is one of CamVid's eleven, every category one of four: the networks have no others. A
class of another name says which it counts as (``"as": "Car"``), or that it does not
(``"as": null``). docs/howto/my_own_data.md has an example.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from unirestore_ros.tasks import DETECTION_CLASSES, SEGMENTATION_CLASSES, UNLABELLED
from unirestore_ros.train.data import Annotation

Json = dict[str, Any]
_NOT_A_CLASS = 255  # in a table of label values: none that was announced


def read_labelled(folder: Path) -> dict[str, Annotation]:
    """Read the annotations of a folder, by the name of their image.

    ValueError says which file, and which entry of it, is wrong.
    """
    listing = folder / "boxes.json"
    content = _read_json(listing)
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            raise ValueError(f"{listing} has no list {key!r}: COCO's layout has three, "
                             "images, annotations and categories")  # fmt: skip
    table = _label_table(folder)
    boxes = _boxes(content, listing)
    found: dict[str, Annotation] = {}
    for image in content["images"]:
        name = Path(_value(image, "file_name", listing, "an image")).stem
        if name in found:
            raise ValueError(f"{listing} has two images of the name {name}: names must differ")
        listed = np.array(boxes[image["id"]], np.float32).reshape(-1, 5)
        labels = _labels(folder, image, name, table)
        _check_inside(listed, labels.shape, f"{listing}, boxes of {image['file_name']}")
        found[name] = Annotation(labels, listed)
    return found


def _read_json(file: Path) -> Json:
    if not file.exists():
        raise ValueError(f"{file} is not there: labelled images need it (COCO's layout)")
    try:
        content = json.loads(file.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{file} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} holds no object at its top")
    return content


def _value(entry: Json, key: str, file: Path, what: str) -> Any:
    if not isinstance(entry, dict) or key not in entry:
        raise ValueError(f"{file}: {what} has no {key!r}: {json.dumps(entry)[:120]}")
    return entry[key]


def _class_index(entry: Json, known: Iterable[str], file: Path) -> int | None:
    """Return the index of the class that an entry is, or counts as; None: it is left out."""
    name = _value(entry, "name", file, "a class")
    meant = entry.get("as", name)
    if meant is None:
        return None
    names = [one.lower() for one in known]
    if str(meant).lower() not in names:
        raise ValueError(
            f"{file}: {meant!r} is none of {', '.join(known)}. Say which it counts as, "
            f'{{"name": "{name}", "as": "..."}}, or leave it out with "as": null'
        )
    return names.index(str(meant).lower())


# --- boxes


def _boxes(content: Json, listing: Path) -> dict[Any, list[list[float]]]:
    """List class, left, top, width, height by image id, without those marked ``maybe_merged``."""
    classes = {
        _value(c, "id", listing, "a category"): _class_index(c, DETECTION_CLASSES, listing)
        for c in content["categories"]
    }
    boxes: dict[Any, list[list[float]]] = {
        _value(image, "id", listing, "an image"): [] for image in content["images"]
    }
    for item in content["annotations"]:
        image, category, box = (
            _value(item, key, listing, "an annotation")
            for key in ("image_id", "category_id", "bbox")
        )
        if image not in boxes:
            raise ValueError(f"{listing}: an annotation is of image {image}, which is not listed")
        if category not in classes:
            raise ValueError(
                f"{listing}: an annotation is of category {category}, which is not listed"
            )
        if not isinstance(box, list) or len(box) != 4 or min(box[2:]) <= 0:
            raise ValueError(f"{listing}: bbox {box} is not x, y, width, height in pixels")
        index = classes[category]
        if index is not None and not item.get("maybe_merged", False):
            boxes[image].append([index, *map(float, box)])
    return boxes


def _check_inside(boxes: NDArray[np.float32], shape: tuple[int, ...], what: str) -> None:
    for _, x, y, width, height in boxes.tolist():
        if x < -1 or y < -1 or x + width > shape[1] + 1 or y + height > shape[0] + 1:
            box = f"{x:g}, {y:g}, {width:g}, {height:g}"
            raise ValueError(f"{what}: {box} reaches out of the image of {shape[1]}x{shape[0]}")


# --- labels


def _label_table(folder: Path) -> NDArray[np.uint8]:
    """Return the class of each value of a label map, (256,): UNLABELLED, or _NOT_A_CLASS, else."""
    table = np.full(256, _NOT_A_CLASS, np.uint8)
    file = next(
        (f for f in (folder / "classes.json", folder.parent / "classes.json") if f.exists()), None
    )
    if file is None:
        table[: UNLABELLED + 1] = range(UNLABELLED + 1)
        return table
    content = _read_json(file)
    for entry in content.get("classes", []):
        value = _value(entry, "value", file, "a class")
        if value not in range(256):
            raise ValueError(f"{file}: value {value!r} is none that 8 bits hold")
        name = str(entry.get("name", "")).lower()
        index = None if name == "unlabelled" else _class_index(entry, SEGMENTATION_CLASSES, file)
        table[value] = UNLABELLED if index is None else index
    if (ignored := content.get("ignore_value")) is not None:
        table[int(ignored)] = UNLABELLED
    return table


def _labels(
    folder: Path, image: Mapping[str, Any], name: str, table: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    file = folder / image.get("label_file", f"labels/{name}.png")
    if not file.exists():
        raise ValueError(f"{file} is not there: the label map of {image['file_name']}")
    values = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    if values is None:
        raise ValueError(f"{file} is not an image that OpenCV reads")
    if values.ndim != 2 or values.dtype != np.uint8:
        raise ValueError(f"{file} is not 8 bits in one channel: {values.dtype} {values.shape}")
    _check_size(folder / image["file_name"], file, values.shape)
    labels = table[values]
    if (unknown := values[labels == _NOT_A_CLASS]).size:
        raise ValueError(
            f"{file} has the value {unknown[0]}, which is no class: without a classes.json they are"
            f" 0 to {UNLABELLED - 1}, and {UNLABELLED} for what is not labelled"
        )
    return labels


def _check_size(image: Path, labels: Path, shape: tuple[int, ...]) -> None:
    from PIL import Image

    if not image.exists():
        raise ValueError(f"{image} is not there, but boxes.json lists it")
    with Image.open(image) as opened:  # the header alone
        width, height = opened.size
    if (height, width) != shape:
        size = f"{shape[1]}x{shape[0]}"
        raise ValueError(f"{labels} is {size}, but its image {image} is {width}x{height}")
