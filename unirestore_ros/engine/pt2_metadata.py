"""Notes in a ``.pt2`` file of torch.export, read and added without torch.

Such a file is a zip archive with one folder at its root; what its ``extra/`` holds is the user's
(torch.export.save, ``extra_files``). The reader takes entries appended to the archive as its own.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

_ENTRY = "extra/unirestore.json"


def read_metadata(path: Path) -> dict[str, str]:
    """ValueError where the file is not such an archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            name = _entry(archive)
            if name not in archive.namelist():
                return {}
            values = json.loads(archive.read(name))
    except (zipfile.BadZipFile, json.JSONDecodeError) as error:
        raise ValueError(f"it is not a .pt2 file: {error}") from error
    return {str(key): str(value) for key, value in values.items()}


def add_metadata(path: Path, entries: Mapping[str, str]) -> None:
    """Append the entries; ValueError where the file has others."""
    present = read_metadata(path)
    if present and present != entries:
        raise ValueError(f"{path.name} carries the fields of another bundle")
    if not present:
        with zipfile.ZipFile(path, "a", zipfile.ZIP_STORED) as archive:
            archive.writestr(zipfile.ZipInfo(_entry(archive)), json.dumps(dict(entries)))


def _entry(archive: zipfile.ZipFile) -> str:
    names = archive.namelist()
    if not names:
        raise ValueError("it is an empty archive")
    return f"{names[0].split('/')[0]}/{_ENTRY}"
