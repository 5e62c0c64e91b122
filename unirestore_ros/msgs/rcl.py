"""Publishing through rcl itself, because rclpy keeps the interpreter's lock while DDS writes.

A write to a subscriber that was stopped (SIGSTOP, a debugger, Ctrl-Z) takes a second the first time
over Fast DDS's shared memory, and some ten milliseconds each time after, until discovery gives that
subscriber up after 20 s. Meanwhile no other Python thread would run. A foreign call releases the
lock. The function and its structures have been the same from ROS 2 Foxy on (rcl/publisher.h,
rcutils/types/uint8_array.h, rcutils/allocator.h).
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.publisher import Publisher


class PublishError(RuntimeError):
    """DDS did not take a message."""


class _Allocator(ctypes.Structure):
    _fields_ = (
        ("allocate", ctypes.c_void_p),
        ("deallocate", ctypes.c_void_p),
        ("reallocate", ctypes.c_void_p),
        ("zero_allocate", ctypes.c_void_p),
        ("state", ctypes.c_void_p),
    )


class _Uint8Array(ctypes.Structure):
    _fields_ = (
        ("buffer", ctypes.c_void_p),
        ("buffer_length", ctypes.c_size_t),
        ("buffer_capacity", ctypes.c_size_t),
        ("allocator", _Allocator),
    )


def publish_serialized(publisher: Publisher, message: NDArray[np.uint8]) -> None:
    """Publish a message in CDR; PublishError where it is not taken."""
    publish, reset_error = _functions()
    array = _Uint8Array(message.ctypes.data, message.size, message.size)
    with publisher.handle:  # not destroyed meanwhile
        status = publish(publisher.handle.pointer, ctypes.byref(array), None)
    if status != 0:
        reset_error()
        raise PublishError(f"{publisher.topic_name}: rcl says {status}")


@functools.cache
def _functions() -> tuple[Any, Any]:
    """Of the libraries that rclpy has loaded."""
    publish = ctypes.CDLL("librcl.so").rcl_publish_serialized_message
    publish.argtypes = (ctypes.c_void_p, ctypes.POINTER(_Uint8Array), ctypes.c_void_p)
    publish.restype = ctypes.c_int
    reset_error = ctypes.CDLL("librcutils.so").rcutils_reset_error
    reset_error.argtypes, reset_error.restype = (), None
    return publish, reset_error
