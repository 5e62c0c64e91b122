"""Clients of the page, for tests: over HTTP and WebSocket, without a browser."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp

from unirestore_ros.display.hub import Stream, read_packet
from unirestore_ros.display.server import PageServer

LIMIT_S = 30.0
TOKEN = "0123456789abcdef"


def with_session(url: str, act: Callable[[aiohttp.ClientSession], Awaitable[Any]]) -> Any:
    """Run what is to be done with one client's session; returns what it returned."""

    async def run() -> Any:
        async with aiohttp.ClientSession(url) as session:
            return await asyncio.wait_for(act(session), LIMIT_S)

    return asyncio.run(run())


async def until_wanted(server: PageServer, *streams: Stream) -> None:
    """Wait until clients want just these streams."""
    while server.hub.wanted() != frozenset(streams):
        await asyncio.sleep(0.005)


class Viewer:
    """A WebSocket client that speaks as the page does."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.states: list[dict[str, Any]] = []

    async def say(self, kind: str, value: Any = None) -> None:
        await self.socket.send_str(json.dumps({"kind": kind, "value": value}))

    async def frame(self, acknowledge: bool = True) -> tuple[dict[str, Any], dict[str, bytes]]:
        """The next frame; states that come before it are kept."""
        while True:
            message = await self.socket.receive(LIMIT_S)
            if message.type is aiohttp.WSMsgType.BINARY:
                break
            assert message.type is aiohttp.WSMsgType.TEXT, message
            self.states.append(json.loads(message.data))
        if acknowledge:
            await self.say("ack")
        return read_packet(message.data)

    async def until(
        self, condition: Callable[[dict[str, Any]], bool]
    ) -> tuple[dict[str, Any], dict[str, bytes]]:
        """The first frame whose header meets the condition."""
        end = time.monotonic() + LIMIT_S
        while True:
            header, parts = await self.frame()
            if condition(header):
                return header, parts
            assert time.monotonic() < end, f"the last header was {header}"
