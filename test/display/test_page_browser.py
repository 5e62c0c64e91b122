"""The page in a real Chromium, with the real nodes behind it."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from display_drive import FRAME, Display
from ros_miniature import HEIGHT, WIDTH, expected_image
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.actions.pointer_input import PointerInput
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver
from sensor_msgs.msg import Image

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.dds,
    pytest.mark.slow,
    pytest.mark.skipif(
        BROWSER is None or DRIVER is None,
        reason="there is no Chromium: apt install chromium chromium-driver",
    ),
]

LIMIT_S = 60.0
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,720",
)
RESTORED = expected_image(FRAME)

# RGB of the canvas at a place of the shown image, given as shares of its width and height.
PIXEL = """
const canvas = document.getElementById("view"), ratio = window.devicePixelRatio;
const [x, y, width, height] = arguments;
const scale = Math.min(canvas.clientWidth / width, canvas.clientHeight / height);
const left = (canvas.clientWidth - width * scale) / 2;
const top = (canvas.clientHeight - height * scale) / 2;
const data = canvas.getContext("2d").getImageData(
  (left + x * width * scale) * ratio, (top + y * height * scale) * ratio, 1, 1).data;
return [data[0], data[1], data[2]];
"""


class Browser:
    """A Chromium that shows the page."""

    def __init__(self, url: str, profile: Path) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = BROWSER or ""
        for option in (*OPTIONS, f"--user-data-dir={profile}"):
            options.add_argument(option)
        service = webdriver.ChromeService(executable_path=DRIVER)
        self.driver: WebDriver = webdriver.Chrome(options=options, service=service)
        self.driver.get(url)

    def text(self, name: str) -> str:
        return self.driver.find_element(By.ID, name).text

    def status(self) -> str | None:
        return self.driver.find_element(By.TAG_NAME, "body").get_attribute("data-status")

    def has_status(self, status: str) -> bool:
        return self.status() == status

    def receives_frames(self) -> bool:
        return float(self.text("fps")) > 0

    def click(self, selector: str) -> None:
        self.driver.find_element(By.CSS_SELECTOR, selector).click()

    def shows(self, rgb: np.ndarray, across: float, down: float = 0.75) -> bool:
        """Whether the canvas shows there what the image has there."""
        seen = self.driver.execute_script(PIXEL, across, down, WIDTH, HEIGHT)
        due = rgb[int(down * HEIGHT), int(across * WIDTH)]
        return bool(np.abs(np.array(seen) - due).max() < 14)

    def wait(self, condition: Callable[[], object], what: str) -> None:
        end = time.monotonic() + LIMIT_S
        while not condition():
            said = f"{self.status()}, {self.text('reason')!r}"
            assert time.monotonic() < end, f"waited for {what}; the page says {said}"
            time.sleep(0.05)


class Camera:
    """Sends frames from a thread while it runs."""

    def __init__(self, drive: Display) -> None:
        self.drive = drive
        self.runs = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def end(self) -> None:
        self._ended.set()
        self.runs.set()
        self._thread.join()

    def _send(self) -> None:
        while not self._ended.is_set():
            self.runs.wait()
            self.drive.send()


@pytest.fixture(scope="module")
def drive(display_of: Callable[..., Display]) -> Display:
    return display_of("max_age_ms:=3000", "fallback_after_ms:=3000")


@pytest.fixture(scope="module")
def url(drive: Display) -> str:
    return drive.url


@pytest.fixture(scope="module")
def camera(drive: Display, url: str) -> Iterator[Camera]:
    camera = Camera(drive)
    camera.runs.set()
    yield camera
    camera.end()


@pytest.fixture(scope="module")
def open_browser(
    url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], Browser]]:
    with contextlib.ExitStack() as endings:

        def opened() -> Browser:
            browser = Browser(url, tmp_path_factory.mktemp("profile"))
            endings.callback(browser.driver.quit)
            return browser

        yield opened


@pytest.fixture(scope="module")
def browser(camera: Camera, open_browser: Callable[[], Browser]) -> Browser:
    browser = open_browser()
    browser.wait(lambda: browser.status() == "restored", "the restored image")
    return browser


def test_the_restored_image_appears(browser: Browser) -> None:
    browser.click("[data-view=restored]")
    for across in (0.2, 0.8):
        browser.wait(partial(browser.shows, RESTORED, across), "restored pixels")
    assert browser.text("status") == "RESTORED"
    assert browser.text("age").replace(".", "").isdigit()
    browser.wait(lambda: float(browser.text("fps")) > 0, "a rate")


def test_the_raw_view_is_the_cameras(browser: Browser) -> None:
    browser.click("[data-view=raw]")
    for across in (0.2, 0.8):
        browser.wait(partial(browser.shows, FRAME, across), "the camera's pixels")
    browser.wait(lambda: browser.status() == "camera", "the status CAMERA")


def test_the_divider_follows_a_touch(browser: Browser) -> None:
    browser.click("[data-view=split]")
    browser.wait(lambda: browser.shows(FRAME, 0.4) and browser.shows(RESTORED, 0.6), "a split")
    handle = browser.driver.find_element(By.ID, "divider")
    stage = browser.driver.find_element(By.ID, "stage").size["width"]
    finger = PointerInput("touch", "finger")
    drag = ActionChains(browser.driver, devices=[finger]).click_and_hold(handle)
    drag.move_by_offset(-round(0.25 * stage), 0).release().perform()
    browser.wait(lambda: browser.shows(FRAME, 0.15) and browser.shows(RESTORED, 0.4), "it moved")
    now = handle.get_attribute("aria-valuenow")
    assert now is not None and 15 <= int(now) <= 30
    browser.driver.refresh()
    browser.wait(lambda: browser.shows(RESTORED, 0.4), "the divider where it was left")


def test_the_browser_remembers_to_show_the_image_only(browser: Browser) -> None:
    for shown in (False, True):
        browser.click("#focus")
        browser.driver.refresh()
        browser.wait(lambda: browser.status() == "restored", "the page again")
        assert browser.driver.find_element(By.TAG_NAME, "aside").is_displayed() is shown
        assert browser.driver.find_element(By.ID, "badge").is_displayed() is not shown


def test_restoration_is_switched_from_the_page(browser: Browser) -> None:
    browser.click("[data-view=restored]")
    for wanted, status in (("false", "camera"), ("true", "restored")):
        browser.wait(
            lambda: browser.driver.find_element(By.ID, "enable").is_enabled(), "the switch"
        )
        browser.click("#enable")
        browser.wait(partial(browser.has_status, status), status)
        switch = browser.driver.find_element(By.ID, "enable")
        assert switch.get_attribute("aria-checked") == wanted
        if status == "camera":
            browser.wait(lambda: browser.text("reason") == "disabled", "why")
            assert browser.shows(FRAME, 0.8)


def test_two_clients_at_once_and_nothing_from_elsewhere(
    browser: Browser, open_browser: Callable[[], Browser], url: str
) -> None:
    other = open_browser()
    other.wait(lambda: other.status() == "restored" and other.shows(RESTORED, 0.5), "the other's")
    for one in (browser, other):
        one.wait(partial(one.has_status, "restored"), "the status RESTORED")
        one.wait(one.receives_frames, "frames")
    loaded = "return performance.getEntriesByType('resource').map((entry) => entry.name)"
    names = other.driver.execute_script(loaded)
    assert len(names) >= 5 and all(name.startswith(url) for name in names)
    other.driver.get("about:blank")
    assert browser.status() == "restored"


def test_an_unknown_age_is_no_figure(browser: Browser, drive: Display) -> None:
    drive.behind_s = 20
    browser.wait(lambda: browser.text("age") == "unknown", "an unknown age")
    browser.wait(lambda: "camera clock is" in browser.text("reason"), "why")
    browser.wait(partial(browser.has_status, "restored"), "the restored image")
    assert browser.text("age") == "unknown" and browser.shows(RESTORED, 0.5)
    drive.behind_s = 0
    browser.wait(lambda: browser.text("age").replace(".", "").isdigit(), "its age again")


def test_what_cannot_be_shown_is_named(browser: Browser, drive: Display) -> None:
    drive.instead = Image(height=2, width=2, step=4, encoding="16UC1", data=bytes(8))
    browser.wait(partial(browser.has_status, "no picture"), "NO PICTURE")
    assert "16UC1" in browser.text("reason") and "16UC1" in browser.text("empty")
    drive.instead = None
    browser.wait(partial(browser.has_status, "restored"), "the image again")
    assert not browser.driver.find_element(By.ID, "empty").is_displayed()


def test_stale_when_nothing_comes_and_when_the_node_is_stopped(
    browser: Browser, camera: Camera, drive: Display
) -> None:
    camera.runs.clear()
    browser.wait(lambda: browser.status() == "stale", "STALE")
    assert browser.driver.find_element(By.ID, "alarm").is_displayed()
    camera.runs.set()
    browser.wait(lambda: browser.status() == "restored", "the image again")
    assert not browser.driver.find_element(By.ID, "alarm").is_displayed()
    assert drive.display.end() == 0
    browser.wait(lambda: browser.status() == "stale", "STALE")
    browser.wait(lambda: "no connection" in browser.text("reason"), "why")
