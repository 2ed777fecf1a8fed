"""How a caller proves who it is: by a client certificate, by a session token, or by tokens got with a
certificate.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """mTLS on every connection. PEM files; when they are replaced, new calls use the new ones."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class SessionToken:
    """A session token that somebody else got. It is used until it expires, and then calls fail with
    TOKEN_EXPIRED.
    """

    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class CertificateSession:
    """Session tokens that a client certificate is exchanged for, and exchanged again for before they expire.

    `duration_seconds` is from 1 to 43,200 (12 hours). `session_name` is what audit events call
    the session; by default the principal's id. The endpoint of keystore must be its listener for client
    certificates.
    """

    certificate: Path
    key: Path
    session_name: str = ""
    duration_seconds: int = 3600


Credentials = ClientCertificate | SessionToken | CertificateSession

# A token, and the time (seconds of the epoch) when it expires.
Exchange = Callable[[], tuple[str, float]]


class TokenSource(Protocol):
    """Where the session token of a call comes from."""

    def current(self) -> str:
        """The token for a call that begins now."""

    def renew(self, refused: str) -> bool:
        """Says that a service did not accept a token; answers whether `current` may have another now."""


class FixedToken:
    """The one token that there is."""

    def __init__(self, credentials: SessionToken) -> None:
        self._token = credentials.token

    def current(self) -> str:
        """The token."""
        return self._token

    def renew(self, refused: str) -> bool:
        """There is no other."""
        del refused
        return False


class ExchangedTokens:
    """Tokens that are exchanged for when first asked for, and again when little of their time is left."""

    def __init__(self, exchange: Exchange, wall_clock: Callable[[], float] = time.time) -> None:
        self._exchange = exchange
        self._wall_clock = wall_clock
        self._lock = threading.Lock()
        self._token = ""
        self._renew_at = 0.0

    def current(self) -> str:
        """A token with at least a fifth of its time left. Raises whatever the exchange raises."""
        with self._lock:
            now = self._wall_clock()
            if now >= self._renew_at:
                self._token, expires = self._exchange()
                self._renew_at = now + 0.8 * (expires - now)
            return self._token

    def renew(self, refused: str) -> bool:
        """Makes `current` exchange again, unless somebody has since."""
        with self._lock:
            if refused == self._token:
                self._renew_at = 0.0
        return True
