"""Symmetric encryption under keys that callers are permitted to use."""

from __future__ import annotations

from collections.abc import Sequence

from services.crypto.keys.key_uses import KeyUse, KeyUses
from services.crypto.operations.inputs import sized
from services.crypto.primitives import ciphertexts
from services.crypto.primitives.ciphers import Cipher
from services.crypto.primitives.ciphertexts import Ciphertext
from services.runtime.call import Call
from services.runtime.encryption_context import EncryptionContext
from services.runtime.errors import Reason, StrongroomError
from strongroom.audit.v1.event_pb2 import Outcome


class Encryptor:
    """Encrypts under a key's primary version, bound to one encryption context."""

    __slots__ = ("_associated_data", "_header", "algorithm", "use")

    def __init__(self, use: KeyUse[Cipher], context: EncryptionContext) -> None:
        self.use = use
        self.algorithm = use.material.algorithm
        self._header = ciphertexts.header(self.algorithm, use.key.uid, use.version)
        self._associated_data = self._header + context.canonical

    def encrypt(self, plaintext: bytes) -> bytes:
        """A ciphertext as docs/formats.md lays it out. Raises KEY_STATE_INVALID when the version has encrypted all that
        it may."""
        self._spend(1)
        return self._header + self.use.material.encrypt(plaintext, self._associated_data)

    def encrypt_all(self, plaintexts: Sequence[bytes]) -> list[bytes]:
        """A ciphertext of each, at less than the price of as many `encrypt`."""
        self._spend(len(plaintexts))
        return self.use.material.encrypt_all(plaintexts, self._associated_data, self._header)

    def _spend(self, count: int) -> None:
        if self.use.material.limited:
            self.use.key.spend_messages(self.use.version, count)


class Decryptor:
    """Decrypts what is under one key version, bound to one encryption context."""

    __slots__ = ("_context", "algorithm", "use")

    def __init__(self, use: KeyUse[Cipher], context: EncryptionContext) -> None:
        self.use = use
        self.algorithm = use.material.algorithm
        self._context = context.canonical

    def decrypt(self, ciphertext: Ciphertext) -> bytes:
        """The plaintext. Raises CIPHERTEXT_INVALID."""
        if ciphertext.algorithm != self.algorithm:
            raise ciphertexts.invalid()
        return self.use.material.decrypt(ciphertext.body, ciphertext.header + self._context)


class Encryption:
    """Opens keys for encryption and decryption."""

    def __init__(self, uses: KeyUses) -> None:
        self._uses = uses

    def encryptor(
        self, call: Call, action: str, key_name: str, context: EncryptionContext, field: str = "key"
    ) -> Encryptor:
        """The primary version of a key, for use under `context`. Raises as `KeyUses.named`."""
        use = self._uses.named(call, action, key_name, Cipher, context, field=field, versioned=False)
        return Encryptor(use, context)

    def require_standing(self, call: Call) -> None:
        """Raises PRINCIPAL_DISABLED, TOKEN_INVALID or IDENTITY_UNKNOWN where the caller may do nothing at all: for what
        comes to no key."""
        self._uses.require_standing(call)

    def decryptor(
        self,
        call: Call,
        action: str,
        ciphertext: Ciphertext,
        context: EncryptionContext,
        key_name: str = "",
        field: str = "key",
    ) -> Decryptor:
        """The key version that a ciphertext is under, for use under `context`.

        Raises CIPHERTEXT_INVALID without saying why; KEY_MISMATCH when `key_name` is given and is another key;
        otherwise as `KeyUses.named`.
        """
        key = self._uses.carried(call, ciphertext.key_uid)
        if key is None:
            self.require_standing(call)
            call.refused_whatever = True
            raise _unknown(call, action, context)
        events = len(call.events)
        try:
            event = self._uses.authorized(call, action, key, context)
        except StrongroomError as error:
            if key.account == call.principal.account or error.reason is not Reason.PERMISSION_DENIED:
                raise
            # A key of another account that the caller may not use looks like one that does not exist, here and in the
            # caller's own log.
            told = call.events[events:]
            del call.events[events:]
            unknown = _unknown(call, action, context)
            call.events += told
            for event in told:
                call.refused_elsewhere.pop(event.id, None)
            raise unknown from error
        if key_name and not self._uses.is_name_of(key_name, key, field):
            raise StrongroomError(Reason.KEY_MISMATCH, "the ciphertext is under another key", field=field)
        if not key.has_version(ciphertext.key_version):
            raise ciphertexts.invalid()
        return Decryptor(KeyUse(key, ciphertext.key_version, Cipher, event), context)


def check_plaintext(plaintext: bytes) -> bytes:
    """The plaintext; raises FIELD_REQUIRED for an empty one, FIELD_TOO_LARGE beyond 65,536 bytes."""
    return sized(plaintext, "plaintext", ciphertexts.MAX_PLAINTEXT_BYTES)


def _unknown(call: Call, action: str, context: EncryptionContext) -> StrongroomError:
    """The refusal of a ciphertext under a key that there is not, with its event."""
    refused = ciphertexts.invalid()
    event = call.record(action, "", call.principal.account, encryption_context=context.pairs)
    event.outcome, event.reason = Outcome.OUTCOME_FAILED, refused.reason
    return refused
