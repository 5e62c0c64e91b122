"""The page on quality: made of the stored files alone, and what it says of figures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from unirestore_ros.evaluate.command import main
from unirestore_ros.evaluate.plots import plot_gains, plot_two_tasks
from unirestore_ros.evaluate.report.claims import claims
from unirestore_ros.evaluate.report.results import Evaluations, Results, read_evaluations
from unirestore_ros.evaluate.report.targets import targets
from unirestore_ros.synthetic.corruptions import COMMON, FAMILIES, VALIDATION

Json = dict[str, Any]
META = {
    "data": "street/val", "images": 8, "severity": 3, "limit": 8, "corruptions": "common",
    "weights_sha256": "0" * 64, "version": "1", "torch": "2", "machine": "x86_64",
}  # fmt: skip
GAINS = {"noise": 7.0, "light": 4.0, "blur": 0.4}
FIGURES = {"segmentation": "miou", "detection": "map50", "classification": "top1"}


def row(method: str, task: str | None, corruption: str | None, psnr: float, seen: float) -> Json:
    severity = None if corruption is None else 3
    machine = {"miou": seen, "map50": seen, "top1": seen}
    return {"method": method, "task": task, "corruption": corruption, "severity": severity,
            "images": 8, "psnr": psnr, "ssim": 0.5, **machine}  # fmt: skip


def difference(task: str, less: list[str | None], value: float, low: float, high: float) -> Json:
    figure = FIGURES.get(task, "psnr")
    return {"over": "common", "method": "unirestore", "task": task, "less": less,
            "figure": figure, "value": value, "low": low, "high": high}  # fmt: skip


@pytest.fixture
def content() -> Json:
    """Noise and blur as wanted, light too little; segmentation's prompt helps, detection's may."""
    rows = [row("clean", None, None, 100, 0.6)]
    rows += [row("unirestore", task, None, 35, 0.58) for task in ("perception", *FIGURES)]
    for family, names in FAMILIES.items():
        for name in names:
            rows.append(row("degraded", None, name, 15, 0.3))
            rows.append(row("classical", None, name, 15.5, 0.3))
            for task in ("perception", *FIGURES):
                rows.append(row("unirestore", task, name, 15 + GAINS[family], 0.45))
    degraded: list[str | None] = ["degraded", None]
    perception: list[str | None] = ["unirestore", "perception"]
    found = [
        difference("perception", degraded, 4.0, 3.5, 4.5),
        *(difference(task, degraded, 0.15, 0.1, 0.2) for task in FIGURES),
        difference("segmentation", perception, 0.03, 0.02, 0.04),
        difference("detection", perception, 0.01, -0.01, 0.03),
        difference("classification", perception, 0.02, 0.01, 0.03),
    ]
    changes = {"segmentation": 0.05, "detection": 0.05, "classification": 0.004}
    prompts = [{"task": task, "against": "perception", "stride": stride, "change": change}
               for task, change in changes.items() for stride in (8, 4, 2)]  # fmt: skip
    share = {"over": "common", "method": "unirestore", "task": "segmentation", "figure": "miou"}
    won = [{**share, "value": 0.5, "low": 0.4, "high": 0.6}]
    return {"meta": META, "rows": rows, "differences": found, "won_back": won, "prompts": prompts}


def verdicts(content: Json) -> dict[str, str]:
    return {claim.what: claim.verdict for claim in claims(Results("quality", [content]))}


def test_intervals_and_prompts_decide_what_holds(content: Json) -> None:
    found = verdicts(content)
    assert found["One network serves eye and machine"] == "holds"
    assert found["The segmentation prompt makes features better for segmentation"] == "holds"
    assert found["The detection prompt makes features better for detection"] == "not shown"
    # The interval is above 0, but the prompt hardly changes a feature.
    name = "The classification prompt makes features better for classification"
    assert found[name] == "not shown"
    assert found["It generalises to degradations it never saw"] == "not shown"
    assert found["A new task costs one prompt"] == "not shown"


def test_a_harm_does_not_hold(content: Json) -> None:
    content["differences"][0].update(value=-2, low=-3, high=-1)
    content["differences"][4].update(value=-0.02, low=-0.03, high=-0.01)
    found = verdicts(content)
    assert found["One network serves eye and machine"] == "does not hold"
    name = "The segmentation prompt makes features better for segmentation"
    assert found[name] == "does not hold"
    content["differences"][4].update(value=0.0002, low=0.0001, high=0.0003)
    assert verdicts(content)[name] == "not shown"


def test_targets_are_met_missed_or_not_measured(content: Json) -> None:
    main_results = Results("quality", [content])
    met = {t.what: t.met for t in targets(Evaluations(main_results, 0, (), None, None, None))}
    assert met["PSNR over degraded, noise, mean"] is True
    assert met["PSNR over degraded, brightness, contrast, fog, frost, snow, mean"] is False
    assert met["PSNR over degraded, the 4 validation corruptions, mean"] is None
    assert met["PSNR against NAFNet of equal compute, mean (goal +0.2)"] is None
    assert met["lost mIoU won back, segmentation prompt"] is True
    assert met["detection prompt over perception prompt"] is False
    assert met["clean input, mIoU after restoration, perception prompt"] is False


def test_files_of_the_same_weights_are_one_evaluation(content: Json, tmp_path: Path) -> None:
    rows = [row("degraded", None, name, 15, 0.3) for name in VALIDATION]
    validation = {**content, "differences": [], "won_back": [], "rows": rows}
    other = {**content, "meta": {**META, "weights_sha256": "1" * 64}}
    files = []
    judged = {**content, "meta": {**META, "downstream_sha256": "2" * 64}}
    for name, one in (
        ("q", content),
        ("q_validation", validation),
        ("q_elsewhere", other),
        ("q_other_judges", judged),
    ):
        files.append(tmp_path / f"{name}.json")
        files[-1].write_text(json.dumps(one))
    found = read_evaluations(files)
    assert found.main.corruptions == {*COMMON, *VALIDATION}
    assert [one.name for one in found.others] == ["q_elsewhere", "q_other_judges"]
    page = tmp_path / "page.md"
    assert main(["--report", str(page), *map(str, files)]) == 0
    text = page.read_text()
    assert (tmp_path / "q" / "psnr_gain.png").exists()
    assert "](q/psnr_gain.png)" in text
    assert "### elsewhere" in text
    assert "| noise, mean" in text.replace("*", "") and "{{" not in text


def test_what_several_files_have_is_counted_once(content: Json) -> None:
    rival = difference("perception", ["nafnet", None], 1.0, 0.5, 1.5)
    again = {**content, "differences": [*content["differences"], rival]}
    results = Results("quality", [content, again])
    assert results.differences("common") == again["differences"]


def test_what_is_not_an_evaluation_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "x.json"
    file.write_text('{"meta": {}}')
    assert main(["--report", str(tmp_path / "page.md"), str(file)]) == 1
    assert "is no file of `evaluate`" in capsys.readouterr().err
    assert not (tmp_path / "page.md").exists()


def test_plots_are_drawn_where_there_is_something_to_show(content: Json, tmp_path: Path) -> None:
    results = Results("q", [content])
    assert plot_gains(results, tmp_path / "gain.png")
    assert plot_two_tasks(results, tmp_path / "two.png")
    assert (tmp_path / "gain.png").stat().st_size > 5000
    content["rows"] = [{**one, "miou": None, "top1": None} for one in content["rows"]]
    assert not plot_two_tasks(Results("q", [content]), tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_the_page_in_docs_is_what_its_files_say(repository: Path, tmp_path: Path) -> None:
    docs = repository / "docs"
    files = [docs / "quality.json", *sorted(docs.glob("quality_*.json"))]
    page = tmp_path / "docs" / "quality.md"
    page.parent.mkdir()
    for file in files:  # the page refers to the figures beside them
        shutil.copy(file, page.parent)
        if file.with_suffix("").is_dir():
            shutil.copytree(file.with_suffix(""), page.parent / file.stem)
    assert main(["--report", str(page), *(str(page.parent / f.name) for f in files)]) == 0
    assert page.read_text() == (docs / "quality.md").read_text()
