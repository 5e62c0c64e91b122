"""Which picture is shown, and under which sign."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from unirestore_ros.display.selection import Choice, Selection, Verdict
from unirestore_ros.display.view import Sign
from unirestore_ros.node.mode import FRAMES_TO_RETURN, Mode

MAX_AGE, FALLBACK = 0.5, 0.25
PERIOD = 0.1
RESTORED = Verdict(Mode.RESTORED)


@dataclass(frozen=True)
class Picture:
    kind: str
    captured: float


class Drive:
    """Time passes in periods of the camera, in which restorer and camera may be silent."""

    def __init__(self) -> None:
        self.now = 100.0
        self.selection = Selection[Picture](self.now, MAX_AGE, FALLBACK)

    def go(
        self,
        seconds: float,
        camera: bool = True,
        verdict: Verdict | None = RESTORED,
        latency: float = 0.05,
    ) -> list[Choice[Picture]]:
        """What is seen at the end of each period."""
        seen = []
        for _ in range(round(seconds / PERIOD)):
            self.now += PERIOD
            if camera:
                self.selection.camera_arrived(Picture("camera", self.now), self.now)
            if verdict is not None:
                picture = Picture("restored", self.now - latency)
                self.selection.restored_arrived(picture, verdict, self.now)
            seen.append(self.selection.look(self.now))
        return seen


@pytest.fixture
def drive() -> Drive:
    return Drive()


def kinds(seen: list[Choice[Picture]]) -> list[tuple[str | None, Sign]]:
    return [(each.picture and each.picture.kind, each.sign) for each in seen]


def test_waits_where_nothing_came(drive: Drive) -> None:
    assert set(kinds(drive.go(2, camera=False, verdict=None))) == {(None, Sign.WAITING)}


def test_the_restored_picture_while_it_comes(drive: Drive) -> None:
    assert set(kinds(drive.go(3))) == {("restored", Sign.RESTORED)}


def test_the_cameras_until_the_first_is_restored(drive: Drive) -> None:
    seen = drive.go(0.3, verdict=None)
    assert set(kinds(seen)) == {("camera", Sign.CAMERA)}
    assert seen[0].reason == "nothing restored yet"
    assert kinds(drive.go(0.1)) == [("restored", Sign.RESTORED)]


def test_what_the_restorer_passes_on_is_called_so(drive: Drive) -> None:
    (seen,) = drive.go(0.1, verdict=Verdict(Mode.CAMERA, "disabled"))
    assert (seen.picture and seen.picture.kind, seen.sign) == ("restored", Sign.CAMERA)
    assert seen.reason == "disabled"


def test_without_a_status_nothing_is_called_restored(drive: Drive) -> None:
    (seen,) = drive.go(0.1, verdict=Verdict(None, "silent"))
    assert (seen.sign, seen.reason) == (Sign.UNCONFIRMED, "silent")


def test_falls_back_to_the_camera_when_the_restorer_stops(drive: Drive) -> None:
    drive.go(2)
    stopped = drive.now
    seen = kinds(drive.go(2, verdict=None))
    assert seen[0] == ("restored", Sign.RESTORED)
    first = seen.index(("camera", Sign.CAMERA))
    assert (first + 1) * PERIOD <= FALLBACK + 2 * PERIOD
    assert set(seen[first:]) == {("camera", Sign.CAMERA)}
    assert drive.selection.look(drive.now).reason == "no output for 250 ms of input"
    assert drive.now == pytest.approx(stopped + 2)


def test_pictures_that_come_too_old_are_not_shown(drive: Drive) -> None:
    drive.go(2)
    seen = drive.go(2, latency=MAX_AGE + 0.1)
    assert ("restored", Sign.RESTORED) not in kinds(seen[6:])
    assert seen[-1].sign is Sign.CAMERA
    assert seen[-1].reason == "no fresh picture from the restorer"


def test_comes_back_after_some_frames_and_a_second(drive: Drive) -> None:
    drive.go(2)
    drive.go(2, verdict=None)
    seen = kinds(drive.go(3))
    back = seen.index(("restored", Sign.RESTORED))
    assert back + 1 >= FRAMES_TO_RETURN
    assert set(seen[back:]) == {("restored", Sign.RESTORED)}


def test_does_not_flicker_with_a_restorer_that_is_now_and_then_too_late(drive: Drive) -> None:
    changes, before = 0, None
    for _ in range(10):
        for late in (False, False, True, True):
            drive.go(0.3, verdict=None if late else RESTORED)
            sign = drive.selection.look(drive.now).sign
            changes += before is not None and sign is not before
            before = sign
    assert changes <= 10 * 1.2 * 1.0 + 1  # once a second at most, over 12 s


def test_stale_when_nothing_comes_and_never_before(drive: Drive) -> None:
    drive.go(2)
    newest = drive.now
    seen = drive.go(2, camera=False, verdict=None)
    for step, each in enumerate(seen, 1):
        assert each.picture is not None
        is_old = newest + step * PERIOD - each.picture.captured > MAX_AGE
        assert (each.sign is Sign.STALE) == is_old
    assert seen[-1].sign is Sign.STALE


def test_what_is_stale_is_the_newest_there_was(drive: Drive) -> None:
    drive.go(1)
    drive.go(1, verdict=None)
    (*_, last) = drive.go(2, camera=False, verdict=None)
    assert (last.picture and last.picture.kind, last.sign) == ("camera", Sign.STALE)


def test_a_restorer_alone_is_shown_and_goes_stale(drive: Drive) -> None:
    """Nobody publishes the camera's topic, or it is remapped wrongly."""
    assert set(kinds(drive.go(2, camera=False))) == {("restored", Sign.RESTORED)}
    assert drive.go(1, camera=False, verdict=None)[-1].sign is Sign.STALE


def test_the_raw_view_shows_the_camera_whatever_the_restorer_does(drive: Drive) -> None:
    drive.go(1)
    choice = drive.selection.look_at_camera(drive.now)
    assert (choice.picture and choice.picture.kind, choice.sign) == ("camera", Sign.CAMERA)
    drive.go(1, camera=False)
    assert drive.selection.look_at_camera(drive.now).sign is Sign.STALE
    assert drive.selection.look(drive.now).sign is Sign.RESTORED


def test_limits_may_change(drive: Drive) -> None:
    drive.go(1)
    drive.selection.set_limits(5.0, 5.0)
    assert drive.go(2, camera=False, verdict=None)[-1].sign is Sign.RESTORED
