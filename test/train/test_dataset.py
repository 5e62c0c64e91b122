"""A user's own folder of labelled images: read as it is meant, refused where it is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from unirestore_ros.evaluate.command import main as evaluate
from unirestore_ros.tasks import UNLABELLED
from unirestore_ros.train.data import Annotation
from unirestore_ros.train.dataset import read_labelled
from unirestore_ros.train.train_command import main as train

WIDTH, HEIGHT = 96, 64
ROAD, CAR = 3, 8


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two street scenes of grey and one car each."""
    data = tmp_path / "mine"
    for name in ("images", "labels"):
        (data / name).mkdir(parents=True)
    images, annotations = [], []
    rng = np.random.default_rng(0)
    for i in range(2):
        picture = rng.integers(60, 120, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        labels = np.full((HEIGHT, WIDTH), ROAD, np.uint8)
        picture[20:40, 30:60], labels[20:40, 30:60], labels[0] = 200, CAR, UNLABELLED
        cv2.imwrite(str(data / "images" / f"{i}.png"), picture)
        cv2.imwrite(str(data / "labels" / f"{i}.png"), labels)
        images.append({"id": i, "file_name": f"images/{i}.png"})
        annotations.append({"image_id": i, "category_id": 7, "bbox": [30, 20, 30, 20]})
    content = {"images": images, "annotations": annotations,
               "categories": [{"id": 7, "name": "car"}]}  # fmt: skip
    (data / "boxes.json").write_text(json.dumps(content))
    return data


def change(folder: Path, **values: Any) -> None:
    """Put values in place of those of boxes.json; a list of entries is merged into the first."""
    file = folder / "boxes.json"
    content = json.loads(file.read_text())
    for key, value in values.items():
        content[key][0].update(value)
    file.write_text(json.dumps(content))


def classes(folder: Path, *entries: dict[str, Any]) -> None:
    (folder / "classes.json").write_text(json.dumps({"ignore_value": 255, "classes": entries}))


def test_a_folder_is_read_prepared_and_evaluated(folder: Path, tmp_path: Path) -> None:
    notes = read_labelled(folder)
    assert set(notes) == {"0", "1"}
    assert notes["0"].boxes.tolist() == [[0, 30, 20, 30, 20]]
    assert set(np.unique(notes["1"].labels)) == {ROAD, CAR, UNLABELLED}
    work = str(tmp_path / "work")
    assert train(["--work", work, "prepare", "--labelled", str(folder), "--drive", "0"]) == 0
    stored = Annotation.load(tmp_path / "work" / "frames" / "1.labels.npz")
    assert (stored.labels == notes["1"].labels).all()
    out = tmp_path / "q.json"
    options = ["--methods", "degraded,classical", "--corruptions", "brightness"]
    assert evaluate(["--data", str(folder), "--out", str(out), *options]) == 0
    assert all(row["miou"] is not None for row in json.loads(out.read_text())["rows"])


def test_other_classes_say_what_they_count_as(folder: Path) -> None:
    labels = folder / "labels" / "0.png"
    cv2.imwrite(str(labels), np.where(np.arange(WIDTH) < 50, 7, 26)[None].repeat(HEIGHT, 0))
    entries = [{"value": 7, "name": "Road"}, {"value": 26, "name": "tram", "as": "Car"},
               {"value": 3, "name": "road"}, {"value": 8, "name": "Car"},
               {"value": 11, "name": "sky dome", "as": None}]  # fmt: skip
    classes(folder, *entries)
    change(folder, categories={"name": "tram", "as": "car"})
    notes = read_labelled(folder)
    assert set(np.unique(notes["0"].labels)) == {ROAD, CAR}
    assert set(np.unique(notes["1"].labels)) == {ROAD, CAR, UNLABELLED}
    assert notes["0"].boxes[0, 0] == 0
    change(folder, categories={"as": None})
    assert len(read_labelled(folder)["0"].boxes) == 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"images": {"label_file": "labels/none.png"}}, "labels/none.png is not there"),
        ({"images": {"file_name": "images/1.png"}}, "two images of the name 1"),
        ({"images": {"file_name": "images/gone.png", "label_file": "labels/0.png"}},
         "images/gone.png is not there"),
        ({"categories": {"name": "tram"}}, "'tram' is none of car, pedestrian, bicyclist, sign"),
        ({"annotations": {"category_id": 1}}, "category 1, which is not listed"),
        ({"annotations": {"image_id": 9}}, "image 9, which is not listed"),
        ({"annotations": {"bbox": [1, 2, 3]}}, "is not x, y, width, height"),
        ({"annotations": {"bbox": [80, 20, 30, 20]}}, "reaches out of the image of 96x64"),
    ],
)  # fmt: skip
def test_wrong_entries_are_named(folder: Path, wrong: dict[str, Any], message: str) -> None:
    change(folder, **wrong)
    with pytest.raises(ValueError, match=message):
        read_labelled(folder)


def test_wrong_label_maps_are_named(folder: Path) -> None:
    file = folder / "labels" / "1.png"
    for values, message in (
        (np.full((HEIGHT, WIDTH), 37, np.uint8), r"labels/1.png has the value 37"),
        (np.zeros((HEIGHT, WIDTH, 3), np.uint8), "not 8 bits in one channel"),
        (np.zeros((HEIGHT // 2, WIDTH), np.uint8), "is 96x32, but its image .*1.png is 96x64"),
    ):
        cv2.imwrite(str(file), values)
        with pytest.raises(ValueError, match=message):
            read_labelled(folder)


def test_wrong_files_are_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classes(folder, {"value": 3, "name": "lava"})
    with pytest.raises(ValueError, match=r"classes.json: 'lava' is none of Sky, Building"):
        read_labelled(folder)
    (folder / "boxes.json").write_text("{'images'")
    with pytest.raises(ValueError, match=r"boxes.json is not JSON"):
        read_labelled(folder)
    (folder / "boxes.json").write_text('{"images": []}')
    with pytest.raises(ValueError, match="no list 'annotations'"):
        read_labelled(folder)
    (folder / "boxes.json").unlink()
    assert train(["--work", str(tmp_path), "prepare", "--labelled", str(folder)]) == 1
    assert "boxes.json is not there" in capsys.readouterr().err
