"""The evaluate command on a few frames of the synthetic drive, and on CamVid where it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import pytest

from unirestore_ros.drive.programme import demo_frames
from unirestore_ros.evaluate.command import main
from unirestore_ros.evaluate.table import make_row, markdown

CAMVID = Path(__file__).parents[3] / "shared" / "data" / "camvid" / "val"
KEYS = {
    "method", "task", "corruption", "severity", "images", "psnr", "ssim", "miou", "map50", "top1",
}  # fmt: skip


def evaluate(data: Path, out: Path, *options: str) -> list[dict[str, Any]]:
    assert main(["--data", str(data), "--out", str(out), *options]) == 0
    rows: list[dict[str, Any]] = json.loads(out.read_text())["rows"]
    return rows


def psnr(rows: list[dict[str, Any]], method: str, corruption: str | None) -> float:
    (row,) = (r for r in rows if (r["method"], r["corruption"]) == (method, corruption))
    return float(row["psnr"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("data")
    (data / "images").mkdir()
    for i, frame in enumerate(list(demo_frames(10))[::5]):
        cv2.imwrite(str(data / "images" / f"{i}.png"), frame.clean[..., ::-1])
    return data


def test_rows_say_what_was_measured(folder: Path, tmp_path: Path) -> None:
    rows = evaluate(folder, tmp_path / "q.json", "--corruptions", "gaussian_noise,speckle_noise")
    assert all(set(row) == KEYS for row in rows)
    assert {row["method"] for row in rows} == {"clean", "degraded", "classical", "unirestore"}
    assert all((row["corruption"] is None) == (row["severity"] is None) for row in rows)
    assert {row["task"] for row in rows if row["method"] == "unirestore"} == {"perception"}
    assert psnr(rows, "clean", None) == 100
    assert psnr(rows, "unirestore", "gaussian_noise") > psnr(rows, "degraded", "gaussian_noise") + 4


@pytest.mark.skipif(not CAMVID.is_dir(), reason="needs CamVid in ../shared")
def test_real_streets_gain(tmp_path: Path) -> None:
    rows = evaluate(
        CAMVID, tmp_path / "q.json", "--limit", "2", "--methods", "degraded,unirestore",
        "--corruptions", "shot_noise,brightness,snow,jpeg_compression",
    )  # fmt: skip
    for corruption, least in (
        ("shot_noise", 4), ("brightness", 3), ("snow", 3), ("jpeg_compression", -0.3),
    ):  # fmt: skip
        gain = psnr(rows, "unirestore", corruption) - psnr(rows, "degraded", corruption)
        assert gain >= least, corruption


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


def test_markdown_has_the_mean_of_each_family() -> None:
    scores = [{"psnr": 20.0, "ssim": 0.5}]
    rows = [
        make_row("degraded", None, "shot_noise", 3, scores),
        make_row("degraded", None, "impulse_noise", 3, [{"psnr": 30.0, "ssim": 0.5}]),
    ]
    assert "| **noise, mean** | 25.00 |" in markdown(rows)
