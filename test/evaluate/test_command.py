"""The evaluate command on a few frames of the synthetic drive, and on CamVid where it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from unirestore_ros.evaluate.command import main
from unirestore_ros.evaluate.comparison import Comparison, differences, won_back
from unirestore_ros.evaluate.metrics import confidence_interval
from unirestore_ros.evaluate.results import make_row, markdown
from unirestore_ros.evaluate.scoring import Score
from unirestore_ros.synthetic.drive import demo_frames
from unirestore_ros.tasks import SHORT_NAMES
from unirestore_ros.train.data import Annotation
from unirestore_ros.train.findings import Finding, figures_of, finding

CROP = (64, 80, 320, 240)  # left, top, width, height
KEYS = {
    "method", "task", "corruption", "severity", "images", "psnr", "ssim", "miou", "map50", "top1",
}  # fmt: skip


def evaluate(data: Path, out: Path, *options: str) -> list[dict[str, Any]]:
    assert main(["--data", str(data), "--out", str(out), *options]) == 0
    rows: list[dict[str, Any]] = json.loads(out.read_text())["rows"]
    return rows


def psnr(rows: list[dict[str, Any]], method: str, corruption: str | None) -> float:
    task = "perception" if method == "unirestore" else None
    wanted = (method, task, corruption)
    (row,) = (r for r in rows if (r["method"], r["task"], r["corruption"]) == wanted)
    return float(row["psnr"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("data")
    (data / "images").mkdir()
    for i, frame in enumerate(list(demo_frames(10, (240, 180)))[::5]):
        cv2.imwrite(str(data / "images" / f"{i}.png"), frame.clean[..., ::-1])
    return data


def test_rows_say_what_was_measured(folder: Path, tmp_path: Path) -> None:
    corruptions, methods = "gaussian_noise,speckle_noise", "clean,degraded,classical,unirestore"
    rows = evaluate(folder, tmp_path / "q.json", "--corruptions", corruptions, "--methods", methods)
    assert all(set(row) == KEYS for row in rows)
    assert {row["method"] for row in rows} == {"clean", "degraded", "classical", "unirestore"}
    assert all((row["corruption"] is None) == (row["severity"] is None) for row in rows)
    assert {row["task"] for row in rows if row["method"] == "unirestore"} == set(SHORT_NAMES)
    assert {row["miou"] for row in rows} == {None}  # the folder has no labels
    assert psnr(rows, "clean", None) == 100
    assert psnr(rows, "unirestore", "gaussian_noise") > psnr(rows, "degraded", "gaussian_noise") + 4


def test_the_road_and_its_mixtures_are_measured_under_their_names(
    folder: Path, tmp_path: Path
) -> None:
    names = "driving/fog,rain,fog_at_night"
    options = ("--corruptions", names, "--methods", "degraded,classical")
    rows = evaluate(folder, tmp_path / "q.json", *options)
    made = {row["corruption"] for row in rows if row["method"] == "degraded"}
    assert made == {"driving/fog", "driving/rain", "fog_at_night"}
    again = evaluate(folder, tmp_path / "again.json", *options)
    assert rows == again


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--methods", "magic", "method 'magic' is not known"),
        ("--corruptions", "gremlins", "corruption 'gremlins' is not known"),
        ("--data", "nowhere", "no .jpg or .png"),
    ],
)
def test_wrong_input_is_refused_and_nothing_written(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, value: str,
    message: str,
) -> None:  # fmt: skip
    out = tmp_path / "q.json"
    assert main(["--data", str(folder), "--out", str(out), option, value]) == 1
    assert message in capsys.readouterr().err
    assert not out.exists()


@pytest.fixture(scope="module")
def streets(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three images of CamVid's val with their labels and boxes, cropped: a crop costs less."""
    source, folder = shared_data / "camvid" / "val", tmp_path_factory.mktemp("streets")
    content = json.loads((source / "boxes.json").read_text())
    images = content["images"][20:80:20]
    x, y, width, height = CROP
    for image in images:
        for file in (image["file_name"], image["label_file"]):
            pixels = cv2.imread(str(source / file), cv2.IMREAD_UNCHANGED)
            target = (folder / file).with_suffix(".png")
            target.parent.mkdir(exist_ok=True)
            cv2.imwrite(str(target), pixels[y : y + height, x : x + width])
        image["file_name"] = str(Path(image["file_name"]).with_suffix(".png"))
    chosen = {image["id"] for image in images}
    boxes = [box for box in content["annotations"] if box["image_id"] in chosen]
    for box in boxes:
        box["bbox"][0] -= x
        box["bbox"][1] -= y
    within = [box for box in boxes if inside(*box["bbox"])]
    listing = {**content, "images": images, "annotations": within}
    (folder / "boxes.json").write_text(json.dumps(listing))
    return folder


def inside(left: float, top: float, width: float, height: float) -> bool:
    return 0 <= left <= CROP[2] - width and 0 <= top <= CROP[3] - height


@pytest.fixture(scope="module")
def measured(streets: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("measured") / "q.json"
    names = "shot_noise,impulse_noise,brightness,snow,jpeg_compression"
    evaluate(streets, out, "--methods", "clean,degraded,unirestore", "--corruptions", names)
    content: dict[str, Any] = json.loads(out.read_text())
    return content


def test_real_streets_gain(measured: dict[str, Any]) -> None:
    rows = measured["rows"]
    for corruption, least in (
        ("shot_noise", 4), ("brightness", 3), ("snow", 3), ("jpeg_compression", -0.3),
    ):  # fmt: skip
        gain = psnr(rows, "unirestore", corruption) - psnr(rows, "degraded", corruption)
        assert gain >= least, corruption


def test_task_networks_find_more_in_clean_images_than_in_degraded(
    measured: dict[str, Any],
) -> None:
    figures = {(row["method"], row["task"], row["corruption"]): row for row in measured["rows"]}
    clean, noisy = figures["clean", None, None], figures["degraded", None, "impulse_noise"]
    for figure in ("miou", "map50", "top1"):
        assert 0 <= noisy[figure] < clean[figure] <= 1, figure


def test_differences_and_prompts_are_measured(measured: dict[str, Any]) -> None:
    differences = measured["differences"]
    assert {entry["figure"] for entry in differences} == {"psnr", "miou", "map50", "top1"}
    assert all(entry["low"] <= entry["value"] <= entry["high"] for entry in differences)
    assert {(e["task"], e["stride"]) for e in measured["prompts"]} == {
        (task, stride) for task in ("segmentation", "detection", "classification")
        for stride in (8, 4, 2)
    }  # fmt: skip
    assert all(e["change"] > 0 for e in measured["prompts"])


def note() -> Annotation:
    """A car of 8x8 in a road, labels unknown in the last row."""
    labels = np.full((16, 16), 3, np.uint8)
    labels[2:10, 4:12], labels[-1] = 8, 11
    return Annotation(labels, np.array([[0, 4, 2, 8, 8]], np.float32))


def found(labels: np.ndarray, left: float, right: bool = True) -> Finding:
    heat, boxes = np.zeros((4, 4, 4), np.float32), np.zeros((4, 4, 4), np.float32)
    heat[0, 1, 2], boxes[:, 1, 2] = 0.9, (left, 2, left + 8, 10)
    return finding(labels, heat, boxes, note(), np.array([right]))


def test_figures_of_what_is_right_and_what_is_not() -> None:
    perfect = found(note().labels, left=4)
    assert figures_of([perfect]) == {"miou": 1.0, "map50": 1.0, "top1": 1.0}
    all_road = found(np.full((16, 16), 3), left=11, right=False)
    assert figures_of([all_road]) == {
        "miou": pytest.approx((240 - 64) / 240 / 2, abs=1e-4), "map50": 0.0, "top1": 0.0,
    }  # fmt: skip
    assert figures_of([perfect, all_road])["top1"] == 0.5


def score(findings: list[Finding], psnr: float = 20.0) -> Score:
    return Score([{"psnr": psnr + i, "ssim": 0.5} for i in range(len(findings))], findings)


def test_a_difference_comes_with_its_interval() -> None:
    good, bad = found(note().labels, left=4), found(np.full((16, 16), 3), left=4)
    scores = {
        ("unirestore", "perception", "fog"): score([good, bad] * 3, 24.0),
        ("unirestore", "segmentation", "fog"): score([good] * 6),
        ("degraded", None, "fog"): score([bad] * 6),
        ("clean", None, None): score([good] * 6),
        ("nafnet", None, "fog"): score([bad] * 6),
    }
    entries = {(e["figure"], *e["less"]): e for e in differences(scores)}
    assert set(entries) == {
        ("psnr", "degraded", None), ("psnr", "nafnet", None), ("miou", "degraded", None),
        ("miou", "unirestore", "perception"), ("miou", "nafnet", None),
    }  # fmt: skip
    assert all(e["over"] == "common" for e in entries.values())
    certain = entries["miou", "degraded", None]
    assert certain["low"] == pytest.approx(certain["value"]) == pytest.approx(certain["high"])
    mixed = entries["miou", "unirestore", "perception"]
    assert 0 <= mixed["low"] < mixed["value"] < mixed["high"]
    assert entries["psnr", "nafnet", None]["value"] == pytest.approx(4.0)
    shares = {(e["method"], e["task"]): e["value"] for e in won_back(scores)}
    assert shares["unirestore", "segmentation"] == pytest.approx(1.0)
    assert shares["nafnet", None] == pytest.approx(0.0)


def test_a_comparison_says_nothing_of_what_was_not_measured() -> None:
    scores = {("degraded", None, "fog"): score([])}
    assert Comparison(scores, ("fog",)).draws("miou", "degraded", None) is None
    assert Comparison(scores, ("fog", "snow")).draws("psnr", "degraded", None) is None
    assert differences(scores) == won_back(scores) == []
    assert confidence_interval(np.arange(501.0)) == {"value": 0, "low": 13.475, "high": 487.525}


def test_markdown_has_the_mean_of_each_family() -> None:
    scores, machine = [{"psnr": 20.0, "ssim": 0.5}], figures_of([])
    rows = [
        make_row("degraded", None, "shot_noise", 3, scores, machine),
        make_row("degraded", None, "impulse_noise", 3, [{"psnr": 30.0, "ssim": 0.5}], machine),
    ]
    assert "| **noise, mean** | 25.00 |" in markdown(rows, "psnr")
