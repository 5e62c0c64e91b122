"""CameraInfo of a bag, fitted and serialised."""

from __future__ import annotations

import pytest
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo

from unirestore_ros.recordings.fitting import fitted_info, info_bytes, read_info


def calibrated(frame_id: str = "camera") -> CameraInfo:
    info = CameraInfo(width=160, height=90, distortion_model="plumb_bob", d=[0.1] * 5)
    info.header.frame_id = frame_id
    info.k = [100.0, 0.0, 79.5, 0.0, 100.0, 44.5, 0.0, 0.0, 1.0]
    info.p = [100.0, 0.0, 79.5, -7.0, 0.0, 100.0, 44.5, 0.0, 0.0, 0.0, 1.0, 0.0]
    return info


@pytest.mark.parametrize("frame_id", ["a", "ab", "abc", "abcd"])
def test_bytes_depend_on_the_message_alone(frame_id: str) -> None:
    """Fast CDR pads with what lies in memory, so that a message has many forms."""
    info = calibrated(frame_id)
    plain = serialize_message(info)
    dirty = bytearray(plain)
    # Behind CDR's own head, the stamp and the text: up to where the height may lie.
    end = 4 + 8 + 4 + len(frame_id) + 1
    for index in range(end, end + -(end - 4) % 4):
        dirty[index] = 0xAA
    assert info_bytes(read_info(bytes(dirty))) == info_bytes(info)
    assert read_info(info_bytes(info)) == info
    clean = info_bytes(info)
    assert all(clean[index] == 0 for index in range(end, end + -(end - 4) % 4))


def test_cropping_moves_the_centre() -> None:
    fitted = fitted_info(calibrated(), (160, 90), (40, 40))
    # To 71 columns and 40 rows, then 15 columns off on the left.
    assert (fitted.width, fitted.height) == (40, 40)
    assert fitted.k[0] == pytest.approx(100 * 71 / 160) and fitted.k[4] == pytest.approx(
        100 * 4 / 9
    )
    assert fitted.k[2] == pytest.approx(80 * 71 / 160 - 0.5 - 15) == fitted.p[2]
    assert fitted.k[5] == pytest.approx(45 * 4 / 9 - 0.5) == fitted.p[6]
    assert list(fitted.d) == [0.1] * 5


def test_what_is_not_calibrated_stays_so() -> None:
    fitted = fitted_info(CameraInfo(width=160, height=90), (160, 90), (40, 40))
    assert not fitted.k.any() and not fitted.p.any() and fitted.width == 40


def test_the_same_size_is_left_alone() -> None:
    info = calibrated()
    assert fitted_info(info, (160, 90), (160, 90)) is info
