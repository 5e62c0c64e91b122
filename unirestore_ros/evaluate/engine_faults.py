"""Faults planted into the real engine process: a folder that its Python searches first.

It holds a module `onnxruntime` that puts the real one in its own place, with a session that does
first what the file ``fault`` beside it says at that moment. For the fault suite and the soak.
"""

from __future__ import annotations

from pathlib import Path

_MODULE = """
import builtins, ctypes, importlib, os, pathlib, sys, time
import numpy as real_numpy

folder = str(pathlib.Path(__file__).parent)
sys.path.remove(folder)
del sys.modules["onnxruntime"]
real = importlib.import_module("onnxruntime")
sys.path.insert(0, folder)
kept = []


def misbehave():
    try:
        words = pathlib.Path(folder, "fault").read_text().split()
    except FileNotFoundError:
        return
    if words[0] == "raise":
        raise getattr(builtins, words[1])("planted")
    if words[0] == "crash":
        ctypes.string_at(0)
    if words[0] == "exit":
        os._exit(3)
    if words[0] == "sleep":
        time.sleep(float(words[1]))
    if words[0] == "leak":
        kept.append(bytearray(os.urandom(1 << 20)) * int(words[1]))
    return words[0]


class Session(real.InferenceSession):
    def __init__(self, *arguments, **options):
        misbehave()
        super().__init__(*arguments, **options)

    def run_with_iobinding(self, binding, *arguments, **options):
        fault = misbehave()
        super().run_with_iobinding(binding, *arguments, **options)
        if fault == "nan":
            for value in binding.get_outputs():
                if "float" in value.data_type():
                    value.update_inplace(value.numpy() * real_numpy.nan)


real.InferenceSession = Session
sys.modules["onnxruntime"] = real
"""


class EngineFaults:
    """Plants a fault into engine processes that are started with ``folder`` on their path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "onnxruntime.py").write_text(_MODULE)

    def plant(self, fault: str) -> None:
        """Plant ``raise TYPE``, ``crash`` (SIGSEGV), ``exit``, ``sleep SECONDS``, ``leak MIB`` or
        ``nan`` (in all that a part returns as float) for every run of a part from now on."""
        beside = self.folder / "next"
        beside.write_text(fault)
        beside.rename(self.folder / "fault")

    def remove(self) -> None:
        (self.folder / "fault").unlink(missing_ok=True)
