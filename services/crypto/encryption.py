"""Symmetric encryption under keys that callers are permitted to use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from services.crypto import ciphertexts, encryption_context
from services.crypto.key_records import Key, KeyRecords
from services.runtime import names
from services.runtime.authorization import Authorizer, Resource
from services.runtime.call import Call
from services.runtime.errors import Reason, StrongroomError, required, too_large


@dataclass(frozen=True, slots=True)
class Encryptor:
    """One permitted use of a key for encryption, under one encryption context."""

    key: Key
    version: int
    version_name: str
    algorithm: int
    _context: bytes

    def encrypt(self, plaintext: bytes) -> bytes:
        """A ciphertext as docs/formats.md lays it out."""
        header = ciphertexts.header(self.algorithm, self.key.record.uid, self.version)
        return header + self.key.cipher(self.version).encrypt(plaintext, header + self._context)


class Encryption:
    """Finds keys, asks whether the caller may use them, and uses them."""

    def __init__(self, records: KeyRecords, authorizer: Authorizer) -> None:
        self._records = records
        self._authorizer = authorizer

    def encryptor(
        self, call: Call, action: str, key_name: str, context: Mapping[str, str], item_count: int = 1
    ) -> Encryptor:
        """The key's primary version, for use under `context`, recorded in the call's events.

        Raises NAME_MALFORMED, PERMISSION_DENIED, KEY_NOT_FOUND, KEY_DISABLED, KEY_STATE_INVALID, FIELD_TOO_LARGE.
        """
        canonical = encryption_context.canonical(context)
        key = self._named(call, action, key_name, context, canonical)
        event = self._authorizer.authorize(call, action, key.resource, context, canonical, item_count)
        version = key.record.primary_version
        event.key_version = version_name = key.version_names[version]
        key.require_enabled()
        return Encryptor(key, version, version_name, key.cipher(version).algorithm, canonical)

    def decrypt(
        self, call: Call, action: str, ciphertext: bytes, context: Mapping[str, str], key_name: str = ""
    ) -> tuple[bytes, Key, int]:
        """The plaintext, and the key and version that it was under.

        Raises CIPHERTEXT_INVALID without saying why; KEY_MISMATCH when `key_name` is given and is another key;
        otherwise as `encryptor`.
        """
        canonical = encryption_context.canonical(context)
        parsed = ciphertexts.parse(ciphertext)
        key = self._of(call, parsed.key_uid)
        try:
            event = self._authorizer.authorize(call, action, key.resource, context, canonical)
        except StrongroomError as error:
            if key.record.account == call.principal.account:
                raise
            # A key of another account that the caller may not use looks like one that does not exist.
            raise ciphertexts.invalid() from error
        event.key_version = key.version_names.get(parsed.key_version, "")
        if key_name and self._records.by_name(_checked(key_name)).record.uid != parsed.key_uid:
            raise StrongroomError(Reason.KEY_MISMATCH, "the ciphertext is under another key", field="key")
        key.require_enabled()
        cipher = key.cipher(parsed.key_version)
        if cipher.algorithm != parsed.algorithm:
            raise ciphertexts.invalid()
        return cipher.decrypt(parsed.body, parsed.header + canonical), key, parsed.key_version

    def _named(self, call: Call, action: str, name: str, context: Mapping[str, str], canonical: bytes) -> Key:
        try:
            return self._records.by_name(_checked(name))
        except StrongroomError as error:
            if error.reason not in (Reason.KEY_NOT_FOUND, Reason.ALIAS_NOT_FOUND):
                raise
            # Whoever may not use it must not learn that it does not exist: permission comes first.
            absent = Resource("Key", name, names.parse(name, "key", "keys", "aliases").account)
            self._authorizer.authorize(call, action, absent, context, canonical)
            raise

    def _of(self, call: Call, uid: bytes) -> Key:
        try:
            return self._records.by_uid(uid)
        except StrongroomError as error:
            if error.reason is not Reason.KEY_NOT_FOUND:
                raise
            raise ciphertexts.invalid() from error


def check_plaintext(plaintext: bytes, field: str = "plaintext") -> None:
    """Raises FIELD_REQUIRED for an empty plaintext, FIELD_TOO_LARGE beyond 65,536 bytes."""
    if not plaintext:
        raise required(field)
    if len(plaintext) > ciphertexts.MAX_PLAINTEXT_BYTES:
        raise too_large(field, ciphertexts.MAX_PLAINTEXT_BYTES)


def _checked(key_name: str) -> str:
    names.parse(key_name, "key", "keys", "aliases")
    return key_name
