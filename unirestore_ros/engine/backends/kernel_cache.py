"""The kernels that TensorRT for RTX compiles on the card, kept between runs.

The first start on a card takes some 15 s of compiling; what comes of it is code that is run, so it
is kept in a folder that nobody else can write.
"""

from __future__ import annotations

from unirestore_ros.engine.backends.cuda_driver import Device
from unirestore_ros.engine.backends.tensorrt_versions import RTX
from unirestore_ros.engine.bundle import Bundle
from unirestore_ros.engine.manifest import ENGINE_SUFFIX
from unirestore_ros.files import is_private, private_folder, user_cache_folder, written_beside


class KernelCache:
    """The kernels of one part on one card, in a file named after the part's bytes, the card and the
    version of TensorRT for RTX. TensorRT itself refuses kernels that do not fit."""

    def __init__(self, bundle: Bundle, part: str, card: Device, version: str) -> None:
        digest = bundle.manifest.files.get(f"{RTX}/{part}{ENGINE_SUFFIX}", "none")
        name = f"{part}-{digest[:16]}-{_plain(card.name)}-{card.compute_capability}-{version}"
        self._file = user_cache_folder() / "kernels" / f"{name}.bin"
        self.content = self._read()

    def keep(self, kernels: bytes | None) -> None:
        """Write the kernels where they have changed; None: there are none to keep."""
        if not kernels or kernels == self.content:
            return
        self.content = kernels
        if private_folder(self._file.parent):
            with written_beside(self._file) as beside:
                beside.write_bytes(kernels)

    def _read(self) -> bytes | None:
        if self._file.is_file() and is_private(self._file.parent):
            return self._file.read_bytes()
        return None


def _plain(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name)
