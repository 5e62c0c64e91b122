"""Where a bundle is, given its folder or its name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from unirestore_ros.engine.errors import BundleError, build_command
from unirestore_ros.files import share_folders


def find_bundle(bundle: str | Path) -> Path:
    """The folder of a bundle. A Path is its path, and so is text with a separator or with a dot or
    ~ in front; a bare name such as ``tiny`` is looked for in ``engine_folders``, then here."""
    path = Path(bundle).expanduser()
    if isinstance(bundle, Path) or os.sep in bundle or bundle.startswith((".", "~")):
        return path
    folders = [*engine_folders(), Path.cwd()]
    for folder in folders:
        if path.name and (folder / path).is_dir():
            return folder / path
    raise BundleError(
        f"bundle {bundle}: no folder of that name in {', '.join(map(str, folders))}",
        build_command(f"engines/{path.name or 'tiny'}.yaml"),
    )


def engine_folders() -> Iterator[Path]:
    """Folders of bundles: the checkout's, those of the ROS prefixes, those of this Python's."""
    return (folder / "engines" for folder in share_folders())
