"""Data keys: random, and encrypted like any other plaintext."""

from __future__ import annotations

import os
from collections.abc import Iterator

from services.crypto.operations.encryption import Encryptor
from services.crypto.primitives import private_keys
from services.runtime.errors import invalid
from strongroom.keystore.v1.key_pb2 import KEY_SPEC_X_WING, KeySpec

_MIN_BYTES = 16
_MAX_BYTES = 1024
_DEFAULT_BYTES = 32
_MAX_COUNT = 1000


def check_size(number_of_bytes: int, limit: int = _MAX_BYTES) -> int:
    """The size asked for, 32 bytes when none was; raises FIELD_INVALID outside 16 to 1,024, or to a lower limit."""
    size = number_of_bytes or _DEFAULT_BYTES
    most = min(limit, _MAX_BYTES)
    if not _MIN_BYTES <= size <= most:
        raise invalid("number_of_bytes", f"is not between {_MIN_BYTES} and {most}")
    return size


def check_count(count: int) -> int:
    """The number of data keys asked for; raises FIELD_INVALID outside 1 to 1,000."""
    if not 1 <= count <= _MAX_COUNT:
        raise invalid("count", f"is not between 1 and {_MAX_COUNT}")
    return count


def check_pair_spec(spec: KeySpec.ValueType) -> KeySpec.ValueType:
    """The spec of a key pair; raises FIELD_INVALID unless it is asymmetric, and for X_WING, which has no PKCS#8."""
    if spec not in private_keys.SPECS or spec == KEY_SPEC_X_WING:
        raise invalid("spec", "is not an asymmetric spec whose private keys can be written as PKCS#8")
    return spec


def generate(encryptor: Encryptor, size: int) -> tuple[bytes, bytes]:
    """A data key and its ciphertext."""
    plaintext = os.urandom(size)
    return plaintext, encryptor.encrypt(plaintext)


def generate_all(encryptor: Encryptor, size: int, count: int) -> Iterator[tuple[bytes, bytes]]:
    """So many data keys with their ciphertexts."""
    plaintexts = [os.urandom(size) for _ in range(count)]
    return zip(plaintexts, encryptor.encrypt_all(plaintexts), strict=True)
