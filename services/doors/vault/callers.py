"""Whose a request is: by its token and its namespace."""

from __future__ import annotations

import re
from dataclasses import replace

from services.doors.listening.exchange import Head, HttpError
from services.doors.mesh.sessions import Caller, Sessions
from services.doors.vault import errors
from services.doors.vault.requests import Request

TOKEN = "x-vault-token"  # noqa: S105  # the name of a header
NAMESPACE = "x-vault-namespace"

_ACCOUNT = re.compile(r"[a-z][a-z0-9-]{0,62}")
# `{id}.{secret}` of a client key: a session token has two dots, and its first part is no such id.
_CLIENT_KEY = re.compile(r"([a-z][a-z0-9-]{0,62})\.(strongroom_ck_[a-z2-7]{52})")
_TOKEN = re.compile(r"[A-Za-z0-9_.-]{1,8192}")


class Callers:
    """Callers by what requests carry. A namespace names an account; without one it is the token's own, and that of the
    configuration for a client key."""

    def __init__(self, sessions: Sessions, account: str) -> None:
        self._sessions = sessions
        self._account = account

    def of(self, head: Head) -> Caller:
        """Whom a request is made for. Raises HttpError, StrongroomError."""
        token = token_of(head)
        if not _TOKEN.fullmatch(token):
            raise HttpError(403, errors.PERMISSION_DENIED)
        namespace = self.namespace(head)
        if found := _CLIENT_KEY.fullmatch(token):
            account = namespace or self._account
            return self._sessions.of_client_key(_client_key(account, found[1]), found[2], head.address)
        caller = self._sessions.of_token(token, head.address)
        if namespace and namespace != caller.account:
            # Its resources are asked for by name, and the mesh says whether the caller may.
            caller = Caller(replace(caller.session, account=namespace), caller.address)
        return caller

    def of_another(self, request: Request) -> Request:
        """A request as whoever has the token that is named in it would make it: it opens nothing more than that.
        Raises HttpError, StrongroomError."""
        token = request.text("token")
        if not token:
            raise errors.invalid("token is required")
        head = replace(request.head, headers={**request.head.headers, TOKEN: token})
        return replace(request, caller=self.of(head), head=head)

    def known_account(self, head: Head) -> str:
        """The account that the mesh said a request's token is of, when it was asked before; empty where it was not."""
        token = token_of(head)
        if found := _CLIENT_KEY.fullmatch(token):
            account = head.headers.get(NAMESPACE, "").strip("/") or self._account
            token = f"{_client_key(account, found[1])}.{found[2]}"
        session = self._sessions.known(token)
        return session.principal.split("/")[1] if session is not None else ""

    def has_token(self, head: Head) -> bool:
        """Whether a request carries a token at all."""
        return bool(token_of(head))

    def account(self, head: Head) -> str:
        """The account that a login is for. Raises HttpError."""
        return self.namespace(head) or self._account

    def namespace(self, head: Head) -> str:
        """The account that a request names; empty for none. Raises HttpError."""
        named = head.headers.get(NAMESPACE, "").strip("/")
        if named and not _ACCOUNT.fullmatch(named):
            raise HttpError(404, "the namespace is no account: it must match [a-z][a-z0-9-]{0,62}")
        return named


def _client_key(account: str, key_id: str) -> str:
    return f"accounts/{account}/clientKeys/{key_id}"


def token_of(head: Head) -> str:
    """The token that a request carries, in either place where clients put it; empty for none."""
    token = head.headers.get(TOKEN, "")
    return token or head.headers.get("authorization", "").removeprefix("Bearer ").strip()
