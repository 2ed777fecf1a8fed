"""A connection to a service of the mesh in native code, for stubs that were made for gRPC's own channels.

A call costs it about a third of the processor time that grpcio takes for one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import strongroom_native

from services.runtime.mesh.native_failures import Failure
from services.runtime.mesh.tls import Identity


class NativeChannel:
    """One connection at a time to one address, made when it is called: for methods of one request and one answer."""

    def __init__(self, address: str, identity: Identity) -> None:
        self._native = strongroom_native.Channel(address, identity.certificate, identity.key, identity.trust)

    def unary_unary(
        self,
        path: str,
        request_serializer: Callable[[Any], bytes],
        response_deserializer: Callable[[bytes], Any],
        _registered_method: bool = False,
    ) -> Callable[..., Any]:
        """The method at a path. It raises grpc.RpcError, and ValueError once the channel is closed."""
        call = self._native.call

        def invoke(request: Any, *, timeout: float, metadata: tuple[tuple[str, str | bytes], ...] = ()) -> Any:
            answer = call(path, request_serializer(request), timeout, metadata)
            if isinstance(answer, bytes):
                return response_deserializer(answer)
            raise Failure(*answer)

        return invoke

    def close(self) -> None:
        """Ends the connection; calls on it end as cancelled."""
        self._native.close()

    def _not_here(self, *_arguments: Any, **_options: Any) -> Callable[..., NoReturn]:
        def refuse(*_arguments: Any, **_options: Any) -> NoReturn:
            raise NotImplementedError("streams need grpcio's channel")

        return refuse

    unary_stream = stream_unary = stream_stream = _not_here
