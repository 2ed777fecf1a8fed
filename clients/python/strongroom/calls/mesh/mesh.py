"""The mesh itself."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from functools import cached_property
from typing import TYPE_CHECKING

from strongroom.calls.mesh.status import ServiceStatus, status_of, unreachable
from strongroom.credentials import TokenSource
from strongroom.errors import StrongroomError
from strongroom.names import Names
from strongroom.profiles import SERVICES
from strongroom.runtime.v1 import status_pb2 as pb
from strongroom.runtime.v1.status_pb2_grpc import StatusServiceStub
from strongroom.transport import Transport

if TYPE_CHECKING:
    from strongroom.calls.mesh.root_key import RootKey


class Mesh:
    """How the services of the mesh are, and its root key."""

    def __init__(self, transport: Transport, names: Names) -> None:
        self._transport = transport
        self._names = names

    @cached_property
    def root_key(self) -> RootKey:
        """The root key, which every other key is wrapped under."""
        from strongroom.calls.mesh.root_key import RootKey

        return RootKey.of(self._transport, self._names)

    def status(self, *, timeout: float = 2.0) -> tuple[ServiceStatus, ...]:
        """Answers every service's own view of how it is; all are asked at once, for `timeout` seconds.

        Raises nothing, since a service may be what is broken: one that does not answer is DOWN.
        """
        tokens = self._tokens_at_hand(timeout)
        with ThreadPoolExecutor(len(SERVICES)) as pool:
            # In a copy of this thread's context each, so that one trace holds them all.
            asked = [pool.submit(copy_context().run, self._ask, name, timeout, tokens) for name in SERVICES]
            return tuple(answer.result() for answer in asked)

    def service_status(self, service: str, *, timeout: float = 2.0) -> ServiceStatus:
        """Answers the view that one service (`keystore`, `crypto`, `secrets` or `audit`) has of itself.

        Raises nothing: a service that does not answer is DOWN.
        """
        return self._ask(service, timeout, self._tokens_at_hand(timeout))

    def _tokens_at_hand(self, timeout: float) -> TokenSource | None:
        """The client's tokens; None where none can be had in time: what gives them may be what is broken."""
        tokens = self._transport.tokens
        if tokens is None:
            return None
        had = threading.Event()

        def ask() -> None:
            with suppress(StrongroomError):
                tokens.current()
                had.set()

        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(timeout)
        return tokens if had.is_set() else None

    def _ask(self, service: str, timeout: float, tokens: TokenSource | None) -> ServiceStatus:
        try:
            endpoint = self._transport.endpoint_as(service, StatusServiceStub, tokens)
            answer = endpoint.call(endpoint.stub.GetStatus, pb.GetStatusRequest(), timeout).response
        except StrongroomError as error:
            return unreachable(service, error)
        return status_of(answer)
