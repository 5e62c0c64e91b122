"""Write files that are whole or absent; find the package's own."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import logging
import os
import shutil
import site
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import unirestore_ros

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2

_log = logging.getLogger(__name__)


def share_folders() -> Iterator[Path]:
    """List where ``config/`` and ``engines/`` may lie: the checkout, the ROS prefixes, this
    Python's."""
    yield Path(unirestore_ros.__file__).resolve().parent.parent
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    for prefix in dict.fromkeys((*filter(None, prefixes), sys.prefix, site.getuserbase())):
        yield Path(prefix) / "share" / "unirestore_ros"


def user_cache_folder() -> Path:
    """Return the package's folder among the user's caches; it may not exist."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "unirestore_ros"


def private_folder(folder: Path) -> bool:
    """Make the folder with mode 0700 where it is missing; tell whether it is this user's and nobody
    else can reach into it, as a folder of code that is run must be. False, with a warning, where it
    cannot be made: a vehicle's disk may be read-only."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        _log.warning("%s cannot be made, nothing is kept there: %s", folder, error.strerror)
        return False
    return is_private(folder)


def is_private(folder: Path) -> bool:
    """Tell whether a folder is this user's and nobody else can reach into it."""
    status = folder.lstat()
    private = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
    if private and not status.st_mode & 0o077:
        return True
    _log.warning("%s is not a folder of mode 0700 of this user: nothing is kept there", folder)
    return False


@contextlib.contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """Yield a path beside ``path``, of the same suffix; on success it is renamed into place, on an
    error deleted."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(path.suffix, f".{path.stem}.", path.parent)
    os.close(handle)
    beside = Path(name)
    try:
        yield beside
        os.chmod(beside, 0o644)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


@contextlib.contextmanager
def folder_written_beside(folder: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``folder``; on success it takes that place in one step, and what
    was there goes. On an error, or a crash, ``folder`` is as it was."""
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield beside
        beside.chmod(0o755)
        sync_folder(beside)
        if folder.exists():
            _exchange(beside, folder)
        else:
            os.replace(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def sha256_of(path: Path) -> str:
    """Compute the hex SHA-256 of a file's bytes, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for piece in iter(lambda: stream.read(1 << 20), b""):
            digest.update(piece)
    return digest.hexdigest()


def sync_folder(folder: Path) -> None:
    """Flush a folder to the disk before its rename: a power cut leaves no name without bytes."""
    for root, _, files in os.walk(folder):
        for path in (*(Path(root) / name for name in files), Path(root)):
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def _exchange(one: Path, other: Path) -> None:
    """Swap two folders in one step, by Linux's renameat2, where the file system can."""
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = (_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    if hasattr(libc, "renameat2"):
        if libc.renameat2(*arguments) == 0:
            return
        code = ctypes.get_errno()
        if code not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            raise OSError(code, os.strerror(code), str(other))
    _log.warning("%s cannot be replaced in one step on this file system", other)
    rename_twice(one, other)


def rename_twice(one: Path, other: Path) -> None:
    """Put ``one`` in the place of ``other``. Between the two renames there is no folder at all, but
    never half of one."""
    aside = one.with_name(one.name + ".old")
    os.replace(other, aside)
    try:
        os.replace(one, other)
    except OSError:
        os.replace(aside, other)
        raise
    shutil.rmtree(aside)
