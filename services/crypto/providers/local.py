"""A root key in a file of mode 0600: for development, where no PKCS#11 module is installed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.crypto.providers.provider import HsmKey, MadeHsmKey, SealBrokenError
from services.runtime.errors import Reason, StrongroomError
from strongroom.keystore.v1.key_pb2 import KeySpec, KeyUsage

_KEY_BYTES = 32
_NONCE_BYTES = 12


def initialize(path: Path) -> bool:
    """Makes the root key file, once; answers whether it was made now."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".new")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(os.urandom(_KEY_BYTES))
        file.flush()
        os.fsync(file.fileno())
    try:
        # A link cannot replace a root key that is there already, unlike a rename.
        os.link(unfinished, path)
    except FileExistsError:
        return False
    finally:
        unfinished.unlink()
    return True


class LocalProvider:
    """See Provider. Keys of protection level HSM do not exist here."""

    name = "local"
    root_version = 1
    has_hsm = False
    hsm_specs: Sequence[KeySpec.ValueType] = ()

    def __init__(self, path: Path) -> None:
        try:
            mode = path.stat().st_mode
            key = path.read_bytes()
        except FileNotFoundError:
            raise SystemExit(
                f"no root key at {path}: run `python -m services.crypto initialize --config FILE`"
            ) from None
        if mode & 0o077:
            raise SystemExit(f"{path} can be read by others: a root key file has mode 0600")
        if len(key) != _KEY_BYTES:
            raise SystemExit(f"{path} does not hold a root key of {_KEY_BYTES} bytes")
        self._path = path
        self._key = AESGCM(key)

    def seal(self, root_version: int, payload: bytes, associated_data: bytes) -> bytes:
        """See Provider."""
        self._require(root_version)
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._key.encrypt(nonce, payload, associated_data)

    def unseal(self, root_version: int, sealed: bytes, associated_data: bytes) -> bytes:
        """See Provider."""
        self._require(root_version)
        try:
            return self._key.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], associated_data)
        except (InvalidTag, ValueError) as error:
            raise SealBrokenError from error

    def make_hsm_key(self, spec: KeySpec.ValueType) -> MadeHsmKey:
        """See Provider."""
        raise _no_hsm()

    def import_hsm_key(self, spec: KeySpec.ValueType, material: bytes) -> MadeHsmKey:
        """See Provider."""
        raise _no_hsm()

    def hsm_key(self, spec: KeySpec.ValueType, usage: KeyUsage.ValueType, root_version: int, wrapped: bytes) -> HsmKey:
        """See Provider."""
        raise _no_hsm()

    def random(self, size: int) -> bytes:
        """See Provider."""
        return os.urandom(size)

    def check(self) -> None:
        """See Provider."""

    def close(self) -> None:
        """See Provider."""

    def _require(self, root_version: int) -> None:
        if root_version != self.root_version:
            raise SealBrokenError


def _no_hsm() -> StrongroomError:
    return StrongroomError(
        Reason.UNSUPPORTED_IN_HSM,
        "the local provider has no HSM: configure a PKCS#11 module",
        field="protection_level",
    )
