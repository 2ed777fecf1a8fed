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
from services.runtime.call import Principal
from services.runtime.clock import Clock
from services.runtime.sensitive import SensitiveBytes
from services.runtime.storage.database import transaction
from strongroom.access.v1.access_record_service_pb2 import TokenKey
from strongroom.keystore.v1.key_record_service_pb2 import CHANGE_KIND_TOKEN_KEY

LONGEST_SECONDS = 12 * 3600
_ROTATION_US = 24 * 3600 * 1_000_000
_SECOND_US = 1_000_000
# A session begins before the key that signs it, where it is the first.
_BACKDATED_US = 60 * _SECOND_US


@dataclass(frozen=True, slots=True)
class _SigningKey:
    key_id: str
    private: Ed25519PrivateKey
    rotate_us: int


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

    def begin(self, principal: Principal, seconds: int, begun_us: int) -> Session:
        """A session of `principal` that lasts `seconds` from `begun_us`, a moment ago, and no longer than those whose
        ids it has already. Raises FIELD_TOO_LARGE where its policies and tags do not fit into a token."""
        # Exact to the microsecond, as the moment before which RevokeSessions refuses sessions.
        started = replace(
            principal,
            issued=begun_us / _SECOND_US,
            expires=float(begun_us // _SECOND_US + seconds),
            session_ids=(identifiers.event_id(), *principal.session_ids),
        )
        key = self._signing_key()
        return Session(started, session_tokens.sign(started, self._issuer, key.key_id, key.private))

    def _signing_key(self) -> _SigningKey:
        """The key of today; its public half is durable before anything is signed with it."""
        now_us = self._clock.now_us()
        with self._lock:
            if self._key is None or now_us >= self._key.rotate_us:
                self._key = self._new_key(now_us)
            return self._key

    def _new_key(self, now_us: int) -> _SigningKey:
        made = _SigningKey(identifiers.resource_id("token-key"), Ed25519PrivateKey.generate(), now_us + _ROTATION_US)
        public = TokenKey(
            key_id=made.key_id,
            public_key=made.private.public_key().public_bytes_raw(),
            not_before=clock.from_microseconds(now_us - _BACKDATED_US),
            not_after=clock.from_microseconds(made.rotate_us + LONGEST_SECONDS * _SECOND_US),
        )
        with transaction(self._engine) as connection:
            changes.note(connection, CHANGE_KIND_TOKEN_KEY, f"tokenKeys/{made.key_id}")
            store.insert_token_key(connection, public, now_us)
        return made
