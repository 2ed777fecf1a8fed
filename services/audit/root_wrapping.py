"""Crypto wraps audit's own keys, over its internal service."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from services.audit.service_keys import Wrapped
from services.runtime.channels import MeshChannel
from services.runtime.errors import Reason, from_rpc_error
from services.runtime.sensitive import SensitiveBytes
from strongroom.crypto.v1 import material_pb2 as pb
from strongroom.crypto.v1.material_pb2_grpc import MaterialServiceStub

_TIMEOUT_SECONDS = 2.0


class CryptoRootWrapping:
    """See RootWrapping."""

    def __init__(self, crypto: MeshChannel) -> None:
        self._wrap = crypto.method(MaterialServiceStub, "WrapServiceKey")
        self._unwrap = crypto.method(MaterialServiceStub, "UnwrapServiceKey")
        self._rewrap = crypto.method(MaterialServiceStub, "RewrapServiceKey")

    def wrap(self, purpose: str, key: SensitiveBytes) -> Wrapped:
        """See RootWrapping."""
        request = pb.WrapServiceKeyRequest(purpose=purpose, plaintext=key.reveal())
        with _crypto_errors():
            answer: pb.WrapServiceKeyResponse = self._wrap(request, timeout=_TIMEOUT_SECONDS)
        return Wrapped(answer.wrapped, answer.root_version)

    def unwrap(self, purpose: str, wrapped: bytes) -> SensitiveBytes:
        """See RootWrapping."""
        request = pb.UnwrapServiceKeyRequest(purpose=purpose, wrapped=wrapped)
        with _crypto_errors():
            return SensitiveBytes(self._unwrap(request, timeout=_TIMEOUT_SECONDS).plaintext)

    def rewrap(self, purpose: str, wrapped: bytes) -> Wrapped:
        """See RootWrapping."""
        request = pb.RewrapServiceKeyRequest(purpose=purpose, wrapped=wrapped)
        with _crypto_errors():
            answer: pb.RewrapServiceKeyResponse = self._rewrap(request, timeout=_TIMEOUT_SECONDS)
        return Wrapped(answer.wrapped, answer.root_version)


@contextmanager
def _crypto_errors() -> Iterator[None]:
    try:
        yield
    except grpc.RpcError as error:
        raise from_rpc_error(error, Reason.CRYPTO_UNREACHABLE, "crypto") from error
