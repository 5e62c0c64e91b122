"""Limits on the connections to the page that hold before anybody has shown a token.

aiohttp takes any number of connections, and reads a request for as long as a client takes to send
it. Each connection holds one of the process's file descriptors, which DDS needs too. So every
connection passes a gate first: there are so many of them at most, and until its first request that
is allowed each has so much time and may send so many bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

MAX_CONNECTIONS = 64
"""At the next one, the oldest that is no viewer's is closed."""
ADMISSION_S = 10.0
"""A connection without an allowed request is closed after this time."""
MAX_BYTES_BEFORE_ADMISSION = 16 << 10
"""A browser's request has about 1 KiB."""
KEEPALIVE_S = 15.0
"""An admitted connection is closed when its next request has not come within this time."""


class Gate:
    """Makes the protocol of each connection, and holds the open ones, oldest first."""

    def __init__(self, make_protocol: Callable[[], asyncio.Protocol]) -> None:
        """``make_protocol`` makes what speaks HTTP on a connection."""
        self.connections: dict[Connection, None] = {}
        self._make_protocol = make_protocol

    def __call__(self) -> Connection:
        return Connection(self, self._make_protocol)

    def make_room(self) -> bool:
        """Close a connection where there are as many as may be; False where all are viewers'."""
        if len(self.connections) < MAX_CONNECTIONS:
            return True
        oldest = next((each for each in self.connections if not each.is_viewer), None)
        if oldest is None:
            return False
        oldest.close()
        return True


class Connection(asyncio.Protocol):
    """Stands between a connection and the protocol that speaks HTTP on it."""

    def __init__(self, gate: Gate, make_protocol: Callable[[], asyncio.Protocol]) -> None:
        self.is_viewer = False
        """Whether it is a WebSocket, of which there is a limit too."""
        self._gate = gate
        self._make_protocol = make_protocol
        self._protocol: asyncio.Protocol | None = None
        """None where the connection was refused."""
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None
        """None once a request was allowed."""
        self._bytes = 0

    def admit(self) -> None:
        """Lift the limits of time and bytes: a request of this connection was allowed."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None

    def close(self) -> None:
        """Close at once, without sending what is still to be sent."""
        self._gate.connections.pop(self, None)
        self.admit()
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if not self._gate.make_room():
            self._transport.abort()
            return
        self._gate.connections[self] = None
        self._deadline = asyncio.get_running_loop().call_later(ADMISSION_S, self.close)
        self._protocol = self._make_protocol()
        self._protocol.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.close()
        if self._protocol is not None:
            self._protocol.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._deadline is not None:
            self._bytes += len(data)
            if self._bytes > MAX_BYTES_BEFORE_ADMISSION:
                self.close()
                return
        if self._protocol is not None:
            self._protocol.data_received(data)

    def eof_received(self) -> bool | None:
        return None if self._protocol is None else self._protocol.eof_received()

    def pause_writing(self) -> None:
        if self._protocol is not None:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        if self._protocol is not None:
            self._protocol.resume_writing()
