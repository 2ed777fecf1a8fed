"""Who the caller is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from google.protobuf.duration_pb2 import Duration

from strongroom.access.v1 import session_service_pb2 as pb
from strongroom.access.v1.session_service_pb2_grpc import SessionServiceStub
from strongroom.calls.base import Calls
from strongroom.convert import enum_text, moment
from strongroom.transport import Endpoint


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a caller is: `principal` and `account` by full name; `credential_kind` is `CERTIFICATE`,
    `CLIENT_KEY`, ….

    `credential` is the certificate's SPIFFE id or what stands for it. Session fields are empty without a
    session.
    """

    principal: str
    account: str
    session_name: str
    credential_kind: str
    credential: str
    assumed_by: tuple[str, ...]
    roles: tuple[str, ...]
    tags: Mapping[str, str]
    expire_time: datetime | None
    event_id: str


@dataclass(frozen=True, slots=True)
class Session:
    """A session that has begun: a bearer token, until `expire_time`."""

    token: str = field(repr=False)
    expire_time: datetime | None
    principal: str
    account: str
    session_name: str
    event_id: str


class AccessCalls(Calls):
    """Methods about the caller. Each takes `timeout` in seconds and raises StrongroomError."""

    @cached_property
    def _sessions(self) -> Endpoint[SessionServiceStub]:
        return self._transport.endpoint("keystore", SessionServiceStub)

    def whoami(self, *, timeout: float | None = None) -> Identity:
        """Who the services take this client for. Raises IDENTITY_UNKNOWN, PRINCIPAL_DISABLED, TOKEN_EXPIRED."""
        request = pb.GetCallerIdentityRequest()
        answer = self._sessions.call(self._sessions.stub.GetCallerIdentity, request, timeout)
        caller = answer.response
        return Identity(
            principal=caller.principal,
            account=caller.account,
            session_name=caller.session_name,
            credential_kind=enum_text(pb.CredentialKind, "CREDENTIAL_KIND_", caller.credential_kind),
            credential=caller.credential,
            assumed_by=tuple(caller.assumed_by),
            roles=tuple(caller.roles),
            tags=dict(caller.tags),
            expire_time=moment(caller.expire_time),
            event_id=answer.event_id,
        )

    def create_session(
        self, *, session_name: str = "", duration_seconds: int = 3600, timeout: float | None = None
    ) -> Session:
        """Exchanges the client certificate for a session token of 1 second to 12 hours.

        Raises UNAUTHENTICATED where the connection to keystore carries no certificate, IDENTITY_UNKNOWN,
        PRINCIPAL_DISABLED, FIELD_INVALID.
        """
        request = pb.CreateSessionRequest(
            certificate=pb.CertificateCredential(),
            session_name=session_name,
            duration=Duration(seconds=duration_seconds),
        )
        # The request itself authenticates; with a token it would wait for itself.
        exchange = self._transport.endpoint("keystore", SessionServiceStub, with_token=False)
        answer = exchange.call(exchange.stub.CreateSession, request, timeout)
        session = answer.response
        return Session(
            token=session.token,
            expire_time=moment(session.expire_time),
            principal=session.principal,
            account=session.account,
            session_name=session.session_name,
            event_id=answer.event_id,
        )
