"""What the node and the engine process share: memory for frames and results, and short messages.

The memory is a memfd: it has no name, so nothing of it is left behind when either side is killed.
It may grow but never shrink, so that neither side can take pages away from under the other. The
messages are JSON on a pair of SOCK_SEQPACKET sockets, which keep messages apart and report the end
of the other side.
"""

from __future__ import annotations

import fcntl
import json
import math
import mmap
import os
import socket
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Arrays begin at multiples of this, which suits every data type and the processor's cache lines.
_ALIGNMENT = 64
_MAX_MESSAGE_BYTES = 1 << 16
# A 4096x4096 frame, its file, its restored image and generous feature maps stay under this.
MAX_SHARED_BYTES = 1 << 30
Message = dict[str, Any]


class ChannelClosed(ConnectionError):
    """The other side has ended, or has closed its socket."""


class ChannelError(ValueError):
    """The other side sent what it must not: no message, or an array outside the shared memory."""


class SharedMemory:
    """Memory of two processes, used as arrays at offsets. It grows when an array needs it."""

    def __init__(self, handle: int) -> None:
        """``handle``: file descriptor of a memfd, which is closed with this object."""
        self.handle = handle
        self._map: mmap.mmap | None = None

    @classmethod
    def create(cls) -> SharedMemory:
        handle = os.memfd_create("unirestore_frames", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        fcntl.fcntl(handle, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        return cls(handle)

    def array(self, offset: int, shape: Sequence[int], dtype: type[np.generic]) -> NDArray[Any]:
        """View the memory as an array, C-contiguous. It stays valid when the memory grows.

        ChannelError where that cannot lie in memory of a reasonable size.
        """
        count = math.prod(shape)
        end = offset + count * np.dtype(dtype).itemsize
        if offset < 0 or offset % _ALIGNMENT or min(shape) < 1 or end > MAX_SHARED_BYTES:
            raise ChannelError(f"an array of shape {tuple(shape)} at byte {offset}")
        return np.frombuffer(self._mapped(end), dtype, count, offset).reshape(shape)

    def close(self) -> None:
        """Give the memory back once the arrays in it are gone."""
        self._map = None
        if self.handle >= 0:
            os.close(self.handle)
        self.handle = -1

    def _mapped(self, size: int) -> mmap.mmap:
        if self._map is None or len(self._map) < size:
            if os.fstat(self.handle).st_size < size:
                os.ftruncate(self.handle, -(-size // mmap.PAGESIZE) * mmap.PAGESIZE)
            self._map = mmap.mmap(self.handle, os.fstat(self.handle).st_size)
        return self._map


def offset_after(offset: int, array: NDArray[Any]) -> int:
    """Return where the next array may begin behind one at ``offset``, in bytes."""
    return -(-(offset + array.nbytes) // _ALIGNMENT) * _ALIGNMENT


def send(connection: socket.socket, message: Message) -> None:
    """Send one message; ChannelClosed where nobody is left to receive it."""
    try:
        connection.sendall(json.dumps(message).encode())
    except OSError as error:
        raise ChannelClosed(str(error)) from None


def receive(connection: socket.socket, timeout_s: float | None) -> Message:
    """Receive one message. TimeoutError after ``timeout_s``; None waits for ever."""
    connection.settimeout(timeout_s)
    try:
        data = connection.recv(_MAX_MESSAGE_BYTES)
    except TimeoutError:
        raise
    except OSError as error:
        raise ChannelClosed(str(error)) from None
    if not data:
        raise ChannelClosed("end of file")
    try:
        message = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ChannelError(f"not a message: {error}") from None
    if not isinstance(message, dict):
        raise ChannelError(f"not a message: {message!r:.100}")
    return message
