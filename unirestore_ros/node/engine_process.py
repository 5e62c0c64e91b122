"""The node's end of the engine process: starts it, offers it frames, and ends it.

Whatever the engine or a decoder does (an exception, a crash in native code, out of memory, a hang,
a leak), it does in that process. One that does not answer in time is killed, and the reason is
kept. When the next one is started, `inference.py` decides.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unirestore_ros.engine import BundleError, EngineOutput, InferenceError
from unirestore_ros.engine.channel import (
    ChannelClosed,
    ChannelError,
    Message,
    SharedMemory,
    offset_after,
    receive,
    send,
)
from unirestore_ros.msgs.cdr import MalformedMessage
from unirestore_ros.msgs.encodings import Pixels

# How long a process whose socket was closed may take to end by itself, before it is killed.
_END_S = 0.5
# How long a killed one may take: in an uninterruptible sleep (a driver, a network drive) for ever.
_KILLED_S = 1.0
_abandoned: list[subprocess.Popen[bytes]] = []
"""Processes that had not ended by then, until they have."""
_DTYPES: dict[str, type[np.generic]] = {"uint8": np.uint8, "float32": np.float32}
_BYTES_PER_MB = 1_000_000

# Python without the current folder or the user's variables: it imports what this process would.
_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]);"
    "from unirestore_ros.engine.worker import main; sys.exit(main(sys.argv[2:]))"
)


class EngineLost(RuntimeError):
    """The engine process has ended, or was killed because it did not answer."""


class EngineProcess:
    """One engine process from its start to its end. One thread may call what it answers, the thread
    that made it; any thread may call ``kill`` and the rest."""

    def __init__(self) -> None:
        """Start the process. It is killed with the thread that calls this."""
        _abandoned[:] = [process for process in _abandoned if process.poll() is None]
        self._memory = SharedMemory.create()
        self._connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._requests = 0
        self._decoded: Pixels | None = None
        """The frame that was decoded last, in the shared memory."""
        self._decoded_offset, self._decoding_s = 0, 0.0
        """Where in the memory it lies, and how long it took."""
        self._why_killed = ""
        arguments = [str(theirs.fileno()), str(self._memory.handle), str(os.getpid())]
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", _PROGRAM, json.dumps(sys.path), *arguments],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), self._memory.handle),
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def open(self, timeout_s: float, **options: Any) -> Message:
        """Open a bundle with the arguments of ``open_engine``; returns what the process says of it.

        BundleError where it cannot be used; EngineLost where the process does not survive it.
        """
        return self._request({"open": options}, timeout_s)

    def pin(self, width: int, height: int, timeout_s: float) -> Message:
        """Get ready for frames of another size; errors as in ``open``."""
        return self._request({"pin": (width, height)}, timeout_s)

    def decode(self, data: Pixels, size: tuple[int, int], timeout_s: float) -> Pixels:
        """Decode a JPEG or PNG, (bytes,) uint8, whose header says that it has ``size``, (width,
        height). Returns RGB (H,W,3) uint8 in the shared memory, for ``run``; valid until the next
        frame.

        MalformedMessage where it does not decode to that size; other errors as in ``open``.
        """
        self._decoded = None
        file = self._memory.array(0, data.shape, np.uint8)
        np.copyto(file, data)
        width, height = size
        began = time.monotonic()
        self._request({"decode": {"length": data.size, "size": (height, width)}}, timeout_s)
        self._decoding_s = time.monotonic() - began
        self._decoded_offset = offset_after(0, file)
        self._decoded = self._memory.array(self._decoded_offset, (height, width, 3), np.uint8)
        return self._decoded

    def run(
        self, frame: Pixels, outputs: list[EngineOutput], timeout_s: float
    ) -> Iterator[tuple[EngineOutput, NDArray[Any]]]:
        """Compute the outputs of a frame, (H,W,3) uint8 RGB, and yield each as soon as it is ready,
        valid until the next call: an image as (H,W,3) uint8 RGB, features as (h,w,c) float32. What
        ``decode`` returned is not copied.

        Raises InferenceError where the network fails, EngineLost where the process ends or takes
        longer than ``timeout_s`` for the frame.
        """
        offset, spent_s = self._place(frame)
        deadline = time.monotonic() + timeout_s - spent_s
        with self._watched(timeout_s):
            run = {"size": frame.shape[:2], "offset": offset, "outputs": outputs}
            self._send({"run": run})
            for output in outputs:
                place = self._answer(deadline, "output")
                dtype = _DTYPES[place["dtype"]]
                yield output, self._memory.array(place["offset"], place["shape"], dtype)
            self._answer(deadline, "done")

    def kill(self, why: str) -> None:
        """End the process at once; whoever waits for its answer gets EngineLost with the reason."""
        self._why_killed = self._why_killed or why
        self._process.kill()
        # Whoever waits for an answer does not wait for the end of a process that cannot be killed.
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def why_ended(self) -> str | None:
        """Say why the process has ended, or was killed; None while it runs."""
        if self._why_killed:
            return self._why_killed
        status = self._process.poll()
        if status is None:
            return None
        if status < 0:
            return f"the engine process was ended by {signal.Signals(-status).name}"
        return f"the engine process ended with exit status {status}"

    def resident_mb(self) -> float:
        """Return the memory that the process holds, in MB (10^6 bytes); 0 where it has ended."""
        try:
            with open(f"/proc/{self.pid}/statm", encoding="ascii") as statm:
                pages = int(statm.read().split()[1])
        except (OSError, IndexError):
            return 0.0
        return pages * os.sysconf("SC_PAGE_SIZE") / _BYTES_PER_MB

    def close(self) -> None:
        """End the process: by the end of its input, or by force where it does not follow."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self.kill("it was closed")
            if not self._has_ended():
                _abandoned.append(self._process)
        self._connection.close()
        self._decoded = None
        self._memory.close()

    def _has_ended(self) -> bool:
        """Tell whether a process that was killed has ended, after a moment where it has not."""
        try:
            self._process.wait(_KILLED_S)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _place(self, frame: Pixels) -> tuple[int, float]:
        """Copy the frame into the memory, unless it was decoded there. Returns where it lies, and
        the seconds that the process has had for it."""
        if frame is self._decoded:
            return self._decoded_offset, self._decoding_s
        self._decoded = None  # the copy may overwrite it
        np.copyto(self._memory.array(0, frame.shape, np.uint8), frame)
        return 0, 0.0

    def _request(self, request: Message, timeout_s: float) -> Message:
        with self._watched(timeout_s):
            self._send(request)
            answer: Message = self._answer(time.monotonic() + timeout_s, "done")
            return answer

    def _send(self, request: Message) -> None:
        self._requests += 1
        send(self._connection, {"number": self._requests, **request})

    def _answer(self, deadline: float, expected: str) -> Any:
        """Receive the next part of the answer to the last request, which is to be of that kind."""
        message: Message = {}
        # Answers may still come for a frame that was given up half-way.
        while message.get("number") != self._requests:
            message = receive(self._connection, max(deadline - time.monotonic(), 1e-3))
        if "refused" in message:
            raise BundleError(message["refused"])
        if "failed" in message:
            raise InferenceError(message["failed"])
        if "undecodable" in message:
            raise MalformedMessage(message["undecodable"])
        if "fatal" in message:
            self._why_killed = f"the engine process ended with {message['fatal']}"
            raise ChannelClosed
        if expected not in message:
            raise ChannelError(f"{sorted(message)} instead of {expected!r}")
        return message[expected]

    @contextlib.contextmanager
    def _watched(self, timeout_s: float) -> Iterator[None]:
        """A block that talks to the process: EngineLost, with the cause, where that fails."""
        try:
            yield
        except TimeoutError:
            self.kill(f"the engine process did not answer within {timeout_s:g} s, and was ended")
        except (ChannelError, KeyError, TypeError) as error:
            self.kill(f"the engine process sent what makes no sense, and was ended: {error}")
        except ChannelClosed:
            pass
        else:
            return
        self._process.kill()  # one that has closed its socket only is of no use either
        if not self._why_killed:
            self._has_ended()  # its status says why
        raise EngineLost(self.why_ended() or "the engine process has ended")
