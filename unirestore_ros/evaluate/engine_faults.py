"""Faults planted into the real engine process: a folder that its Python searches first.

It holds modules `onnxruntime` and `openvino` that put the real ones in their own place, after they
have had these do first, whenever a part is loaded or run, what the file ``fault`` beside them says
at that moment. For the fault suite and the soak.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

_MISBEHAVIOUR = """
import builtins, ctypes, importlib, os, pathlib, sys, time

folder = str(pathlib.Path(__file__).parent)
kept = []


def real(name):
    sys.path.remove(folder)
    del sys.modules[name]
    module = importlib.import_module(name)
    sys.path.insert(0, folder)
    return module


def misbehave():
    try:
        words = pathlib.Path(folder, "fault").read_text().split()
    except FileNotFoundError:
        return
    pathlib.Path(folder, "acted").touch()
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
"""

_ONNXRUNTIME = """
import sys
import numpy
from planted_misbehaviour import misbehave, real

module = real("onnxruntime")


class Session(module.InferenceSession):
    def __init__(self, *arguments, **options):
        misbehave()
        super().__init__(*arguments, **options)

    def run_with_iobinding(self, binding, *arguments, **options):
        fault = misbehave()
        super().run_with_iobinding(binding, *arguments, **options)
        if fault == "nan":
            for value in binding.get_outputs():
                if "float" in value.data_type():
                    value.update_inplace(value.numpy() * numpy.nan)


module.InferenceSession = Session
sys.modules["onnxruntime"] = module
"""

_OPENVINO = """
import sys
import numpy
from planted_misbehaviour import misbehave, real

module = real("openvino")
compile_model, infer = module.Core.compile_model, module.InferRequest.infer


def compile_after(*arguments, **options):
    misbehave()
    return compile_model(*arguments, **options)


def infer_after(self, *arguments, **options):
    fault = misbehave()
    results = infer(self, *arguments, **options)
    if fault == "nan":
        for tensor in self.output_tensors:
            name = tensor.element_type.get_type_name()
            if name == "f32":
                tensor.data[:] = numpy.nan
            elif name == "bf16":
                tensor.data.view(numpy.uint16)[:] = 0x7FC0
    return results


module.Core.compile_model, module.InferRequest.infer = compile_after, infer_after
sys.modules["openvino"] = module
"""


class EngineFaults:
    """Plants a fault into engine processes that are started with ``folder`` on their path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._acted = folder / "acted"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "planted_misbehaviour.py").write_text(_MISBEHAVIOUR)
        for name, source in (("onnxruntime", _ONNXRUNTIME), ("openvino", _OPENVINO)):
            # In place of one that is not installed, `auto` would take it for the real one.
            if importlib.util.find_spec(name) is not None:
                (folder / f"{name}.py").write_text(source)

    def plant(self, fault: str) -> None:
        """Plant ``raise TYPE``, ``crash`` (SIGSEGV), ``exit``, ``sleep SECONDS``, ``leak MIB`` or
        ``nan`` (in all that a part returns as float) for every load and run of a part from now on.
        """
        self._acted.unlink(missing_ok=True)
        beside = self.folder / "next"
        beside.write_text(fault)
        beside.rename(self.folder / "fault")

    def has_acted(self) -> bool:
        """Tell whether the fault that was planted last has come about."""
        return self._acted.exists()

    def remove(self) -> None:
        (self.folder / "fault").unlink(missing_ok=True)
