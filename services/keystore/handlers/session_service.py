"""`SessionService`: from a credential to a session."""

from __future__ import annotations

from sqlalchemy import Engine

from services.keystore.access.credentials.credentials import Credentials, Proof
from services.keystore.access.credentials.new_sessions import NewSessions, RoleWish, Wish
from services.keystore.access.credentials.oidc import MAX_TOKEN_BYTES
from services.keystore.access.credentials.revocations import Revocations
from services.keystore.access.credentials.sessions import Session
from services.keystore.access.records import store
from services.runtime import clock
from services.runtime.access.authorization import Authorizer
from services.runtime.access.quotas import Quotas
from services.runtime.call import Call
from services.runtime.errors import required, too_large
from services.runtime.requests import names
from services.runtime.requests.fields import whole_seconds
from services.runtime.storage.database import reading
from strongroom.access.v1 import session_service_pb2 as pb

EXCHANGES = ("CreateSession",)
"""Methods whose request authenticates."""


class SessionService:
    """Handlers of the public service."""

    def __init__(
        self,
        engine: Engine,
        credentials: Credentials,
        new_sessions: NewSessions,
        authorizer: Authorizer,
        quotas: Quotas,
    ) -> None:
        self._engine = engine
        self._credentials = credentials
        self._new_sessions = new_sessions
        self._authorizer = authorizer
        self._quotas = quotas

    def CreateSession(self, request: pb.CreateSessionRequest, call: Call) -> pb.Session:
        """Exchanges a credential for a session."""
        wish = Wish(request.session_name, _seconds(request), request.session_policy)
        proof = self._proof(request, call)
        # Whose request it is, nobody knew before.
        self._quotas.require(call)
        return _session_message(self._new_sessions.begin(call, proof, wish))

    def AssumeRole(self, request: pb.AssumeRoleRequest, call: Call) -> pb.Session:
        """Begins a session as a role."""
        name = names.parse(request.role, "role", "roles")
        if not request.session_name:
            raise required("session_name")
        wish = RoleWish(
            request.session_name,
            _seconds(request),
            request.session_policy,
            request.external_id,
            dict(request.session_tags),
        )
        return _session_message(self._new_sessions.assume(call, name, wish))

    def NarrowSession(self, request: pb.NarrowSessionRequest, call: Call) -> pb.Session:
        """Begins a session within the caller's."""
        if not request.session_policy:
            raise required("session_policy")
        wish = Wish(request.session_name, _seconds(request), request.session_policy)
        return _session_message(self._new_sessions.narrow(call, wish))

    def GetCallerIdentity(self, request: pb.GetCallerIdentityRequest, call: Call) -> pb.CallerIdentity:
        """Who the caller is."""
        del request
        caller = call.principal
        call.record(call.action, caller.name, caller.account)
        self._authorizer.admit(call)
        with reading(self._engine) as connection:
            record = store.principal(connection, caller.name)
        return pb.CallerIdentity(
            principal=caller.name,
            account=f"accounts/{caller.account}" if caller.account else "",
            session_name=caller.session_name,
            credential_kind=caller.credential_kind,
            credential=caller.credential,
            assumed_by=caller.scope.assumed_by,
            roles=record.roles if record is not None else (),
            tags=record.tags if record is not None else {},
            session_tags=dict(caller.scope.tags),
            session_policies=caller.scope.policies,
            expire_time=clock.from_microseconds(int(caller.expires * 1e6)) if caller.expires else None,
        )

    def _proof(self, request: pb.CreateSessionRequest, call: Call) -> Proof:
        kind = request.WhichOneof("credential")
        if kind == "certificate":
            return self._credentials.certificate(call)
        if kind == "client_key":
            client_key = request.client_key
            name = names.parse(client_key.client_key, "client_key.client_key", "clientKeys")
            if not client_key.secret:
                raise required("client_key.secret")
            return self._credentials.client_key(call, name, client_key.secret)
        if kind == "oidc_token":
            oidc_token = request.oidc_token
            account = names.parse_account(oidc_token.account, "oidc_token.account")
            if not oidc_token.token:
                raise required("oidc_token.token")
            if len(oidc_token.token.encode()) > MAX_TOKEN_BYTES:
                raise too_large("oidc_token.token", MAX_TOKEN_BYTES)
            return self._credentials.oidc_token(call, account, oidc_token.token)
        raise required("credential")


class RevocationHandlers:
    """Handlers of the public service that end sessions."""

    def __init__(self, revocations: Revocations) -> None:
        self._revocations = revocations

    def RevokeSession(self, request: pb.RevokeSessionRequest, call: Call) -> pb.RevokeSessionResponse:
        """Ends the caller's session."""
        del request
        self._revocations.revoke_own(call)
        return pb.RevokeSessionResponse()


def _session_message(session: Session) -> pb.Session:
    principal = session.principal
    return pb.Session(
        token=session.token.reveal().decode(),
        expire_time=clock.from_microseconds(int(principal.expires) * 1_000_000),
        principal=principal.name,
        account=f"accounts/{principal.account}",
        session_name=principal.session_name,
    )


def _seconds(request: pb.CreateSessionRequest | pb.AssumeRoleRequest | pb.NarrowSessionRequest) -> int | None:
    if not request.HasField("duration"):
        return None
    return whole_seconds(request.duration, "duration")
