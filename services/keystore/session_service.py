"""`SessionService`: from a credential to a session."""

from __future__ import annotations

import re

from sqlalchemy import Engine

from services.keystore.access import store
from services.keystore.access.sessions import LONGEST_SECONDS, Sessions
from services.runtime import clock
from services.runtime.call import Call, Principal
from services.runtime.database import reading
from services.runtime.errors import Reason, StrongroomError, invalid, required
from strongroom.access.v1 import session_service_pb2 as pb
from strongroom.access.v1.access_record_service_pb2 import PrincipalRecord

_SESSION_NAME = re.compile(r"[A-Za-z0-9_.@=+-]{1,64}")
_DEFAULT_SECONDS = 3600


class SessionService:
    """Handlers of the public service."""

    def __init__(self, engine: Engine, sessions: Sessions) -> None:
        self._engine = engine
        self._sessions = sessions

    def CreateSession(self, request: pb.CreateSessionRequest, call: Call) -> pb.Session:
        """Exchanges the connection's certificate for a session token."""
        principal = call.principal
        call.record(call.action, principal.name, principal.account)
        credential = request.WhichOneof("credential")
        if credential is None:
            raise required("credential")
        _refuse_yet(credential, given=credential != "certificate")
        _refuse_yet("session_policy", given=bool(request.session_policy))
        if principal.expires:
            raise StrongroomError(Reason.UNAUTHENTICATED, "a session cannot begin another; use the certificate alone")
        session_name = request.session_name or principal.name.rpartition("/")[2]
        if not _SESSION_NAME.fullmatch(session_name):
            raise invalid("session_name", f"must match {_SESSION_NAME.pattern}")
        seconds = _seconds(request)
        self._enabled(principal)
        issued = self._sessions.issue(principal, session_name, seconds)
        return pb.Session(
            token=issued.token.reveal().decode(),
            expire_time=clock.from_microseconds(issued.expires_us),
            principal=principal.name,
            account=f"accounts/{principal.account}",
            session_name=session_name,
        )

    def GetCallerIdentity(self, request: pb.GetCallerIdentityRequest, call: Call) -> pb.CallerIdentity:
        """Who the caller is."""
        del request
        principal = call.principal
        call.record(call.action, principal.name, principal.account)
        record = self._enabled(principal)
        return pb.CallerIdentity(
            principal=principal.name,
            account=f"accounts/{principal.account}",
            session_name=principal.session_name,
            credential_kind=pb.CREDENTIAL_KIND_CERTIFICATE,
            credential=principal.credential,
            roles=record.roles,
            tags=record.tags,
            expire_time=clock.from_microseconds(int(principal.expires * 1e6)) if principal.expires else None,
        )

    def _enabled(self, principal: Principal) -> PrincipalRecord:
        with reading(self._engine) as connection:
            record = store.principal(connection, principal.name)
        if record is None:
            raise StrongroomError(Reason.IDENTITY_UNKNOWN, f"there is no {principal.name}")
        if record.disabled:
            raise StrongroomError(Reason.PRINCIPAL_DISABLED, f"{principal.name} is disabled")
        return record


def _seconds(request: pb.CreateSessionRequest) -> int:
    if not request.HasField("duration"):
        return _DEFAULT_SECONDS
    if not 1 <= request.duration.seconds <= LONGEST_SECONDS or request.duration.nanos:
        raise invalid("duration", f"is not 1 to {LONGEST_SECONDS} whole seconds")
    return request.duration.seconds


def _refuse_yet(field: str, *, given: bool) -> None:
    if given:
        raise StrongroomError(Reason.NOT_YET, f"{field} is not implemented yet", field=field)
