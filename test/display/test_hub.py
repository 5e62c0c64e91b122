"""Packets, and frames on their way to the page's clients: real sockets, a hub the test fills."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest
from display_page import Viewer, until_wanted, with_session

from unirestore_ros.display.hub import QUICK_S, Stream, read_packet, write_packet
from unirestore_ros.display.server import PageServer

LARGE = bytes(2_000_000)


def publish(server: PageServer, number: int, content: bytes = b"jpeg") -> None:
    server.hub.publish(Stream.DRIVER, write_packet({"number": number}, {"driver": content}))


def test_header_and_parts_come_back() -> None:
    parts = {"driver": b"\xff\xd8driver", "camera": b"", "area": b"png"}
    header, read = read_packet(write_packet({"status": "stale", "age_ms": 1.5, "boxes": []}, parts))
    assert header == {"status": "stale", "age_ms": 1.5, "boxes": []}
    assert read == parts


@pytest.mark.parametrize("number", [float("inf"), float("-inf"), float("nan")])
def test_a_number_that_json_does_not_have_is_not_written(number: float) -> None:
    with pytest.raises(ValueError, match="Out of range float values are not JSON compliant"):
        write_packet({"boxes": [[number]]}, {})


@pytest.mark.parametrize("cut", [0, 3, 10, -1])
def test_a_packet_that_is_cut_off_is_refused(cut: int) -> None:
    message = write_packet({"status": "camera"}, {"driver": b"content"})
    with pytest.raises(ValueError):
        read_packet(message[:cut])


def test_a_frame_reaches_every_client_of_its_stream(server: PageServer) -> None:
    async def watch(session: aiohttp.ClientSession) -> None:
        async with session.ws_connect("/frames") as one, session.ws_connect("/frames") as other:
            viewers = Viewer(one), Viewer(other)
            await viewers[1].say("stream", "both")
            await until_wanted(server, Stream.DRIVER, Stream.BOTH)
            publish(server, 1)
            pair = {"driver": b"restored", "camera": b"raw"}
            server.hub.publish(Stream.BOTH, write_packet({"number": 2}, pair))
            assert await viewers[0].frame() == ({"number": 1}, {"driver": b"jpeg"})
            assert await viewers[1].frame() == ({"number": 2}, pair)

    with_session(server.url, watch)


def test_a_slow_client_gets_the_newest_and_no_backlog(server: PageServer) -> None:
    async def watch(session: aiohttp.ClientSession) -> None:
        async with session.ws_connect("/frames", max_msg_size=0) as slow:
            viewer = Viewer(slow)
            await until_wanted(server, Stream.DRIVER)
            for number in range(100):
                publish(server, number, LARGE)
                await asyncio.sleep(0.001)
            first, _ = await viewer.frame()
            second, _ = await viewer.frame()
            assert first["number"] < 99 and second["number"] == 99
            with pytest.raises(asyncio.TimeoutError):
                await slow.receive(0.2)

    with_session(server.url, watch)


def test_a_quick_client_has_a_second_frame_on_its_way(server: PageServer) -> None:
    """And a slow one loses that again."""

    async def watch(session: aiohttp.ClientSession) -> None:
        async with session.ws_connect("/frames") as socket:
            viewer = Viewer(socket)
            await until_wanted(server, Stream.DRIVER)

            async def sent(number: int, acknowledge: bool) -> None:
                publish(server, number)
                assert (await viewer.frame(acknowledge))[0] == {"number": number}

            (client,) = server.hub.clients
            while (
                client._max_unacknowledged == 1 or client._sent_at
            ):  # a busy machine may be slow at first
                await sent(1, acknowledge=True)
                await asyncio.sleep(0.01)
            await sent(2, acknowledge=False)
            await sent(3, acknowledge=False)
            publish(server, 4)
            with pytest.raises(asyncio.TimeoutError):
                await socket.receive(2 * QUICK_S)
            for _ in range(2):
                await viewer.say("ack")
            assert (await viewer.frame(acknowledge=False))[0] == {"number": 4}
            publish(server, 5)
            with pytest.raises(asyncio.TimeoutError):
                await socket.receive(2 * QUICK_S)

    with_session(server.url, watch)


def test_a_client_that_does_not_read_slows_nobody(server: PageServer) -> None:
    async def watch(session: aiohttp.ClientSession) -> None:
        async with session.ws_connect("/frames") as stuck, session.ws_connect("/frames") as live:
            viewer = Viewer(live)
            while len(server.hub.clients) < 2:
                await asyncio.sleep(0.005)
            for number in range(50):
                publish(server, number, LARGE)
                header, _ = await viewer.frame()
                assert header["number"] == number
            assert not stuck.closed

    with_session(server.url, watch)


def test_an_old_frame_of_a_stream_is_not_kept_for_later_clients(server: PageServer) -> None:
    async def watch(session: aiohttp.ClientSession) -> None:
        async with session.ws_connect("/frames") as first:
            await until_wanted(server, Stream.DRIVER)
            publish(server, 1)
            await Viewer(first).frame()
        await until_wanted(server)
        publish(server, 2)  # nobody is there: not even kept
        async with session.ws_connect("/frames") as second:
            await until_wanted(server, Stream.DRIVER)
            publish(server, 3)
            assert (await Viewer(second).frame())[0] == {"number": 3}

    with_session(server.url, watch)


def test_the_state_is_forgotten_with_the_last_client(server: PageServer) -> None:
    """Without viewers it is not kept up to date, so a later one must not be sent it."""

    async def watch(session: aiohttp.ClientSession) -> None:
        async with session.ws_connect("/frames") as one:
            await until_wanted(server, Stream.DRIVER)
            server.hub.publish_state({"kind": "state", "status": "stale"})
            await one.receive(10)
            async with session.ws_connect("/frames") as other:
                await other.receive(10)
            while len(server.hub.clients) > 1:
                await asyncio.sleep(0.005)
            assert server.hub.state is not None, "there is a viewer still"
        await until_wanted(server)
        async with session.ws_connect("/frames") as late:
            await Viewer(late).say("ping", 1)
            assert json.loads((await late.receive(10)).data)["kind"] == "pong"

    with_session(server.url, watch)


def test_state_is_sent_at_once_and_to_clients_that_come_later(server: PageServer) -> None:
    async def watch(session: aiohttp.ClientSession) -> None:
        async with session.ws_connect("/frames") as one, session.ws_connect("/frames") as other:
            while len(server.hub.clients) < 2:
                await asyncio.sleep(0.005)
            server.hub.publish_state({"kind": "state", "status": "camera"})
            for client in (one, other):
                assert json.loads((await client.receive(10)).data)["status"] == "camera"
            async with session.ws_connect("/frames") as late:
                assert json.loads((await late.receive(10)).data)["status"] == "camera"

    with_session(server.url, watch)


def test_clocks_are_compared(server: PageServer) -> None:
    async def watch(session: aiohttp.ClientSession) -> None:
        async with session.ws_connect("/frames") as client:
            await Viewer(client).say("ping", 12.5)
            pong = json.loads((await client.receive(10)).data)
            assert (pong["kind"], pong["sent"]) == ("pong", 12.5) and pong["now"] > 0

    with_session(server.url, watch)


def test_restoring_is_switched(server: PageServer, enabled: list[bool]) -> None:
    async def watch(session: aiohttp.ClientSession) -> None:
        async with session.ws_connect("/frames") as client:
            for value in (False, True):
                await Viewer(client).say("enable", value)
            while len(enabled) < 2:
                await asyncio.sleep(0.005)

    with_session(server.url, watch)
    assert enabled == [False, True]
