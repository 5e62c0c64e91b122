"""The page's server, as clients see it: real sockets, and a hub that the test fills."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator

import aiohttp
import pytest
from display_page import Viewer, with_session

from unirestore_ros.display.hub import QUICK_S
from unirestore_ros.display.packet import Stream, write_packet
from unirestore_ros.display.server import MOST_CLIENTS, PageError, PageServer

TOKEN = "0123456789abcdef"
LARGE = bytes(2_000_000)


@pytest.fixture
def wishes() -> list[bool]:
    return []


@pytest.fixture
def server(wishes: list[bool]) -> Iterator[PageServer]:
    server = PageServer("127.0.0.1", 0, "", wishes.append)
    server.start()
    yield server
    server.check()
    server.stop()


@pytest.fixture
def guarded() -> Iterator[PageServer]:
    server = PageServer("127.0.0.1", 0, TOKEN, lambda _: None)
    server.start()
    yield server
    server.stop()


async def until_wanted(server: PageServer, *streams: Stream) -> None:
    while server.hub.wanted() != frozenset(streams):
        await asyncio.sleep(0.005)


def publish(server: PageServer, number: int, content: bytes = b"jpeg") -> None:
    server.hub.publish(Stream.DRIVER, write_packet({"number": number}, {"driver": content}))


def test_every_file_of_the_page_is_served(server: PageServer) -> None:
    async def read(session: aiohttp.ClientSession) -> None:
        index = await session.get("/")
        assert index.content_type == "text/html" and index.headers["Content-Security-Policy"]
        for name, kind in (("app.js", "javascript"), ("style.css", "css"), ("icon.svg", "svg")):
            answer = await session.get(f"/{name}")
            assert answer.status == 200 and kind in answer.content_type
            assert name in await (await session.get("/")).text()

    with_session(server.url, read)


@pytest.mark.parametrize("path", ["/nothing", "/server.py", "/..%2fserver.py", "/web/app.js"])
def test_nothing_else_is_served(server: PageServer, path: str) -> None:
    async def read(session: aiohttp.ClientSession) -> int:
        return (await session.get(path)).status

    assert with_session(server.url, read) == 404


def test_the_page_needs_nothing_from_elsewhere(server: PageServer) -> None:
    for name, content in server._files.items():
        text = content.decode().replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text and "https://" not in text and "//cdn" not in text, name


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
            while client._most == 1 or client._on_the_way:  # a busy machine may be slow at first
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


def test_an_old_frame_of_a_stream_is_not_kept_for_who_comes_later(server: PageServer) -> None:
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


def test_state_is_told_at_once_and_to_who_comes_later(server: PageServer) -> None:
    async def watch(session: aiohttp.ClientSession) -> None:
        async with session.ws_connect("/frames") as one, session.ws_connect("/frames") as other:
            while len(server.hub.clients) < 2:
                await asyncio.sleep(0.005)
            server.hub.tell({"kind": "state", "sign": "camera"})
            for client in (one, other):
                assert json.loads((await client.receive(10)).data)["sign"] == "camera"
            async with session.ws_connect("/frames") as late:
                assert json.loads((await late.receive(10)).data)["sign"] == "camera"

    with_session(server.url, watch)


def test_clocks_are_compared(server: PageServer) -> None:
    async def watch(session: aiohttp.ClientSession) -> None:
        async with session.ws_connect("/frames") as client:
            await Viewer(client).say("ping", 12.5)
            pong = json.loads((await client.receive(10)).data)
            assert (pong["kind"], pong["sent"]) == ("pong", 12.5) and pong["now"] > 0

    with_session(server.url, watch)


def test_restoring_is_switched(server: PageServer, wishes: list[bool]) -> None:
    async def watch(session: aiohttp.ClientSession) -> None:
        async with session.ws_connect("/frames") as client:
            for wish in (False, True):
                await Viewer(client).say("enable", wish)
            while len(wishes) < 2:
                await asyncio.sleep(0.005)

    with_session(server.url, watch)
    assert wishes == [False, True]


@pytest.mark.parametrize(
    "said",
    ["", "[]", '{"kind": "stream", "value": "all"}', '{"kind": "enable", "value": 1}', "x" * 2000],
)
def test_what_makes_no_sense_ends_the_connection(server: PageServer, said: str) -> None:
    async def watch(session: aiohttp.ClientSession) -> int | None:
        async with session.ws_connect("/frames") as client:
            await client.send_str(said)
            await client.receive(10)
            while server.hub.clients:
                await asyncio.sleep(0.005)
            return client.close_code

    assert with_session(server.url, watch) in (1008, 1009)


def test_other_sites_are_kept_out(server: PageServer) -> None:
    async def attempt(session: aiohttp.ClientSession) -> None:
        foreign = {"Origin": "http://evil.example"}
        assert (await session.get("/", headers=foreign)).status == 403
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect("/frames", headers=foreign)
        assert refused.value.status == 403
        rebound = await session.get("/", headers={"Host": "evil.example"})
        assert rebound.status == 403 and "this machine only" in await rebound.text()

    with_session(server.url, attempt)


def test_without_the_token_nothing_but_the_question_for_it(guarded: PageServer) -> None:
    async def attempt(session: aiohttp.ClientSession) -> None:
        for path in ("/", "/app.js", "/?token=wrong"):
            answer = await session.get(path)
            assert answer.status == 401 and "Token" in await answer.text()
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect("/frames")
        assert refused.value.status == 401

    with_session(guarded.url, attempt)


def test_the_token_is_taken_out_of_the_address(guarded: PageServer) -> None:
    async def run() -> None:
        jar = aiohttp.CookieJar(unsafe=True)  # for an address without a name
        async with aiohttp.ClientSession(guarded.url, cookie_jar=jar) as session:
            answer = await session.get(f"/?token={TOKEN}")
            assert answer.status == 200 and str(answer.url) == guarded.url
            cookie = answer.history[0].headers["Set-Cookie"]
            assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
            async with session.ws_connect("/frames"):
                assert len(guarded.hub.clients) == 1

    asyncio.run(run())


def test_clients_are_bounded(server: PageServer) -> None:
    async def crowd(session: aiohttp.ClientSession) -> None:
        held = [await session.ws_connect("/frames") for _ in range(MOST_CLIENTS)]
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect("/frames")
        assert refused.value.status == 503
        assert not any(client.closed for client in held)

    with_session(server.url, crowd)


def test_a_port_that_is_taken_is_said_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = PageServer("127.0.0.1", port, "", lambda _: None)
        with pytest.raises(PageError, match=rf"port {port}: .*in use.*; set page_address and page"):
            server.start()
        server.stop()


def test_it_ends_while_clients_are_connected(server: PageServer) -> None:
    async def watch(session: aiohttp.ClientSession) -> None:
        async with session.ws_connect("/frames") as client:
            await until_wanted(server, Stream.DRIVER)
            await asyncio.get_running_loop().run_in_executor(None, server.stop)
            assert (await client.receive(10)).type is aiohttp.WSMsgType.CLOSE

    with_session(server.url, watch)
