"""A `cv2` that says which process decodes, and can be made to hang or crash where it does.

A folder for the path of node and engine process, as `EngineFaults` has one. Its `cv2` puts the real
one in its own place.
"""

from __future__ import annotations

from pathlib import Path

_CV2 = """
import ctypes, importlib, os, pathlib, sys, time

folder = str(pathlib.Path(__file__).parent)
sys.path.remove(folder)
del sys.modules["cv2"]
module = importlib.import_module("cv2")
sys.path.insert(0, folder)
real = module.imdecode


def imdecode(*arguments):
    with open(pathlib.Path(folder, "decoders"), "a") as stream:
        stream.write(f"{os.getpid()}\\n")
    fault = pathlib.Path(folder, "fault")
    if sys.argv[0] == "-c" and fault.exists():  # an engine process
        if fault.read_text() == "crash":
            ctypes.string_at(0)
        time.sleep(600)
    return real(*arguments)


module.imdecode = imdecode
sys.modules["cv2"] = module
"""


class DecoderFaults:
    """Watches the decoders of processes that are started with ``folder`` on their path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        (folder / "cv2.py").write_text(_CV2)

    def plant(self, fault: str) -> None:
        """Have engine processes ``crash`` (SIGSEGV) or ``hang`` when they decode from now on."""
        beside = self.folder / "next"
        beside.write_text(fault)
        beside.rename(self.folder / "fault")

    def remove(self) -> None:
        (self.folder / "fault").unlink()

    def forget(self) -> None:
        """Forget which processes have decoded."""
        (self.folder / "decoders").unlink(missing_ok=True)

    def decoders(self) -> list[int]:
        """Return the process of each image that was decoded, in order."""
        log = self.folder / "decoders"
        return [int(line) for line in log.read_text().splitlines()] if log.exists() else []
