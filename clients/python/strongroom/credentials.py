"""How a caller proves who it is: by a client certificate, by a session token, or by tokens that something is
exchanged for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from strongroom.errors import AWAY, StrongroomError


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """mTLS on every connection. PEM files; when they are replaced, new calls use the new ones."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class SessionToken:
    """A session token that somebody else got: when it has expired, calls fail with TOKEN_EXPIRED."""

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


@dataclass(frozen=True, slots=True)
class ClientKeySession:
    """Session tokens that a client key and its secret are exchanged for, again before they expire.

    `name` is `accounts/{account}/clientKeys/{id}`. `secret` is the secret itself, or the file that holds it, which is
    read again for each session.
    """

    name: str
    secret: str | Path = field(repr=False)
    session_name: str = ""
    duration_seconds: int = 3600


@dataclass(frozen=True, slots=True)
class OidcTokenSession:
    """Session tokens that an issuer's token is exchanged for, again before they expire.

    The file is read again for each session, as Kubernetes replaces it; `account` is the id of the account that accepts
    the issuer.
    """

    path: Path
    account: str
    session_name: str = ""
    duration_seconds: int = 3600


@dataclass(frozen=True, slots=True)
class AssumedRole:
    """Sessions as a role, begun by whom `source` proves, and again before they expire.

    `role` is `accounts/{account}/roles/{id}`. `duration_seconds` is from 900 to what the role allows; None
    stands for an hour, or less where the role allows less.
    """

    source: ClientCertificate | SessionToken | CertificateSession | ClientKeySession | OidcTokenSession | AssumedRole
    role: str
    session_name: str
    external_id: str = ""
    duration_seconds: int | None = None
    session_policy: str = ""
    session_tags: Mapping[str, str] = field(default_factory=dict)


Exchangeable = CertificateSession | ClientKeySession | OidcTokenSession
Credentials = ClientCertificate | SessionToken | Exchangeable | AssumedRole

# A token, and the time (seconds of the epoch) when it expires.
Exchange = Callable[[], tuple[str, float]]

_AGAIN_SECONDS = 1.0


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


@dataclass(frozen=True, slots=True)
class Token:
    """A session token, and when it was got and expires, in seconds of the epoch."""

    text: str = field(repr=False)
    begun: float
    expires: float

    @property
    def renew_at(self) -> float:
        """When a fifth of its time is left."""
        return self.begun + 0.8 * (self.expires - self.begun)


class TokenStore(Protocol):
    """Where a token outlives the process."""

    def read(self) -> Token | None:
        """The token that was kept, or None."""

    def write(self, token: Token) -> None:
        """Keeps a token in place of the one before."""


class ExchangedTokens:
    """Tokens that are exchanged for when first asked for, and again when little of their time is left: the rest is for
    when that cannot be done at once. With a store, a token that an earlier process kept is used first.
    """

    def __init__(
        self, exchange: Exchange, wall_clock: Callable[[], float] = time.time, store: TokenStore | None = None
    ) -> None:
        self._exchange = exchange
        self._wall_clock = wall_clock
        self._store = store
        self._lock = threading.Lock()
        self._token: Token | None = store.read() if store else None
        self._refused = ""
        self._again_at = 0.0
        self._failure: StrongroomError | None = None
        self._failed_at = 0.0

    def current(self) -> str:
        """A token with at least a fifth of its time left; while no service can exchange another, or another thread does
        just now, one that lasts still. Raises whatever the exchange raises where there is none.
        """
        lasting = self._lasting()
        if lasting is not None and self._wall_clock() < max(lasting.renew_at, self._again_at):
            return lasting.text
        asked = time.monotonic()
        if lasting is None:
            self._lock.acquire()
        elif not self._lock.acquire(blocking=False):
            return lasting.text
        try:
            return self._renewed(asked).text
        finally:
            self._lock.release()

    def _renewed(self, asked: float) -> Token:
        now, lasting = self._wall_clock(), self._lasting()
        if lasting is not None and now < lasting.renew_at:
            # Somebody was quicker.
            return lasting
        if self._failure is not None and self._failed_at >= asked:
            # Whoever waited for an exchange that failed waits for no other.
            raise self._failure.renewed()
        try:
            text, expires = self._exchange()
        except StrongroomError as error:
            self._failure, self._failed_at = error, time.monotonic()
            if lasting is None or error.code_name not in AWAY:
                raise
            ended = self._wall_clock()
            # Where an answer never comes, callers wait for it half of the time at most.
            self._again_at = ended + max(_AGAIN_SECONDS, ended - now)
            return lasting
        made = self._token = Token(text, now, expires)
        if self._store:
            self._store.write(made)
        return made

    def _lasting(self) -> Token | None:
        """The token at hand, unless it was refused or has ended."""
        token = self._token
        if token is None or token.text == self._refused or self._wall_clock() >= token.expires:
            return None
        return token

    def renew(self, refused: str) -> bool:
        """Makes `current` exchange again, unless somebody has since."""
        with self._lock:
            self._refused = refused
        return True
