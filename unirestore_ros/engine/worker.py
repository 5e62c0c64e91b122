"""The engine process: holds bundle, backend and CUDA; decodes and restores the frames of a node.

The node starts it (`node/engine_process.py`), tells it over a socket what to do, and kills it when
it does not answer. Whatever goes wrong here therefore ends at most this process. It ends by itself
when the node is gone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import signal
import socket
from typing import Any, Literal

import numpy as np

from unirestore_ros.decoding import UndecodableImage, decode_rgb
from unirestore_ros.engine import BundleError, Engine, EngineOutput, InferenceError, open_engine
from unirestore_ros.engine.channel import (
    ChannelClosed,
    Message,
    SharedMemory,
    offset_after,
    receive,
    send,
)
from unirestore_ros.signals import death_with_parent


class Worker:
    """Answers the node's messages, one at a time, in the order in which they come."""

    def __init__(self, connection: socket.socket, memory: SharedMemory) -> None:
        self._connection = connection
        self._memory = memory
        self._engine: Engine | None = None
        self._number = 0

    def serve(self) -> None:
        """Answer until the node closes its end, which is a ChannelClosed."""
        while True:
            request = receive(self._connection, None)
            self._number = request.pop("number")
            try:
                self._answer(request)
            except UndecodableImage as error:
                self._send("undecodable", str(error))
            except (BundleError, InferenceError) as error:
                self._refuse(request, str(error))
            except ValueError as error:
                self._refuse(request, f"{type(error).__name__}: {error}")

    def _answer(self, request: Message) -> None:
        if "open" in request:
            self._open(**request["open"])
        elif "pin" in request:
            self._engine_now().pin(*request["pin"])
        elif "decode" in request:
            self._decode(**request["decode"])
        else:
            self._run(**request["run"])
        self._send("done", self._describe())

    def _open(self, bundle: str, backend: str, device_id: int, threads: int) -> None:
        self._engine = open_engine(bundle, backend, device_id, threads)

    def _decode(self, length: int, size: list[int]) -> None:
        """Decode the file at the beginning of the memory; its pixels go behind it, where the node
        can read them too."""
        file = self._memory.array(0, (length,), np.uint8)
        decode_rgb(file, self._memory.array(offset_after(0, file), (*size, 3), np.uint8))

    def _run(
        self,
        size: list[int],
        offset: int,
        outputs: list[tuple[Literal["image", "features"], str]],
    ) -> None:
        """Restore the frame at ``offset``; each output goes behind the one before, so that the node
        can read it while the next is computed."""
        engine = self._engine_now()
        frame = self._memory.array(offset, (*size, 3), np.uint8)
        offset = offset_after(offset, frame)
        for _, array in engine.run(frame, [EngineOutput(*output) for output in outputs]):
            np.copyto(self._memory.array(offset, array.shape, array.dtype.type), array)
            place = {"offset": offset, "shape": array.shape, "dtype": array.dtype.name}
            self._send("output", place)
            offset = offset_after(offset, array)

    def _refuse(self, request: Message, why: str) -> None:
        self._send("failed" if "run" in request else "refused", why)

    def fail(self, error: BaseException) -> None:
        """Tell the node why this process ends."""
        with contextlib.suppress(ChannelClosed):
            self._send("fatal", f"{type(error).__name__}: {error}")

    def _send(self, kind: str, content: object) -> None:
        send(self._connection, {"number": self._number, kind: content})

    def _engine_now(self) -> Engine:
        if self._engine is None:
            raise ValueError("there is no engine: open one first")
        return self._engine

    def _describe(self) -> dict[str, Any]:
        """Return what the node has to know of the engine."""
        engine = self._engine_now()
        return {
            "bundle": engine.bundle.name,
            "folder": str(engine.bundle.folder),
            "backend": engine.backend,
            "tasks": engine.tasks,
            "rule": dataclasses.asdict(engine.bundle.manifest.sizes),
            "stride": engine.bundle.manifest.stride,
            "pinned": engine.sizes.padded,
        }


def main(argv: list[str]) -> int:
    """Serve the node that started this process; ``argv``: descriptors of socket and memory, the
    node's process."""
    logging.basicConfig(level=logging.WARNING, format="engine process: %(message)s")
    connection = socket.socket(fileno=int(argv[0]))
    memory = SharedMemory(int(argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is for the node to handle
    # Asked here: the node has threads, and code between fork and exec could wait for their locks.
    death_with_parent(signal.SIGKILL)()
    if os.getppid() != int(argv[2]):
        return 1  # the node ended before its end could end this process
    worker = Worker(connection, memory)
    try:
        worker.serve()
    except ChannelClosed:
        return 0
    except BaseException as error:
        # The boundary of this process: the node names the cause and starts another one.
        logging.exception("ends")
        worker.fail(error)
    return 1
