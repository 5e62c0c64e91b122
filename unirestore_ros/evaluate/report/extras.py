"""The parts of the page on video, feature heads and the demonstration's drive."""

from __future__ import annotations

from unirestore_ros.evaluate.report.results import Evaluations, Json, Sure
from unirestore_ros.evaluate.report.targets import head_difference
from unirestore_ros.evaluate.report.words import cell, span, table
from unirestore_ros.evaluate.video import FRESH, STORED, UNTOUCHED

NOT_MEASURED = "Not measured.\n"
NO_DIFFERENCE = 0.02
"""Grey levels, under which two figures of a video are the same."""


def video_section(video: Json | None) -> str:
    if video is None:
        return NOT_MEASURED
    found, meta = video["video"], video["meta"]
    about = f"{meta['frames']} frames of {meta['video']}, {meta['size']}.\n"
    static = ("still scene", "version", "deviation, grey levels", "over its input's")
    clip = ("moving scene", "version", "warped error, grey levels", "PSNR, dB")
    return "\n".join(
        [
            about,
            table(static, [_static_line(row) for row in found["static"]]),
            _flicker_words(found),
            table(clip, [_clip_line(row) for row in found["clip"]]),
            _warp_words(found),
        ]
    )


def _static_line(row: Json) -> list[str]:
    share = f"{row['std'] / row['input_std']:.2f}" if row["input_std"] else ""
    return [row["input"], row["method"], f"{row['std']:.3f}", share]


def _clip_line(row: Json) -> list[str]:
    return [row["input"], row["method"], f"{row['warp_error']:.3f}", f"{row['psnr']:.2f}"]


def _flicker_words(found: Json) -> str:
    rows = {(row["input"], row["method"]): row["std"] for row in found["static"]}
    still, fresh = rows["clean", STORED], rows["clean", FRESH]
    moves = "does not move at all" if still == 0 else f"moves by {still:.3f} grey levels"
    return (
        f"A still scene {moves} with the stored noise, and by {fresh:.3f} grey levels with fresh"
        " noise a frame.\n"
    )


def _warp_words(found: Json) -> str:
    rows = {(row["input"], row["method"]): row["warp_error"] for row in found["clip"]}
    said = []
    for name in dict.fromkeys(row["input"] for row in found["clip"]):
        ours, raw, fresh = (rows[name, version] for version in (STORED, UNTOUCHED, FRESH))
        than = "less" if ours < raw else "more"
        kept = "as with" if abs(fresh - ours) < NO_DIFFERENCE else "against"
        said.append(
            f"On {name} input the restored video changes {than} than its input ({ours:.2f} against"
            f" {raw:.2f} grey levels), {kept} fresh noise a frame ({fresh:.2f})."
        )
    return " ".join(said) + "\n"


def heads_section(evaluations: Evaluations) -> str:
    if evaluations.heads is None:
        return NOT_MEASURED
    meta = evaluations.heads["meta"]
    about = (
        f"{meta['iterations']} iterations of {meta['batch']} crops on {meta['frames']} degraded"
        f" frames; learning rates {', '.join(f'{rate:g}' for rate in meta['rates'])}; scored on"
        f" {meta['images']} images of {meta['data']}, severity {meta['severity']}.\n"
    )
    head = ("head on", "mIoU", "parameters", "best rate", "whole path, GFLOP", "of it the head")
    lines = [_head_line(row) for row in evaluations.heads["heads"]]
    return "\n".join([about, table(head, lines), _head_words(evaluations)])


def _head_line(row: Json) -> list[str]:
    parameters, rate = f"{row['parameters'] / 1e6:.2f} M", f"{row['rate']:g}"
    work = [f"{row[name]:.1f}" for name in ("path_gflop", "head_gflop")]
    return [row["on"], f"{row['miou']:.3f}", parameters, rate, *work]


def _head_words(evaluations: Evaluations) -> str:
    said = []
    over = head_difference(evaluations, "degraded pixels")
    if over is not None:
        said.append(
            f"The head on adapter features is {_surely(over)} than the head on degraded pixels:"
            f" {span(over)}."
        )
    against = head_difference(evaluations, "restored image")
    if against is not None and evaluations.heads is not None:
        work = {row["on"]: row["path_gflop"] for row in evaluations.heads["heads"]}
        share = 1 - work["adapter features"] / work["restored image"]
        said.append(
            f"It is {_within_a_point(against)} the head on the restored image, {span(against)}, for"
            f" {share:.0%} less work."
        )
    return " ".join(said) + "\n"


def _surely(found: Sure) -> str:
    return "better" if found.above else "worse" if found.below else "not shown to be better"


def _within_a_point(found: Sure) -> str:
    if abs(found.value) <= 0.01:
        return "within a point of"
    return "more than a point " + ("above" if found.value > 0 else "below")


def demo_section(demo: Json | None) -> str:
    if demo is None:
        return NOT_MEASURED
    mean = {**demo, "name": "**mean**", "classical_method": None}
    lines = [_demo_line(stretch) for stretch in [*demo["stretches"], mean]]
    head = ("stretch", "degraded", "classical (best)", "restored", "gain")
    about = f"{demo['frames_in']} frames, {demo['frames_out']} restored.\n\n"
    return about + table(head, lines)


def _demo_line(stretch: Json) -> list[str]:
    psnr, method = stretch["psnr_db"], stretch["classical_method"]
    gain = None if psnr["restored"] is None else psnr["restored"] - psnr["degraded"]
    classical = cell(psnr["classical"], ".2f") + (f" ({method})" if method else "")
    shown = [cell(psnr[name], ".2f") for name in ("degraded", "restored")]
    name = stretch["name"].replace("_", " ")
    return [name, shown[0], classical, shown[1], cell(gain, "+.2f")]
