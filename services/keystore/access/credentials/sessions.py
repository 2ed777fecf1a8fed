"""Session tokens, signed by a key that lives in this process alone."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Engine

from services.keystore.access.records import store
from services.keystore.store import changes
from services.runtime import clock, identifiers
from services.runtime.access import session_tokens
from services.runtime.background import Background
from services.runtime.call import Principal
from services.runtime.clock import Clock
from services.runtime.errors import StrongroomError
from services.runtime.sensitive import SensitiveBytes
from services.runtime.storage.database import transaction
from strongroom.access.v1.access_record_service_pb2 import TokenKey
from strongroom.keystore.v1.key_record_service_pb2 import CHANGE_KIND_TOKEN_KEY

LONGEST_SECONDS = 12 * 3600
_SECOND_US = 1_000_000
_ROTATION_US = 24 * 3600 * _SECOND_US
# Where its successor cannot be written a key signs on, and is tried to be followed so often, until sessions by it
# would be too short to be of use.
_AGAIN_US = 10 * _SECOND_US
_SHORTEST_US = 3600 * _SECOND_US
_AHEAD_US = 3600 * _SECOND_US
_LOOK_SECONDS = 600.0
# A session begins before the key that signs it, where it is the first.
_BACKDATED_US = 60 * _SECOND_US


@dataclass(frozen=True, slots=True)
class _SigningKey:
    key_id: str
    private: Ed25519PrivateKey
    rotate_us: int
    ends_us: int
    """When what it has signed ends, whatever that says."""


@dataclass(frozen=True, slots=True)
class Session:
    """A session that has begun: its principal, and the token that stands for it."""

    principal: Principal
    token: SensitiveBytes


class Sessions:
    """Signs session tokens. The private key is never stored: a restarted process has a new one, whose public half the
    other services learn from the database, next to those of processes before it."""

    def __init__(self, engine: Engine, trust_domain: str, clock: Clock) -> None:
        self._engine = engine
        self._issuer = session_tokens.issuer(trust_domain)
        self._clock = clock
        self._lock = threading.Lock()
        self._key: _SigningKey | None = None
        self._renewing = Background(
            "token-key",
            self.renew,
            "no new key to sign sessions with could be made yet",
            every=_LOOK_SECONDS,
            again=1.0,
            quiet=True,
        )

    def start(self) -> None:
        """Has keys made before they are needed, from now on: whoever begins a session waits for no change then."""
        self._renewing.start()

    def stop(self) -> None:
        """Makes no more of them."""
        self._renewing.stop()

    def renew(self) -> None:
        """Makes the next key where there is none, or the present one has an hour left. Raises DATABASE_UNAVAILABLE,
        RECORD_KEY_UNAVAILABLE."""
        now_us, present = self._clock.now_us(), self._key
        if present is None or now_us >= present.rotate_us - _AHEAD_US:
            made = self._new_key(now_us)
            with self._lock:
                self._key = made

    def begin(self, principal: Principal, seconds: int, begun_us: int) -> Session:
        """A session of `principal` that lasts `seconds` from `begun_us`, a moment ago, and no longer than those whose
        ids it has already; less where the database has taken no new key for long. Raises FIELD_TOO_LARGE where its
        policies and tags do not fit into a token, DATABASE_UNAVAILABLE where there is no key to sign it with."""
        key = self._signing_key()
        # Exact to the microsecond, which tokens of before are told from revoked ones by.
        started = replace(
            principal,
            issued=begun_us / _SECOND_US,
            expires=float(min(begun_us // _SECOND_US + seconds, key.ends_us // _SECOND_US)),
            session_ids=(identifiers.event_id(), *principal.session_ids),
        )
        return Session(started, session_tokens.sign(started, self._issuer, key.key_id, key.private))

    def _signing_key(self) -> _SigningKey:
        """The key of today; its public half is durable before anything is signed with it."""
        now_us = self._clock.now_us()
        with self._lock:
            if self._key is None or now_us >= self._key.rotate_us:
                self._key = self._next_key(now_us, self._key)
            return self._key

    def _next_key(self, now_us: int, present: _SigningKey | None) -> _SigningKey:
        """A new key; or the present one for a while, where the database takes none."""
        try:
            return self._new_key(now_us)
        except StrongroomError:
            if present is None or now_us >= present.ends_us - _SHORTEST_US:
                raise
            return replace(present, rotate_us=now_us + _AGAIN_US)

    def _new_key(self, now_us: int) -> _SigningKey:
        rotate_us = now_us + _ROTATION_US
        ends_us = rotate_us + LONGEST_SECONDS * _SECOND_US
        made = _SigningKey(identifiers.resource_id("token-key"), Ed25519PrivateKey.generate(), rotate_us, ends_us)
        public = TokenKey(
            key_id=made.key_id,
            public_key=made.private.public_key().public_bytes_raw(),
            not_before=clock.from_microseconds(now_us - _BACKDATED_US),
            not_after=clock.from_microseconds(ends_us),
        )
        with transaction(self._engine) as connection:
            changes.note(connection, CHANGE_KIND_TOKEN_KEY, f"tokenKeys/{made.key_id}")
            store.insert_token_key(connection, public, now_us)
        return made
