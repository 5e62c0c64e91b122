"""Read the files of a bundle: none outside of its folder, nothing but plain files, none too large,
and what is executable only where nobody untrusted could have written it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import unirestore_ros

EXECUTABLE = ("tensorrt", "tensorrt_rtx", "torch")
"""Folders of backends whose parts are programs: loading one can run anything."""
MAX_FILES = 1000
MAX_FILE_BYTES = 16 << 30
MAX_BUNDLE_BYTES = 64 << 30
MAX_TEXT_BYTES = 1 << 20
"""Most bytes of the manifest and of its hash, which are parsed."""
_PIECE = 1 << 20
_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
}


def home_of(folder: Path, manifest: str) -> Path:
    """Return the folder that a bundle really lies in, without links.

    An installation may consist of links to the files of a source folder (colcon's
    ``--symlink-install``): then that folder is the bundle's. OSError where there is no manifest.
    """
    return _resolved(folder / manifest).parent


def list_files(folder: Path) -> set[str]:
    """List all that is not a folder, as paths below ``folder``; ValueError where it is too much.

    A link to a folder counts as a file, so that it is refused.
    """
    found: set[str] = set()
    size = 0
    for root, folders, files in os.walk(folder):
        links = [name for name in folders if (Path(root) / name).is_symlink()]
        for path in (Path(root) / name for name in files + links):
            found.add(path.relative_to(folder).as_posix())
            with contextlib.suppress(FileNotFoundError):  # it is missed where it is read
                size += path.lstat().st_size
        if len(found) > MAX_FILES or size > MAX_BUNDLE_BYTES:
            raise ValueError(f"more than {MAX_FILES} files or {MAX_BUNDLE_BYTES >> 30} GiB")
    return found


def read_file(home: Path, path: str, most: int = MAX_FILE_BYTES) -> bytes:
    """Read a file whole; ValueError where it may not be read, OSError where it cannot."""
    with _opened(home, path, most) as stream:
        content = stream.read(most + 1)
    if len(content) > most:
        raise ValueError(f"{path} grew over {most} bytes while it was read")
    return content


def hash_file(home: Path, path: str) -> str:
    """Compute a file's SHA-256 in pieces; ValueError where it may not be read, OSError where it
    cannot."""
    digest = hashlib.sha256()
    with _opened(home, path, MAX_FILE_BYTES) as stream:
        while piece := stream.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


def _resolved(path: Path) -> Path:
    """Follow all links; OSError where that ends nowhere, or never."""
    return Path(os.path.realpath(path, strict=True))


@contextlib.contextmanager
def _opened(home: Path, path: str, most: int) -> Iterator[BinaryIO]:
    target = _resolved(home / path)
    if not target.is_relative_to(home):
        raise ValueError(f"{path} is a link that leaves the folder, to {target}")
    _check_kind(path, target.lstat())  # before it is opened, which some devices take for a command
    handle = os.open(target, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(handle, "rb") as stream:
        status = os.fstat(handle)
        _check_kind(path, status)
        if status.st_size > most:
            raise ValueError(f"{path} has {status.st_size} bytes, at most {most} are read")
        yield stream


def _check_kind(path: str, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise ValueError(f"{path} is {kind}, not a file")


def distrust(home: Path, path: str) -> str | None:
    """Return why another user of this machine could have written a file of the bundle; None where
    only root, this user and the owner of this package could.

    The file and the folders from the bundle's down to it must be owned by one of these, and must
    not be writable by everybody; nor may any folder above, unless it is sticky, as /tmp is.
    """
    target = _resolved(home / path)
    inside = [target, *(folder for folder in target.parents if folder.is_relative_to(home))]
    owners = _trusted_owners()
    for each in inside:
        status = each.stat()
        if status.st_uid not in owners:
            return f"{each} belongs to user {status.st_uid}"
        if status.st_mode & stat.S_IWOTH:
            return f"{each} may be written by everybody"
    for folder in home.parents:
        mode = folder.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            return f"{folder} may be written by everybody"
    return None


def _trusted_owners() -> set[int]:
    return {0, os.geteuid(), Path(unirestore_ros.__file__).stat().st_uid}
