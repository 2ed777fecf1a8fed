"""What a re-encryption reads: a ciphertext under a symmetric key, or one to an asymmetric key's public half."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from services.crypto.keys.key_uses import KeyUses
from services.crypto.operations.encryption import Encryption
from services.crypto.primitives import ciphertexts, public_key_encryption
from services.crypto.primitives.public_key_encryption import Decrypter
from services.runtime import encryption_context
from services.runtime.call import Call
from strongroom.crypto.v1 import crypto_pb2 as pb

_ACTION = "crypto:ReEncryptFrom"


@dataclass(frozen=True, slots=True)
class Source:
    """A ciphertext that the caller may have re-encrypted, and the key version that it is under."""

    version_name: str
    decrypt: Callable[[], bytes]
    """Answers the plaintext; raises CIPHERTEXT_INVALID."""


def source(uses: KeyUses, encryption: Encryption, call: Call, request: pb.ReEncryptRequest) -> Source:
    """What the request names. Raises as `Encryption.decryptor`, or as `KeyUses.named` and ALGORITHM_INVALID when it
    gives a source algorithm, which says that the ciphertext is an asymmetric one."""
    context = encryption_context.of(request.source_encryption_context, "source_encryption_context")
    if not request.source_algorithm:
        ciphertext = ciphertexts.parse(request.ciphertext)
        decryptor = encryption.decryptor(call, _ACTION, ciphertext, context, request.source_key, "source_key")
        return Source(decryptor.use.version_name, lambda: decryptor.decrypt(ciphertext))
    use = uses.named(call, _ACTION, request.source_key, Decrypter, context, field="source_key")
    algorithm = use.algorithm(request.source_algorithm, "source_algorithm")
    info = public_key_encryption.info(use.material.public_key, context, "source_encryption_context")
    return Source(use.version_name, lambda: use.material.decrypt(algorithm, request.ciphertext, info))
