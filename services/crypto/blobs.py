"""Wrapped key material (docs/formats.md, "Wrapped blob"), bound to the key version that it belongs to.

Keystore stores blobs and cannot read them. Each is sealed under the root with the binding as associated data, so that
a blob put in another's place does not open.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from struct import Struct

from services.crypto.provider import Provider, SealBrokenError
from services.runtime.errors import Reason, StrongroomError
from strongroom.keystore.v1.key_pb2 import (
    KEY_USAGE_ENCRYPT_DECRYPT,
    PROTECTION_LEVEL_SOFTWARE,
    ImportMethod,
    KeySpec,
    KeyUsage,
    ProtectionLevel,
)

FORMAT = 1
SOFTWARE = 1
HSM = 2
SERVICE = 3

# format, kind, root version
_HEADER = Struct(">BBI")
_LENGTH = Struct(">H")


@dataclass(frozen=True, slots=True)
class Binding:
    """What a blob is: the key version that its material belongs to."""

    account: str
    key_name: str
    key_uid: bytes
    version: int
    spec: KeySpec.ValueType
    usage: KeyUsage.ValueType
    protection_level: ProtectionLevel.ValueType

    def encode(self) -> bytes:
        """Each part with its length, so that no two bindings read the same."""
        return _length_prefixed(
            b"strongroom key material",
            self.account.encode(),
            self.key_name.encode(),
            self.key_uid,
            self.version.to_bytes(4, "big"),
            self.spec.to_bytes(4, "big"),
            self.usage.to_bytes(4, "big"),
            self.protection_level.to_bytes(4, "big"),
        )


@dataclass(frozen=True, slots=True)
class WrappingKeyBinding:
    """What the blob of an import's wrapping key is: for one import, of one key version, by one method, in time."""

    version: Binding
    """The key version that material is imported for."""
    method: ImportMethod.ValueType
    expire_us: int
    """Microseconds since the Unix epoch."""
    spec: KeySpec.ValueType
    protection_level: ProtectionLevel.ValueType = PROTECTION_LEVEL_SOFTWARE
    """The wrapping key's own, as its spec is."""
    usage: KeyUsage.ValueType = KEY_USAGE_ENCRYPT_DECRYPT

    def encode(self) -> bytes:
        """Each part with its length, so that no two bindings read the same."""
        return _length_prefixed(
            b"strongroom import wrapping key",
            self.version.encode(),
            self.method.to_bytes(4, "big"),
            self.expire_us.to_bytes(8, "big"),
            self.spec.to_bytes(4, "big"),
            self.protection_level.to_bytes(4, "big"),
        )


AnyBinding = Binding | WrappingKeyBinding


def service_binding(service: str, purpose: str) -> bytes:
    """The binding of a key that a service of the mesh keeps for itself."""
    return _length_prefixed(b"strongroom service key", service.encode(), purpose.encode())


def import_binding(wrapping_key: WrappingKeyBinding, public_key: bytes, wrapped_private_key: bytes) -> bytes:
    """The binding of an import token's seal: of everything that the token holds."""
    return _length_prefixed(
        b"strongroom import token",
        wrapping_key.encode(),
        sha256(public_key).digest(),
        sha256(wrapped_private_key).digest(),
    )


def seal(provider: Provider, kind: int, payload: bytes, binding: bytes, root_version: int | None = None) -> bytes:
    """A blob under a root version, the newest by default."""
    root_version = provider.root_version if root_version is None else root_version
    head = _HEADER.pack(FORMAT, kind, root_version)
    return head + provider.seal(root_version, payload, head + binding)


def unseal(provider: Provider, kind: int, blob: bytes, binding: bytes) -> bytes:
    """The payload of a blob that was sealed as this kind under this binding; raises KEY_MATERIAL_REFUSED."""
    if len(blob) <= _HEADER.size:
        raise refused()
    fmt, found, root_version = _HEADER.unpack_from(blob)
    if fmt != FORMAT or found != kind:
        raise refused()
    try:
        return provider.unseal(root_version, blob[_HEADER.size :], blob[: _HEADER.size] + binding)
    except SealBrokenError as error:
        raise refused() from error


def reseal(provider: Provider, kind: int, blob: bytes, binding: bytes) -> bytes:
    """A blob of an older root version, its payload sealed again under the newest one. Raises KEY_MATERIAL_REFUSED."""
    return seal(provider, kind, unseal(provider, kind, blob, binding), binding)


def kind(blob: bytes) -> int:
    """The kind that a blob says it is; 0 for what is no blob at all. Opening it shows whether that is true."""
    return blob[1] if len(blob) > _HEADER.size else 0


def root_version(blob: bytes) -> int:
    """The root version that a blob is sealed under. Raises KEY_MATERIAL_REFUSED for what is no blob."""
    if len(blob) <= _HEADER.size:
        raise refused()
    return int(_HEADER.unpack_from(blob)[2])


def refused() -> StrongroomError:
    """A blob is not what it was taken for."""
    return StrongroomError(
        Reason.KEY_MATERIAL_REFUSED, "the stored key material is damaged or belongs to another key version"
    )


def _length_prefixed(*parts: bytes) -> bytes:
    return b"".join(_LENGTH.pack(len(part)) + part for part in parts)
