"""What goes wrong with frames: told in the log now and then, and kept for diagnostics."""

from __future__ import annotations

from rclpy.impl.rcutils_logger import RcutilsLogger

_LOG_EVERY_S = 5.0


class Troubles:
    """For any thread. A kind is logged every 5 s at most: a camera can fail 30 times a second."""

    def __init__(self, logger: RcutilsLogger) -> None:
        self.last_error = ""
        self._logger = logger

    def bundle_refused(self, why: str) -> None:
        self.last_error = why
        self._logger.error(why)

    def inference_failed(self, why: str) -> None:
        self.last_error = why
        self._logger.error(f"frame not restored: {why}", throttle_duration_sec=_LOG_EVERY_S)

    def frame_malformed(self, why: str) -> None:
        self.last_error = f"malformed frame dropped: {why}"
        self._logger.warning(self.last_error, throttle_duration_sec=_LOG_EVERY_S)

    def input_silent(self, why: str) -> None:
        self._logger.warning(why, throttle_duration_sec=6 * _LOG_EVERY_S)
