"""Calls to the mesh for a caller: on the internal listeners, by the caller's own session, which the mesh verifies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import grpc
from google.protobuf.descriptor import ServiceDescriptor

from services.doors.mesh.confirmations import Confirmations
from services.doors.mesh.health import HealthRounds
from services.doors.mesh.repeats import Repeats
from services.doors.mesh.sessions import Caller
from services.doors.settings import MeshAddresses
from services.runtime import extension
from services.runtime.errors import Reason, StrongroomError
from services.runtime.mesh.channels import CRYPTO, KEYSTORE, SECRETS, MeshChannel, Peer, Route
from services.runtime.mesh.tls import TlsFiles
from strongroom.access.v1 import access_service_pb2, session_service_pb2
from strongroom.access.v1.access_service_pb2_grpc import AccessServiceStub
from strongroom.access.v1.session_service_pb2 import CallerIdentity, GetCallerIdentityRequest
from strongroom.access.v1.session_service_pb2_grpc import SessionServiceStub
from strongroom.crypto.v1 import crypto_pb2
from strongroom.crypto.v1.crypto_pb2_grpc import CryptoServiceStub
from strongroom.keystore.v1 import key_service_pb2
from strongroom.keystore.v1.key_service_pb2_grpc import KeyServiceStub
from strongroom.secrets.v1 import secret_service_pb2
from strongroom.secrets.v1.secret_service_pb2_grpc import SecretServiceStub

_SECONDS = 10.0
_ENDED = frozenset({Reason.TOKEN_EXPIRED, Reason.TOKEN_INVALID})

Method = Callable[..., Any]
T = TypeVar("T")


class Mesh:
    """Every public method that a door calls, by its name."""

    def __init__(self, addresses: MeshAddresses, tls: TlsFiles) -> None:
        routes = {
            KEYSTORE: Route(addresses.keystore),
            CRYPTO: Route(addresses.crypto),
            SECRETS: Route(addresses.secrets),
        }
        # What is repeated elsewhere carries a request id, or does nothing more.
        native = extension.is_used(addresses.engine, "upstream.engine")
        keystore, crypto, secrets = (MeshChannel(route, tls, moves=True, native=native) for route in routes.values())
        asking = {
            peer: MeshChannel(route, tls, retry=False, probes=True, native=native) for peer, route in routes.items()
        }
        self._rounds = HealthRounds(asking)
        self._channels = (keystore, crypto, secrets, *asking.values())
        self._repeats = Repeats(_SECONDS)
        self._confirmations = Confirmations(self.identity)
        self.by_health = {
            "strongroom.keystore.v1.KeyService": (KEYSTORE, keystore),
            "strongroom.crypto.v1.CryptoService": (CRYPTO, crypto),
            "strongroom.secrets.v1.SecretService": (SECRETS, secrets),
        }
        """The services and their channels by the name that says whether one serves."""
        self._methods: dict[str, Method] = {}
        self._add(KEYSTORE, keystore, KeyServiceStub, _service(key_service_pb2, "KeyService"))
        self._add(KEYSTORE, keystore, SessionServiceStub, _service(session_service_pb2, "SessionService"))
        self._add(KEYSTORE, keystore, AccessServiceStub, _service(access_service_pb2, "AccessService"))
        self._add(CRYPTO, crypto, CryptoServiceStub, _service(crypto_pb2, "CryptoService"))
        self._add(SECRETS, secrets, SecretServiceStub, _service(secret_service_pb2, "SecretService"))

    def start(self) -> None:
        """Begins to look all the time which replica of each service answers."""
        self._rounds.start()

    def ask(self, caller: Caller, method: str, request: Any) -> Any:
        """What the mesh answers the caller; a change that can have a request id is made once. Raises StrongroomError.

        A session that was begun for a client key is begun again where the mesh does not know it any more.
        """
        call = self._methods[method]

        def answered(asked: Any, seconds: float) -> Any:
            try:
                return call(asked, within=seconds, metadata=caller.metadata)
            except StrongroomError as error:
                if error.reason not in _ENDED or not caller.renew():
                    raise
            return call(asked, within=seconds, metadata=caller.metadata)

        return self._repeats.answer(caller.session.principal, request, answered)

    def identity(self, caller: Caller) -> CallerIdentity:
        """Who the mesh says that the caller is. Raises StrongroomError."""
        who: CallerIdentity = self.ask(caller, "GetCallerIdentity", GetCallerIdentityRequest())
        return who

    def require(self, caller: Caller) -> None:
        """For what a door answers by itself: raises StrongroomError where the mesh would refuse the caller everything,
        as it was half a second ago at most."""
        self._confirmations.require(caller)

    def whole(self, work: Callable[[], T], is_repeated: Callable[[T], bool]) -> T:
        """What `work` answers: all that a client asks a door for at once. What it changed by then is not changed again
        where the client comes with the same again, as `is_repeated` says of the answer."""
        return self._repeats.whole(work, is_repeated)

    def is_undecided(self, caller: Caller, request: Any) -> bool:
        """Whether the caller asked for the same change just now, and was not told that it was made."""
        return self._repeats.is_left(caller.session.principal, request)

    def pages(self, caller: Caller, method: str, request: Any) -> Iterator[Any]:
        """The pages of a list, as many as are asked for. Raises StrongroomError."""
        while True:
            page = self.ask(caller, method, request)
            yield page
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def exchange(self, request: Any, metadata: tuple[tuple[str, str], ...]) -> Any:
        """Begins a session by the credential in the request. Raises StrongroomError."""
        return self._methods["CreateSession"](request, metadata=metadata)

    def close(self) -> None:
        """Ends the connections."""
        self._rounds.stop()
        for channel in self._channels:
            channel.close()

    def _add(
        self, peer: Peer, channel: MeshChannel, stub: Callable[[grpc.Channel], Any], service: ServiceDescriptor
    ) -> None:
        for method in service.methods:
            if not method.server_streaming:
                self._methods[method.name] = peer.method(channel, stub, method.name, _SECONDS)


def _service(module: Any, name: str) -> ServiceDescriptor:
    found: ServiceDescriptor = module.DESCRIPTOR.services_by_name[name]
    return found
