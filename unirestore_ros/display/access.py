"""Who may see the page: no other web site's script, and with a token only who knows it."""

from __future__ import annotations

import hmac
import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Access:
    """Rules for requests; texts of headers as they came, None where one is missing."""

    token: str
    """Empty: none is asked for."""
    is_local: bool
    """Served to this machine only."""

    def refusal(self, host: str | None, origin: str | None) -> str | None:
        """Why a request is refused, whoever makes it; None where it is not.

        A script of another site may open WebSockets to any address, but its browser says whose it
        is. A site whose name is made to lead to 127.0.0.1 is known by that name.
        """
        name = urlsplit(f"//{host or ''}").hostname or ""
        if self.is_local and not _is_this_machine(name):
            return f"the page is served to this machine only, not as {name!r}"
        if origin is not None and urlsplit(origin).netloc != host:
            return f"a page of {origin} may not use this one"
        return None

    def admits(self, offered: str | None) -> bool:
        """Whether the token is right; compared in a time that says nothing of where it differs."""
        if not self.token:
            return True
        return hmac.compare_digest((offered or "").encode(), self.token.encode())


def _is_this_machine(name: str) -> bool:
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
