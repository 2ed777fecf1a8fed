"""What of a client the encryption SDK calls, without a mesh: keys that wrap by remembering."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping

from strongroom.calls.crypto.results import DataKey, Decrypted, Encrypted
from strongroom.errors import StrongroomError
from strongroom.names import Names

Context = Mapping[str, str] | None


class MeshKeys:
    """A mesh of one account: `payments` and `escrow`, `alias/current` for `payments`."""

    def __init__(self, account: str = "main") -> None:
        self.names = Names(account)
        self.calls = 0
        self.failure: StrongroomError | None = None
        self.before: Callable[[], None] = lambda: None
        self._aliases = {self.names.alias("current"): self.names.key("payments")}
        self._wrapped: dict[bytes, tuple[bytes, str, dict[str, str]]] = {}
        self._lock = threading.Lock()

    def generate_data_key(self, key: str, context: Context = None, *, byte_count: int = 32) -> DataKey:
        """A new data key, and what wraps it."""
        plaintext = os.urandom(byte_count)
        made = self.encrypt(key, plaintext, context)
        return DataKey(plaintext, made.ciphertext, made.key, made.key_version, made.event_id)

    def encrypt(self, key: str, plaintext: bytes, context: Context = None) -> Encrypted:
        """Wraps by remembering."""
        self._call()
        name = self._aliases.get(key, key)
        ciphertext = b"\x01\x01" + os.urandom(92)
        self._wrapped[ciphertext] = (plaintext, name, dict(context or {}))
        return Encrypted(ciphertext, name, f"{name}/versions/1", "event")

    def decrypt(self, ciphertext: bytes, context: Context = None, *, key: str = "") -> Decrypted:
        """What was wrapped, under its own key and context alone. Raises KEY_MISMATCH or CIPHERTEXT_INVALID."""
        self._call()
        plaintext, name, bound = self._wrapped.get(ciphertext, (b"", "", {"nothing": ""}))
        if key and name and self._aliases.get(key, key) != name:
            raise StrongroomError("KEY_MISMATCH", "the ciphertext is under another key")
        if bound != dict(context or {}):
            raise StrongroomError("CIPHERTEXT_INVALID", "it does not decrypt")
        return Decrypted(plaintext, name, f"{name}/versions/1", "event")

    def is_away(self) -> None:
        """From now on the mesh cannot be reached."""
        self.failure = StrongroomError("UNREACHABLE", "crypto at kms:7443 cannot be reached", code="UNAVAILABLE")

    def _call(self) -> None:
        with self._lock:
            self.calls += 1
        self.before()
        if self.failure is not None:
            raise self.failure.renewed()
