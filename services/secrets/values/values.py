"""How a secret's value is sealed: the one place that knows the bytes that the database holds of it.

Sealed value: format 0x01 | nonce 12 | AES-256-GCM ciphertext and tag 16, under the version's data key. The associated
data are the format byte and the version's resource name in UTF-8, so that a sealed value opens as the value of that
version alone.
"""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.runtime.aes_gcm import NONCE_BYTES, TAG_BYTES
from services.runtime.errors import Reason, StrongroomError, required, too_large
from services.runtime.requests.names import ResourceName
from services.runtime.sensitive import SensitiveBytes

MAX_VALUE_BYTES = 65_536

_FORMAT = b"\x01"


def check_value(value: bytes, field: str = "value") -> SensitiveBytes:
    """A value that a caller sent. Raises FIELD_REQUIRED for an empty one, FIELD_TOO_LARGE beyond 65,536 bytes."""
    if not value:
        raise required(field)
    if len(value) > MAX_VALUE_BYTES:
        raise too_large(field, MAX_VALUE_BYTES)
    return SensitiveBytes(value)


def seal(value: SensitiveBytes, data_key: SensitiveBytes, version: ResourceName) -> bytes:
    """Seals the value of `version` under its 32-byte data key, which must seal nothing else."""
    nonce = os.urandom(NONCE_BYTES)
    ciphertext = AESGCM(data_key.reveal()).encrypt(nonce, value.reveal(), _associated_data(version))
    return _FORMAT + nonce + ciphertext


def unseal(sealed: bytes, data_key: SensitiveBytes, version: ResourceName) -> SensitiveBytes:
    """The value of `version`. Raises SECRET_VALUE_REFUSED, without saying why, for anything that `seal` did not
    make for this version under this data key."""
    nonce, ciphertext = sealed[1 : 1 + NONCE_BYTES], sealed[1 + NONCE_BYTES :]
    if sealed[:1] != _FORMAT or len(ciphertext) < TAG_BYTES:
        raise refused(version)
    try:
        return SensitiveBytes(AESGCM(data_key.reveal()).decrypt(nonce, ciphertext, _associated_data(version)))
    except InvalidTag as error:
        raise refused(version) from error


def refused(version: ResourceName) -> StrongroomError:
    """What is stored of a version is not what this service stored."""
    return StrongroomError(
        Reason.SECRET_VALUE_REFUSED, f"what is stored of {version} is not its value", version=str(version)
    )


def _associated_data(version: ResourceName) -> bytes:
    return _FORMAT + str(version).encode()
