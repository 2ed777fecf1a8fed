"""What callers make up, whoever they are: names, tokens, lists. It is bounded before anything keeps it, and refused as
what it is."""

from __future__ import annotations

import base64
import socket
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlalchemy import create_engine

from deploy.dev.configs import ACCOUNT
from deploy.dev.mesh import Mesh
from services.audit.handlers.http_tiles import HttpTiles
from services.audit.logs.logs import Logs
from services.audit.logs.streaming import place_of
from services.audit.reading import page_tokens
from services.keystore.access.credentials.issuer_keys import IssuerKeys
from services.keystore.access.credentials.oidc import OidcTokens
from services.runtime import encryption_context
from services.runtime.errors import Reason, StrongroomError
from services.runtime.requests import names, paging, wire
from strongroom.access.v1 import access_service_pb2, session_service_pb2
from strongroom.audit.v1 import audit_service_pb2
from strongroom.crypto.v1 import crypto_pb2
from strongroom.secrets.v1 import secret_service_pb2
from tests.support.clocks import StillClock
from tests.support.every_method import Caller

MEBIBYTE = 1 << 20
PLACES = (
    "abc",
    "1",
    "1.2.3",
    "1.",
    ".",
    f"1.{'9' * 30}",
    "9" * 5_000,
    "1.2\x00",
    "\u0661.\u0662",
    "+1.2",
    " 1.2",
    "1_0.2",
)
HEADERS = (b'{"alg":[]}', b'{"alg":{}}', b'{"alg":null}', b"[]", b"[" * 9_000, b'{"alg":"RS256","kid":[]}')
CLAIMS = (b'{"iss":"\\ud800"}', b'{"iss":"\\u0000"}', b'{"iss":[]}', b'{"iss":"a\\u001b[2J"}', b"[]", b"[" * 9_000)


def reason(work: Callable[[], object]) -> Reason | None:
    """Why `work` is refused; anything but a refusal fails the test."""
    try:
        work()
    except StrongroomError as error:
        return error.reason
    return None


def token(header: bytes, claims: bytes) -> str:
    """What looks like a JWT."""
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in (header, claims, b"x" * 64))


def test_no_name_is_remembered_that_could_be_none() -> None:
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(8):
            long = f"accounts/main/keys/{number}" + "x" * MEBIBYTE
            assert reason(lambda: names.parse(long, "name", "keys")) is Reason.NAME_MALFORMED  # noqa: B023
        assert tracemalloc.get_traced_memory()[0] - before < 2 * MEBIBYTE
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "made_up",
    [
        audit_service_pb2.StreamEventsRequest(parent="accounts/a", resource="x" * MEBIBYTE),
        audit_service_pb2.LookupEventsRequest(parent="accounts/a", page_token="x" * MEBIBYTE),
        session_service_pb2.AssumeRoleRequest(external_id="x" * MEBIBYTE),
        access_service_pb2.CreatePolicyRequest(request_id="x" * MEBIBYTE),
        secret_service_pb2.WatchSecretRequest(names=["x"] * 100_000),
        secret_service_pb2.WatchSecretRequest(names=["x" * MEBIBYTE]),
        crypto_pb2.EncryptRequest(encryption_context={f"{n}": "" for n in range(20_000)}),
        crypto_pb2.BatchEncryptRequest(items=[crypto_pb2.EncryptItem()] * 20_000),
    ],
    ids=lambda message: f"{message.DESCRIPTOR.name}.{message.ListFields()[-1][0].name}",
)
def test_no_field_is_longer_than_any_field_may_be(made_up: Any) -> None:
    with pytest.raises(StrongroomError) as refused:
        wire.checker(made_up.DESCRIPTOR)(made_up)
    assert refused.value.reason is Reason.FIELD_TOO_LARGE
    assert refused.value.field.partition("[")[0] == made_up.ListFields()[-1][0].name


def test_a_context_of_too_many_pairs_is_not_looked_at() -> None:
    class Many(dict[str, str]):
        def items(self) -> Any:
            raise AssertionError

    many = Many({str(number): "" for number in range(5_000)})
    assert reason(lambda: encryption_context.of(many)) is Reason.FIELD_TOO_LARGE


@pytest.mark.parametrize("place", PLACES, ids=repr)
def test_a_page_token_that_somebody_wrote_is_none_of_the_lists(place: str) -> None:
    made_up = paging.encode("events", place)
    assert reason(lambda: page_tokens.decode("events", made_up)) is Reason.PAGE_TOKEN_INVALID
    assert reason(lambda: place_of("events", made_up)) is Reason.RESUME_TOKEN_INVALID


def test_places_in_the_log_are_none_below_its_beginning() -> None:
    assert reason(lambda: place_of("events", paging.encode("events", "-5.0"))) is Reason.RESUME_TOKEN_INVALID
    assert place_of("events", paging.encode("events", "5.-7")).start_us == -7
    assert page_tokens.decode("events", page_tokens.encode("events", (12, 3))) == (12, 3)
    assert page_tokens.decode("events", "") is None


@pytest.mark.parametrize("header", HEADERS, ids=lambda part: repr(part[:20]))
def test_a_token_of_nobody_is_refused_whatever_its_header(header: bytes) -> None:
    tokens = OidcTokens(create_engine("sqlite://"), cast("IssuerKeys", None), StillClock())
    assert reason(lambda: tokens.provider_of("a", token(header, b'{"iss":[]}'))) is Reason.TOKEN_INVALID


@pytest.mark.parametrize("claims", CLAIMS, ids=lambda part: repr(part[:20]))
def test_an_issuer_that_could_be_none_is_not_looked_for(claims: bytes) -> None:
    nowhere: Any = SimpleNamespace()  # not even a database
    tokens = OidcTokens(nowhere, cast("IssuerKeys", None), StillClock())
    if b'"iss":[]' not in claims:
        assert reason(lambda: tokens.provider_of("a", token(b'{"alg":"RS256"}', claims))) is Reason.TOKEN_INVALID


def test_strangers_and_tenants_who_make_things_up_are_answered(mesh: Mesh) -> None:
    account = f"accounts/{ACCOUNT}"
    with Caller(mesh, "") as stranger:
        for made_up in (token(HEADERS[0], b"{}"), *(token(b'{"alg":"RS256"}', claims) for claims in CLAIMS[:2])):
            answer = stranger.call(
                "SessionService.CreateSession", {"oidc_token": {"account": account, "token": made_up}}
            )
            assert answer.code == "UNAUTHENTICATED"
        long = {"client_key": {"client_key": "x" * MEBIBYTE, "secret": "s"}}
        assert stranger.call("SessionService.CreateSession", long).code == "INVALID_ARGUMENT"
    asked = audit_service_pb2.LookupEventsRequest(parent=account)
    listed = page_tokens.listed(asked, "page_token", "page_size")
    with Caller(mesh, "user/admin") as tenant:
        for place in PLACES[:6]:
            made_up = paging.encode(listed, place)
            answer = tenant.call("AuditService.LookupEvents", {"parent": account, "page_token": made_up})
            assert answer.code == "INVALID_ARGUMENT"
        null = paging.encode(f"{account}/keys?", "a\x00b")
        assert tenant.call("KeyService.ListKeys", {"parent": account, "page_token": null}).code == "INVALID_ARGUMENT"


@pytest.fixture
def tiles() -> Iterator[tuple[str, int]]:
    """The address of a server of tiles that has four places."""
    server = HttpTiles("127.0.0.1:0", cast("Logs", SimpleNamespace()), connections=4)
    server.start()
    yield server.address
    server.stop()


def test_connections_for_tiles_are_so_many_and_the_oldest_gives_way(tiles: tuple[str, int]) -> None:
    with ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection(tiles, 5)) for _ in range(6)]
        for connection in slow:
            connection.settimeout(5)
        # The first two are hung up on, though they would have waited for long; the others go on.
        assert [connection.recv(1) for connection in slow[:2]] == [b"", b""]
        slow[-1].sendall(b"BREW /pot HTTP/1.1\r\nHost: x\r\n\r\n")
        assert slow[-1].recv(12) == b"HTTP/1.1 501"
        slow[-1].close()
