"""Crypto wraps audit's own keys, over its internal service."""

from __future__ import annotations

from services.audit.keys.service_keys import Wrapped
from services.runtime.mesh.channels import CRYPTO, MeshChannel
from services.runtime.sensitive import SensitiveBytes
from strongroom.crypto.v1 import material_pb2 as pb
from strongroom.crypto.v1.material_pb2_grpc import MaterialServiceStub

_TIMEOUT_SECONDS = 2.0


class CryptoRootWrapping:
    """Root wrapping by crypto, over the mesh."""

    def __init__(self, crypto: MeshChannel) -> None:
        self._wrap = CRYPTO.method(crypto, MaterialServiceStub, "WrapServiceKey", _TIMEOUT_SECONDS)
        self._unwrap = CRYPTO.method(crypto, MaterialServiceStub, "UnwrapServiceKey", _TIMEOUT_SECONDS)
        self._rewrap = CRYPTO.method(crypto, MaterialServiceStub, "RewrapServiceKey", _TIMEOUT_SECONDS)

    def wrap(self, purpose: str, key: SensitiveBytes) -> Wrapped:
        """Wraps a key."""
        request = pb.WrapServiceKeyRequest(purpose=purpose, plaintext=key.reveal())
        answer: pb.WrapServiceKeyResponse = self._wrap(request)
        return Wrapped(answer.wrapped, answer.root_version)

    def unwrap(self, purpose: str, wrapped: bytes) -> SensitiveBytes:
        """What was wrapped."""
        request = pb.UnwrapServiceKeyRequest(purpose=purpose, wrapped=wrapped)
        return SensitiveBytes(self._unwrap(request).plaintext)

    def rewrap(self, purpose: str, wrapped: bytes) -> Wrapped:
        """Wraps it anew, under the newest version of the root key."""
        request = pb.RewrapServiceKeyRequest(purpose=purpose, wrapped=wrapped)
        answer: pb.RewrapServiceKeyResponse = self._rewrap(request)
        return Wrapped(answer.wrapped, answer.root_version)
