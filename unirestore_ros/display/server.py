"""The web server of the page, in a thread with its own event loop, and who may use it."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import mimetypes
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib import resources
from typing import cast
from urllib.parse import urlsplit

from aiohttp import WSMsgType, web
from aiohttp.typedefs import Handler

from unirestore_ros.display.gate import KEEPALIVE_S, Connection, Gate
from unirestore_ros.display.hub import BadRequest, Client, Hub

MAX_CLIENTS = 16
_FILES = ("index.html", "style.css", "app.js", "stream.js", "view.js", "chart.js", "icon.svg")
_COOKIE = "unirestore_display"
_HEARTBEAT_S = 5.0
_CLOSE_S = 1.0
_MAX_MESSAGE_BYTES = 1024
_MAX_HEADER_BYTES = 4096
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob:; object-src 'none';"
    " base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_TOKEN_FORM = """<!doctype html>
<meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Driver display</title><link rel="stylesheet" href="style.css">
<body class="token"><form><label>Token<input name="token" type="password" autofocus></label>
<button>Open</button></form></body>
"""


@dataclass(frozen=True)
class Access:
    """Who may use the page: no script of another web site, and with a token only who knows it."""

    token: str
    """Empty: none is needed."""
    is_local: bool
    """The page is served to this machine only."""
    origin: str = ""
    """Where a TLS proxy on this machine serves the page, such as https://vehicle.example."""

    @property
    def public_host(self) -> str:
        """The proxy's name and port, as a browser sends them; empty without a proxy."""
        return urlsplit(self.origin).netloc

    def refusal(self, host: str | None, origin: str | None) -> str | None:
        """Return why a request with these headers is refused; None where it is not.

        A script of another site may open WebSockets to any address, but its browser sends that
        site as Origin. A site whose name was made to resolve to 127.0.0.1 sends its name as Host.
        Raises ValueError where they are no host and no origin.
        """
        name = urlsplit(f"//{host or ''}").hostname or ""
        is_public = bool(host) and host == self.public_host
        if self.is_local and not is_public and not _is_this_machine(name):
            return f"the page is served to this machine only, not as {name!r}"
        is_proxied = bool(self.origin) and origin == self.origin
        if origin is not None and not is_proxied and urlsplit(origin).netloc != host:
            return f"a page of {origin} may not use this one"
        return None

    def admits(self, token: str | None) -> bool:
        """Compare with the token, in a time that does not depend on where they differ.

        Raises ValueError where what was sent is no text.
        """
        if not self.token:
            return True
        return hmac.compare_digest((token or "").encode(), self.token.encode())


def _is_this_machine(name: str) -> bool:
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _connection_of(request: web.Request) -> Connection:
    if request.transport is None:
        raise ConnectionResetError("the client has gone")
    return cast(Connection, request.transport.get_protocol())


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Add the security headers to every response, also to refusals."""
    response.headers.update(_HEADERS)


class PageError(RuntimeError):
    """The page cannot be served; the text says what to do."""


class PageServer:
    """Serves the page and its frames from `start` to `stop`."""

    def __init__(
        self,
        address: str,
        port: int,
        token: str,
        enable: Callable[[bool], None],
        origin: str = "",
    ) -> None:
        """``enable`` is called in the server's thread when a client switches restoring.

        ``origin``: where a TLS proxy serves the page; empty: there is none.
        """
        self.hub = Hub()
        self.port = port
        self._address = address
        self._access = Access(token, ipaddress.ip_address(address).is_loopback, origin)
        self._enable = enable
        web_folder = resources.files("unirestore_ros.display") / "web"
        self._files = {name: (web_folder / name).read_bytes() for name in _FILES}
        self._stop: Callable[[], None] = lambda: None
        self._pool = ThreadPoolExecutor(1, "page")
        self._serving: Future[None] | None = None

    @property
    def url(self) -> str:
        """The page's address, without its token."""
        host = f"[{self._address}]" if ":" in self._address else self._address
        return f"http://{host}:{self.port}/"

    def start(self) -> None:
        """Return when the page can be reached; PageError where it cannot be served there."""
        bound: Future[int] = Future()
        self._serving = self._pool.submit(lambda: asyncio.run(self._serve(bound)))
        try:
            self.port = bound.result()
        except OSError as error:
            self._pool.shutdown()
            raise PageError(
                f"the page cannot be served on {self._address}, port {self.port}:"
                f" {error.strerror or error}; set page_address and page_port, or page to false"
            ) from error

    def check(self) -> None:
        """Raise what ended the thread, if anything has."""
        if self._serving is not None and self._serving.done():
            self._serving.result()

    def stop(self) -> None:
        self._stop()
        self._pool.shutdown()

    async def _serve(self, bound: Future[int]) -> None:
        loop, stopping = asyncio.get_running_loop(), asyncio.Event()
        runner = web.AppRunner(
            self._application(),
            access_log=None,
            keepalive_timeout=KEEPALIVE_S,
            max_line_size=_MAX_HEADER_BYTES,
            max_field_size=_MAX_HEADER_BYTES,
            lingering_time=_CLOSE_S,
        )
        await runner.setup()
        gate = Gate(cast(Callable[[], asyncio.Protocol], runner.server))
        try:
            listener = await loop.create_server(gate, self._address, self.port)
        except OSError as error:
            await runner.cleanup()
            bound.set_exception(error)
            return

        def stop() -> None:
            if not loop.is_closed():  # else it has ended by itself
                loop.call_soon_threadsafe(stopping.set)

        self._stop = stop
        self.hub.attach(loop)
        bound.set_result(listener.sockets[0].getsockname()[1])
        await stopping.wait()
        self.hub.attach(None)
        listener.close()
        await runner.cleanup()

    def _application(self) -> web.Application:
        application = web.Application(middlewares=[self._check_access])
        application.router.add_get("/frames", self._serve_frames)
        application.router.add_get("/{name:[^/]*}", self._serve_file)
        application.on_response_prepare.append(_add_headers)
        application.on_shutdown.append(self._close_sockets)
        return application

    @web.middleware
    async def _check_access(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse who may not use the page; move the token from the address into a cookie."""
        headers, access = request.headers, self._access
        token = request.query.get("token")
        try:
            refusal = access.refusal(headers.get("Host"), headers.get("Origin"))
            has_token = token is not None and access.admits(token)
            has_cookie = access.admits(request.cookies.get(_COOKIE))
        except ValueError:
            return web.Response(status=400, text="Host, Origin, token or cookie is malformed\n")
        if refusal:
            return web.Response(status=403, text=f"{refusal}\n")
        if token is not None and has_token:
            redirect = web.HTTPSeeOther("/")
            secure = access.origin.startswith("https:") and headers["Host"] == access.public_host
            redirect.set_cookie(_COOKIE, token, httponly=True, samesite="Strict", secure=secure)
            raise redirect
        if has_cookie:
            _connection_of(request).admit()
        # The style is no secret, and the form that asks for the token uses it.
        elif request.path != "/style.css":
            return web.Response(status=401, text=_TOKEN_FORM, content_type="text/html")
        return await handler(request)

    async def _serve_file(self, request: web.Request) -> web.Response:
        name = request.match_info["name"] or "index.html"
        if name not in self._files:
            raise web.HTTPNotFound
        kind = mimetypes.types_map["." + name.rpartition(".")[2]]
        return web.Response(body=self._files[name], content_type=kind, charset="utf-8")

    async def _serve_frames(self, request: web.Request) -> web.StreamResponse:
        if len(self.hub.clients) >= MAX_CLIENTS:
            raise web.HTTPServiceUnavailable(text=f"{MAX_CLIENTS} clients are connected already\n")
        socket = web.WebSocketResponse(
            heartbeat=_HEARTBEAT_S,
            timeout=_CLOSE_S,
            max_msg_size=_MAX_MESSAGE_BYTES,
            compress=False,
        )
        client = Client(self.hub, socket)
        _connection_of(request).is_viewer = True
        self.hub.add(client)  # before the first await, so that no more than the limit get in
        try:
            await socket.prepare(request)
            sending = asyncio.create_task(client.send_newest())
            try:
                await self._receive(client)
            finally:
                sending.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await sending
        finally:
            self.hub.remove(client)
        return socket

    async def _receive(self, client: Client) -> None:
        """Act on the client's messages until it disconnects or sends one that is not understood."""
        async for message in client.socket:
            if message.type is not WSMsgType.TEXT:
                continue
            try:
                enabled = await client.receive(message.data)
            except BadRequest as error:
                await client.socket.close(code=1008, message=str(error)[:100].encode())
                return
            except ConnectionResetError:
                return
            if enabled is not None:
                self._enable(enabled)

    async def _close_sockets(self, application: web.Application) -> None:
        sockets = [client.socket for client in self.hub.clients if client.socket.prepared]
        await asyncio.gather(*(socket.close(code=1001, message=b"ended") for socket in sockets))
