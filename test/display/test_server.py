"""The page's server, as clients see it, and who may use it."""

from __future__ import annotations

import asyncio
import socket

import aiohttp
import pytest
from display_page import TOKEN, until_wanted, with_session

from unirestore_ros.display.hub import Stream
from unirestore_ros.display.server import MAX_CLIENTS, Access, PageError, PageServer

LOCAL = Access("", is_local=True)
OPEN = Access(TOKEN, is_local=False)


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost:8080", "[::1]:8080", "127.0.0.2"])
def test_this_machine_by_its_names_is_admitted(host: str) -> None:
    assert LOCAL.refusal(host, None) is None
    assert LOCAL.refusal(host, f"http://{host}") is None


@pytest.mark.parametrize("host", ["evil.example:8080", "192.168.1.5", "", None, "127.0.0.1.evil.x"])
def test_a_foreign_name_of_this_machine_is_refused(host: str | None) -> None:
    """DNS rebinding: the browser believes that it talks to the other site."""
    refusal = LOCAL.refusal(host, None)
    assert refusal is not None and "this machine only" in refusal


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "http://127.0.0.1:9999", "null", "http://127.0.0.1"]
)
def test_a_script_of_another_page_is_refused(origin: str) -> None:
    refusal = LOCAL.refusal("127.0.0.1:8080", origin)
    assert refusal is not None and "may not use this one" in refusal


def test_another_address_is_served_by_its_own_name() -> None:
    assert OPEN.refusal("10.0.0.7:8080", "http://10.0.0.7:8080") is None
    assert OPEN.refusal("10.0.0.7:8080", "http://evil.example") is not None


def test_only_the_token_is_admitted() -> None:
    assert OPEN.admits(TOKEN)
    for wrong in (None, "", TOKEN[:-1], TOKEN + "0", "ÿ" * 16):
        assert not OPEN.admits(wrong)
    assert LOCAL.admits(None)


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


@pytest.mark.parametrize(
    "said",
    [
        "",
        "[]",
        "[" * 1000,
        '{"kind": "stream", "value": "all"}',
        '{"kind": "enable", "value": 1}',
        "x" * 2000,
    ],
)
def test_a_message_that_is_not_understood_ends_the_connection(
    server: PageServer, said: str
) -> None:
    async def watch(session: aiohttp.ClientSession) -> int | None:
        async with session.ws_connect("/frames") as client:
            await client.send_str(said)
            await client.receive(10)
            while server.hub.clients:
                await asyncio.sleep(0.005)
            return client.close_code

    assert with_session(server.url, watch) in (1008, 1009)


def test_other_sites_are_refused(server: PageServer) -> None:
    async def attempt(session: aiohttp.ClientSession) -> None:
        foreign = {"Origin": "http://evil.example"}
        assert (await session.get("/", headers=foreign)).status == 403
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect("/frames", headers=foreign)
        assert refused.value.status == 403
        rebound = await session.get("/", headers={"Host": "evil.example"})
        assert rebound.status == 403 and "this machine only" in await rebound.text()

    with_session(server.url, attempt)


def test_without_the_token_only_its_form_is_served(guarded: PageServer) -> None:
    async def attempt(session: aiohttp.ClientSession) -> None:
        for path in ("/", "/app.js", "/?token=wrong"):
            answer = await session.get(path)
            assert answer.status == 401 and "Token" in await answer.text()
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect("/frames")
        assert refused.value.status == 401

    with_session(guarded.url, attempt)


def test_the_token_moves_from_the_address_to_a_cookie(guarded: PageServer) -> None:
    async def run() -> None:
        jar = aiohttp.CookieJar(unsafe=True)  # for an address without a name
        async with aiohttp.ClientSession(guarded.url, cookie_jar=jar) as session:
            answer = await session.get(f"/?token={TOKEN}")
            assert answer.status == 200 and str(answer.url) == guarded.url
            cookie = answer.history[0].headers["Set-Cookie"]
            assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
            async with session.ws_connect("/frames"):
                await until_wanted(guarded, Stream.DRIVER)
                assert len(guarded.hub.clients) == 1

    asyncio.run(run())


def test_clients_are_bounded(server: PageServer) -> None:
    async def crowd(session: aiohttp.ClientSession) -> None:
        attempts = [session.ws_connect("/frames") for _ in range(MAX_CLIENTS + 4)]
        results = await asyncio.gather(*attempts, return_exceptions=True)
        refused = [each for each in results if isinstance(each, aiohttp.WSServerHandshakeError)]
        assert [each.status for each in refused] == [503] * 4
        held = [each for each in results if isinstance(each, aiohttp.ClientWebSocketResponse)]
        assert len(held) == MAX_CLIENTS and not any(client.closed for client in held)

    with_session(server.url, crowd)


def test_a_port_in_use_is_reported() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = PageServer("127.0.0.1", port, "", lambda _: None)
        with pytest.raises(PageError, match=rf"port {port}: .*in use.*; set page_address and page"):
            server.start()
        server.stop()


def test_the_server_stops_while_clients_are_connected(server: PageServer) -> None:
    async def watch(session: aiohttp.ClientSession) -> None:
        async with session.ws_connect("/frames") as client:
            await until_wanted(server, Stream.DRIVER)
            await asyncio.get_running_loop().run_in_executor(None, server.stop)
            assert (await client.receive(10)).type is aiohttp.WSMsgType.CLOSE

    with_session(server.url, watch)
