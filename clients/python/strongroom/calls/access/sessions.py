"""Sessions: what credentials and roles are exchanged for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Self

from google.protobuf.duration_pb2 import Duration

from strongroom.access.v1 import session_service_pb2 as pb
from strongroom.access.v1.session_service_pb2_grpc import SessionServiceStub
from strongroom.calls.base import Part
from strongroom.convert import moment
from strongroom.credentials import (
    AssumedRole,
    CertificateSession,
    ClientKeySession,
    Exchangeable,
    OidcTokenSession,
    TokenSource,
)
from strongroom.errors import StrongroomError
from strongroom.names import ACCOUNTS, Names
from strongroom.transport import Answer, Endpoint, Transport


@dataclass(frozen=True, slots=True)
class Session:
    """A session that has begun: a bearer token, until `expire_time`."""

    token: str = field(repr=False)
    expire_time: datetime | None
    principal: str
    account: str
    session_name: str
    event_id: str


class Sessions(Part[SessionServiceStub]):
    """Begins sessions: a credential or a role is exchanged for a bearer token."""

    def __init__(
        self, service: Endpoint[SessionServiceStub], names: Names, exchange: Endpoint[SessionServiceStub]
    ) -> None:
        super().__init__(service, names)
        self._exchange = exchange

    @classmethod
    def of(cls, transport: Transport, names: Names) -> Self:
        """The sessions of the mesh that `transport` connects to."""
        return cls(transport.endpoint("keystore", SessionServiceStub), names, _without_token(transport))

    def create(
        self,
        credential: ClientKeySession | OidcTokenSession | None = None,
        *,
        session_name: str = "",
        duration_seconds: int = 3600,
        session_policy: str = "",
        timeout: float | None = None,
    ) -> Session:
        """Exchanges a credential, by default the client certificate, for a session token of 1 second to 12 hours.

        The session lasts no longer than the credential, and stays within `session_policy` (Cedar). Raises
        CREDENTIAL_INVALID for a client key, TOKEN_INVALID or TOKEN_EXPIRED for an OIDC token, UNAUTHENTICATED
        where the connection to keystore carries no certificate; IDENTITY_UNKNOWN, PRINCIPAL_DISABLED,
        POLICY_INVALID, FIELD_INVALID, OIDC_PROVIDER_UNREACHABLE, CREDENTIALS_UNREADABLE.
        """
        request = _create_request(credential, session_name, duration_seconds, session_policy)
        return _session(self._exchange.call(self._exchange.stub.CreateSession, request, timeout))

    def assume_role(
        self,
        role: str,
        session_name: str,
        *,
        external_id: str = "",
        duration_seconds: int | None = None,
        session_policy: str = "",
        session_tags: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Session:
        """Begins a session as a role, by its id or full name, of this or another account.

        It lasts `duration_seconds` (15 minutes to what the role allows, by default at most an hour) and stays
        within `session_policy` and those of this client's own session. Raises PERMISSION_DENIED unless both this
        client's policies and the role's trust policy permit it, also for a role that does not exist;
        POLICY_INVALID, FIELD_INVALID, PRINCIPAL_DISABLED.
        """
        request = _assume_role_request(
            self._names.role(role), session_name, external_id, duration_seconds, session_policy, session_tags or {}
        )
        return _session(self._service.call(self._service.stub.AssumeRole, request, timeout))

    def narrow(
        self,
        session_policy: str,
        *,
        session_name: str = "",
        duration_seconds: int = 3600,
        timeout: float | None = None,
    ) -> Session:
        """A session within this client's own, to hand on: it stays within `session_policy` (Cedar), too, and ends no
        later, and with it.

        Raises UNAUTHENTICATED for a client that calls by certificate, POLICY_INVALID, FIELD_INVALID, TOKEN_INVALID.
        """
        request = pb.NarrowSessionRequest(
            session_policy=session_policy, session_name=session_name, duration=Duration(seconds=duration_seconds)
        )
        return _session(self._service.call(self._service.stub.NarrowSession, request, timeout))

    def revoke(self, *, timeout: float | None = None) -> None:
        """Ends this client's own session, and those that were begun from it: within a second it is refused
        everywhere.

        Raises UNAUTHENTICATED for a client that calls by certificate, TOKEN_INVALID, TOKEN_EXPIRED; LIMIT_EXCEEDED
        where very many sessions of the principal were ended one by one (`access.principals.revoke_sessions` ends all).
        """
        self._service.call(self._service.stub.RevokeSession, pb.RevokeSessionRequest(), timeout)


def exchanged(transport: Transport, credentials: Exchangeable) -> tuple[str, float]:
    """The token of a session that a credential began, and when it expires, in seconds of the epoch."""
    credential = None if isinstance(credentials, CertificateSession) else credentials
    request = _create_request(credential, credentials.session_name, credentials.duration_seconds, "")
    endpoint = _without_token(transport)
    return _token(_session(endpoint.call(endpoint.stub.CreateSession, request)))


def assumed(transport: Transport, credentials: AssumedRole, source: TokenSource | None) -> tuple[str, float]:
    """The token of a session as a role, and when it expires, in seconds of the epoch.

    The role is assumed by the tokens of `source`, or else by the connection's certificate.
    """
    request = _assume_role_request(
        credentials.role,
        credentials.session_name,
        credentials.external_id,
        credentials.duration_seconds,
        credentials.session_policy,
        credentials.session_tags,
    )
    endpoint = transport.endpoint_as("keystore", SessionServiceStub, source)
    return _token(_session(endpoint.call(endpoint.stub.AssumeRole, request)))


def _without_token(transport: Transport) -> Endpoint[SessionServiceStub]:
    # What begins a session authenticates itself; with a token it would wait for itself.
    return transport.endpoint_as("keystore", SessionServiceStub, None)


def _create_request(
    credential: ClientKeySession | OidcTokenSession | None,
    session_name: str,
    duration_seconds: int,
    session_policy: str,
) -> pb.CreateSessionRequest:
    request = pb.CreateSessionRequest(
        session_name=session_name, duration=Duration(seconds=duration_seconds), session_policy=session_policy
    )
    if isinstance(credential, ClientKeySession):
        request.client_key.client_key = credential.name
        request.client_key.secret = _text(credential.secret)
    elif isinstance(credential, OidcTokenSession):
        request.oidc_token.account = ACCOUNTS + credential.account
        request.oidc_token.token = _text(credential.path)
    else:
        request.certificate.SetInParent()
    return request


def _assume_role_request(
    role: str,
    session_name: str,
    external_id: str,
    duration_seconds: int | None,
    session_policy: str,
    session_tags: Mapping[str, str],
) -> pb.AssumeRoleRequest:
    return pb.AssumeRoleRequest(
        role=role,
        session_name=session_name,
        external_id=external_id,
        duration=None if duration_seconds is None else Duration(seconds=duration_seconds),
        session_policy=session_policy,
        session_tags=session_tags,
    )


def _session(answer: Answer[pb.Session]) -> Session:
    session = answer.response
    return Session(
        token=session.token,
        expire_time=moment(session.expire_time),
        principal=session.principal,
        account=session.account,
        session_name=session.session_name,
        event_id=answer.event_id,
    )


def _token(session: Session) -> tuple[str, float]:
    return session.token, session.expire_time.timestamp() if session.expire_time else 0.0


def _text(secret: str | Path) -> str:
    """A secret, or what its file holds now."""
    if isinstance(secret, str):
        return secret
    try:
        return secret.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "is no text"
        raise StrongroomError("CREDENTIALS_UNREADABLE", f"{secret}: {why}", code="FAILED_PRECONDITION") from error
