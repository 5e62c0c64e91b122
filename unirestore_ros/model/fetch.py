"""`fetch`: download SD-Turbo and the released checkpoints, convert them to one safetensors file.

Each of the four sources is a path, an address, or left out: then it comes from where it was
published. An address must be https, or have its checksum stated. Downloads resume where they were
cut off. Pickles are read as weights only; what does not
fit the network is refused.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import logging
import os
import re
import sys
from pathlib import Path

import gdown
import requests
import torch
from gdown.exceptions import DownloadError
from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError

from unirestore_ros.files import sha256_of
from unirestore_ros.model.published import SD_TURBO_FILES, from_released
from unirestore_ros.model.weights import SHIPPED_WEIGHTS, WeightsError, save_weights

# Addresses from the README of github.com/unirestore/UniRestore at this revision; the embedding of
# the empty prompt lies beside its code.
UNIRESTORE_REVISION = "6457cd1406e03be627dd06710406169671d89afb"
SD_TURBO = "stabilityai/sd-turbo"
STAGE1 = "https://drive.google.com/uc?id=1a7c8zL8XXd7m3dDEQWZMpQagnkBpdGnK"
STAGE2 = "https://drive.google.com/uc?id=1m2a-8SUtVZaG5ovysJKWqc_mzgGCtDrx"
NULL_EMBEDDING = (
    "https://raw.githubusercontent.com/unirestore/UniRestore/"
    f"{UNIRESTORE_REVISION}/src/modules/diffuie/sd_null_emb.pt"
)
# Checksums that are known beforehand. Hugging Face sends those of its files; none are published
# for the two checkpoints.
SHA256 = {NULL_EMBEDDING: "333561c8f153ec2d3fa87f397640650a139df3ef6fe40eaea04d6c1df1ed4f91"}
LICENCES = """\
What is downloaded is not this package's, and each has terms of its own:
  UniRestore's checkpoints and embedding: MIT (github.com/unirestore/UniRestore)
  SD-Turbo, about 3.8 GB: Stability AI's licence for non-commercial research
    (huggingface.co/stabilityai/sd-turbo). Weights made with it are bound by it too.
"""
OUT = SHIPPED_WEIGHTS / "sd-turbo.safetensors"

TIMEOUT_S = 60.0
RETRIES = 5
SHA256_HEX = re.compile(r"[0-9a-f]{64}")
AGAIN = (
    "Run the command again, what has come is kept in {}; or get it by other means and give its path"
)
# The error of whichever HTTP client this version of the hub's library is built on.
_HTTP_ERROR: type[BaseException] = HfHubHTTPError.__bases__[0]

_log = logging.getLogger(__name__)


# --- the command


@dataclasses.dataclass(frozen=True)
class File:
    """A published file beside SD-Turbo: its option, its address, its name once downloaded."""

    option: str
    address: str
    name: str


FILES = (
    File("stage1", STAGE1, "unirestore_stage1.ckpt"),
    File("stage2", STAGE2, "unirestore_stage2.ckpt"),
    File("null-embedding", NULL_EMBEDDING, "sd_null_emb.pt"),
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
        help="refuse a file that has not this checksum; OPTION: stage1, stage2 or null-embedding",
    )  # fmt: skip
    parser.add_argument(
        "--accept-licence", action="store_true", help="accept the terms of what is downloaded"
    )
    parser.add_argument(
        "--downloads",
        type=Path,
        default=_cache(),
        help="folder of downloads, whole and cut off (%(default)s)",
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
        expected = checksums.get(file.option, SHA256.get(source))
        path = _file(source, arguments.downloads, file, expected)
        checksum = check_sha256(path, expected)
        paths.append(path)
        origins[file.option] = f"{source} sha256:{checksum}"
    folder, backbone = _sd_turbo(arguments)
    origins |= {f"sd-turbo/{name}": origin for name, origin in backbone.items()}
    network = from_released(folder, *paths)
    save_weights(network, arguments.out, torch.float32, origins)
    sys.stdout.write(_summary(arguments, origins))


def _sd_turbo(arguments: argparse.Namespace) -> tuple[Path, dict[str, str]]:
    """Return SD-Turbo's folder, and where each of its files is from, with its checksum."""
    folder: Path | None = arguments.sd_turbo
    if folder is None:
        folder = arguments.downloads / "sd-turbo"
        return folder, download_from_hub(SD_TURBO, SD_TURBO_FILES, folder)
    return folder, {
        name: f"{folder / name} sha256:{check_sha256(folder / name, None)}"
        for name in SD_TURBO_FILES
    }


def _consent(arguments: argparse.Namespace, given: dict[str, str | None]) -> None:
    """Print the terms; raise FetchError where they must be accepted first."""
    sys.stdout.write(LICENCES)
    sys.stdout.flush()
    everything = arguments.sd_turbo is not None and all(given.values())
    if not everything and not arguments.accept_licence:
        raise FetchError("say --accept-licence to download, or give all four sources")


def _file(source: str, downloads: Path, file: File, expected: str | None) -> Path:
    """Return a file's path, downloaded where the source is an address."""
    scheme, _, rest = source.partition("://")
    if not rest:
        return Path(source)
    if scheme.lower() != "https" and (scheme.lower() != "http" or expected is None):
        raise FetchError(
            f"{source}: anybody on the way can change what is sent over {scheme}: give an https"
            f" address, or say which file it must be: --sha256 {file.option}=HEX"
        )
    return download(source, kept_as(downloads, source, file.name))


def kept_as(downloads: Path, url: str, name: str) -> Path:
    """Return where a download is kept: under a name of its address, so that another address never
    takes its file."""
    return downloads / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{name}"


def _summary(arguments: argparse.Namespace, origins: dict[str, str]) -> str:
    lines = [f"{name}: {origin}" for name, origin in origins.items()]
    size = arguments.out.stat().st_size / 1e9
    lines.append(f"{arguments.out}: {size:.2f} GB, float32, with these sources recorded in it")
    if arguments.downloads.is_dir():
        lines.append(f"{arguments.downloads} is not needed any more")
    return "\n".join(lines) + "\n"


# --- downloads


class FetchError(RuntimeError):
    """A file that could not be downloaded, or is another one; the message says what to do."""


def download(url: str, path: Path) -> Path:
    """Download ``url`` (Google Drive too) to ``path``, unless an earlier run did.

    A download that was cut off resumes where it stopped. Raises FetchError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        raise FetchError(f"{path} is a link: delete it and run the command again")
    try:
        gdown.download(
            url, str(path), resume=True, retries=RETRIES, timeout=TIMEOUT_S, use_cookies=False
        )
    except (DownloadError, requests.RequestException) as error:
        raise FetchError(f"{url}: {_one_line(error)}. {AGAIN.format(path.parent)}") from error
    return path


def download_from_hub(repository: str, names: tuple[str, ...], folder: Path) -> dict[str, str]:
    """Download files of a Hugging Face repository into ``folder``, all of one revision.

    Returns repository, revision and SHA-256 of each, by name. Raises FetchError.
    """
    revision = "main"
    origins = {}
    for name in names:
        try:
            url = hf_hub_url(repository, name, revision=revision)
            about = get_hf_file_metadata(url, timeout=TIMEOUT_S)
            revision = about.commit_hash or revision
            _log.info("%s of %s at %s", name, repository, revision)
            path = Path(hf_hub_download(repository, name, revision=revision, local_dir=folder))
        except (OSError, _HTTP_ERROR) as error:
            problem = f"{repository}: {name}: {_one_line(error)}"
            raise FetchError(f"{problem}. {AGAIN.format(folder)}") from error
        # The entity tag of a large file is its checksum.
        expected = about.etag if about.etag and SHA256_HEX.fullmatch(about.etag) else None
        checksum = check_sha256(path, expected)
        origins[name] = f"{repository}@{revision} sha256:{checksum}"
    return origins


def check_sha256(path: Path, expected: str | None) -> str:
    """Return a file's SHA-256 (hex); FetchError where another was expected."""
    found = sha256_of(path)
    if expected is not None and found != expected.lower():
        raise FetchError(
            f"{path}: its SHA-256 is {found}, not {expected}: it is another file. Delete it and run"
            " the command again"
        )
    return found


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
