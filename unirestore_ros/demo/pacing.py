"""When each frame of an INPUT is due: its own times, slowed down to what the node can hold."""

from __future__ import annotations

from collections.abc import Sequence


def paced(offsets_ns: Sequence[int | None], rate: float) -> list[int]:
    """Nanoseconds after the first frame at which each is due.

    Frames with times keep their spacing, stretched evenly where on average they come faster than
    ``rate`` a second; frames without times come at ``rate``. Time never runs backwards.
    """
    known = [offset for offset in offsets_ns if offset is not None]
    span = known[-1] - known[0] if known else 0
    if len(known) < len(offsets_ns) or span <= 0:
        return [round(index * 1e9 / rate) for index in range(len(offsets_ns))]
    slowing = max(1.0, (len(known) - 1) * 1e9 / rate / span)
    due: list[int] = []
    for offset in known:
        due.append(max(due[-1] if due else 0, round((offset - known[0]) * slowing)))
    return due
