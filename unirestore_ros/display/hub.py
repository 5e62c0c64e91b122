"""Between the thread that composes and the page's clients: the newest of each stream, once.

A client is sent the newest packet when it has taken up the one before; where that takes it a moment
only, a second one is on its way meanwhile. So nothing queues up for a slow client, and no client
slows another.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import threading
import time
from collections import deque
from typing import Any, NamedTuple

from aiohttp import web

from unirestore_ros.display.packet import Stream

# A client that takes a packet up within this time may have a second one on its way: at 30 frames a
# second over a wireless network, one alone would wait for its own acknowledgement.
QUICK_S = 0.15


class BadRequest(ValueError):
    """A client sent what makes no sense."""


class _Slot(NamedTuple):
    number: int
    message: bytes


class Client:
    """One connection, in the server's thread."""

    def __init__(self, hub: Hub, socket: web.WebSocketResponse) -> None:
        self.stream = Stream.DRIVER
        self.news = asyncio.Event()
        self._hub = hub
        self._socket = socket
        self._sent = -1
        self._on_the_way: deque[float] = deque()
        self._most = 1
        self._state: str | None = None

    async def send_newest(self) -> None:
        """Until the connection ends."""
        with contextlib.suppress(ConnectionResetError):
            while True:
                self.news.clear()
                state = self._hub.state
                if state is not self._state and state is not None:
                    self._state = state
                    await self._socket.send_str(state)
                slot = self._hub.newest(self.stream)
                is_free = len(self._on_the_way) < self._most
                if slot is not None and is_free and slot.number > self._sent:
                    self._sent = slot.number
                    self._on_the_way.append(time.monotonic())
                    await self._socket.send_bytes(slot.message)
                await self.news.wait()

    async def hear(self, text: str) -> bool | None:
        """What the client says; returns whether restoring is to be enabled, where it asks for that.
        BadRequest where it makes no sense."""
        kind, value = _read_request(text)
        if kind == "ack":
            self._take_up()
        elif kind == "stream":
            self.stream = _read_stream(value)
            self._sent = -1
            self._hub.count_wanted()
        elif kind == "ping":
            await self._socket.send_str(
                json.dumps({"kind": "pong", "sent": value, "now": time.monotonic() * 1e3})
            )
        elif kind == "enable" and isinstance(value, bool):
            return value
        else:
            raise BadRequest(f"{kind!r} is not ack, stream, ping or enable")
        self.news.set()
        return None

    def _take_up(self) -> None:
        if self._on_the_way:
            took = time.monotonic() - self._on_the_way.popleft()
            self._most = 2 if took < QUICK_S else 1


class Hub:
    """Packets and state from any thread; clients in the server's."""

    def __init__(self) -> None:
        self.clients: set[Client] = set()
        self.state: str | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._slots: dict[Stream, _Slot] = {}
        self._wanted: frozenset[Stream] = frozenset()
        self._is_waking = False

    def attach(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """The loop that clients are served in; None at its end."""
        with self._lock:
            self._loop = loop

    def wanted(self) -> frozenset[Stream]:
        """Streams that have clients."""
        return self._wanted

    def publish(self, stream: Stream, message: bytes) -> None:
        with self._lock:
            if stream in self._wanted:
                self._slots[stream] = _Slot(next(self._numbers), message)
                self._wake()

    def tell(self, state: dict[str, Any]) -> None:
        """What all clients are to know, in place of what they were told before."""
        text = json.dumps(state, separators=(",", ":"))
        with self._lock:
            if text != self.state:
                self.state = text
                self._wake()

    def newest(self, stream: Stream) -> _Slot | None:
        with self._lock:
            return self._slots.get(stream)

    def add(self, client: Client) -> None:
        self.clients.add(client)
        self.count_wanted()

    def remove(self, client: Client) -> None:
        self.clients.discard(client)
        self.count_wanted()
        if not self.clients:
            self.state = None  # old when the next one comes

    def count_wanted(self) -> None:
        with self._lock:
            self._wanted = frozenset(client.stream for client in self.clients)
            # What nobody was sent any more is old when somebody wants it again.
            for stream in set(self._slots) - self._wanted:
                del self._slots[stream]

    def _wake(self) -> None:
        """One call at most waits in the loop's own queue."""
        if self._loop is not None and not self._is_waking:
            self._is_waking = True
            self._loop.call_soon_threadsafe(self._tell_clients)

    def _tell_clients(self) -> None:
        with self._lock:
            self._is_waking = False
        for client in self.clients:
            client.news.set()


def _read_request(text: str) -> tuple[str, Any]:
    try:
        request = json.loads(text)
    except json.JSONDecodeError:
        raise BadRequest("not JSON") from None
    if not isinstance(request, dict):
        raise BadRequest("not an object")
    return str(request.get("kind")), request.get("value")


def _read_stream(name: Any) -> Stream:
    try:
        return Stream(name)
    except ValueError:
        raise BadRequest(f"there is no stream {name!r}") from None
