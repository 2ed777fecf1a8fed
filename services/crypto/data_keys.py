"""Data keys: random, and encrypted like any other plaintext."""

from __future__ import annotations

import os

from services.crypto.encryption import Encryptor
from services.runtime.errors import invalid

_SIZES = range(16, 1025)
_DEFAULT_BYTES = 32


def check_size(number_of_bytes: int) -> int:
    """The size asked for, 32 bytes when none was; raises FIELD_INVALID outside 16 to 1,024."""
    size = number_of_bytes or _DEFAULT_BYTES
    if size not in _SIZES:
        raise invalid("number_of_bytes", f"is not between {_SIZES.start} and {_SIZES.stop - 1}")
    return size


def generate(encryptor: Encryptor, size: int) -> tuple[bytes, bytes]:
    """A data key and its ciphertext."""
    plaintext = os.urandom(size)
    return plaintext, encryptor.encrypt(plaintext)
