"""What a process asks of its memory allocator, glibc's; with another libc nothing is changed."""

from __future__ import annotations

import ctypes
import platform

# Parameters of mallopt(3), as in glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
_MMAP_THRESHOLD_BYTES = 32 << 20
_TRIM_THRESHOLD_BYTES = 256 << 20


def keep_image_buffers() -> bool:
    """Have glibc keep freed buffers of an image's size for the next image, whichever thread frees
    and asks; False on another libc.

    By default each 6 MB buffer goes back to the system, which costs some 4,800 page faults an image
    and doubles the latency of its transport. And each thread keeps buffers of its own: a node that
    makes its threads anew with every configuration grew by 5 MB with each.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(
        libc.mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_BYTES)
        and libc.mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD_BYTES)
        and libc.mallopt(_M_ARENA_MAX, 1)
    )


def give_memory_back() -> None:
    """Return to the system what is free, where the allocator can; for after large work."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
