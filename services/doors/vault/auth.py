"""`auth/`: logins, each with a credential of the mesh, and what a token may ask of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any

import grpc
from cryptography import x509

from services.doors.listening import json_bodies
from services.doors.listening.exchange import Head, HttpError, Response
from services.doors.mesh.calls import Mesh
from services.doors.mesh.sessions import Caller, Session, Sessions
from services.doors.vault import answers, errors
from services.doors.vault.callers import Callers, token_of
from services.doors.vault.requests import Operation, Request, text_in
from services.runtime.clock import Clock, microseconds
from services.runtime.errors import Reason, StrongroomError
from strongroom.access.v1 import access_service_pb2, session_service_pb2
from strongroom.access.v1.session_service_pb2 import CREDENTIAL_KIND_CLIENT_KEY, CredentialKind

_SPIFFE = "spiffe://"
_SESSIONS_END = "a session is not renewed: log in again before it ends"

Login = Callable[[Head, dict[str, Any]], Session]


class Auth:
    """Logins and a token's own business."""

    def __init__(self, mesh: Mesh, sessions: Sessions, callers: Callers, clock: Clock) -> None:
        self._mesh = mesh
        self._sessions = sessions
        self._callers = callers
        self._clock = clock
        self._logins: Mapping[str, Login] = {
            "approle": self._by_client_key,
            "jwt": self._by_oidc_token,
            "kubernetes": self._by_oidc_token,
            "cert": self._by_certificate,
        }
        self._own: Mapping[tuple[str, Operation], Callable[[Request], Response]] = {
            ("lookup-self", Operation.READ): self._lookup,
            ("lookup-self", Operation.WRITE): self._lookup,
            ("renew-self", Operation.WRITE): self._renew,
            ("revoke-self", Operation.WRITE): self._revoke,
            ("lookup", Operation.WRITE): lambda request: self._lookup(callers.of_another(request)),
            ("renew", Operation.WRITE): lambda request: self._renew(callers.of_another(request)),
            ("revoke", Operation.WRITE): lambda request: self._revoke(callers.of_another(request)),
        }

    def login(self, head: Head, path: tuple[str, ...], body: bytes) -> tuple[Caller, Response]:
        """Who has logged in by a credential, and the answer that has its session. Raises HttpError, StrongroomError."""
        method = self._logins.get(path[0])
        if method is None or len(path) != 2:
            raise errors.not_found()
        if head.method not in ("POST", "PUT"):
            raise errors.no_operation()
        session = method(head, json_bodies.parse(body))
        return Caller(session, head.address), answers.auth(self._login_of(session))

    def answer(self, request: Request) -> Response:
        """What a token asks of itself. Raises HttpError, StrongroomError."""
        if request.path[:1] != ("token",) or len(request.path) != 2:
            raise errors.not_found()
        wanted = request.path[1]
        answer = self._own.get((wanted, request.operation))
        if answer is None:
            raise errors.no_operation() if any(wanted == one for one, _ in self._own) else errors.not_found()
        return answer(request)

    def methods(self) -> list[str]:
        """The ways to log in."""
        return [*self._logins, "token"]

    def _by_client_key(self, head: Head, given: dict[str, Any]) -> Session:
        role, secret = text_in(given, "role_id"), text_in(given, "secret_id")
        if not role or not secret:
            raise errors.invalid("role_id (the id of a client key) and secret_id (its secret) are required")
        name = f"accounts/{self._callers.account(head)}/clientKeys/{role}"
        credential = session_service_pb2.ClientKeyCredential(client_key=name, secret=secret)
        return self._begin(head, session_service_pb2.CreateSessionRequest(client_key=credential))

    def _by_oidc_token(self, head: Head, given: dict[str, Any]) -> Session:
        token = text_in(given, "jwt")
        if not token:
            raise errors.invalid("jwt is required")
        account = f"accounts/{self._callers.account(head)}"
        credential = session_service_pb2.OidcTokenCredential(account=account, token=token)
        return self._begin(head, session_service_pb2.CreateSessionRequest(oidc_token=credential))

    def _by_certificate(self, head: Head, _given: dict[str, Any]) -> Session:
        if not head.certificate:
            raise errors.invalid("client certificate must be supplied")
        request = session_service_pb2.CreateSessionRequest(certificate=session_service_pb2.CertificateCredential())
        return self._begin(head, request, _identity_in(head.certificate))

    def _begin(self, head: Head, request: Any, certificate: tuple[str, int] | None = None) -> Session:
        try:
            return self._sessions.begin(request, head.address, certificate)
        except StrongroomError as error:
            if error.reason is Reason.NAME_MALFORMED:
                # Whatever is wrong with a credential, its owner hears the same.
                raise HttpError(403, errors.PERMISSION_DENIED) from None
            raise

    def _login_of(self, session: Session) -> dict[str, Any]:
        return {
            **_token(session.token, session.principal, session.account),
            "lease_duration": self._left(session.expires_us),
            "renewable": False,
        }

    def _left(self, expires_us: int) -> int:
        return max(0, (expires_us - self._clock.now_us()) // 1_000_000) if expires_us else 0

    def _lookup(self, request: Request) -> Response:
        caller = request.caller
        who = self._mesh.identity(caller)
        session, token = caller.session, token_of(request.head)
        # A client key is a token that does not end with a session; when it ends itself, its owner has set.
        ends = 0 if session.is_begun_here else microseconds(who.expire_time)
        return answers.data(
            {
                "id": token,
                "accessor": _accessor(token),
                "display_name": who.session_name or who.principal,
                "entity_id": who.principal,
                "expire_time": answers.moment(who.expire_time) if ends else None,
                "explicit_max_ttl": 0,
                "identity_policies": [],
                "meta": {**_metadata(who.principal, session.account), "credential": who.credential},
                "num_uses": 0,
                "orphan": True,
                "path": f"auth/{_PATHS.get(who.credential_kind, 'token')}/login",
                "policies": ["default"],
                "renewable": False,
                "roles": list(who.roles),
                "ttl": self._left(ends),
                "type": "service",
            }
        )

    def _renew(self, request: Request) -> Response:
        # Whoever renews goes on as long as it is told that it may.
        self._mesh.require(request.caller)
        session = request.caller.session
        token = token_of(request.head)
        login = {**_token(token, session.principal, session.account), "renewable": False}
        if session.is_begun_here:
            return answers.auth({**login, "lease_duration": 0})
        return answers.auth({**login, "lease_duration": self._left(session.expires_us)}, [_SESSIONS_END])

    def _revoke(self, request: Request) -> Response:
        caller = request.caller
        if not caller.session.is_begun_here:
            self._end(caller, "RevokeSession", session_service_pb2.RevokeSessionRequest())
            self._sessions.forget(caller.session.token)
            return answers.NO_CONTENT
        who = self._mesh.identity(caller)
        if who.credential_kind != CREDENTIAL_KIND_CLIENT_KEY:
            raise errors.unsupported("the token is no client key")
        self._end(caller, "DeleteClientKey", access_service_pb2.DeleteClientKeyRequest(name=who.credential))
        return answers.NO_CONTENT

    def _end(self, caller: Caller, method: str, request: Any) -> None:
        """Has the caller's own credential ended; one that is worth nothing any more has been, and be it by the same
        call whose answer was lost."""
        try:
            self._mesh.ask(caller, method, request)
        except StrongroomError as error:
            if error.code is not grpc.StatusCode.UNAUTHENTICATED:
                raise


_PATHS = {
    CredentialKind.CREDENTIAL_KIND_CERTIFICATE: "cert",
    CredentialKind.CREDENTIAL_KIND_CLIENT_KEY: "approle",
    CredentialKind.CREDENTIAL_KIND_OIDC_TOKEN: "jwt",
}


def _token(token: str, principal: str, account: str) -> dict[str, Any]:
    return {
        "client_token": token,
        "accessor": _accessor(token),
        "policies": ["default"],
        "token_policies": ["default"],
        "metadata": _metadata(principal, account),
        "entity_id": principal,
        "token_type": "service",
        "orphan": True,
        "num_uses": 0,
    }


def _metadata(principal: str, account: str) -> dict[str, str]:
    return {"account": account, "principal": principal}


def _accessor(token: str) -> str:
    """What names a token and is none."""
    return sha256(token.encode()).hexdigest()[:24]


def _identity_in(certificate: bytes) -> tuple[str, int]:
    """The SPIFFE id of a certificate that TLS has verified, and when it ends. Raises HttpError."""
    read = x509.load_der_x509_certificate(certificate)
    try:
        names = read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        raise HttpError(403, errors.PERMISSION_DENIED, "the certificate carries no SPIFFE id") from None
    ids = [uri for uri in names.get_values_for_type(x509.UniformResourceIdentifier) if uri.startswith(_SPIFFE)]
    if len(ids) != 1:
        raise HttpError(403, errors.PERMISSION_DENIED, "the certificate carries no SPIFFE id")
    return ids[0], int(read.not_valid_after_utc.timestamp()) * 1_000_000
