"""The crypto verbs that a coalescing client gathers: encrypt, decrypt and sign."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from strongroom.calls.crypto.batches import Batch
from strongroom.calls.crypto.coalescing import Coalescer
from strongroom.calls.crypto.results import Context, Decrypted, Encrypted
from strongroom.calls.crypto.signatures import Digest, Signature

if TYPE_CHECKING:
    from strongroom.client import Client

Content = tuple[bytes, Context]


class CoalescedCalls:
    """Makes the single calls of concurrent threads together, each with its own outcome.

    `alone` is a client on the same connections that does not gather; `timeout` its own, in seconds.
    """

    def __init__(self, alone: Client, timeout: float) -> None:
        self._alone = alone
        self._timeout = timeout
        self._encrypt: Coalescer[Content, Encrypted] = Coalescer()
        self._decrypt: Coalescer[Content, Decrypted] = Coalescer()
        self._sign: Coalescer[bytes | Digest, Signature] = Coalescer()

    def encrypt(self, key: str, plaintext: bytes, context: Context, timeout: float | None) -> Encrypted:
        """Encrypts a plaintext, in one call with others under the key. Raises StrongroomError for itself alone."""

        def alone() -> Encrypted:
            return self._alone.encrypt(key, plaintext, context, timeout=timeout)

        def send(items: Sequence[Content]) -> Batch[Encrypted]:
            return self._alone.batch_encrypt(key, items, timeout=timeout)

        item, within = (plaintext, context), self._within(timeout)
        return self._encrypt.call((key, timeout), item, len(plaintext), within, alone, send)

    def decrypt(self, ciphertext: bytes, context: Context, key: str, timeout: float | None) -> Decrypted:
        """Decrypts a ciphertext, in one call with others. Raises StrongroomError for itself alone."""

        def alone() -> Decrypted:
            return self._alone.decrypt(ciphertext, context, key=key, timeout=timeout)

        def send(items: Sequence[Content]) -> Batch[Decrypted]:
            return self._alone.batch_decrypt(items, key=key, timeout=timeout)

        item, within = (ciphertext, context), self._within(timeout)
        return self._decrypt.call((key, timeout), item, len(ciphertext), within, alone, send)

    def sign(
        self, key: str, message: bytes | None, digest: bytes | None, algorithm: str, timeout: float | None
    ) -> Signature:
        """Signs a message or a digest, in one call with others by the key. Raises StrongroomError for itself alone."""

        def alone() -> Signature:
            return self._alone.sign(key, message, digest=digest, algorithm=algorithm, timeout=timeout)

        def send(items: Sequence[bytes | Digest]) -> Batch[Signature]:
            return self._alone.batch_sign(key, items, algorithm=algorithm, timeout=timeout)

        if (message is None) == (digest is None):
            return alone()
        item = message if message is not None else Digest(digest or b"")
        size = len(message or digest or b"")
        return self._sign.call((key, algorithm, timeout), item, size, self._within(timeout), alone, send)

    def _within(self, timeout: float | None) -> float:
        return self._timeout if timeout is None else timeout
