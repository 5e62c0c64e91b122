"""Files from the network: resumed where they were cut off, shown as they come, then checked."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import gdown
import requests
from gdown.exceptions import DownloadError
from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError

from unirestore_ros.files import sha256_of

TIMEOUT_S = 60.0
RETRIES = 5
SHA256_HEX = re.compile(r"[0-9a-f]{64}")
AGAIN = (
    "Run the command again, what has come is kept in {}; or get it by other means and give its path"
)

# The error of whichever HTTP client this version of the hub's library is built on.
_HTTP_ERROR: type[BaseException] = HfHubHTTPError.__bases__[0]

_log = logging.getLogger(__name__)


class FetchError(RuntimeError):
    """A file that could not be had, or is not the one that it should be; says what to do."""


def download(url: str, path: Path) -> Path:
    """Get ``url`` (Google Drive too) as ``path``, or keep what is there from an earlier run.

    A download that was cut off goes on where it stopped. Raises FetchError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        gdown.download(
            url, str(path), resume=True, retries=RETRIES, timeout=TIMEOUT_S, use_cookies=False
        )
    except (DownloadError, requests.RequestException) as error:
        raise FetchError(f"{url}: {_in_a_line(error)}. {AGAIN.format(path.parent)}") from error
    return path


def download_from_hub(repository: str, names: tuple[str, ...], folder: Path) -> dict[str, str]:
    """Get files of a Hugging Face repository into ``folder``, all of one revision.

    Returns what each is, by name: repository, revision, SHA-256. Raises FetchError.
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
            problem = f"{repository}: {name}: {_in_a_line(error)}"
            raise FetchError(f"{problem}. {AGAIN.format(folder)}") from error
        # Of large files the entity tag is the checksum.
        expected = about.etag if about.etag and SHA256_HEX.fullmatch(about.etag) else None
        checksum = check_sha256(path, expected)
        origins[name] = f"{repository}@{revision} sha256:{checksum}"
    return origins


def check_sha256(path: Path, expected: str | None) -> str:
    """The file's SHA-256 (hex); FetchError where another was expected."""
    found = sha256_of(path)
    if expected is not None and found != expected.lower():
        raise FetchError(
            f"{path}: its SHA-256 is {found}, not {expected}: it is another file. Delete it and run"
            " the command again"
        )
    return found


def _in_a_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
