"""The page's server, as clients see it, and who may use it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from display_page import TOKEN, Viewer, until_wanted, with_session

from unirestore_ros.display import gate
from unirestore_ros.display.hub import MAX_MESSAGES_PER_S, Stream
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
        '{"kind": "ping", "value": Infinity}',
        '{"kind": "ping", "value": NaN}',
        '{"kind": "ping", "value": -1e999}',
        '{"kind": "ping", "value": [[[1]]]}',
        '{"kind": "ping", "value": {"a": 1}}',
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


def test_a_message_over_a_kibibyte_is_not_read(server: PageServer) -> None:
    """Whatever it says: this one is understood but for its length."""

    async def watch(session: aiohttp.ClientSession) -> int | None:
        async with session.ws_connect("/frames") as client:
            await client.send_str(json.dumps({"kind": "ping", "value": 1}) + " " * 1024)
            await client.receive(10)
            return client.close_code

    assert with_session(server.url, watch) == aiohttp.WSCloseCode.MESSAGE_TOO_BIG


def test_a_flood_of_messages_ends_the_connection(server: PageServer, enabled: list[bool]) -> None:
    async def watch(session: aiohttp.ClientSession) -> int | None:
        async with session.ws_connect("/frames") as client:
            with contextlib.suppress(ConnectionResetError):
                for _ in range(4 * MAX_MESSAGES_PER_S):
                    await client.send_str('{"kind": "enable", "value": false}')
            while not client.closed:
                await client.receive(10)
            return client.close_code

    assert with_session(server.url, watch) == aiohttp.WSCloseCode.POLICY_VIOLATION
    assert len(enabled) < 3 * MAX_MESSAGES_PER_S


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


SECURITY_HEADERS = (
    "Content-Security-Policy",
    "X-Content-Type-Options",
    "Referrer-Policy",
    "Cache-Control",
)


def test_refusals_have_the_security_headers_too(guarded: PageServer) -> None:
    async def read(session: aiohttp.ClientSession) -> None:
        evil = {"Origin": "http://evil.example"}
        token = f"/?token={TOKEN}"
        for path, headers, status in (
            ("/", {}, 401),
            ("/nothing", {}, 401),
            ("/style.css", {}, 200),
            ("/", evil, 403),
            ("/", {"Host": "["}, 400),
            (token, {}, 303),
            ("/nothing", {"Cookie": f"unirestore_display={TOKEN}"}, 404),
        ):
            answer = await session.get(path, headers=headers, allow_redirects=False)
            assert answer.status == status, (path, headers)
            assert [name for name in SECURITY_HEADERS if name not in answer.headers] == [], path
            assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]

    with_session(guarded.url, read)


def status_of(server: PageServer, *lines: bytes) -> int:
    """The status of the answer to a request with these lines."""
    with socket.create_connection(("127.0.0.1", server.port), 10) as client:
        client.sendall(b"\r\n".join((*lines, b"Connection: close", b"", b"")))
        return int(client.makefile("rb").readline().split()[1])


@pytest.mark.parametrize(
    "lines",
    [
        (b"GET / HTTP/1.1", b"Host: ["),
        (b"GET / HTTP/1.1", b"Host: 127.0.0.1", b"Origin: http://["),
        (b"GET / HTTP/1.1", b"Host: 127.0.0.1", b"Cookie: unirestore_display=\xff"),
        (b"GET / HTTP/1.1", b"Host: \xff"),
        (b"GET /%00 \xff HTTP/1.1", b"Host: 127.0.0.1"),
        (b"nonsense",),
        (b"GET / HTTP/1.1", b"Host: 127.0.0.1", b"X: " + b"x" * 5000),
    ],
)
def test_a_malformed_request_is_answered_with_400(
    guarded: PageServer, lines: tuple[bytes, ...]
) -> None:
    found = status_of(guarded, *lines)
    assert found in ((400, 403) if lines[-1] == b"Host: \xff" else (400,))


def idle_connections(server: PageServer, count: int) -> list[socket.socket]:
    return [socket.create_connection(("127.0.0.1", server.port), 10) for _ in range(count)]


def count_closed(connections: list[socket.socket], within_s: float) -> int:
    """How many the server has closed before the time is over."""
    end, closed = time.monotonic() + within_s, 0
    for each in connections:
        each.settimeout(max(0.01, end - time.monotonic()))
        with contextlib.suppress(TimeoutError):
            try:
                closed += each.recv(1) == b""
            except ConnectionResetError:
                closed += 1
    return closed


def test_idle_connections_do_not_keep_a_viewer_out(guarded: PageServer) -> None:
    idle = idle_connections(guarded, 300)
    try:

        async def watch() -> None:
            jar = aiohttp.CookieJar(unsafe=True)
            async with aiohttp.ClientSession(guarded.url, cookie_jar=jar) as session:
                assert (await session.get(f"/?token={TOKEN}")).status == 200
                async with session.ws_connect("/frames") as client:
                    await until_wanted(guarded, Stream.DRIVER)
                    idle.extend(idle_connections(guarded, 100))
                    await Viewer(client).say("ping", 1)
                    assert json.loads((await client.receive(10)).data)["kind"] == "pong"

        asyncio.run(asyncio.wait_for(watch(), 60))
        assert count_closed(idle[:200], 20) == 200
        guarded.check()
    finally:
        for each in idle:
            each.close()


def test_a_connection_without_an_allowed_request_is_closed(
    guarded: PageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "ADMISSION_S", 0.5)
    idle = idle_connections(guarded, 3)
    idle[1].sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
    idle[2].sendall(b"GET /style.css HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    assert idle[2].recv(1 << 20).startswith(b"HTTP/1.1 200")
    while len(idle[2].recv(1 << 20)) > 0:
        pass  # the style, and then the end
    assert count_closed(idle, 10) == 3
    for each in idle:
        each.close()


def test_a_viewer_stays_longer_than_that(
    guarded: PageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "ADMISSION_S", 0.3)

    async def watch(session: aiohttp.ClientSession) -> None:
        cookie = {"Cookie": f"unirestore_display={TOKEN}"}
        async with session.ws_connect("/frames", headers=cookie) as client:
            with pytest.raises(asyncio.TimeoutError):
                await client.receive(1.0)
            await Viewer(client).say("ping", 1)
            assert json.loads((await client.receive(10)).data)["kind"] == "pong"

    with_session(guarded.url, watch)


def test_a_request_without_an_end_is_cut_off(guarded: PageServer) -> None:
    (client,) = idle_connections(guarded, 1)
    with contextlib.suppress(ConnectionError):
        client.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        for number in range(1000):
            client.sendall(b"X-%d: %s\r\n" % (number, b"x" * 1000))
    answer = b""
    with contextlib.suppress(ConnectionError):
        answer = client.recv(100)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400")
    client.close()


PROXIED = Access(TOKEN, is_local=True, origin="https://vehicle.example")


def test_a_proxy_may_keep_its_name_as_host_or_rewrite_it() -> None:
    origin = "https://vehicle.example"
    for host in ("vehicle.example", "127.0.0.1:8080", "localhost"):
        assert PROXIED.refusal(host, origin) is None
        assert PROXIED.refusal(host, None) is None
        for foreign in ("https://evil.example", "http://vehicle.example", "null", ""):
            if (host, foreign) != ("vehicle.example", "http://vehicle.example"):
                assert PROXIED.refusal(host, foreign) is not None
    assert PROXIED.refusal("evil.example", None) is not None
    assert LOCAL.refusal("127.0.0.1:8080", "") is not None


@contextlib.asynccontextmanager
async def tls_proxy(port: int, folder: Path) -> AsyncIterator[int]:
    """Ends TLS and passes everything on, as nginx or Caddy do that keep the Host; yields its
    port."""
    key, certificate = folder / "key.pem", folder / "cert.pem"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    words += ["-keyout", str(key), "-out", str(certificate), "-subj", "/CN=vehicle.example"]
    subprocess.run(words, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(1 << 16):
                writer.write(piece)
                await writer.drain()
        writer.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        page_reader, page_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(copy(reader, page_writer), copy(page_reader, writer))

    server = await asyncio.start_server(relay, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


def through_proxy(folder: Path, origin: str, act: Callable[[aiohttp.ClientSession], Any]) -> None:
    """A page on 127.0.0.1 behind a TLS proxy; ``origin``: what the display was told of it."""
    server = PageServer("127.0.0.1", 0, TOKEN, lambda _: None, origin)
    server.start()

    async def run() -> None:
        async with tls_proxy(server.port, folder) as port:
            base = f"https://127.0.0.1:{port}"
            trust = aiohttp.TCPConnector(ssl=False)
            headers = {"Host": "vehicle.example", "Cookie": f"unirestore_display={TOKEN}"}
            async with aiohttp.ClientSession(base, connector=trust, headers=headers) as session:
                await asyncio.wait_for(act(session), 30)

    try:
        asyncio.run(run())
    finally:
        server.stop()


def test_the_page_works_behind_a_tls_proxy(tmp_path: Path) -> None:
    async def use(session: aiohttp.ClientSession) -> None:
        entered = await session.get(f"/?token={TOKEN}", allow_redirects=False)
        assert (entered.status, entered.headers["Location"]) == (303, "/")
        assert "Secure" in entered.headers["Set-Cookie"]
        assert "stream.js" in await (await session.get("/app.js")).text()
        ours = {"Origin": "https://vehicle.example"}
        async with session.ws_connect("/frames", headers=ours) as client:
            await Viewer(client).say("ping", 1)
            assert json.loads((await client.receive(10)).data)["kind"] == "pong"
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect("/frames", headers={"Origin": "https://evil.example"})
        assert refused.value.status == 403

    through_proxy(tmp_path, "https://vehicle.example", use)


def test_a_proxy_that_the_display_was_not_told_of_is_refused(tmp_path: Path) -> None:
    async def use(session: aiohttp.ClientSession) -> None:
        assert (await session.get("/")).status == 403

    through_proxy(tmp_path, "", use)
