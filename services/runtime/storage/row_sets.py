"""Sets of sealed rows, each bound by one value. To change a few rows of a set takes as much work as they are, however
large it is.

The value is MSet-Add-Hash of Clarke, Devadas, van Dijk, Gassend and Suh, "Incremental Multiset Hash Functions and Their
Application to Memory Integrity Checking" (ASIACRYPT 2003): the sum of keyed hashes of the rows' seals modulo 2^256, and
added to it a keyed hash of a nonce of its own, so that whoever sees values learns of no sum. Formats: docs/formats.md,
"Sealed row".
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterable

from services.runtime.storage.row_seals import seal_bytes

_FORMAT = b"\x02"
_NONCE_BYTES, _SUM_BYTES = 16, 32
_MODULUS = 1 << (8 * _SUM_BYTES)
_ROWS, _MASK = b"strongroom set of rows", b"strongroom set of rows: mask"


class SetKeys:
    """What sums of one database's rows are made with."""

    def __init__(self, record_key: bytes) -> None:
        self._of_row, self._of_nonce = (
            hashlib.blake2b(key=hmac.digest(record_key, label, "sha256"), digest_size=_SUM_BYTES)
            for label in (_ROWS, _MASK)
        )

    def total(self, seals: Iterable[object]) -> int:
        """Of the rows with these seals."""
        return sum(_hashed(self._of_row, seal_bytes(seal)) for seal in seals) % _MODULUS

    def hidden(self, total: int, name: str) -> bytes:
        """A total as it stands in the database, of the set of this name."""
        nonce = os.urandom(_NONCE_BYTES)
        return _FORMAT + nonce + ((total + self._masking(nonce, name)) % _MODULUS).to_bytes(_SUM_BYTES)

    def shown(self, stored: bytes, name: str) -> int | None:
        """The total that `hidden` made this of; None for what is of another form."""
        if len(stored) != len(_FORMAT) + _NONCE_BYTES + _SUM_BYTES or not stored.startswith(_FORMAT):
            return None
        nonce, masked = stored[1 : 1 + _NONCE_BYTES], stored[1 + _NONCE_BYTES :]
        return (int.from_bytes(masked) - self._masking(nonce, name)) % _MODULUS

    def _masking(self, nonce: bytes, name: str) -> int:
        return _hashed(self._of_nonce, nonce + name.encode())


def _hashed(keyed: hashlib.blake2b, content: bytes) -> int:
    # To begin with a copy takes a third of the time.
    hashing = keyed.copy()
    hashing.update(content)
    return int.from_bytes(hashing.digest())
