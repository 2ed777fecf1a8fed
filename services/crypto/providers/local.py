"""A root key in files of mode 0600, one a version: for development, where no PKCS#11 module is installed."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.crypto.provider import HsmKey, MadeHsmKey, RootVersion, SealBrokenError
from services.crypto.providers.refreshed import Refreshed
from services.runtime.aes_gcm import NONCE_BYTES
from services.runtime.errors import Reason, StrongroomError
from strongroom.keystore.v1.key_pb2 import KeySpec, KeyUsage

_KEY_BYTES = 32
_VERSION = re.compile(r"\.([1-9][0-9]*)")


def initialize(path: Path) -> bool:
    """Makes the first root key file, once; answers whether it was made now."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return not _versions(path) and _make(_file(path, 1))


class LocalProvider:
    """A root key in files, without a token: there are no keys of protection level HSM.

    Root version 1 is the file at `path`, version n the file beside it that ends in `.n`.
    """

    name = "local"
    token = ""
    has_hsm = False
    hsm_specs: Sequence[KeySpec.ValueType] = ()

    def __init__(self, path: Path) -> None:
        if not _versions(path):
            raise SystemExit(f"no root key at {path}: run `python -m services.crypto initialize --config FILE`")
        self._path = path
        self._keys: dict[int, AESGCM] = {}
        self._newest = Refreshed(lambda: max(_versions(path)))
        for version in _versions(path):
            self._key(version)

    @property
    def root_version(self) -> int:
        """The newest root version: what new blobs are sealed under."""
        return self._newest.get()

    def root_versions(self) -> list[RootVersion]:
        """Every root version that there is just now, oldest first."""
        return [
            RootVersion(version, _file(self._path, version).stat().st_mtime_ns // 1000)
            for version in sorted(_versions(self._path))
        ]

    def make_root(self, version: int) -> None:
        """Makes a root version, whole or not at all."""
        _make(_file(self._path, version))
        self._newest.forget()

    def destroy_root(self, version: int) -> None:
        """Destroys a root version for good; what is still under it is lost."""
        _file(self._path, version).unlink(missing_ok=True)
        self._keys.pop(version, None)

    def seal(self, root_version: int, payload: bytes, associated_data: bytes) -> bytes:
        """12 bytes of nonce, the ciphertext under the root's sealing key, and 16 bytes of tag."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._key(root_version).encrypt(nonce, payload, associated_data)

    def unseal(self, root_version: int, sealed: bytes, associated_data: bytes) -> bytes:
        """The payload of what `seal` made."""
        try:
            return self._key(root_version).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], associated_data)
        except (InvalidTag, ValueError) as error:
            raise SealBrokenError from error

    def make_hsm_key(self, spec: KeySpec.ValueType) -> MadeHsmKey:
        """Makes a key in the token."""
        raise _no_hsm()

    def import_hsm_key(self, spec: KeySpec.ValueType, material: bytes) -> MadeHsmKey:
        """Puts a key into the token, and answers it wrapped: a raw key, or PKCS#8 in DER."""
        raise _no_hsm()

    def hsm_key(
        self,
        spec: KeySpec.ValueType,
        usage: KeyUsage.ValueType,
        root_version: int,
        wrapped: bytes,
        account: str = "",
    ) -> HsmKey:
        """The key that was wrapped, for use inside the token, as one of the account's."""
        raise _no_hsm()

    def rewrap_hsm_key(self, spec: KeySpec.ValueType, root_version: int, wrapped: bytes) -> MadeHsmKey:
        """Wraps the key anew, under the newest root version, inside the token; no public half is answered."""
        raise _no_hsm()

    def random(self, size: int) -> bytes:
        """`size` random bytes from the token where there is one."""
        return os.urandom(size)

    def check(self) -> None:
        """Raises PROVIDER_UNAVAILABLE unless the root key can be used."""

    def close(self) -> None:
        """Lets go of the token."""

    def _key(self, version: int) -> AESGCM:
        key = self._keys.get(version)
        if key is None:
            key = self._keys[version] = AESGCM(_read(_file(self._path, version)))
        return key


def _file(path: Path, version: int) -> Path:
    return path if version == 1 else path.with_name(f"{path.name}.{version}")


def _versions(path: Path) -> set[int]:
    later = (_VERSION.fullmatch(found.name[len(path.name) :]) for found in path.parent.glob(f"{path.name}.*"))
    return {int(match[1]) for match in later if match} | ({1} if path.exists() else set())


def _make(path: Path) -> bool:
    """Makes a root key file unless it is there; answers whether it was made now."""
    unfinished = path.with_name(f"{path.name}.new")
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
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return True


def _read(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode
        key = path.read_bytes()
    except FileNotFoundError:
        raise SealBrokenError(f"there is no root key at {path}") from None
    if mode & 0o077:
        raise SystemExit(f"{path} can be read by others: a root key file has mode 0600")
    if len(key) != _KEY_BYTES:
        raise SystemExit(f"{path} does not hold a root key of {_KEY_BYTES} bytes")
    return key


def _no_hsm() -> StrongroomError:
    return StrongroomError(
        Reason.UNSUPPORTED_IN_HSM,
        "the local provider has no HSM: configure a PKCS#11 module",
        field="protection_level",
    )
