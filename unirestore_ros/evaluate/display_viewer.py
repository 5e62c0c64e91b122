"""Viewers of the display's page, without a browser; they speak as its script does.

    python -m unirestore_ros.evaluate.display_viewer URL OUT.npz PAUSE_S ...

One for each pause: so long it takes over every frame, 0 for one that is as fast as frames come.
They wait for the page, and run until SIGINT or SIGTERM; then OUT.npz holds for each (`viewer0`,
...) an array (frames, 3): stamp and arrival in nanoseconds of the system clock, and whether it was
restored.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

from unirestore_ros.display.hub import read_packet
from unirestore_ros.files import written_beside

_RETRY_S = 0.02


class Viewer:
    def __init__(self, pause_s: float) -> None:
        self.frames: list[tuple[int, int, int]] = []
        self._pause_s = pause_s

    async def watch(self, session: aiohttp.ClientSession) -> None:
        socket = await _connected(session)
        async for message in socket:
            if message.type is not aiohttp.WSMsgType.BINARY:
                continue
            header, _ = read_packet(message.data)
            seconds, _, nanoseconds = header["stamp"].partition(".")
            stamp = int(seconds) * 10**9 + int(nanoseconds)
            self.frames.append((stamp, time.time_ns(), header["status"] == "restored"))
            await asyncio.sleep(self._pause_s)
            await socket.send_str(json.dumps({"kind": "ack", "value": None}))


async def _connected(session: aiohttp.ClientSession) -> Any:
    """Once the page is there."""
    while True:
        try:
            return await session.ws_connect("/frames", max_msg_size=0)
        except aiohttp.ClientConnectorError:
            await asyncio.sleep(_RETRY_S)


async def _watch(url: str, viewers: list[Viewer]) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with aiohttp.ClientSession(url) as session:
        watching = [asyncio.create_task(viewer.watch(session)) for viewer in viewers]
        await stopping.wait()
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)


def read_viewers(path: Path) -> list[np.ndarray]:
    """Read what the viewers wrote: for each an array (frames, 3) of stamp, arrival, restored."""
    with np.load(path) as arrays:
        return [arrays[f"viewer{n}"].reshape(-1, 3) for n in range(len(arrays.files))]


def main(argv: list[str] | None = None) -> int:
    url, out, *pauses = sys.argv[1:] if argv is None else argv
    viewers = [Viewer(float(pause)) for pause in pauses]
    asyncio.run(_watch(url, viewers))
    arrays = {f"viewer{n}": np.array(each.frames, np.int64) for n, each in enumerate(viewers)}
    with written_beside(Path(out)) as beside, beside.open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]
    return 0


if __name__ == "__main__":
    sys.exit(main())
