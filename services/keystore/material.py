"""Key material from crypto: made there, kept here wrapped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import grpc

from services.keystore.records import Key
from services.runtime.channels import MeshChannel
from services.runtime.errors import Reason, from_rpc_error
from strongroom.crypto.v1 import material_pb2 as pb
from strongroom.crypto.v1.material_pb2_grpc import MaterialServiceStub

# An RSA pair in a token may take its time.
_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class WrappedMaterial:
    """Material wrapped under the root key, bound to one key version."""

    wrapped: bytes
    public_key: bytes
    root_version: int


class Material(Protocol):
    """Makes material for key versions."""

    def create(self, key: Key, version: int) -> WrappedMaterial:
        """Fresh material for a version. Raises SPEC_UNSUPPORTED, UNSUPPORTED_IN_HSM, KEY_USAGE_INVALID,
        PROVIDER_UNAVAILABLE, CRYPTO_UNREACHABLE."""


class CryptoMaterial:
    """Material from the crypto service."""

    def __init__(self, crypto: MeshChannel) -> None:
        self._create = crypto.method(MaterialServiceStub, "CreateMaterial")

    def create(self, key: Key, version: int) -> WrappedMaterial:
        """See Material."""
        binding = pb.MaterialBinding(
            account=key.name.account,
            key_name=str(key.name),
            key_uid=key.uid,
            version=version,
            spec=key.spec,
            usage=key.usage,
            protection_level=key.protection_level,
        )
        try:
            made: pb.CreateMaterialResponse = self._create(
                pb.CreateMaterialRequest(binding=binding), timeout=_TIMEOUT_SECONDS
            )
        except grpc.RpcError as error:
            raise from_rpc_error(error, Reason.CRYPTO_UNREACHABLE, "crypto") from error
        return WrappedMaterial(made.wrapped_material, made.public_key, made.root_version)
