"""Sessions that end before their time: with their principal, their client key, or because they were revoked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from deploy.dev.mesh import Mesh
from strongroom import Client, ClientKeySession, SessionToken
from tests.support import access
from tests.support.clients import client_by, reason_of, refusal, until


class Sessions:
    """Begins sessions, each a client of its own that never renews its token."""

    def __init__(self, mesh: Mesh, client: Client, stack: ExitStack) -> None:
        self._mesh = mesh
        self._client = client
        self._stack = stack

    def by(self, credential: ClientKeySession) -> Client:
        """A session by a client key."""
        return self._with(self._client.access.sessions.create(credential).token)

    def as_role(self, caller: Client, role: str) -> Client:
        """A caller's session as a role."""
        return self._with(caller.access.sessions.assume_role(role, "shift").token)

    def _with(self, token: str) -> Client:
        return self._stack.enter_context(client_by(self._mesh, SessionToken(token)))


@pytest.fixture
def sessions(mesh: Mesh, client: Client) -> Iterator[Sessions]:
    with ExitStack() as stack:
        yield Sessions(mesh, client, stack)


@pytest.fixture
def workload(client: Client) -> str:
    return access.workload(client)


@pytest.fixture
def credential(client: Client, workload: str) -> ClientKeySession:
    return access.client_key(client, workload)


def why(session: Client) -> str:
    """What crypto and keystore answer a session: the same, or both."""
    return "/".join(sorted({reason_of(session.generate_random), reason_of(session.access.whoami)}))


def test_revoked_sessions_stop_and_new_ones_begin(
    client: Client, sessions: Sessions, workload: str, credential: ClientKeySession
) -> None:
    before = sessions.by(credential)
    until(lambda: why(before) == "", 2.0)
    client.access.principals.revoke_sessions(workload)
    after = sessions.by(credential)
    until(lambda: why(before) == "TOKEN_INVALID", 1.5)
    assert why(after) == ""
    assert why(before) == "TOKEN_INVALID"


def test_a_session_ends_itself_and_what_came_from_it_alone(
    client: Client, sessions: Sessions, credential: ClientKeySession
) -> None:
    role = access.role(client)
    ended, spared = sessions.by(credential), sessions.by(credential)
    until(lambda: reason_of(lambda: ended.access.sessions.assume_role(role, "first")) == "", 2.0)
    as_role, other = sessions.as_role(ended, role), sessions.as_role(spared, role)
    until(lambda: why(as_role) == why(other) == "", 2.0)
    ended.access.sessions.revoke()
    until(lambda: why(ended) == why(as_role) == "TOKEN_INVALID", 1.5)
    assert why(spared) == why(other) == why(sessions.by(credential)) == ""
    assert refusal(ended.access.sessions.revoke).reason == "TOKEN_INVALID"
    assert refusal(lambda: ended.access.sessions.assume_role(role, "again")).reason == "TOKEN_INVALID"
    # A role's session ends without the one that it came from.
    other.access.sessions.revoke()
    until(lambda: why(other) == "TOKEN_INVALID", 1.5)
    assert why(spared) == ""
    # A certificate is no session.
    assert refusal(client.access.sessions.revoke).reason == "UNAUTHENTICATED"
    (event, *_) = client.audit.events.list(action="access:RevokeSession", outcome="ALLOWED")
    assert event.resource == role


def test_a_narrowed_session_stays_within_the_one_that_it_came_from(
    client: Client, mesh: Mesh, credential: ClientKeySession
) -> None:
    random = 'permit (principal, action == Strongroom::Action::"crypto:GenerateRandom", resource);'
    begun = client.access.sessions.create(credential, duration_seconds=600)
    with client_by(mesh, SessionToken(begun.token)) as whole:
        until(lambda: why(whole) == "", 2.0)
        within = whole.access.sessions.narrow(random, session_name="one-thing", duration_seconds=3600)
        assert (within.principal, within.session_name) == (begun.principal, "one-thing")
        assert within.expire_time == begun.expire_time
        with client_by(mesh, SessionToken(within.token)) as narrow:
            assert reason_of(narrow.generate_random) == ""
            assert reason_of(lambda: list(narrow.keys.list())) == "PERMISSION_DENIED"
            again = narrow.access.sessions.narrow(access.EVERYTHING)
            with client_by(mesh, SessionToken(again.token)) as wider:
                assert reason_of(lambda: list(wider.keys.list())) == "PERMISSION_DENIED"
                assert reason_of(lambda: narrow.access.sessions.narrow("permit (")) == "POLICY_INVALID"
                assert reason_of(lambda: narrow.access.sessions.narrow("")) == "FIELD_REQUIRED"
                whole.access.sessions.revoke()
                until(lambda: why(narrow) == why(wider) == "TOKEN_INVALID", 1.5)
    assert refusal(lambda: client.access.sessions.narrow(random)).reason == "UNAUTHENTICATED"


def test_sessions_stop_with_their_client_key_and_go_on_with_it(
    client: Client, sessions: Sessions, workload: str, credential: ClientKeySession
) -> None:
    ours, others = sessions.by(credential), sessions.by(access.client_key(client, workload))
    until(lambda: why(ours) == "", 2.0)
    client.access.client_keys.update(credential.name, disabled=True)
    until(lambda: why(ours) == "TOKEN_INVALID", 1.5)
    assert why(others) == ""
    client.access.client_keys.update(credential.name, disabled=False)
    until(lambda: why(ours) == "", 1.5)
    client.access.client_keys.delete(credential.name)
    until(lambda: why(ours) == "TOKEN_INVALID", 1.5)
    assert refusal(lambda: client.access.sessions.create(credential)).reason == "CREDENTIAL_INVALID"
    assert why(others) == ""


def test_sessions_stop_with_their_principal(
    client: Client, sessions: Sessions, workload: str, credential: ClientKeySession
) -> None:
    session = sessions.by(credential)
    until(lambda: why(session) == "", 2.0)
    client.access.principals.disable(workload)
    until(lambda: why(session) == "PRINCIPAL_DISABLED", 1.5)
    client.access.principals.enable(workload)
    until(lambda: why(session) == "", 1.5)
    client.access.principals.delete(workload)
    until(lambda: reason_of(session.generate_random) == "PERMISSION_DENIED", 1.5)
    assert refusal(lambda: client.access.sessions.create(credential)).reason == "CREDENTIAL_INVALID"


def test_a_roles_sessions_are_revoked_whoever_assumed_it(
    client: Client, sessions: Sessions, credential: ClientKeySession
) -> None:
    role, other = access.role(client), access.role(client)
    caller = sessions.by(credential)
    until(lambda: reason_of(lambda: caller.access.sessions.assume_role(role, "first")) == "", 2.0)
    revoked, spared = sessions.as_role(caller, role), sessions.as_role(caller, other)
    until(lambda: why(revoked) == why(spared) == "", 2.0)
    client.access.principals.revoke_sessions(role)
    until(lambda: why(revoked) == "TOKEN_INVALID", 1.5)
    assert why(spared) == why(caller) == ""
    assert why(sessions.as_role(caller, role)) == ""
    # Whoever stands behind a role's session stands behind it for all of its time.
    client.access.principals.revoke_sessions(client.access.client_keys.get(credential.name).principal)
    until(lambda: why(spared) == "TOKEN_INVALID", 1.5)
