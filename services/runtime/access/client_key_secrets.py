"""Secrets of client keys (docs/formats.md): how they are made, and what is kept of them."""

from __future__ import annotations

import base64
import os
from hashlib import sha256

from services.runtime.sensitive import SensitiveBytes

SHA256_BYTES = 32

_PREFIX = "strongroom_ck_"  # what scanners for leaked credentials look for
_SECRET_BYTES = 32


def new_secret() -> SensitiveBytes:
    """A random secret, as text."""
    return SensitiveBytes(secret_of(os.urandom(_SECRET_BYTES)).encode())


def secret_of(random: bytes) -> str:
    """A secret as it is shown: 32 random bytes behind the prefix."""
    return _PREFIX + base64.b32encode(random).decode().rstrip("=").lower()


def secret_sha256(secret: str) -> bytes:
    """What is kept of a secret. It is 256 random bits: nothing slower is needed."""
    return sha256(secret.encode()).digest()
