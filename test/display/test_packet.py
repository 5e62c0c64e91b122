"""The message that carries a frame."""

from __future__ import annotations

import pytest

from unirestore_ros.display.packet import read_packet, write_packet


def test_header_and_parts_come_back() -> None:
    parts = {"driver": b"\xff\xd8driver", "camera": b"", "area": b"png"}
    header, read = read_packet(write_packet({"sign": "stale", "age_ms": 1.5, "boxes": []}, parts))
    assert header == {"sign": "stale", "age_ms": 1.5, "boxes": []}
    assert read == parts


@pytest.mark.parametrize("cut", [0, 3, 10, -1])
def test_one_that_is_cut_off_is_refused(cut: int) -> None:
    message = write_packet({"sign": "camera"}, {"driver": b"content"})
    with pytest.raises(ValueError):
        read_packet(message[:cut])
