"""Crypto wraps audit's sealing roots, over its internal service."""

from __future__ import annotations

import grpc

from services.runtime.channels import MeshChannel
from services.runtime.errors import Reason, from_rpc_error
from services.runtime.sensitive import SensitiveBytes
from strongroom.crypto.v1.material_pb2 import UnwrapServiceKeyRequest, WrapServiceKeyRequest
from strongroom.crypto.v1.material_pb2_grpc import MaterialServiceStub

_PURPOSE = "audit sealing root"
_TIMEOUT_SECONDS = 2.0


class CryptoRootWrapping:
    """See RootWrapping."""

    def __init__(self, crypto: MeshChannel) -> None:
        self._wrap = crypto.method(MaterialServiceStub, "WrapServiceKey")
        self._unwrap = crypto.method(MaterialServiceStub, "UnwrapServiceKey")

    def wrap(self, root: SensitiveBytes) -> bytes:
        """See RootWrapping."""
        request = WrapServiceKeyRequest(purpose=_PURPOSE, plaintext=root.reveal())
        try:
            return bytes(self._wrap(request, timeout=_TIMEOUT_SECONDS).wrapped)
        except grpc.RpcError as error:
            raise from_rpc_error(error, Reason.CRYPTO_UNREACHABLE, "crypto") from error

    def unwrap(self, wrapped: bytes) -> SensitiveBytes:
        """See RootWrapping."""
        request = UnwrapServiceKeyRequest(purpose=_PURPOSE, wrapped=wrapped)
        try:
            return SensitiveBytes(self._unwrap(request, timeout=_TIMEOUT_SECONDS).plaintext)
        except grpc.RpcError as error:
            raise from_rpc_error(error, Reason.CRYPTO_UNREACHABLE, "crypto") from error
