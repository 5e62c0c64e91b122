"""The page: a small web server in a thread of its own, with its own event loop."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import mimetypes
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import resources

from aiohttp import WSMsgType, web
from aiohttp.typedefs import Handler

from unirestore_ros.display.access import Access
from unirestore_ros.display.hub import BadRequest, Client, Hub

MOST_CLIENTS = 16
_FILES = ("index.html", "style.css", "app.js", "stream.js", "view.js", "chart.js", "icon.svg")
_COOKIE = "unirestore_display"
_HEARTBEAT_S = 5.0
_CLOSE_S = 1.0
_LONGEST_REQUEST = 1024
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob:; object-src 'none';"
    " base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_ASK_FOR_TOKEN = """<!doctype html>
<meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Driver display</title><link rel="stylesheet" href="style.css">
<body class="ask"><form><label>Token<input name="token" type="password" autofocus></label>
<button>Open</button></form></body>
"""


class PageError(RuntimeError):
    """The page cannot be served, and what to do."""


class PageServer:
    """Serves the page and its frames from `start` to `stop`."""

    def __init__(self, address: str, port: int, token: str, enable: Callable[[bool], None]) -> None:
        """``enable``: called in the server's thread when somebody switches restoring on or off."""
        self.hub = Hub()
        self.port = port
        self._address = address
        self._access = Access(token, ipaddress.ip_address(address).is_loopback)
        self._enable = enable
        self._files = {name: _read_file(name) for name in _FILES}
        self._sockets: set[web.WebSocketResponse] = set()
        self._stop: Callable[[], None] = lambda: None
        self._pool = ThreadPoolExecutor(1, "page")
        self._serving: Future[None] | None = None

    @property
    def url(self) -> str:
        """Where the page is, its token left out."""
        host = f"[{self._address}]" if ":" in self._address else self._address
        return f"http://{host}:{self.port}/"

    def start(self) -> None:
        """Returns when the page can be reached; PageError where it cannot be served there."""
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
        """Raises what ended the thread, where anything has."""
        if self._serving is not None and self._serving.done():
            self._serving.result()

    def stop(self) -> None:
        self._stop()
        self._pool.shutdown()

    async def _serve(self, bound: Future[int]) -> None:
        loop, stopping = asyncio.get_running_loop(), asyncio.Event()
        runner = web.AppRunner(self._application(), access_log=None)
        await runner.setup()
        try:
            site = web.TCPSite(runner, self._address, self.port)
            await site.start()
        except OSError as error:
            await runner.cleanup()
            bound.set_exception(error)
            return
        self._stop = lambda: _call(loop, stopping.set)
        self.hub.attach(loop)
        bound.set_result(runner.addresses[0][1])
        await stopping.wait()
        self.hub.attach(None)
        await runner.cleanup()

    def _application(self) -> web.Application:
        application = web.Application(middlewares=[self._guard])
        application.router.add_get("/", self._index)
        application.router.add_get("/frames", self._frames)
        application.router.add_get("/{name}", self._file)
        application.on_shutdown.append(self._close_sockets)
        return application

    @web.middleware
    async def _guard(
        self,
        request: web.Request,
        handler: Handler,
    ) -> web.StreamResponse:
        """Refuse who may not see the page; take the token from the address into a cookie."""
        headers = request.headers
        if refusal := self._access.refusal(headers.get("Host"), headers.get("Origin")):
            return web.Response(status=403, text=f"{refusal}\n")
        offered = request.query.get("token")
        if offered is not None and self._access.admits(offered):
            redirect = web.HTTPSeeOther("/")
            redirect.set_cookie(_COOKIE, offered, httponly=True, samesite="Strict")
            raise redirect
        # The style says nothing, and the page that asks for the token wears it.
        if request.path != "/style.css" and not self._access.admits(request.cookies.get(_COOKIE)):
            return web.Response(
                status=401, text=_ASK_FOR_TOKEN, content_type="text/html", headers=_HEADERS
            )
        return await handler(request)

    async def _index(self, request: web.Request) -> web.Response:
        return self._answer("index.html")

    async def _file(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self._files:
            raise web.HTTPNotFound
        return self._answer(name)

    def _answer(self, name: str) -> web.Response:
        kind = mimetypes.types_map["." + name.rpartition(".")[2]]
        return web.Response(
            body=self._files[name], content_type=kind, charset="utf-8", headers=_HEADERS
        )

    async def _frames(self, request: web.Request) -> web.StreamResponse:
        if len(self.hub.clients) >= MOST_CLIENTS:
            raise web.HTTPServiceUnavailable(text=f"{MOST_CLIENTS} clients are connected already\n")
        socket = web.WebSocketResponse(
            heartbeat=_HEARTBEAT_S, timeout=_CLOSE_S, max_msg_size=_LONGEST_REQUEST, compress=False
        )
        await socket.prepare(request)
        client = Client(self.hub, socket)
        self._sockets.add(socket)
        self.hub.add(client)
        sending = asyncio.create_task(client.send_newest())
        try:
            await self._listen(client, socket)
        finally:
            self._sockets.discard(socket)
            self.hub.remove(client)
            sending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sending
        return socket

    async def _listen(self, client: Client, socket: web.WebSocketResponse) -> None:
        async for message in socket:
            if message.type is not WSMsgType.TEXT:
                continue
            try:
                wished = await client.hear(message.data)
            except BadRequest as error:
                await socket.close(code=1008, message=str(error)[:100].encode())
                return
            except ConnectionResetError:
                return
            if wished is not None:
                self._enable(wished)

    async def _close_sockets(self, application: web.Application) -> None:
        closing = [socket.close(code=1001, message=b"ended") for socket in self._sockets]
        await asyncio.gather(*closing)


def _read_file(name: str) -> bytes:
    return (resources.files("unirestore_ros.display") / "web" / name).read_bytes()


def _call(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    """Nothing where the loop has ended by itself."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(function)
