"""Sessions that begin while what they begin from is taken away."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, cast

import pytest
from sqlalchemy import Connection, Engine, event

from services.keystore.access.accounts import new_accounts
from services.keystore.access.accounts.oidc_providers import OidcProviders
from services.keystore.access.accounts.principals import Principals
from services.keystore.access.credentials.client_keys import ClientKeys, made
from services.keystore.access.credentials.credentials import Credentials, Proof
from services.keystore.access.credentials.later_notes import ClientKeyUses
from services.keystore.access.credentials.new_sessions import NewSessions, RoleWish, Wish
from services.keystore.access.credentials.oidc import OidcTokens
from services.keystore.access.credentials.sessions import LONGEST_SECONDS, Session, Sessions
from services.keystore.access.editing import kinds
from services.keystore.access.editing.editing import AccessEditor, insert
from services.keystore.access.records import store
from services.keystore.access.records.resources import (
    Account,
    ClientKey,
    OidcBinding,
    OidcProvider,
    Principal,
    RoleSettings,
)
from services.runtime.access import decisions
from services.runtime.access.authorization import Authorizer
from services.runtime.access.cedar import Parsed
from services.runtime.access.decisions import SESSION_ENDED
from services.runtime.access.identity import Identities
from services.runtime.audit_client import AuditClient
from services.runtime.call import Call
from services.runtime.call import Principal as Caller
from services.runtime.clock import Clock, system_clock
from services.runtime.errors import StrongroomError
from services.runtime.requests.names import ResourceName, parse
from services.runtime.storage.database import reading, transaction
from services.runtime.storage.outbox import Outbox
from strongroom.access.v1.session_service_pb2 import CREDENTIAL_KIND_CERTIFICATE
from tests.support.clocks import ClockOf, SkewedClock
from tests.support.everybody import Everybody

ACCOUNT = "accounts/acme"
ANN, ROLE, PROVIDER = f"{ACCOUNT}/users/ann", f"{ACCOUNT}/roles/r", f"{ACCOUNT}/oidcProviders/p"
SPIFFE_ID, SUBJECT = "spiffe://strongroom.local/user/ann", "ann"
POLICY = "permit (principal, action, resource);"
LATER_US = 4_000_000_000_000_000


class Anything(Everybody):
    """Permits everything, and knows no policies of resources."""

    def authorize(self, call: Call, action: str, resource: Any, **_told: Any) -> Any:
        return call.record(action, resource.name, resource.account)

    def admit(self, call: Call, principal: Caller | None = None) -> None:
        del principal
        call.permitted = True

    def parsed_policies(self, records: Any) -> None:
        del records


class Known:
    """What workers remember of certificates, for up to a second after that has changed."""

    def from_certificate(self, spiffe_id: str) -> Caller:
        return Caller(ANN, "acme", credential=spiffe_id, credential_kind=CREDENTIAL_KIND_CERTIFICATE)


class Trusting:
    """Verifies nothing of a token."""

    def __init__(self, provider: OidcProvider) -> None:
        self._provider = provider

    def provider_of(self, account: str, token: str) -> OidcProvider:
        del account, token
        return self._provider

    def verify(self, provider: OidcProvider, token: str) -> Mapping[str, Any]:
        del provider, token
        return {"sub": SUBJECT, "exp": LATER_US // 1_000_000}


@dataclass
class World:
    """Ann, who is known by everything that there is, and a role."""

    engine: Engine
    credentials: Credentials
    sessions: NewSessions
    principals: Principals
    client_keys: ClientKeys
    providers: OidcProviders
    key: ClientKey
    secret: str

    def call(self, by: Caller | None = None) -> Call:
        return Call("test", "Test", "access:Test", certificate_id=SPIFFE_ID, principal=by or Caller(ANN, "acme"))

    def proof(self, kind: str) -> Proof:
        if kind == "certificate":
            return self.credentials.certificate(self.call())
        if kind == "client key":
            return self.credentials.client_key(self.call(), parse(self.key.name, "", "clientKeys"), self.secret)
        return self.credentials.oidc_token(self.call(), "acme", "token")

    def session(self, by: Caller) -> Caller:
        return self.sessions.narrow(self.call(by), Wish("n", policy=POLICY)).principal

    def role_session(self, by: Caller) -> Caller:
        return self.sessions.assume(self.call(by), ResourceName("acme", "roles", "r"), RoleWish("s")).principal

    def standing(self, session: Caller) -> str:
        """Why a session may do nothing at all, as every service sees it."""
        with reading(self.engine) as connection:
            access = store.account_access(connection, "acme", system_clock.now_us())
        assert access is not None
        account = decisions.Account(access, Parsed())
        whom = (session.name, *session.scope.assumed_by)
        return next((why for name in whom if (why := account.standing(name, session))), "")


@pytest.fixture
def world(engine: Engine) -> World:
    provider = OidcProvider(PROVIDER, "https://p.example", ("a",), "", "", "", "")
    trust = RoleSettings('permit (principal, action == Strongroom::Action::"access:AssumeRole", resource);', 3600)
    ann = Principal(ANN, "", {}, (), (SPIFFE_ID,), (OidcBinding(PROVIDER, SUBJECT, {}),))
    key, secret = made(ANN, "", LATER_US)
    with transaction(engine) as connection:
        new_accounts.add(connection, Account(ACCOUNT, "", {}), "admin", [], 1)
        insert(connection, kinds.OIDC_PROVIDER, provider, 1)
        insert(connection, kinds.PRINCIPAL, ann, 1)
        insert(connection, kinds.PRINCIPAL, Principal(ROLE, "", {}, role_settings=trust), 1)
        insert(connection, kinds.CLIENT_KEY, key, 1)
    anything, clock, uses = cast(Authorizer, Anything()), system_clock, ClientKeyUses(engine)
    editor = _editor(engine, clock)
    return World(
        engine,
        Credentials(engine, cast(Identities, Known()), cast(OidcTokens, Trusting(provider)), uses, clock),
        NewSessions(engine, Sessions(engine, "strongroom.local", clock), anything, clock),
        Principals(editor, bind_any=True),
        ClientKeys(editor),
        OidcProviders(editor),
        key,
        secret.reveal().decode(),
    )


def _editor(engine: Engine, clock: Clock) -> AccessEditor:
    return AccessEditor(engine, cast(Authorizer, Anything()), Outbox(engine, cast(AuditClient, None)), clock)


TAKEN: dict[str, tuple[str, Callable[[World], Any]]] = {
    "the SPIFFE id": (
        "certificate",
        lambda w: w.principals.update(w.call(), Principal(ANN, "", {}), ["spiffe_ids"], ""),
    ),
    "the principal of a certificate": ("certificate", lambda w: w.principals.delete(w.call(), ANN, "")),
    "the subject": (
        "oidc",
        lambda w: w.principals.update(w.call(), Principal(ANN, "", {}), ["oidc_bindings"], ""),
    ),
    "the subject without another claim": (
        "oidc",
        lambda w: w.principals.update(
            w.call(),
            Principal(ANN, "", {}, oidc_bindings=(OidcBinding(PROVIDER, SUBJECT, {"a": "b"}),)),
            ["oidc_bindings"],
            "",
        ),
    ),
    "the provider": (
        "oidc",
        lambda w: w.providers.update(
            w.call(), OidcProvider(PROVIDER, "", (), "", "", "", "", disabled=True), ["disabled"], ""
        ),
    ),
    "the client key": ("client key", lambda w: w.client_keys.delete(w.call(), w.key.name, "")),
    "the client key for a while": (
        "client key",
        lambda w: w.client_keys.update(w.call(), w.key.name, None, True, ""),
    ),
}


@pytest.mark.parametrize("what", TAKEN)
def test_no_session_begins_by_what_was_taken_away_since_it_was_proved(world: World, what: str) -> None:
    kind, take = TAKEN[what]
    proof = world.proof(kind)
    assert world.sessions.begin(world.call(), proof, Wish("s")).principal.name == ANN
    take(world)
    with pytest.raises(StrongroomError):
        world.sessions.begin(world.call(), proof, Wish("s"))


def test_no_role_is_assumed_by_a_certificate_that_stands_for_its_caller_no_more(world: World) -> None:
    caller = world.proof("certificate").principal
    name = ResourceName("acme", "roles", "r")
    assert world.sessions.assume(world.call(caller), name, RoleWish("s")).principal.name == ROLE
    TAKEN["the SPIFFE id"][1](world)
    with pytest.raises(StrongroomError):
        world.sessions.assume(world.call(caller), name, RoleWish("s"))


@pytest.mark.parametrize("ways", ["narrowed", "assumed"])
def test_no_session_begins_from_one_whose_identity_was_taken_away(world: World, ways: str) -> None:
    session = world.sessions.begin(world.call(), world.proof("oidc"), Wish("s")).principal

    def begin() -> Caller:
        return world.session(session) if ways == "narrowed" else world.role_session(session)

    assert begin()
    TAKEN["the subject"][1](world)
    with pytest.raises(StrongroomError):
        begin()


def test_a_session_that_begins_while_its_identity_is_being_taken_away_ends_with_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What takes it away has its time already, and has not committed."""
    proof, begun = world.proof("oidc"), list[Session]()
    # There is a key to sign with.
    world.sessions.begin(world.call(), proof, Wish("s"))

    def begin() -> None:
        try:
            begun.append(world.sessions.begin(world.call(), proof, Wish("s")))
        except StrongroomError:
            return

    beginning = threading.Thread(target=begin)
    update = kinds.PRINCIPAL.update

    def late(connection: Any, changed: Any) -> None:
        update(connection, changed)
        beginning.start()
        beginning.join(10.0)

    monkeypatch.setattr("services.keystore.access.editing.kinds.PRINCIPAL", replace(kinds.PRINCIPAL, update=late))
    TAKEN["the subject"][1](world)
    beginning.join()
    # It did not wait, and was good until then.
    assert [one.principal.name for one in begun] == [ANN]
    began = begun[0].principal
    derived = [replace(began, session_ids=("n", *began.session_ids)), replace(began, issued=began.issued + 3600.0)]
    assert [world.standing(one) for one in (began, *derived)] == [SESSION_ENDED] * 3
    with pytest.raises(StrongroomError):
        world.session(began)


@pytest.mark.parametrize("ways", ["narrowed", "assumed"])
def test_what_begins_from_a_session_while_that_is_revoked_ends_with_it(
    world: World, monkeypatch: pytest.MonkeyPatch, ways: str
) -> None:
    session = world.sessions.begin(world.call(), world.proof("oidc"), Wish("s")).principal
    begun, update = list[Caller](), kinds.PRINCIPAL.update

    def begin() -> None:
        begun.append(world.session(session) if ways == "narrowed" else world.role_session(session))

    def late(connection: Any, changed: Any) -> None:
        update(connection, changed)
        beginning = threading.Thread(target=begin)
        beginning.start()
        beginning.join(10.0)

    monkeypatch.setattr("services.keystore.access.editing.kinds.PRINCIPAL", replace(kinds.PRINCIPAL, update=late))
    world.principals.revoke_sessions(world.call(), ANN)
    assert [world.standing(one) for one in begun] == [SESSION_ENDED]


def test_sessions_begin_after_others_were_revoked_and_end_with_the_next(world: World) -> None:
    for _ in range(3):
        session = world.sessions.begin(world.call(), world.proof("oidc"), Wish("s")).principal
        both = (session, world.session(session), world.role_session(session))
        assert [world.standing(one) for one in both] == [""] * 3
        world.principals.revoke_sessions(world.call(), ANN)
        assert [world.standing(one) for one in both] == [SESSION_ENDED] * 3


def test_a_role_s_sessions_end_with_the_role_s_alone(world: World) -> None:
    world.principals.revoke_sessions(world.call(), ROLE)
    session = world.sessions.begin(world.call(), world.proof("oidc"), Wish("s")).principal
    of_role = world.role_session(session)
    assert [world.standing(session), world.standing(of_role)] == ["", ""]
    world.principals.revoke_sessions(world.call(), ROLE)
    assert [world.standing(session), world.standing(of_role)] == ["", SESSION_ENDED]


def test_revoking_reaches_sessions_whatever_the_clock_of_who_revokes_says(world: World) -> None:
    """Each replica has a clock of its own."""
    behind = Principals(_editor(world.engine, SkewedClock(-30.0)), bind_any=True)
    world.principals.set_tags(world.call(), ANN, {"a": "b"}, "")
    session = world.sessions.begin(world.call(), world.proof("oidc"), Wish("s")).principal
    behind.set_tags(world.call(), ANN, {"a": "c"}, "")
    behind.revoke_sessions(world.call(), ANN)
    assert world.standing(session) == SESSION_ENDED
    assert world.standing(world.sessions.begin(world.call(), world.proof("oidc"), Wish("s")).principal) == ""


def test_tokens_of_before_end_by_the_time_at_which_they_began(world: World) -> None:
    session = world.sessions.begin(world.call(), world.proof("oidc"), Wish("s")).principal
    old = replace(session, as_of=())
    both = (old, world.session(old), world.role_session(old))
    assert [world.standing(one) for one in both] == [""] * 3
    world.principals.revoke_sessions(world.call(), ANN)
    assert [world.standing(one) for one in both] == [SESSION_ENDED] * 3


@pytest.mark.parametrize("kind", ["certificate", "client key", "oidc"])
def test_sessions_begin_while_something_of_the_account_is_changed(world: World, kind: str) -> None:
    def begin() -> Caller:
        session = world.sessions.begin(world.call(), world.proof(kind), Wish("s")).principal
        return world.role_session(world.session(session))

    begin()
    with ThreadPoolExecutor(1) as pool, transaction(world.engine) as connection:
        store.lock_account(connection, "acme")
        assert pool.submit(begin).result(4.0).name == ROLE


@pytest.mark.parametrize("kind", ["certificate", "client key", "oidc"])
def test_sessions_begin_where_a_database_takes_no_changes(world: World, kind: str) -> None:
    # There is a key to sign with.
    world.sessions.begin(world.call(), world.proof("oidc"), Wish("s"))
    event.listen(world.engine, "begin", lambda connection: connection.exec_driver_sql("PRAGMA query_only=1"))
    with pytest.raises(StrongroomError):
        world.principals.revoke_sessions(world.call(), ANN)
    session = world.sessions.begin(world.call(), world.proof(kind), Wish("s")).principal
    assert world.role_session(world.session(session)).name == ROLE


def test_a_session_lasts_from_before_its_credential_was_found_good(world: World) -> None:
    proof, stalled = world.proof("client key"), [0]

    def slow(connection: Connection) -> None:
        proof.require_still(connection)
        stalled[0] = 60_000_000

    world.sessions._clock = ClockOf(lambda: system_clock.now_us() + stalled[0])
    session = world.sessions.begin(world.call(), replace(proof, require_still=slow), Wish("s")).principal
    assert session.issued <= system_clock.now_us() / 1e6
    # For so long it is told which client keys have ended.
    assert store.SESSION_US > LONGEST_SECONDS * 1_000_000
