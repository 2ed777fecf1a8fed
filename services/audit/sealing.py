"""Leaves are events sealed under a key of their account: the log can be verified by anyone, and read by few.

A sealing root is a key that crypto wraps under the mesh's root key; audit asks for that at start-up and once a day,
never while an event waits, so that audit and crypto cannot wait for each other in a circle. An account's sealing keys
are random, wrapped under the sealing root here, and stored with the first leaf that they seal. Deleting an account's
sealing keys makes its events unreadable and leaves the log intact.
"""

from __future__ import annotations

import logging
import os
import threading
from dataclasses import dataclass, replace
from struct import Struct
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap, aes_key_wrap

from services.audit.store import LogStore, WrappedKey, WrappedRoot
from services.runtime.clock import Clock
from services.runtime.errors import Reason, StrongroomError
from services.runtime.sensitive import SensitiveBytes

log = logging.getLogger(__name__)

FORMAT = 1
# format, sealing key id
_HEADER = Struct(">B16s")
_NONCE_BYTES = 12
_KEY_BYTES = 32
_DAY_US = 86_400_000_000
_RETRY_SECONDS = 0.25
_CHECK_SECONDS = 60.0
_CACHED_KEYS = 10_000


@dataclass(frozen=True, slots=True)
class Wrapped:
    """A blob that only crypto opens, and only for the audit service."""

    blob: bytes
    root_version: int
    """The version of the root key that it is under."""


class RootWrapping(Protocol):
    """Crypto's part: wraps and unwraps sealing roots. Methods raise CRYPTO_UNREACHABLE, PROVIDER_UNAVAILABLE."""

    def wrap(self, root: SensitiveBytes) -> Wrapped:
        """Wraps a sealing root."""

    def unwrap(self, wrapped: bytes) -> SensitiveBytes:
        """What was wrapped. Raises KEY_MATERIAL_REFUSED."""

    def rewrap(self, wrapped: bytes) -> Wrapped:
        """Wraps it anew, under the newest version of the root key. Raises KEY_MATERIAL_REFUSED."""


@dataclass(frozen=True, slots=True)
class SealingKey:
    """An account's sealing key in use. `unsaved` until a leaf that it seals has been stored."""

    header: bytes
    aead: AESGCM
    wrapped: WrappedKey

    def seal(self, event: bytes) -> bytes:
        """A leaf: the header, a random nonce, the sealed event."""
        nonce = os.urandom(_NONCE_BYTES)
        return self.header + nonce + self.aead.encrypt(nonce, event, self.header)


class Sealer:
    """Hands out sealing keys and opens leaves."""

    def __init__(self, store: LogStore, wrapping: RootWrapping, clock: Clock) -> None:
        self._store = store
        self._wrapping = wrapping
        self._clock = clock
        self._current: tuple[bytes, int, SensitiveBytes] | None = None
        self._roots: dict[bytes, SensitiveBytes] = {}
        self._by_account: dict[str, SealingKey] = {}
        self._by_id: dict[bytes, AESGCM] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep_current, name="sealing-root", daemon=True)

    def start(self) -> None:
        """Gets today's sealing root from crypto, as soon as crypto answers, and a new one every day."""
        self._thread.start()

    def stop(self) -> None:
        """Ends that."""
        self._stopping.set()
        self._thread.join(timeout=2)

    def check(self) -> None:
        """Raises AUDIT_SEALING_KEY_UNAVAILABLE until there is a sealing root."""
        if self._current is None:
            raise StrongroomError(
                Reason.AUDIT_SEALING_KEY_UNAVAILABLE,
                "the audit log cannot be written: crypto has not provided the sealing root",
                peer="audit",
            )

    def key_for(self, account: str) -> SealingKey:
        """The account's key of today; a new one has to be stored by the caller with the first leaf.

        Called by the sequencer alone. Raises AUDIT_SEALING_KEY_UNAVAILABLE.
        """
        now_us = self._clock() // 1000
        key = self._by_account.get(account)
        if key is None or now_us - key.wrapped.created_us > _DAY_US:
            key = self._make_key(account, now_us)
        return key

    def stored(self, key: SealingKey) -> None:
        """Notes that a new key is in the database and may seal further leaves."""
        self._by_account[key.wrapped.account] = key

    def is_stored(self, key: SealingKey) -> bool:
        """Whether `stored` was told of this key."""
        return self._by_account.get(key.wrapped.account) is key

    def open(self, leaf: bytes) -> bytes | None:
        """The event in a leaf, or None when its account's events were made unreadable."""
        fmt, key_id = _HEADER.unpack_from(leaf)
        aead = self._by_id.get(key_id) or self._load(key_id)
        if aead is None or fmt != FORMAT:
            return None
        header, rest = leaf[: _HEADER.size], leaf[_HEADER.size :]
        try:
            return aead.decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], header)
        except InvalidTag as error:
            raise StrongroomError(Reason.INTERNAL, "a leaf of the audit log was altered") from error

    def rewrap(self, below_root_version: int, limit: int) -> int:
        """Has sealing roots under older versions of the root key wrapped anew; how many it were. Raises what
        `RootWrapping.rewrap` does."""
        found = self._store.roots_below(below_root_version, limit) if limit else []
        for root in found:
            wrapped = self._wrapping.rewrap(root.wrapped)
            self._store.replace_root(replace(root, wrapped=wrapped.blob, root_version=wrapped.root_version))
        return len(found)

    def _make_key(self, account: str, now_us: int) -> SealingKey:
        self.check()
        assert self._current is not None  # noqa: S101  # check() has just seen it
        root_id, _, root = self._current
        key_id, material = os.urandom(16), os.urandom(_KEY_BYTES)
        wrapped = WrappedKey(key_id, account, now_us, root_id, aes_key_wrap(root.reveal(), material))
        return SealingKey(_HEADER.pack(FORMAT, key_id), AESGCM(material), wrapped)

    def _load(self, key_id: bytes) -> AESGCM | None:
        key = self._store.key(key_id)
        if key is None:
            return None
        aead = AESGCM(aes_key_unwrap(self._root(key.root_id).reveal(), key.wrapped))
        if len(self._by_id) >= _CACHED_KEYS:
            self._by_id.clear()
        self._by_id[key_id] = aead
        return aead

    def _root(self, root_id: bytes) -> SensitiveBytes:
        root = self._roots.get(root_id)
        if root is None:
            stored = self._store.root(root_id)
            if stored is None:
                raise StrongroomError(Reason.INTERNAL, "a sealing root is missing from the audit database")
            root = self._roots[root_id] = self._wrapping.unwrap(stored.wrapped)
        return root

    def _keep_current(self) -> None:
        while not self._stopping.is_set():
            try:
                self._renew()
                self._stopping.wait(_CHECK_SECONDS)
            except StrongroomError as error:
                log.warning("no sealing root yet", extra={"fields": {"reason": error.reason}})
                self._stopping.wait(_RETRY_SECONDS)

    def _renew(self) -> None:
        now_us = self._clock() // 1000
        if self._current is not None and now_us - self._current[1] < _DAY_US:
            return
        newest = self._store.newest_root()
        if newest is None or now_us - newest.created_us >= _DAY_US:
            root = SensitiveBytes(os.urandom(_KEY_BYTES))
            wrapped = self._wrapping.wrap(root)
            newest = WrappedRoot(os.urandom(16), now_us, wrapped.blob, wrapped.root_version)
            self._store.insert_root(newest)
            self._roots[newest.root_id] = root
        self._current = (newest.root_id, newest.created_us, self._root(newest.root_id))
