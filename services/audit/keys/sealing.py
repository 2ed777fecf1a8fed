"""Leaves are events sealed under a key of their account: the log can be verified by anyone, and read by few.

A sealing root is a key that crypto wraps under the mesh's root key; there is a new one every day. An account's sealing
keys are random, wrapped under the sealing root here, and stored with the first leaf that they seal; each is for one
day (UTC). Destroying an account's sealing keys makes its events unreadable and leaves the log intact.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from struct import Struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.audit.keys import sealing_wraps
from services.audit.keys.service_keys import SEALING_ROOT, ServiceKeys
from services.audit.keys.store import WrappedKey, WrappedKeys
from services.runtime.aes_gcm import NONCE_BYTES, TAG_BYTES
from services.runtime.clock import Clock
from services.runtime.errors import Reason, StrongroomError
from services.runtime.sensitive import SensitiveBytes
from strongroom.tlog.tiles import MAX_ENTRY_BYTES

FORMAT = 2
_UNPADDED = 1
DAY_US = 86_400_000_000
# format, sealing key id
_HEADER = Struct(">B16s")
# Of the event; zeros behind it fill its class of sizes.
_LENGTH = Struct(">H")
_AROUND_BYTES = _HEADER.size + NONCE_BYTES + TAG_BYTES
SEALING_BYTES = _AROUND_BYTES + _LENGTH.size
"""By how much a leaf is longer than its event, at least."""
_FINE_BYTES, _COARSE_BYTES, _COARSE_FROM_BYTES = 128, 512, 1_024
_MAX_PADDED_BYTES = MAX_ENTRY_BYTES - _AROUND_BYTES
_KEY_BYTES = 32
_CACHED_KEYS = 10_000


@dataclass(frozen=True, slots=True)
class SealingKey:
    """An account's sealing key in use."""

    header: bytes
    aead: AESGCM
    wrapped: WrappedKey

    def seal(self, event: bytes, nonce: bytes) -> bytes:
        """A leaf: the header, the nonce, the sealed event. `nonce` is one of `nonces`, and used for no other."""
        return self.header + nonce + self.aead.encrypt(nonce, padded(event), self.header)


def padded(event: bytes) -> bytes:
    """An event as it is sealed: its length, itself, and zeros, so that a leaf tells little of its size to those who may
    read the log and not its events."""
    before, behind = _around(len(event))
    return before + event + behind


# Each event of the mesh passes here, and most are of a few lengths.
@lru_cache(4_096)
def _around(length: int) -> tuple[bytes, bytes]:
    size = _LENGTH.size + length
    zeros = -size % (_FINE_BYTES if size <= _COARSE_FROM_BYTES else _COARSE_BYTES)
    return _LENGTH.pack(length), bytes(min(zeros, _MAX_PADDED_BYTES - size))


def unpadded(sealed: bytes) -> bytes:
    """The event in what `padded` made. Raises AUDIT_RECORD_REFUSED for what it did not make."""
    if len(sealed) < _LENGTH.size or (end := _LENGTH.size + _LENGTH.unpack_from(sealed)[0]) > len(sealed):
        raise _altered()
    return sealed[_LENGTH.size : end]


def nonces(count: int) -> Iterator[bytes]:
    """Random nonces, so many."""
    # Drawn at once: each draw lets other threads run first, and an append has hundreds of leaves.
    drawn = os.urandom(count * NONCE_BYTES)
    return (drawn[at : at + NONCE_BYTES] for at in range(0, len(drawn), NONCE_BYTES))


def sealing_key_of(leaf: bytes) -> bytes:
    """The id of the key that a leaf is sealed under."""
    return leaf[1 : _HEADER.size]


class Sealer:
    """Hands out sealing keys and opens leaves."""

    def __init__(self, store: WrappedKeys, service_keys: ServiceKeys, clock: Clock) -> None:
        self._store = store
        self._service_keys = service_keys
        self._clock = clock
        self._root: tuple[bytes, int, SensitiveBytes] | None = None
        self._by_account: dict[str, SealingKey] = {}
        self._by_id: dict[bytes, AESGCM] = {}
        # The account of a key, which stays the same when the key was destroyed.
        self._accounts: dict[bytes, str] = {}

    def renew(self) -> None:
        """Gets the sealing root from crypto when there is none in use or a new one is due. Raises what
        `RootWrapping` does."""
        now_us = self._clock.now_us()
        if self._root is not None and now_us - self._root[1] < DAY_US:
            return
        newest = self._service_keys.newest(SEALING_ROOT)
        if newest is None or now_us - newest.created_us >= DAY_US:
            newest = self._service_keys.make(SEALING_ROOT, SensitiveBytes(os.urandom(_KEY_BYTES)))
        self._root = (newest.key_id, newest.created_us, self._service_keys.open(newest.key_id))

    def check(self) -> None:
        """Raises AUDIT_SEALING_KEY_UNAVAILABLE until there is a sealing root."""
        if self._root is None:
            raise StrongroomError(
                Reason.AUDIT_SEALING_KEY_UNAVAILABLE,
                "the audit log cannot be written: crypto has not provided the sealing root",
                peer="audit",
            )

    def key_for(self, account: str) -> SealingKey:
        """The account's key of today; a new one has to be stored by the caller with the first leaf.

        Called by the sequencer alone. Raises AUDIT_SEALING_KEY_UNAVAILABLE.
        """
        now_us = self._clock.now_us()
        key = self._by_account.get(account)
        if key is None or now_us // DAY_US != key.wrapped.created_us // DAY_US:
            key = self._make_key(account, now_us)
        return key

    def stored(self, key: SealingKey) -> None:
        """Notes that a new key is in the database and may seal further leaves."""
        self._by_account[key.wrapped.account] = key

    def is_stored(self, key: SealingKey) -> bool:
        """Whether `stored` was told of this key."""
        return self._by_account.get(key.wrapped.account) is key

    def forget(self, account: str) -> None:
        """Drops an account's keys, which were destroyed: its next leaf is sealed under a new one."""
        self._by_account.pop(account, None)
        self._by_id.clear()

    def open(self, leaf: bytes) -> bytes | None:
        """The event in a leaf, or None when its account's events were made unreadable. Raises AUDIT_RECORD_REFUSED for
        one whose key is missing or was changed, or that was changed itself."""
        if len(leaf) < _AROUND_BYTES or leaf[0] not in (FORMAT, _UNPADDED):
            raise _altered()
        fmt, key_id = _HEADER.unpack_from(leaf)
        aead = self._by_id.get(key_id) or self._load(key_id)
        if aead is None:
            return None
        header, rest = leaf[: _HEADER.size], leaf[_HEADER.size :]
        try:
            opened = aead.decrypt(rest[:NONCE_BYTES], rest[NONCE_BYTES:], header)
        except InvalidTag as error:
            raise _altered() from error
        return opened if fmt == _UNPADDED else unpadded(opened)

    def account_of(self, leaf: bytes) -> str | None:
        """Whose event a leaf holds, also when it was made unreadable."""
        key_id = sealing_key_of(leaf)
        account = self._accounts.get(key_id)
        if account is None and (key := self._store.sealing_key(key_id)):
            if len(self._accounts) >= _CACHED_KEYS:
                self._accounts.clear()
            account = self._accounts[key_id] = key.account
        return account

    def tombstones(self, key_ids: Sequence[bytes]) -> dict[bytes, bytes]:
        """What takes the place of keys that are destroyed. Raises as `open`, also where another account's key was moved
        among them."""
        found: dict[bytes, bytes] = {}
        for key in filter(None, map(self._store.sealing_key, key_ids)):
            self.verify(key)
            found[key.key_id] = sealing_wraps.destroyed(self._service_keys.open(key.root_id), key)
        return found

    def verify(self, key: WrappedKey) -> None:
        """Raises as `open` for a key that is not what the service wrote."""
        self._material(key)

    def _material(self, key: WrappedKey) -> bytes | None:
        return sealing_wraps.unwrap(self._service_keys.open(key.root_id), key)

    def _make_key(self, account: str, now_us: int) -> SealingKey:
        self.check()
        assert self._root is not None  # noqa: S101  # check() has just seen it
        root_id, _, root = self._root
        key_id, material = os.urandom(16), os.urandom(_KEY_BYTES)
        made = WrappedKey(key_id, account, now_us, root_id, b"")
        wrapped = replace(made, wrapped=sealing_wraps.wrap(root, material, made))
        return SealingKey(_HEADER.pack(FORMAT, key_id), AESGCM(material), wrapped)

    def _load(self, key_id: bytes) -> AESGCM | None:
        key = self._store.sealing_key(key_id)
        if key is None:
            raise sealing_wraps.refused()
        material = self._material(key)
        if material is None:
            return None
        aead = AESGCM(material)
        if len(self._by_id) >= _CACHED_KEYS:
            self._by_id.clear()
        self._by_id[key_id] = aead
        return aead


def _altered() -> StrongroomError:
    return StrongroomError(Reason.AUDIT_RECORD_REFUSED, "a leaf of the audit log was altered")
