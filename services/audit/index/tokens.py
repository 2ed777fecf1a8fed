"""What events are found by, though they are sealed.

A token stands for one value of one field in one account: a keyed hash, so that who has the database alone cannot tell
what it stands for. Each leaf has its event's tokens beside it; which leaves have a token is the index's (tree.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from hashlib import blake2b

from services.audit.index.postings import TOKEN_BYTES
from services.audit.keys.service_keys import INDEX_KEY, ServiceKeys
from services.runtime.errors import Reason, StrongroomError
from services.runtime.sensitive import SensitiveBytes
from strongroom.audit.v1.event_pb2 import Event

KEY_BYTES = 32

_CACHED_KINDS = 50_000


class Tokens:
    """Makes tokens."""

    def __init__(self, service_keys: ServiceKeys, is_new: Callable[[], bool]) -> None:
        """`is_new`: whether no leaf was ever given tokens."""
        self._service_keys = service_keys
        self._is_new = is_new
        # None until crypto has provided it.
        self._key: bytes | None = None
        self._missing = False
        # Each with what its account's traces are hashed from.
        self._kinds: dict[tuple[str | int, ...], tuple[bytes, blake2b]] = {}
        self._traces: dict[str, blake2b] = {}

    def renew(self) -> None:
        """Gets the key, or makes it when there is none yet; notes where it is missing. Raises what `RootWrapping`
        does."""
        if self._key is not None:
            return
        key = self._service_keys.found(INDEX_KEY)
        if key is None and self._is_new():
            key = SensitiveBytes(os.urandom(KEY_BYTES))
            self._service_keys.make(INDEX_KEY, key)
        self._missing = key is None
        if key is not None:
            self._key = key.reveal()

    def check(self) -> None:
        """Raises AUDIT_SEALING_KEY_UNAVAILABLE until it is known whether there is a key."""
        if self._key is None and not self._missing:
            raise StrongroomError(
                Reason.AUDIT_SEALING_KEY_UNAVAILABLE,
                "the audit log cannot be used: crypto has not provided the index's key",
                peer="audit",
            )

    def require_key(self) -> None:
        """Raises AUDIT_RECORD_REFUSED where the key is missing: nothing can be looked up."""
        if self._missing:
            raise StrongroomError(
                Reason.AUDIT_RECORD_REFUSED,
                "the key that events are found by is missing from audit's database, or was changed there: put its row"
                " of service_keys back from a backup",
            )

    def of(self, event: Event) -> bytes:
        """Everything that an event is found by; nothing while the key is missing, so that every lookup will look at
        it. Raises as `check`."""
        if self._key is None:
            self.check()
            return b""
        values = (
            event.account,
            event.principal,
            event.action,
            event.resource,
            event.outcome,
            event.key_version,
            event.secret_version,
            event.session_name,
        )
        # Events come in kinds: all but the trace is the same in many.
        kind = self._kinds.get(values)
        if kind is None:
            if len(self._kinds) >= _CACHED_KINDS:
                self._kinds.clear()
                self._traces.clear()
            kind = self._kinds[values] = self._kind(*values), self._trace(event.account)
        joined, begun = kind
        trace = begun.copy()
        trace.update(event.trace_id.encode())
        return joined + trace.digest()

    def token(self, account: str, field: str, value: str) -> bytes:
        """The token of one value. Raises as `check` and `require_key`."""
        self.check()
        self.require_key()
        hashed = self._begun(account, field)
        hashed.update(value.encode())
        return hashed.digest()

    def _begun(self, account: str, field: str) -> blake2b:
        return blake2b(f"{field}\0{account}\0".encode(), digest_size=TOKEN_BYTES, key=self._key or b"")

    def _trace(self, account: str) -> blake2b:
        begun = self._traces.get(account)
        if begun is None:
            begun = self._traces[account] = self._begun(account, "trace")
        return begun

    def _kind(
        self,
        account: str,
        principal: str,
        action: str,
        resource: str,
        outcome: int,
        key_version: str,
        secret_version: str,
        session_name: str,
    ) -> bytes:
        fields = [
            ("account", account),
            ("principal", principal),
            ("action", action),
            ("resource", resource),
            ("outcome", str(outcome)),
            ("version", key_version),
            ("version", secret_version),
            ("session", session_name),
        ]
        return b"".join(self.token(account, field, value) for field, value in fields if value or field == "account")
