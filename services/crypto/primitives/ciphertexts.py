"""The bytes of a ciphertext (docs/formats.md, "Ciphertext"): a header that names key, version and algorithm."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from services.runtime.aes_gcm import TAG_BYTES
from services.runtime.errors import Reason, StrongroomError
from strongroom.crypto.v1.algorithm_pb2 import (
    ALGORITHM_AES_128_GCM,
    ALGORITHM_HSM_AES_128_GCM,
    ALGORITHM_HSM_AES_256_GCM,
    ALGORITHM_SM4_GCM,
    ALGORITHM_XAES_256_GCM,
    Algorithm,
)

FORMAT = 1
XAES_256_GCM = ALGORITHM_XAES_256_GCM
HSM_AES_256_GCM = ALGORITHM_HSM_AES_256_GCM
AES_128_GCM = ALGORITHM_AES_128_GCM
HSM_AES_128_GCM = ALGORITHM_HSM_AES_128_GCM
SM4_GCM = ALGORITHM_SM4_GCM

# format, algorithm, key uid, key version
_HEADER = Struct(">BB16sI")
HEADER_BYTES = _HEADER.size
_NONCE_BYTES = {XAES_256_GCM: 24, AES_128_GCM: 24, HSM_AES_256_GCM: 12, HSM_AES_128_GCM: 12, SM4_GCM: 12}
_OVERHEAD_BYTES = {algorithm: HEADER_BYTES + size + TAG_BYTES for algorithm, size in _NONCE_BYTES.items()}
MAX_PLAINTEXT_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Ciphertext:
    """A ciphertext taken apart. `header` is authenticated with the body."""

    header: bytes
    algorithm: Algorithm.ValueType
    key_uid: bytes
    key_version: int
    body: bytes


def header(algorithm: int, key_uid: bytes, key_version: int) -> bytes:
    """The 22 bytes before the nonce."""
    return _HEADER.pack(FORMAT, algorithm, key_uid, key_version)


def parse(data: bytes) -> Ciphertext:
    """Takes a ciphertext apart; raises CIPHERTEXT_INVALID, and does not say why."""
    if len(data) < HEADER_BYTES:
        raise invalid()
    fmt, algorithm, key_uid, key_version = _HEADER.unpack_from(data)
    plaintext_bytes = len(data) - _OVERHEAD_BYTES.get(algorithm, len(data))
    if fmt != FORMAT or not 0 < plaintext_bytes <= MAX_PLAINTEXT_BYTES:
        raise invalid()
    return Ciphertext(data[:HEADER_BYTES], algorithm, key_uid, key_version, data[HEADER_BYTES:])


def invalid() -> StrongroomError:
    """The one answer to every ciphertext that does not decrypt, whatever the cause."""
    return StrongroomError(
        Reason.CIPHERTEXT_INVALID,
        "the ciphertext cannot be decrypted: it is not intact, or key or encryption context do not match",
        field="ciphertext",
    )
