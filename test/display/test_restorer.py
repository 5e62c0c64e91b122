"""What the display asks of the restorer, with a service that answers when the test says so."""

from __future__ import annotations

from typing import Any

import pytest
from rclpy.task import Future
from std_srvs.srv import SetBool

from unirestore_ros.display import restorer
from unirestore_ros.display.restorer import RestorerLink


class Service:
    """In the place of a client of `set_enabled`."""

    def __init__(self) -> None:
        self.is_there = True
        self.calls: list[tuple[bool, Future]] = []
        self.given_up: list[Future] = []

    def service_is_ready(self) -> bool:
        return self.is_there

    def call_async(self, request: SetBool.Request) -> Future:
        self.calls.append((request.data, Future()))
        return self.calls[-1][1]

    def remove_pending_request(self, asked: Future) -> None:
        self.given_up.append(asked)

    def asked(self) -> list[bool]:
        return [wish for wish, _ in self.calls]

    def answer(self, success: bool = True, message: str = "") -> None:
        self.calls[-1][1].set_result(SetBool.Response(success=success, message=message))


class Node:
    def __init__(self, service: Service) -> None:
        self._service = service

    def resolve_topic_name(self, name: str) -> str:
        return f"/{name}"

    def create_client(self, kind: type, name: str) -> Service:
        assert (kind, name) == (SetBool, "/unirestore/set_enabled")
        return self._service

    def create_subscription(self, *_: Any) -> None:
        pass


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def notices() -> list[str]:
    return []


@pytest.fixture
def link(service: Service, notices: list[str]) -> RestorerLink:
    return RestorerLink(Node(service), "unirestore", notices.append)


def test_a_wish_is_sent_once(link: RestorerLink, service: Service) -> None:
    link.send_wish()
    link.enable(False)
    link.send_wish()
    service.answer()
    link.send_wish()
    assert service.asked() == [False]


def test_a_flood_is_two_calls_one_after_the_other_and_the_newest_wish_wins(
    link: RestorerLink, service: Service
) -> None:
    for i in range(1001):
        link.enable(i % 2 == 0)
        link.send_wish()
    assert service.asked() == [True]
    link.enable(False)
    service.answer()
    for _ in range(3):
        link.send_wish()
    assert service.asked() == [True, False]


def test_what_is_refused_is_told(link: RestorerLink, service: Service, notices: list[str]) -> None:
    link.enable(True)
    link.send_wish()
    service.answer(success=False, message="not active")
    assert notices == ["/unirestore: not active"]


def test_nobody_there_is_told_once_a_wish(
    link: RestorerLink, service: Service, notices: list[str]
) -> None:
    service.is_there = False
    link.enable(True)
    for _ in range(3):
        link.send_wish()
    assert notices == ["/unirestore does not answer: is restore_node running?"]
    assert service.asked() == []


def test_a_call_without_an_answer_is_given_up_and_does_not_hold_up_the_next(
    link: RestorerLink, service: Service, notices: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(restorer.time, "monotonic", lambda: now)
    link.enable(True)
    link.send_wish()
    now += 4.9
    link.enable(False)
    link.send_wish()
    assert service.asked() == [True]
    now += 0.2
    link.send_wish()
    assert service.asked() == [True, False]
    assert service.given_up == [service.calls[0][1]]
    assert notices == ["/unirestore has not answered in 5 s"]
