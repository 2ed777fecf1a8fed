"""Import of key material that its owner made elsewhere and wrapped for one key version.

The wrapping key is an RSA pair that is kept nowhere: its private half travels in the import token as a blob that opens
for one key version, one method and one expiry alone.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap_with_padding

from services.crypto import blobs
from services.crypto.blobs import Binding, WrappingKeyBinding
from services.crypto.keys import material
from services.crypto.keys.material import Made
from services.crypto.primitives import private_keys
from services.crypto.primitives.public_key_encryption import Decrypter
from services.crypto.provider import Provider
from services.runtime.clock import Clock
from services.runtime.errors import Reason, StrongroomError, invalid
from services.runtime.requests.key_specs import spec_name
from strongroom.crypto.v1.algorithm_pb2 import ALGORITHM_RSAES_OAEP_SHA_256
from strongroom.keystore.v1 import key_pb2 as k
from strongroom.keystore.v1.key_pb2 import ImportMethod, KeySpec, ProtectionLevel

_SALT_BYTES = 16
# What fits in the 8 bytes of a binding, far beyond any token's end.
_END_OF_TIME_US = 1 << 62
_WRAPPED_KEY_BYTES = 32
_LEVEL_OF_BLOB: Mapping[int, ProtectionLevel.ValueType] = {
    blobs.SOFTWARE: k.PROTECTION_LEVEL_SOFTWARE,
    blobs.HSM: k.PROTECTION_LEVEL_HSM,
}


@dataclass(frozen=True, slots=True)
class _Method:
    """How material is wrapped."""

    wrapping_spec: KeySpec.ValueType
    direct: bool
    """Whether RSA encrypts the material itself, and not a key that wraps it."""


_METHODS: Mapping[ImportMethod.ValueType, _Method] = {
    k.IMPORT_METHOD_RSA_OAEP_3072_SHA256: _Method(k.KEY_SPEC_RSA_3072, direct=True),
    k.IMPORT_METHOD_RSA_OAEP_4096_SHA256: _Method(k.KEY_SPEC_RSA_4096, direct=True),
    k.IMPORT_METHOD_RSA_AES_KEY_WRAP_3072_SHA256: _Method(k.KEY_SPEC_RSA_3072, direct=False),
    k.IMPORT_METHOD_RSA_AES_KEY_WRAP_4096_SHA256: _Method(k.KEY_SPEC_RSA_4096, direct=False),
}


@dataclass(frozen=True, slots=True)
class Opening:
    """What opens wrapped material: given out when the import began, and given back with the material."""

    method: ImportMethod.ValueType
    expire_us: int
    """Microseconds since the Unix epoch."""
    public_key: bytes
    """SubjectPublicKeyInfo in DER."""
    wrapped_private_key: bytes
    """The private half's blob."""
    seal: bytes = b""
    """A blob without a payload, bound to all of the above and to the key version."""

    @property
    def protection_level(self) -> ProtectionLevel.ValueType:
        """Where the private half is used."""
        return _LEVEL_OF_BLOB.get(blobs.kind(self.wrapped_private_key), k.PROTECTION_LEVEL_UNSPECIFIED)

    def binding(self, version: Binding) -> WrappingKeyBinding:
        """What the private half's blob is bound to."""
        spec = _METHODS[self.method].wrapping_spec
        return WrappingKeyBinding(version, self.method, self.expire_us, spec, self.protection_level)

    def sealed(self, version: Binding) -> bytes:
        """What the seal is bound to."""
        return blobs.import_binding(self.binding(version), self.public_key, self.wrapped_private_key)


@dataclass(frozen=True, slots=True)
class Imported:
    """Material taken in, and what recognises it if it is imported again."""

    made: Made
    fingerprint: bytes
    """16 bytes of salt, and HMAC-SHA256 under it of the key version and the material."""


class Imports:
    """Wrapping keys, and the material that they bring in."""

    def __init__(self, provider: Provider, clock: Clock) -> None:
        self._provider = provider
        self._clock = clock
        # Whether wrapping keys can be in the token; found out with the first.
        self._in_token = None if provider.has_hsm else False

    def begin(self, version: Binding, method: ImportMethod.ValueType, expire_us: int) -> Opening:
        """A wrapping key for one import, in the token where that can do RSAES-OAEP with SHA-256.

        Raises SPEC_UNSUPPORTED, KEY_USAGE_INVALID, UNSUPPORTED_IN_HSM, and FIELD_INVALID for a method that cannot carry
        the spec.
        """
        material.possible(version)
        chosen = _METHODS.get(method)
        if chosen is None:
            raise invalid("import_method", "is not an import method")
        if chosen.direct and version.spec in private_keys.SPECS and version.spec != k.KEY_SPEC_X_WING:
            raise invalid("import_method", f"cannot carry {spec_name(version.spec)}: choose RSA-AES key wrap")
        if version.protection_level == k.PROTECTION_LEVEL_HSM and version.spec not in self._provider.hsm_specs:
            raise StrongroomError(
                Reason.UNSUPPORTED_IN_HSM, f"the token cannot hold {spec_name(version.spec)}", field="spec"
            )
        made = self._wrapping_key(WrappingKeyBinding(version, method, expire_us, chosen.wrapping_spec))
        opening = Opening(method, expire_us, made.public_key, made.blob)
        return replace(opening, seal=blobs.seal(self._provider, blobs.SERVICE, b"", opening.sealed(version)))

    def finish(self, version: Binding, opening: Opening, encrypted: bytes, fingerprint: bytes) -> Imported:
        """Takes in material that its owner wrapped. `fingerprint` is that of the material which it must be again, or
        empty.

        Raises IMPORT_TOKEN_INVALID, IMPORT_TOKEN_EXPIRED, IMPORT_MATERIAL_INVALID, IMPORT_MATERIAL_MISMATCH,
        UNSUPPORTED_IN_HSM.
        """
        wrapping_key = self._opened(version, opening)
        if opening.expire_us <= self._clock.now_us():
            raise StrongroomError(
                Reason.IMPORT_TOKEN_EXPIRED, "the import token has expired: ask for another", field="import_token"
            )
        try:
            given = material.normalized(version, _unwrapped(wrapping_key, _METHODS[opening.method], encrypted))
        except (StrongroomError, ValueError, InvalidUnwrap) as error:
            raise _material_invalid() from error
        if fingerprint and not hmac.compare_digest(
            fingerprint, _fingerprint(fingerprint[:_SALT_BYTES], version, given)
        ):
            raise StrongroomError(
                Reason.IMPORT_MATERIAL_MISMATCH,
                "the version had other material before, and takes no other: create a key version for it",
                field="encrypted_material",
            )
        try:
            made = material.take_in(self._provider, version, given)
        except ValueError as error:
            raise _material_invalid() from error
        return Imported(made, fingerprint or _fingerprint(os.urandom(_SALT_BYTES), version, given))

    def _wrapping_key(self, binding: WrappingKeyBinding) -> Made:
        if self._in_token is None:
            # A token that lacks OAEP with SHA-256 tells so with a small key as with a large one, seconds sooner.
            self._in_token = self._made_in_token(replace(binding, spec=k.KEY_SPEC_RSA_2048)) is not None
        made = self._made_in_token(binding) if self._in_token else None
        return made if made is not None else material.make(self._provider, binding)

    def _made_in_token(self, binding: WrappingKeyBinding) -> Made | None:
        """A wrapping key in the token, or None where that cannot use it."""
        try:
            return material.make(self._provider, replace(binding, protection_level=k.PROTECTION_LEVEL_HSM))
        except StrongroomError as error:
            if error.reason is not Reason.UNSUPPORTED_IN_HSM:
                raise
            return None

    def _opened(self, version: Binding, opening: Opening) -> Decrypter:
        if opening.method not in _METHODS or opening.protection_level == k.PROTECTION_LEVEL_UNSPECIFIED:
            raise _token_invalid()
        if not 0 < opening.expire_us < _END_OF_TIME_US:
            raise _token_invalid()
        try:
            blobs.unseal(self._provider, blobs.SERVICE, opening.seal, opening.sealed(version))
            opened = material.open_blob(
                self._provider, opening.binding(version), opening.wrapped_private_key, opening.public_key
            )
        except StrongroomError as error:
            if error.reason is Reason.KEY_MATERIAL_REFUSED:
                raise _token_invalid() from error
            raise
        if not isinstance(opened, Decrypter):
            raise _token_invalid()
        return opened


def _unwrapped(wrapping_key: Decrypter, method: _Method, encrypted: bytes) -> bytes:
    if method.direct:
        return wrapping_key.decrypt(ALGORITHM_RSAES_OAEP_SHA_256, encrypted, b"")
    modulus_bytes = private_keys.RSA_BITS[method.wrapping_spec] // 8
    key = wrapping_key.decrypt(ALGORITHM_RSAES_OAEP_SHA_256, encrypted[:modulus_bytes], b"")
    if len(key) != _WRAPPED_KEY_BYTES:
        raise InvalidUnwrap("not an AES-256 key")
    return aes_key_unwrap_with_padding(key, encrypted[modulus_bytes:])


def _fingerprint(salt: bytes, version: Binding, material: bytes) -> bytes:
    return salt + hmac.digest(salt, version.encode() + material, "sha256")


def _token_invalid() -> StrongroomError:
    return StrongroomError(
        Reason.IMPORT_TOKEN_INVALID, "the import token is damaged or was made for something else", field="import_token"
    )


def _material_invalid() -> StrongroomError:
    return StrongroomError(
        Reason.IMPORT_MATERIAL_INVALID,
        "the material cannot be unwrapped, or does not fit the key's spec",
        field="encrypted_material",
    )
