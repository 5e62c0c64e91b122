"""`fetch`: SD-Turbo and the released checkpoints, downloaded or given, as one safetensors file.

Each of the four sources is a path, an http(s) address, or left out: then it comes from where it was
published. Pickles are read as weights only; what does not fit the network is refused.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import os
import sys
from pathlib import Path

import torch

import unirestore_ros
from unirestore_ros.model import sources
from unirestore_ros.model.download import FetchError, check_sha256, download, download_from_hub
from unirestore_ros.model.published import SD_TURBO_FILES, from_released
from unirestore_ros.model.weights import WeightsError, save_weights

OUT = Path(unirestore_ros.__file__).parents[1] / "engines" / "weights" / "sd-turbo.safetensors"


@dataclasses.dataclass(frozen=True)
class File:
    """A published file beside SD-Turbo: its option, where it is, its name when downloaded."""

    option: str
    address: str
    name: str


FILES = (
    File("stage1", sources.STAGE1, "unirestore_stage1.ckpt"),
    File("stage2", sources.STAGE2, "unirestore_stage2.ckpt"),
    File("null-embedding", sources.NULL_EMBEDDING, "sd_null_emb.pt"),
)


def main(argv: list[str] | None = None) -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments = _parser().parse_args(argv)
    try:
        _fetch(arguments)
    except (FetchError, WeightsError, OSError) as error:
        sys.stderr.write(f"fetch: {error}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("fetch", description=__doc__)
    parser.add_argument("--sd-turbo", type=Path, metavar="FOLDER", help="as diffusers writes it")
    for file in FILES:
        parser.add_argument(f"--{file.option}", metavar="FILE|URL")
    parser.add_argument(
        "--sha256", action="append", default=[], metavar="OPTION=HEX", type=_checksum,
        help="refuse another file; OPTION is stage1, stage2 or null-embedding",
    )  # fmt: skip
    parser.add_argument(
        "--accept-licence", action="store_true", help="of what is downloaded; without it nothing is"
    )
    parser.add_argument(
        "--downloads", type=Path, default=_cache(), help="kept there, also halves (%(default)s)"
    )
    parser.add_argument("--out", type=Path, default=OUT, help="the file to write (%(default)s)")
    return parser


def _checksum(text: str) -> tuple[str, str]:
    option, _, value = text.partition("=")
    if option not in [file.option for file in FILES] or len(value) != 64:
        raise argparse.ArgumentTypeError(f"must be like stage1=64 hex digits, is {text!r}")
    return option, value


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "unirestore_ros"


def _fetch(arguments: argparse.Namespace) -> None:
    given = {file.option: getattr(arguments, file.option.replace("-", "_")) for file in FILES}
    _consent(arguments, given)
    checksums = dict(arguments.sha256)
    paths, origins = [], {}
    for file in FILES:
        source = given[file.option] or file.address
        path = _file(source, arguments.downloads / file.name)
        checksum = check_sha256(path, checksums.get(file.option, sources.SHA256.get(source)))
        paths.append(path)
        origins[file.option] = f"{source} sha256:{checksum}"
    folder, backbone = _sd_turbo(arguments)
    origins |= {f"sd-turbo/{name}": origin for name, origin in backbone.items()}
    network = from_released(folder, *paths)
    save_weights(network, arguments.out, torch.float32, origins)
    sys.stdout.write(_summary(arguments, origins))


def _sd_turbo(arguments: argparse.Namespace) -> tuple[Path, dict[str, str]]:
    """SD-Turbo's folder, and what each of its files is."""
    folder: Path | None = arguments.sd_turbo
    if folder is None:
        folder = arguments.downloads / "sd-turbo"
        return folder, download_from_hub(sources.SD_TURBO, SD_TURBO_FILES, folder)
    return folder, {
        name: f"{folder / name} sha256:{check_sha256(folder / name, None)}"
        for name in SD_TURBO_FILES
    }


def _consent(arguments: argparse.Namespace, given: dict[str, str | None]) -> None:
    """Say the terms; before a download from the publishers they have to be accepted."""
    sys.stdout.write(sources.LICENCES)
    sys.stdout.flush()
    everything = arguments.sd_turbo is not None and all(given.values())
    if not everything and not arguments.accept_licence:
        raise FetchError("say --accept-licence to download, or give all four sources")


def _file(source: str, kept_as: Path) -> Path:
    if source.startswith(("http://", "https://")):
        return download(source, kept_as)
    return Path(source)


def _summary(arguments: argparse.Namespace, origins: dict[str, str]) -> str:
    lines = [f"{name}: {origin}" for name, origin in origins.items()]
    size = arguments.out.stat().st_size / 1e9
    lines.append(f"{arguments.out}: {size:.2f} GB, float32, with these sources recorded in it")
    if arguments.downloads.is_dir():
        lines.append(f"{arguments.downloads} is not needed any more")
    return "\n".join(lines) + "\n"
