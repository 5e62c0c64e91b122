"""What the gate lets through, and in which order."""

from __future__ import annotations

import threading

from unirestore_ros.node.gate import Gate
from unirestore_ros.node.mode import Mode


def admit(gate: Gate, number: int, unfit: str | None = None) -> bool:
    return gate.admit(number, wanted=True, unfit=unfit)


def sent(gate: Gate, number: int) -> bool:
    messages: list[int] = []
    result = gate.send_restored(number, lambda: messages.append(number))
    assert messages == ([number] if result else [])
    return result


def test_restored_mode_sends_restored_frames_only() -> None:
    gate = Gate(0.5)
    assert not admit(gate, 1)
    assert sent(gate, 1)


def test_camera_mode_sends_the_cameras_only() -> None:
    gate = Gate(0.5)
    gate.set_enabled(False)
    assert admit(gate, 1)
    assert not sent(gate, 1)


def test_an_unfit_frame_is_passed_on_itself() -> None:
    gate = Gate(0.5)
    assert admit(gate, 1, unfit="of another size")
    assert gate.mode is Mode.CAMERA and gate.reason == "of another size"


def test_no_frame_is_sent_after_a_newer_one_that_was_passed_on() -> None:
    gate = Gate(0.5)
    gate.set_enabled(False)
    for number in range(1, 6):
        assert admit(gate, number)
    gate.restart(0.5)
    assert not sent(gate, 4) and not sent(gate, 5)
    assert not admit(gate, 6)
    assert sent(gate, 6)


def test_changes_are_told() -> None:
    told: list[tuple[Mode, str]] = []
    gate = Gate(0.5, lambda mode, reason: told.append((mode, reason)))
    gate.set_obstacle("no bundle")
    gate.set_obstacle("still no bundle")
    assert told == [(Mode.CAMERA, "no bundle")]


def test_a_restored_frame_cannot_slip_in_behind_a_passed_one() -> None:
    """The mode changes while a restored frame is being sent: that comes first, or not at all."""
    gate, order = Gate(0.5), list[str]()
    sending, changed = threading.Event(), threading.Event()

    def send() -> None:
        sending.set()
        changed.wait(0.2)  # does not come: the gate is held
        order.append("restored")

    restorer = threading.Thread(target=gate.send_restored, args=(1, send))
    restorer.start()
    assert sending.wait(10)
    gate.set_enabled(False)
    changed.set()
    if admit(gate, 2):
        order.append("camera")
    restorer.join()
    assert order == ["restored", "camera"]


def test_a_camera_info_is_no_sign_of_life() -> None:
    gate = Gate(0.0)
    admit(gate, 1)
    gate.send_restored(1, lambda: None, is_output=False)
    gate.check_stall(wanted=True)
    assert gate.mode is Mode.CAMERA


def test_an_image_is() -> None:
    gate = Gate(0.0)
    admit(gate, 1)
    gate.send_restored(1, lambda: None)
    gate.check_stall(wanted=True)
    assert gate.mode is Mode.RESTORED
