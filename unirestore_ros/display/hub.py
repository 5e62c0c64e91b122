"""From the compositor to the page's clients: packets, and the newest of each stream, once.

A packet is one binary message: 4 bytes, big-endian, the length of a JSON header; the header; the
parts one after another. The header's ``parts`` are pairs of a name and a length in bytes:
``driver`` and ``camera`` are JPEG images, ``area`` is a transparent PNG to lay over them.

A client is sent the newest packet when it has acknowledged the one before; a client that is quick
has two on their way. So nothing queues up for a slow client, and no client slows another.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import math
import struct
import threading
import time
from collections import deque
from collections.abc import Mapping
from enum import Enum
from typing import Any, NamedTuple, NoReturn

from aiohttp import web

# A client that acknowledges a packet within this time may have a second one on its way: at 30
# frames a second over a wireless network, one alone would wait for its own acknowledgement.
QUICK_S = 0.15
# A page sends some tens of messages a second: an acknowledgement a frame and a ping now and then.
MAX_MESSAGES_PER_S = 300
_LENGTH = struct.Struct(">I")


class Stream(Enum):
    """Which images a client is sent."""

    DRIVER = "driver"
    CAMERA = "camera"
    BOTH = "both"


def write_packet(header: Mapping[str, Any], parts: Mapping[str, bytes]) -> bytes:
    lengths = [[name, len(content)] for name, content in parts.items()]
    text = _to_json({**header, "parts": lengths}).encode()
    return b"".join((_LENGTH.pack(len(text)), text, *parts.values()))


def read_packet(message: bytes) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Read header and parts; ValueError where the message is cut short or too long."""
    if len(message) < _LENGTH.size:
        raise ValueError("the packet has no header")
    (length,) = _LENGTH.unpack_from(message)
    position = _LENGTH.size + length
    header: dict[str, Any] = json.loads(message[_LENGTH.size : position])
    parts = {}
    for name, size in header.pop("parts"):
        parts[name] = message[position : position + size]
        position += size
    if position != len(message):
        raise ValueError(f"the packet has {len(message)} bytes, its header says {position}")
    return header, parts


def _to_json(content: Mapping[str, Any]) -> str:
    """Write as browsers read it: JSON has no NaN and no infinity, ValueError for those."""
    return json.dumps(content, separators=(",", ":"), allow_nan=False)


class BadRequest(ValueError):
    """A message of a client that is not understood."""


class _Packet(NamedTuple):
    number: int
    message: bytes


class Client:
    """One connection, in the server's thread."""

    def __init__(self, hub: Hub, socket: web.WebSocketResponse) -> None:
        self.stream = Stream.DRIVER
        self.news = asyncio.Event()
        self._hub = hub
        self.socket = socket
        self._sent = -1
        self._sent_at: deque[float] = deque()
        """When each packet was sent that is not acknowledged yet."""
        self._max_unacknowledged = 1
        self._state: str | None = None
        self._second, self._messages = 0, 0

    async def send_newest(self) -> None:
        """Send state and packets until the connection ends."""
        with contextlib.suppress(ConnectionResetError):
            while True:
                self.news.clear()
                state = self._hub.state
                if state is not self._state and state is not None:
                    self._state = state
                    await self.socket.send_str(state)
                packet = self._hub.newest(self.stream)
                is_free = len(self._sent_at) < self._max_unacknowledged
                if packet is not None and is_free and packet.number > self._sent:
                    self._sent = packet.number
                    self._sent_at.append(time.monotonic())
                    await self.socket.send_bytes(packet.message)
                await self.news.wait()

    async def receive(self, text: str) -> bool | None:
        """Act on a message; return whether to enable restoring, where it asks for that.

        Raises BadRequest where the message is not understood.
        """
        self._count_message()
        kind, value = _read_request(text)
        if kind == "ack":
            if self._sent_at:
                took = time.monotonic() - self._sent_at.popleft()
                self._max_unacknowledged = 2 if took < QUICK_S else 1
        elif kind == "stream":
            self.stream = value
            self._sent = -1
            self._hub.count_wanted()
        elif kind == "ping":
            pong = {"kind": "pong", "sent": value, "now": time.monotonic() * 1e3}
            await self.socket.send_str(_to_json(pong))
        elif kind == "enable" and isinstance(value, bool):
            return value
        else:
            raise BadRequest(f"{text[:40]!r} is not ack, stream, ping or enable")
        self.news.set()
        return None

    def _count_message(self) -> None:
        second = int(time.monotonic())
        self._messages = self._messages + 1 if second == self._second else 1
        self._second = second
        if self._messages > MAX_MESSAGES_PER_S:
            raise BadRequest(f"more than {MAX_MESSAGES_PER_S} messages in a second")


def _read_request(text: str) -> tuple[str, Any]:
    """Read kind and value: a Stream for kind ``stream``, else a finite number, a text, true, false
    or none."""
    try:
        request = json.loads(text, parse_constant=_refuse_constant)
        kind, value = str(request["kind"]), request.get("value")
        if isinstance(value, (dict, list)) or (isinstance(value, float) and math.isinf(value)):
            raise ValueError("the value is nested, or too large for a number")
        return kind, Stream(value) if kind == "stream" else value
    except (ValueError, TypeError, KeyError, RecursionError):
        raise BadRequest(f"{text[:40]!r} is not ack, stream, ping or enable") from None


def _refuse_constant(name: str) -> NoReturn:
    """Refuse NaN and Infinity, which Python's reader takes and JSON does not have."""
    raise ValueError(name)


class Hub:
    """Takes packets and state from any thread; holds the clients, in the server's thread."""

    def __init__(self) -> None:
        self.clients: set[Client] = set()
        self.state: str | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._packets: dict[Stream, _Packet] = {}
        self._wanted: frozenset[Stream] = frozenset()
        self._is_waking = False

    def attach(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Set the loop that serves the clients; None at its end."""
        with self._lock:
            self._loop = loop

    def wanted(self) -> frozenset[Stream]:
        """Return the streams that have clients."""
        return self._wanted

    def publish(self, stream: Stream, message: bytes) -> None:
        with self._lock:
            if stream in self._wanted:
                self._packets[stream] = _Packet(next(self._numbers), message)
                self._wake()

    def publish_state(self, state: Mapping[str, Any]) -> None:
        """Send the state to all clients, and to those that connect later."""
        text = _to_json(state)
        with self._lock:
            if text != self.state:
                self.state = text
                self._wake()

    def newest(self, stream: Stream) -> _Packet | None:
        with self._lock:
            return self._packets.get(stream)

    def add(self, client: Client) -> None:
        self.clients.add(client)
        self.count_wanted()

    def remove(self, client: Client) -> None:
        self.clients.discard(client)
        self.count_wanted()
        if not self.clients:
            self.state = None  # out of date when the next client comes

    def count_wanted(self) -> None:
        with self._lock:
            self._wanted = frozenset(client.stream for client in self.clients)
            # A packet of a stream without clients is out of date when one wants it again.
            for stream in set(self._packets) - self._wanted:
                del self._packets[stream]

    def _wake(self) -> None:
        """Wake the clients from another thread; at most one call waits in the loop's queue."""
        if self._loop is not None and not self._is_waking:
            self._is_waking = True
            self._loop.call_soon_threadsafe(self._wake_clients)

    def _wake_clients(self) -> None:
        with self._lock:
            self._is_waking = False
        for client in self.clients:
            client.news.set()
