"""Key material from crypto: made there, kept here wrapped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from google.protobuf.message import DecodeError

from services.keystore.store.model import Key, Version
from services.runtime import clock
from services.runtime.errors import Reason, StrongroomError
from services.runtime.mesh.channels import CRYPTO, MeshChannel
from services.runtime.requests import wire
from strongroom.crypto.v1 import material_pb2 as pb
from strongroom.crypto.v1.material_pb2_grpc import MaterialServiceStub
from strongroom.keystore.v1.key_pb2 import ImportMethod, ProtectionLevel

# An RSA pair in a token may take its time.
_TIMEOUT_SECONDS = 10.0
# An RSA pair of 4,096 bits takes a token, or a busy machine, its time.
_WRAPPING_KEY_TIMEOUT_SECONDS = 25.0


@dataclass(frozen=True, slots=True)
class WrappedMaterial:
    """Material wrapped under the root key, bound to one key version."""

    wrapped: bytes
    public_key: bytes
    root_version: int


@dataclass(frozen=True, slots=True)
class ImportParameters:
    """What the owner of material needs in order to wrap and import it."""

    public_key: bytes
    """SubjectPublicKeyInfo in DER."""
    protection_level: ProtectionLevel.ValueType
    """Where its private half is used."""
    token: bytes


@dataclass(frozen=True, slots=True)
class ImportedMaterial:
    """Material that was imported, and what recognises it later."""

    material: WrappedMaterial
    fingerprint: bytes


class Material(Protocol):
    """Makes material for key versions, and takes in material from outside."""

    def create(self, key: Key, version: int) -> WrappedMaterial:
        """Fresh material for a version. Raises SPEC_UNSUPPORTED, UNSUPPORTED_IN_HSM, KEY_USAGE_INVALID,
        PROVIDER_UNAVAILABLE, CRYPTO_UNREACHABLE."""

    def begin_import(self, key: Key, version: int, method: ImportMethod.ValueType, expire_us: int) -> ImportParameters:
        """A wrapping key for one import. Raises FIELD_INVALID for a method that cannot carry the spec,
        UNSUPPORTED_IN_HSM, PROVIDER_UNAVAILABLE, CRYPTO_UNREACHABLE."""

    def finish_import(self, key: Key, token: ImportToken, encrypted: bytes, fingerprint: bytes) -> ImportedMaterial:
        """Takes in wrapped material, which must be that of `fingerprint` unless that is empty. Raises
        IMPORT_TOKEN_INVALID, IMPORT_TOKEN_EXPIRED, IMPORT_MATERIAL_INVALID, IMPORT_MATERIAL_MISMATCH,
        UNSUPPORTED_IN_HSM, PROVIDER_UNAVAILABLE, CRYPTO_UNREACHABLE."""


@dataclass(frozen=True, slots=True)
class ImportToken:
    """An import token, read. Only crypto can tell whether it is genuine."""

    version: int
    """The key version that it says it is for."""
    request: pb.ImportMaterialRequest


def read_token(token: bytes) -> ImportToken:
    """Reads what `begin_import` gave out. Raises IMPORT_TOKEN_INVALID, also for other bytes of the same meaning: what
    crypto authenticates is then the token, to its last bit."""
    try:
        request = pb.ImportMaterialRequest.FromString(token)
        wire.checker(request.DESCRIPTOR)(request)
    except (DecodeError, StrongroomError) as error:
        raise _token_invalid() from error
    whole_us = clock.from_microseconds(clock.microseconds(request.expire_time)) == request.expire_time
    request.DiscardUnknownFields()
    if request.encrypted_material or request.material_fingerprint or not whole_us or _canonical(request) != token:
        raise _token_invalid()
    return ImportToken(request.binding.version, request)


@dataclass(frozen=True, slots=True)
class Rewrapped:
    """What became of a blob that was to be wrapped anew."""

    wrapped: bytes
    """Empty when crypto refused it."""
    root_version: int = 0
    reason: str = ""
    message: str = ""


class CryptoMaterial:
    """Material from the crypto service."""

    def __init__(self, crypto: MeshChannel) -> None:
        self._create = _method(crypto, "CreateMaterial")
        self._create_wrapping_key = _method(crypto, "CreateImportWrappingKey", _WRAPPING_KEY_TIMEOUT_SECONDS)
        self._import = _method(crypto, "ImportMaterial")
        self._rewrap = _method(crypto, "RewrapMaterial")
        self._rotate_root = _method(crypto, "RotateRootKey")
        self._retire_root = _method(crypto, "RetireRootKeyVersion")
        self._root_status = _method(crypto, "GetRootStatus")

    def create(self, key: Key, version: int) -> WrappedMaterial:
        """Fresh material for a version."""
        request = pb.CreateMaterialRequest(binding=_binding(key, version))
        made: pb.CreateMaterialResponse = self._create(request)
        return WrappedMaterial(made.wrapped_material, made.public_key, made.root_version)

    def begin_import(self, key: Key, version: int, method: ImportMethod.ValueType, expire_us: int) -> ImportParameters:
        """A wrapping key for one import."""
        binding, expire_time = _binding(key, version), clock.from_microseconds(expire_us)
        request = pb.CreateImportWrappingKeyRequest(binding=binding, import_method=method, expire_time=expire_time)
        made: pb.CreateImportWrappingKeyResponse = self._create_wrapping_key(request)
        token = pb.ImportMaterialRequest(
            binding=binding,
            import_method=method,
            expire_time=expire_time,
            wrapped_private_key=made.wrapped_private_key,
            public_key=made.public_key,
            seal=made.seal,
        )
        return ImportParameters(made.public_key, made.protection_level, _canonical(token))

    def finish_import(self, key: Key, token: ImportToken, encrypted: bytes, fingerprint: bytes) -> ImportedMaterial:
        """Takes in wrapped material, which must be that of `fingerprint` unless that is empty."""
        if token.request.binding != _binding(key, token.version):
            raise _token_invalid()
        request = pb.ImportMaterialRequest()
        request.CopyFrom(token.request)
        request.encrypted_material = encrypted
        request.material_fingerprint = fingerprint
        made: pb.ImportMaterialResponse = self._import(request)
        material = WrappedMaterial(made.wrapped_material, made.public_key, made.root_version)
        return ImportedMaterial(material, made.material_fingerprint)

    def rewrap(self, blobs: Sequence[tuple[Key, Version]]) -> list[Rewrapped]:
        """Wraps versions' blobs anew, under the newest root version. Raises PROVIDER_UNAVAILABLE,
        CRYPTO_UNREACHABLE."""
        items = [
            pb.RewrapItem(binding=_binding(key, version.version), wrapped_material=version.wrapped)
            for key, version in blobs
        ]
        answer: pb.RewrapMaterialResponse = self._rewrap(pb.RewrapMaterialRequest(items=items))
        return [
            Rewrapped(outcome.result.wrapped_material, outcome.result.root_version)
            if outcome.HasField("result")
            else Rewrapped(b"", reason=outcome.error.reason, message=outcome.error.message)
            for outcome in answer.outcomes
        ]

    def rotate_root(self, expected: int) -> int:
        """Makes the root version after the expected one, unless that has been done; answers the newest. Raises
        ROOT_VERSION_CONFLICT, PROVIDER_UNAVAILABLE, CRYPTO_UNREACHABLE."""
        request = pb.RotateRootKeyRequest(expected_version=expected)
        return int(self._rotate_root(request).root_version)

    def retire_root(self, root_version: int) -> None:
        """Destroys an old root version. Raises as `rotate_root`."""
        self._retire_root(pb.RetireRootKeyVersionRequest(root_version=root_version))

    def root_status(self) -> pb.GetRootStatusResponse:
        """The provider, and the root versions that it has, oldest first. Raises as `rotate_root`."""
        status: pb.GetRootStatusResponse = self._root_status(pb.GetRootStatusRequest())
        return status


def _method(crypto: MeshChannel, name: str, seconds: float = _TIMEOUT_SECONDS) -> Callable[..., Any]:
    return CRYPTO.method(crypto, MaterialServiceStub, name, seconds)


def _binding(key: Key, version: int) -> pb.MaterialBinding:
    return pb.MaterialBinding(
        account=key.name.account,
        key_name=str(key.name),
        key_uid=key.uid,
        version=version,
        spec=key.spec,
        usage=key.usage,
        protection_level=key.protection_level,
    )


def _canonical(token: pb.ImportMaterialRequest) -> bytes:
    return token.SerializeToString(deterministic=True)


def _token_invalid() -> StrongroomError:
    """An import token is not one that `begin_import` gave out for this."""
    return StrongroomError(
        Reason.IMPORT_TOKEN_INVALID, "the import token is damaged or was made for something else", field="import_token"
    )
