"""Symmetric encryption under keys that callers are permitted to use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from services.crypto import ciphertexts, encryption_context
from services.crypto.ciphertexts import Ciphertext
from services.crypto.key_records import Key, KeyRecords
from services.crypto.material import Cipher
from services.runtime import names
from services.runtime.authorization import Authorizer, Resource
from services.runtime.call import Call
from services.runtime.errors import Reason, StrongroomError, required, too_large
from strongroom.audit.v1.event_pb2 import Event


class KeyUse:
    """One permitted use of a key version under one encryption context, with the event that records it."""

    __slots__ = ("_cipher", "_context", "_key", "_version", "algorithm", "event", "key_name", "version_name")

    def __init__(self, key: Key, version: int, context: bytes, event: Event) -> None:
        self.event = event
        self.key_name = key.record.name
        self.version_name = event.key_version = key.version_names.get(version, "")
        key.require_enabled()
        self._key = key
        self._version = version
        self._context = context
        self._cipher: Cipher = key.cipher(version)
        self.algorithm = self._cipher.algorithm


class Encryptor(KeyUse):
    """Encrypts under a key's primary version."""

    def encrypt(self, plaintext: bytes) -> bytes:
        """A ciphertext as docs/formats.md lays it out."""
        header = ciphertexts.header(self.algorithm, self._key.record.uid, self._version)
        return header + self._cipher.encrypt(plaintext, header + self._context)

    def encrypt_all(self, plaintexts: Sequence[bytes]) -> list[bytes]:
        """A ciphertext of each, at less than the price of as many `encrypt`."""
        header = ciphertexts.header(self.algorithm, self._key.record.uid, self._version)
        return self._cipher.encrypt_all(plaintexts, header + self._context, header)


class Decryptor(KeyUse):
    """Decrypts what is under one key version."""

    def decrypt(self, ciphertext: Ciphertext) -> bytes:
        """The plaintext. Raises CIPHERTEXT_INVALID."""
        if ciphertext.algorithm != self.algorithm:
            raise ciphertexts.invalid()
        return self._cipher.decrypt(ciphertext.body, ciphertext.header + self._context)


class Encryption:
    """Finds keys, and asks whether the caller may use them."""

    def __init__(self, records: KeyRecords, authorizer: Authorizer) -> None:
        self._records = records
        self._authorizer = authorizer

    def encryptor(self, call: Call, action: str, key_name: str, context: Mapping[str, str]) -> Encryptor:
        """The key's primary version, for use under `context`, recorded in the call's events.

        Raises NAME_MALFORMED, PERMISSION_DENIED, KEY_NOT_FOUND, KEY_DISABLED, KEY_STATE_INVALID, FIELD_TOO_LARGE,
        KEY_MATERIAL_REFUSED.
        """
        canonical = encryption_context.canonical(context)
        key = self._named(call, action, key_name, context, canonical)
        event = self._authorizer.authorize(call, action, key.resource, context, canonical)
        return Encryptor(key, key.record.primary_version, canonical, event)

    def decryptor(
        self, call: Call, action: str, ciphertext: Ciphertext, context: Mapping[str, str], key_name: str = ""
    ) -> Decryptor:
        """The key version that a ciphertext is under, for use under `context`.

        Raises CIPHERTEXT_INVALID without saying why; KEY_MISMATCH when `key_name` is given and is another key;
        otherwise as `encryptor`.
        """
        canonical = encryption_context.canonical(context)
        key = self._carried(ciphertext.key_uid)
        try:
            event = self._authorizer.authorize(call, action, key.resource, context, canonical)
        except StrongroomError as error:
            if key.record.account == call.principal.account:
                raise
            # A key of another account that the caller may not use looks like one that does not exist.
            raise ciphertexts.invalid() from error
        if key_name and self._records.by_name(_checked(key_name)).record.uid != ciphertext.key_uid:
            raise StrongroomError(Reason.KEY_MISMATCH, "the ciphertext is under another key", field="key")
        if ciphertext.key_version not in key.version_names:
            raise ciphertexts.invalid()
        return Decryptor(key, ciphertext.key_version, canonical, event)

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

    def _carried(self, uid: bytes) -> Key:
        try:
            return self._records.by_uid(uid)
        except StrongroomError as error:
            if error.reason is not Reason.KEY_NOT_FOUND:
                raise
            raise ciphertexts.invalid() from error


def check_plaintext(plaintext: bytes) -> bytes:
    """The plaintext; raises FIELD_REQUIRED for an empty one, FIELD_TOO_LARGE beyond 65,536 bytes."""
    if not plaintext:
        raise required("plaintext")
    if len(plaintext) > ciphertexts.MAX_PLAINTEXT_BYTES:
        raise too_large("plaintext", ciphertexts.MAX_PLAINTEXT_BYTES)
    return plaintext


def _checked(key_name: str) -> str:
    names.parse(key_name, "key", "keys", "aliases")
    return key_name
