"""An HTTP server on this host: files with ranges, as Hugging Face serves them too, and cuts."""

from __future__ import annotations

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789012345678901234567890123456789"
HUB = "/stabilityai/sd-turbo/resolve/"


class CuttingServer(ThreadingHTTPServer):
    """Serves ``folder``, and its sd-turbo/ under the addresses of Hugging Face.

    ``cuts``: how often each file, by name, is still to be cut off half-way through what was asked.
    ``asked``: method, name and range of every request.
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.cuts: dict[str, int] = {}
        self.wrong_etags: set[str] = set()
        self.asked: list[tuple[str, str, str | None]] = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> CuttingServer:
        self._thread = threading.Thread(target=self.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    def ranges_of(self, name: str) -> list[str | None]:
        """The requests for a file's bytes."""
        return [span for method, asked, span in self.asked if (method, asked) == ("GET", name)]


class _Handler(BaseHTTPRequestHandler):
    server: CuttingServer
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, with_body: bool) -> None:
        name = self.path.split("?")[0].lstrip("/")
        if self.path.startswith(HUB):
            name = "sd-turbo/" + self.path.removeprefix(HUB).partition("/")[2]
        span = self.headers.get("Range")
        self.server.asked.append((self.command, name, span))
        file = self.server.folder / name
        if not file.is_file():
            self.send_error(404)
            return
        content = file.read_bytes()
        first = int(span.removeprefix("bytes=").partition("-")[0]) if span else 0
        self.send_response(206 if span else 200)
        if span:
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - first))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("X-Repo-Commit", COMMIT)
        digest = (
            "0" * 64 if name in self.server.wrong_etags else hashlib.sha256(content).hexdigest()
        )
        self.send_header("ETag", f'"{digest}"')
        self.end_headers()
        if with_body:
            self._send(name, content[first:])

    def _send(self, name: str, content: bytes) -> None:
        cut = self.server.cuts.get(name, 0) > 0
        if cut:
            self.server.cuts[name] -= 1
            content = content[: len(content) // 2]
        try:
            self.wfile.write(content)
        except (BrokenPipeError, ConnectionResetError):
            return  # a client that has what it wants
        self.close_connection = cut

    def log_message(self, format: str, *args: object) -> None:
        pass
