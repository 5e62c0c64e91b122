"""Calibrate the guard for a bundle: `python -m unirestore_ros.evaluate.guard_calibration`.

It restores photographs in clear and bad weather, plants errors, fits the guard's network on part of
them, writes `unirestore_ros/node/guard.json`, and reports on the others. Run it again whenever
the weights change.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from unirestore_ros.engine import BundleError, Engine, open_engine
from unirestore_ros.evaluate import guard_fit
from unirestore_ros.evaluate.guard_errors import cutouts
from unirestore_ros.evaluate.guard_pairs import (
    GOOD,
    Samples,
    drive_frames,
    photographs,
    planted_samples,
    single_frames,
    video_samples,
    videos,
)
from unirestore_ros.files import written_beside
from unirestore_ros.node.guard import MODEL_FILE, GuardModel
from unirestore_ros.synthetic.programme import TRAINING_SEEDS

# Seconds into each synthetic drive that is calibrated on; the demonstration's is none of these.
_DRIVE_TIMES = (0.0, 5.0, 11.0, 18.0)
_VIDEO_CONDITIONS = (
    ("clean", 0),
    ("driving/fog", 3),
    ("driving/rain", 3),
    ("driving/low_light", 3),
)


def main(argv: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    cv2.setNumThreads(1)
    try:
        with open_engine(options.bundle, threads=options.threads) as engine:
            sets = _collect(engine, options)
    except BundleError as error:
        sys.stderr.write(f"guard_calibration: {error}\n")
        return 1
    if options.report_only:
        model = GuardModel.read(MODEL_FILE)
    else:
        model = _calibrated(sets["calibration"], sets.pop("bias"), options)
        with written_beside(MODEL_FILE) as beside:
            model.write(beside)
    results = _results(model, sets)
    _write(results, options)
    print(_summary({name: results[name] for name in sets}))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "guard_calibration", description="calibrate the node's guard, and report what it catches"
    )
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder with camvid, extra_clean, and so on")
    add("--work", type=Path, required=True, help="folder that keeps restorations (1 GB)")
    add("--bundle", default="tiny", help="whose restorations are judged (default: tiny)")
    add("--threads", type=int, default=1, help="CPU threads of the engine (default: 1)")
    add(
        "--refused", type=float, default=0.003,
        help="share refused of the good frames that the bias is chosen on (%(default)g)",
    )  # fmt: skip
    add("--epochs", type=int, default=18)
    add("--hidden", type=int, default=48, help="hidden units")
    add(
        "--report-only",
        action="store_true",
        help="leave guard.json as it is, and report on what it was not calibrated on",
    )
    add("--out", type=Path, help="JSON file of the results")
    add("--figure", type=Path, help="PNG file of the ROC curves")
    return parser


def _collect(engine: Engine, options: argparse.Namespace) -> dict[str, Samples]:
    """What is calibrated on and, apart from it, what is reported on."""
    data, work = options.data, _work_folder(engine, options.work)
    train = sorted((data / "camvid/train/images").iterdir())
    val = sorted((data / "camvid/val/images").iterdir())
    extra = sorted((data / "extra_clean").rglob("*.jpg"))
    choose = random.Random(0)
    train_files, extra_files = choose.sample(train, 68), choose.sample(extra, 28)
    single = sorted(p for p in (data / "real_adverse").rglob("*") if p.suffix in (".jpg", ".png"))
    people, other_people = cutouts(train[::6]), cutouts(val[::3])
    samples: dict[str, Samples] = {}
    files = train_files + extra_files
    learnt_from = files[::4] + files[1::4] + files[2::4]
    calibrated_on = (
        ("calibration", learnt_from, TRAINING_SEEDS[:9]),
        ("bias", files[3::4], TRAINING_SEEDS[9:12]),
    )
    for name, some, seeds in () if options.report_only else calibrated_on:
        scenes = list(photographs(engine, some, work))
        scenes += drive_frames(engine, seeds, _DRIVE_TIMES, work)
        samples[name] = planted_samples(scenes, people, 0)
        _say(name, samples)
    scenes = list(photographs(engine, val[::9][:12], work))
    samples["val"] = planted_samples(scenes, other_people, 1)
    _say("val", samples)
    scenes = list(single_frames(engine, single, work))
    samples["adverse"] = planted_samples(scenes, other_people, 2)
    _say("adverse", samples)
    scenes = list(videos(engine, data / "drive_clip/solidWhiteRight.mp4", _VIDEO_CONDITIONS, work))
    samples["video"] = video_samples(scenes)
    _say("video", samples)
    return samples


def _work_folder(engine: Engine, work: Path) -> Path:
    """A folder of these weights' own, so that no restoration of others is taken for theirs."""
    manifest = engine.bundle.manifest
    folder = work / f"{manifest.name}-{manifest.weights_sha256[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _say(name: str, samples: dict[str, Samples]) -> None:
    print(f"{name}: {len(samples[name].kinds)} pairs", file=sys.stderr, flush=True)


def _calibrated(samples: Samples, apart: Samples, options: argparse.Namespace) -> GuardModel:
    """The fitted model, its bias such that of the good frames ``apart``, which it was not fitted
    on, the share that is wanted is refused."""
    model = guard_fit.fit(samples, options.epochs, options.hidden)
    good = guard_fit.frame_logits(model, apart)[apart.kinds == GOOD]
    threshold = float(np.quantile(good, 1 - options.refused))
    return dataclasses.replace(model, bias=model.bias - threshold)


def _results(model: GuardModel, sets: dict[str, Samples]) -> dict[str, Any]:
    rows = {
        name: guard_fit.report(samples, guard_fit.frame_logits(model, samples))
        for name, samples in sets.items()
    }
    return {"roc_at": list(guard_fit.ROC_AT), **rows}


def _write(results: dict[str, Any], options: argparse.Namespace) -> None:
    if options.out is not None:
        with written_beside(options.out) as beside:
            beside.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if options.figure is not None:
        _plot(results, options.figure)


def _plot(results: dict[str, Any], file: Path) -> None:
    """ROC curves on what the guard was not calibrated on, a line an error."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    colours = {kind: f"C{i}" for i, kind in enumerate(results["val"]["roc"])}
    for axes, name in zip(panels, ("val", "adverse"), strict=True):
        for kind, caught in results[name]["roc"].items():
            across, up = ([100 * x for x in values] for values in (results["roc_at"], caught))
            axes.plot(across, up, label=kind, color=colours[kind])
        axes.set_xscale("symlog", linthresh=0.1)
        axes.axvline(1, color="#9a9a9a", linewidth=0.8)
        axes.set(xlabel="good frames refused, %", title=f"{name}: {results[name]['errors']} errors")
        axes.grid(color="#e6e6e6")
    panels[0].set_ylabel("errors caught, %")
    panels[0].legend(fontsize=8, loc="lower right")
    with written_beside(file) as beside:
        figure.savefig(beside, format="png", dpi=110)


def _summary(rows: dict[str, Any]) -> str:
    lines = []
    for name, row in rows.items():
        kinds = ", ".join(f"{kind} {_percent(share)}" for kind, share in row["by_kind"].items())
        lines.append(
            f"{name}: {row['good_frames']} good frames, {_percent(row['refused'])} refused;"
            f" {row['errors']} errors, {_percent(row['caught'])} caught ({kinds})"
        )
    return "\n".join(lines)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


if __name__ == "__main__":
    sys.exit(main())
