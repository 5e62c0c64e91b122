"""Requests to the restorer, with a service that answers when the test says so."""

from __future__ import annotations

from typing import Any

import pytest
from rclpy.task import Future
from std_srvs.srv import SetBool

from unirestore_ros.display import inputs
from unirestore_ros.display.inputs import RestorerClient


class Service:
    """Takes the place of a client of `set_enabled`."""

    def __init__(self) -> None:
        self.is_there = True
        self.calls: list[tuple[bool, Future]] = []
        self.given_up: list[Future] = []

    def service_is_ready(self) -> bool:
        return self.is_there

    def call_async(self, request: SetBool.Request) -> Future:
        self.calls.append((request.data, Future()))
        return self.calls[-1][1]

    def remove_pending_request(self, call: Future) -> None:
        self.given_up.append(call)

    def requested(self) -> list[bool]:
        return [enabled for enabled, _ in self.calls]

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
def client(service: Service, notices: list[str]) -> RestorerClient:
    return RestorerClient(Node(service), "unirestore", notices.append, raising)


def raising(error: Exception) -> None:
    raise error


def test_a_request_is_sent_once(client: RestorerClient, service: Service) -> None:
    client.send_request()
    client.request_enabled(False)
    client.send_request()
    service.answer()
    client.send_request()
    assert service.requested() == [False]


def test_a_flood_is_two_calls_one_after_the_other_and_the_newest_request_wins(
    client: RestorerClient, service: Service
) -> None:
    for i in range(1001):
        client.request_enabled(i % 2 == 0)
        client.send_request()
    assert service.requested() == [True]
    client.request_enabled(False)
    service.answer()
    for _ in range(3):
        client.send_request()
    assert service.requested() == [True, False]


def test_a_refusal_is_shown(client: RestorerClient, service: Service, notices: list[str]) -> None:
    client.request_enabled(True)
    client.send_request()
    service.answer(success=False, message="not active")
    assert notices == ["/unirestore: not active"]


def test_an_absent_restorer_is_shown_once_a_request(
    client: RestorerClient, service: Service, notices: list[str]
) -> None:
    service.is_there = False
    client.request_enabled(True)
    for _ in range(3):
        client.send_request()
    assert notices == ["/unirestore does not answer: is restore_node running?"]
    assert service.requested() == []


def test_a_call_without_an_answer_is_given_up_for_the_next(
    client: RestorerClient, service: Service, notices: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(inputs.time, "monotonic", lambda: now)
    client.request_enabled(True)
    client.send_request()
    now += 4.9
    client.request_enabled(False)
    client.send_request()
    assert service.requested() == [True]
    now += 0.2
    client.send_request()
    assert service.requested() == [True, False]
    assert service.given_up == [service.calls[0][1]]
    assert notices == ["/unirestore has not answered in 5 s"]
