"""Whose turn a request takes, before anybody has verified it."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from services.doors.listening.exchange import Head
from services.doors.mesh.sessions import Caller, Sessions
from services.doors.vault.callers import Callers
from services.runtime.errors import Reason, StrongroomError
from strongroom.access.v1.session_service_pb2 import CallerIdentity, CreateSessionRequest, Session
from tests.support.clocks import StillClock

SECRET = "strongroom_ck_" + "a" * 52
NOW = 1_800_000_000


def head(token: str, namespace: str = "") -> Head:
    headers = {"x-vault-token": token, **({"x-vault-namespace": namespace} if namespace else {})}
    return Head("GET", ("v1", "x"), False, {}, headers, "10.0.0.1")


def callers() -> Callers:
    """A door's, whose mesh knows the tokens `a.b.c`, and the client key `ck-one` of the shop."""

    def exchange(request: CreateSessionRequest, _metadata: tuple[tuple[str, str], ...]) -> Session:
        if request.client_key.client_key != "accounts/shop/clientKeys/ck-one":
            raise StrongroomError(Reason.CREDENTIAL_INVALID, "no")
        ends = Timestamp(seconds=NOW + 60)
        return Session(token="s", principal="accounts/shop/users/u", account="accounts/shop", expire_time=ends)

    def identify(caller: Caller) -> CallerIdentity:
        if caller.session.token != "a.b.c":
            raise StrongroomError(Reason.TOKEN_INVALID, "no")
        return CallerIdentity(principal="accounts/main/users/u", account="accounts/main")

    return Callers(Sessions(exchange, identify, StillClock(NOW * 1_000_000), 60), "main")


def test_an_account_is_known_once_the_mesh_has_confirmed_the_token() -> None:
    door = callers()
    for request in (head("a.b.c"), head(f"ck-one.{SECRET}", "shop")):
        assert door.known_account(request) == ""
        door.of(request)
    assert door.known_account(head("a.b.c")) == "main"
    assert door.known_account(head("a.b.c", "elsewhere")) == "main"
    assert door.known_account(head(f"ck-one.{SECRET}", "shop")) == "shop"


def test_nobody_takes_the_turns_of_an_account_by_naming_it() -> None:
    door = callers()
    door.of(head(f"ck-one.{SECRET}", "shop"))
    for token, namespace in (
        (f"ck-one.{SECRET[:-1]}b", "shop"),
        (f"ck-two.{SECRET}", "shop"),
        (f"ck-one.{SECRET}", "main"),
        ("x.y.z", "shop"),
        ("", "shop"),
    ):
        assert door.known_account(head(token, namespace)) == ""
