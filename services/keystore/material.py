"""Key material from crypto: made there, kept here wrapped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import grpc
from google.protobuf.message import DecodeError

from services.keystore.records import Key
from services.runtime import clock
from services.runtime.channels import MeshChannel
from services.runtime.errors import Reason, StrongroomError, from_rpc_error
from strongroom.crypto.v1 import material_pb2 as pb
from strongroom.crypto.v1.material_pb2_grpc import MaterialServiceStub
from strongroom.keystore.v1.key_pb2 import ImportMethod, ProtectionLevel

# An RSA pair in a token may take its time.
_TIMEOUT_SECONDS = 10.0


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
    """Reads what `begin_import` gave out. Raises IMPORT_TOKEN_INVALID."""
    try:
        request = pb.ImportMaterialRequest.FromString(token)
    except DecodeError as error:
        raise _token_invalid() from error
    return ImportToken(request.binding.version, request)


class CryptoMaterial:
    """Material from the crypto service."""

    def __init__(self, crypto: MeshChannel) -> None:
        self._create = crypto.method(MaterialServiceStub, "CreateMaterial")
        self._create_wrapping_key = crypto.method(MaterialServiceStub, "CreateImportWrappingKey")
        self._import = crypto.method(MaterialServiceStub, "ImportMaterial")

    def create(self, key: Key, version: int) -> WrappedMaterial:
        """See Material."""
        request = pb.CreateMaterialRequest(binding=_binding(key, version))
        with _crypto_errors():
            made: pb.CreateMaterialResponse = self._create(request, timeout=_TIMEOUT_SECONDS)
        return WrappedMaterial(made.wrapped_material, made.public_key, made.root_version)

    def begin_import(self, key: Key, version: int, method: ImportMethod.ValueType, expire_us: int) -> ImportParameters:
        """See Material."""
        binding, expire_time = _binding(key, version), clock.from_microseconds(expire_us)
        request = pb.CreateImportWrappingKeyRequest(binding=binding, import_method=method, expire_time=expire_time)
        with _crypto_errors():
            made: pb.CreateImportWrappingKeyResponse = self._create_wrapping_key(request, timeout=_TIMEOUT_SECONDS)
        token = pb.ImportMaterialRequest(
            binding=binding,
            import_method=method,
            expire_time=expire_time,
            wrapped_private_key=made.wrapped_private_key,
            public_key=made.public_key,
        )
        return ImportParameters(made.public_key, made.protection_level, token.SerializeToString())

    def finish_import(self, key: Key, token: ImportToken, encrypted: bytes, fingerprint: bytes) -> ImportedMaterial:
        """See Material."""
        if token.request.binding != _binding(key, token.version):
            raise _token_invalid()
        request = pb.ImportMaterialRequest()
        request.CopyFrom(token.request)
        request.encrypted_material = encrypted
        request.material_fingerprint = fingerprint
        with _crypto_errors():
            made: pb.ImportMaterialResponse = self._import(request, timeout=_TIMEOUT_SECONDS)
        material = WrappedMaterial(made.wrapped_material, made.public_key, made.root_version)
        return ImportedMaterial(material, made.material_fingerprint)


@contextmanager
def _crypto_errors() -> Iterator[None]:
    try:
        yield
    except grpc.RpcError as error:
        raise from_rpc_error(error, Reason.CRYPTO_UNREACHABLE, "crypto") from error


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


def _token_invalid() -> StrongroomError:
    return StrongroomError(
        Reason.IMPORT_TOKEN_INVALID, "the import token is damaged or was made for something else", field="import_token"
    )
