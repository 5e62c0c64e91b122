"""Pictures and what the status topic says of them."""

from __future__ import annotations

from unirestore_ros.display.confirmation import GRACE_S, Confirmation
from unirestore_ros.display.selection import Verdict
from unirestore_ros.node.mode import Mode

RESTORED, CAMERA = Verdict(Mode.RESTORED), Verdict(Mode.CAMERA, "disabled")
SOON = GRACE_S / 2


def test_a_picture_waits_for_its_status() -> None:
    meeting = Confirmation[str]()
    assert meeting.picture(1, "one", 0.0) == []
    assert meeting.status(1, RESTORED, SOON) == [("one", RESTORED)]
    assert meeting.due(10.0) == []


def test_the_status_may_come_first() -> None:
    meeting = Confirmation[str]()
    assert meeting.status(1, CAMERA, 0.0) == []
    assert meeting.picture(1, "one", SOON) == [("one", CAMERA)]


def test_another_frames_status_says_nothing() -> None:
    meeting = Confirmation[str]()
    meeting.status(1, RESTORED, 0.0)
    assert meeting.picture(2, "two", 0.0) == []
    assert meeting.due(SOON) == []
    ((picture, verdict),) = meeting.due(2 * GRACE_S)
    assert (picture, verdict.mode) == ("two", None)


def test_one_that_was_lost_does_not_hold_up_the_next() -> None:
    meeting = Confirmation[str]()
    meeting.picture(1, "one", 0.0)
    meeting.picture(2, "two", 0.0)
    (lost, confirmed) = meeting.status(2, RESTORED, SOON)
    assert lost[0] == "one" and lost[1].mode is None
    assert confirmed == ("two", RESTORED)


def test_pictures_leave_in_their_order() -> None:
    meeting = Confirmation[int]()
    left = []
    for number in range(20):
        left += meeting.picture(number, number, number * 0.01)
    left += meeting.due(10.0)
    assert [number for number, _ in left] == list(range(20))


def test_nothing_grows() -> None:
    meeting = Confirmation[int]()
    for number in range(1000):
        meeting.status(number, RESTORED, 0.0)
        meeting.picture(-number - 1, number, 0.0)
    assert len(meeting._said) <= 32 and len(meeting._waiting) <= 9
