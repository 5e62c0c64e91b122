"""Who is let in."""

from __future__ import annotations

import pytest

from unirestore_ros.display.access import Access

TOKEN = "0123456789abcdef"
LOCAL = Access("", is_local=True)
OPEN = Access(TOKEN, is_local=False)


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost:8080", "[::1]:8080", "127.0.0.2"])
def test_this_machine_by_its_names(host: str) -> None:
    assert LOCAL.refusal(host, None) is None
    assert LOCAL.refusal(host, f"http://{host}") is None


@pytest.mark.parametrize("host", ["evil.example:8080", "192.168.1.5", "", None, "127.0.0.1.evil.x"])
def test_a_foreign_name_of_this_machine(host: str | None) -> None:
    """DNS rebinding: the browser believes that it talks to the other site."""
    refusal = LOCAL.refusal(host, None)
    assert refusal is not None and "this machine only" in refusal


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "http://127.0.0.1:9999", "null", "http://127.0.0.1"]
)
def test_a_script_of_another_page(origin: str) -> None:
    refusal = LOCAL.refusal("127.0.0.1:8080", origin)
    assert refusal is not None and "may not use this one" in refusal


def test_another_address_goes_by_its_own_name() -> None:
    assert OPEN.refusal("10.0.0.7:8080", "http://10.0.0.7:8080") is None
    assert OPEN.refusal("10.0.0.7:8080", "http://evil.example") is not None


def test_the_token() -> None:
    assert OPEN.admits(TOKEN)
    for wrong in (None, "", TOKEN[:-1], TOKEN + "0", "ÿ" * 16):
        assert not OPEN.admits(wrong)
    assert LOCAL.admits(None)
