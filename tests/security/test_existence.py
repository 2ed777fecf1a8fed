"""What is in another account looks like what does not exist, by every method and in every field that names anything."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import pytest
from google.protobuf import descriptor_pool, text_format
from google.rpc import error_details_pb2, status_pb2  # the first for what is in the second

from deploy.dev.mesh import Mesh
from deploy.dev.topology import HOST, free_port, spiffe_id
from strongroom import Client
from tests.support.accounts import Furnished, furnished
from tests.support.clients import client_of, reason_of, refusal, until
from tests.support.cutting_proxy import CuttingProxy
from tests.support.every_method import METHODS, REQUESTS, Answer, Caller, at, places, replaced, request_of
from tests.support.recorded_work import RecordedWork, Span

# In its own words it names the mesh's sealing, and no account: who may see it sees all of it.
_EXCHANGE, _GUESSED = "SessionService.CreateSession", "access:CreateSession"
_ELSEWHERE = "127.0.0.77"
_NAMELESS = {method for method in REQUESTS if not any(places(REQUESTS[method]))}


@dataclass(frozen=True, slots=True)
class Two:
    """An account that asks, and one that is asked about."""

    mine: Furnished
    theirs: Furnished
    caller: Caller
    auditor: Client


@pytest.fixture(scope="module")
def two(mesh: Mesh) -> Iterator[Two]:
    """Two accounts that are alike."""
    ends = secrets.token_hex(4)
    with client_of(mesh) as operator:
        mine, theirs = (furnished(mesh, operator, f"{who}-{ends}") for who in ("mine", "theirs"))
    with Caller(mesh, mine.identity) as caller, client_of(mesh, mine.identity, mine.names.account) as auditor:
        yield Two(mine, theirs, caller, auditor)


def test_there_is_a_request_for_every_method_of_every_public_contract() -> None:
    assert set(REQUESTS) == set(METHODS)
    assert error_details_pb2.DESCRIPTOR


@pytest.mark.parametrize("method", sorted(set(REQUESTS) - _NAMELESS))
def test_absent_and_forbidden_are_one_answer_and_one_event(two: Two, method: str) -> None:
    request = request_of(method, two.mine.names)
    for path in places(request):
        own = at(request, path)
        named = _names_of(two, at(request_of(method, two.theirs.names), path))
        told = [_told(two, method, replaced(request, path, name), name) for name in named]
        assert told[0] == told[1], f"{path} of {own}"
        assert told[0] == told[2], f"{path} of {own}"


def test_absent_and_forbidden_are_the_same_work(two: Two, mesh: Mesh) -> None:
    """Whatever is asked for, every service is called as often, and its database asked as much."""
    traces: dict[tuple[str, str], list[str]] = {}
    # Of a stranger's calls nothing is recorded.
    for method in sorted(set(REQUESTS) - _NAMELESS - {"SessionService.CreateSession"}):
        request = request_of(method, two.mine.names)
        for path in places(request):
            theirs = at(request_of(method, two.theirs.names), path)
            # What was asked for before is at hand.
            two.caller.call(method, replaced(request, path, theirs))
            for name in _names_of(two, theirs) * 2:
                trace_id = secrets.token_hex(16)
                two.caller.call(method, replaced(request, path, name), trace_id=trace_id)
                traces.setdefault((method, "/".join(map(str, path))), []).append(trace_id)
    asked = {trace for several in traces.values() for trace in several}
    work = RecordedWork(mesh, asked)
    until(lambda: work().keys() >= asked, 10.0)
    _require_alike(work, traces)


def test_what_nobody_has_asked_for_yet_is_the_same_work_too(two: Two, mesh: Mesh) -> None:
    """Nothing of it is at hand at those services that keep such things at hand."""
    places_of = [
        (method, path)
        for method in sorted(set(REQUESTS) - _NAMELESS)
        for path in places(request_of(method, two.theirs.names))
        if method.startswith(("CryptoService.", "SecretService.")) and _kind_at(two, method, path)
    ]
    kinds = Counter(_kind_at(two, method, path) for method, path in places_of)
    fresh = {kind: iter(_made(two, mesh, kind, 2 * count)) for kind, count in kinds.items()}
    for method, path in places_of:
        # The accounts are at hand, and what there is else.
        two.caller.call(method, replaced(request_of(method, two.mine.names), path, _of_theirs(two, method, path)))
    # Of what a worker has not heard of yet it keeps nothing.
    time.sleep(1.0)
    traces: dict[str, list[str]] = {}
    for method, path in places_of:
        request = request_of(method, two.mine.names)
        theirs = _of_theirs(two, method, path)
        for _ in range(2):
            there = "/".join([*theirs.split("/")[:3], next(fresh[theirs.split("/")[2]]), *theirs.split("/")[4:]])
            for name in _names_of(two, there):
                trace_id = secrets.token_hex(16)
                two.caller.call(method, replaced(request, path, name), trace_id=trace_id)
                traces.setdefault(f"{method} {path}", []).append(trace_id)
    work = RecordedWork(mesh, {trace for several in traces.values() for trace in several})
    until(lambda: _has_spans_of(work(), traces), 10.0)
    _require_alike(work, traces)


def _require_alike(work: RecordedWork, traces: Mapping[Any, Sequence[str]]) -> None:
    """Fails where the calls at a place, three of one kind each and each asked twice, came to different work."""

    def differing() -> dict[Any, list[list[Span]]]:
        spans = work()
        # A change of the caller's own account may make a service ask for that again: the smaller of two counts.
        told = {
            place: [
                min(spans[one], spans[again], key=_amount) for one, again in zip(several, several[3:], strict=False)
            ]
            for place, several in traces.items()
        }
        return {place: several for place, several in told.items() if several != [several[0]] * len(several)}

    # Each service writes its spans when it comes to it: what is missing of a call comes, what differs stays.
    deadline = time.monotonic() + 15.0
    while (found := differing()) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert not found, "\n".join(f"{place}: {several}" for place, several in found.items())


def _has_spans_of(work: Mapping[str, list[Span]], traces: Mapping[str, list[str]]) -> bool:
    """Whether each trace has the span of its own call, by places that begin with the method's name: it ends last."""
    return all(
        any(name.endswith(f"/{place.partition(' ')[0].partition('.')[2]}") for _, name, _ in work.get(trace, []))
        for place, several in traces.items()
        for trace in several
    )


def _kind_at(two: Two, method: str, path: tuple[Any, ...]) -> str:
    return "".join(_of_theirs(two, method, path).split("/")[2:3])


def _of_theirs(two: Two, method: str, path: tuple[Any, ...]) -> str:
    return at(request_of(method, two.theirs.names), path)


def _made(two: Two, mesh: Mesh, kind: str, count: int) -> list[str]:
    """Ids of resources that the other account has made."""
    key = f"accounts/{two.theirs.names.account}/keys/present"
    ids = [f"cold-{secrets.token_hex(4)}" for _ in range(count)]
    with client_of(mesh, two.theirs.identity, two.theirs.names.account) as owner:
        for made in ids:
            if kind == "keys":
                owner.keys.create(made)
            elif kind == "aliases":
                owner.keys.aliases.create(made, key)
            else:
                owner.secrets.create(made, b"v", key=key)
    return ids


def _amount(spans: list[Span]) -> tuple[int, int]:
    return len(spans), sum(statements for _, _, statements in spans)


def _names_of(two: Two, theirs: str) -> list[str]:
    """Another account's resource, one that it has not, and one of an account that there is not."""
    parts = theirs.split("/")
    absent = "/".join([*parts[:3], _absent(parts[2], parts[3]), *parts[4:]]) if len(parts) > 3 else theirs
    return [theirs, absent, theirs.replace(f"accounts/{two.theirs.names.account}", "accounts/nowhere")]


def _absent(collection: str, present: str) -> str:
    if collection == "events":
        return "01890000-0000-7000-8000-000000000000"
    return "a" * len(present) if "-" not in present else f"{present.partition('-')[0]}-{'a' * 16}"


def _told(two: Two, method: str, request: Any, name: str) -> tuple[object, ...]:
    """Everything that the caller learns, with `it` for what it named, with or without the version or the like."""
    answer = two.caller.call(method, request)
    whole = "/".join(name.split("/")[:4])
    return (*_shown(answer, whole), _event(two, answer, whole))


def _shown(answer: Answer, name: str) -> tuple[object, ...]:
    account = name.split("/")[1]
    response = ""
    if answer.response is not None and answer.response.DESCRIPTOR.name == "SimulateAccessResponse":
        answer.response.ClearField("as_of_revision")
        response = text_format.MessageToString(answer.response).replace(account, "account")
    status = status_pb2.Status.FromString(answer.details)
    details = [
        text_format.MessageToString(detail, descriptor_pool=descriptor_pool.Default()) for detail in status.details
    ]
    shown = "\n".join([status.message, *details]).replace(name, "it").replace(account, "account")
    return answer.code, answer.message.replace(name, "it").replace(account, "account"), shown, answer.metadata, response


def _event(two: Two, answer: Answer, name: str) -> str:
    """What the caller's own log has of the call."""
    if not answer.event_id or reason_of(lambda: two.auditor.audit.events.get(answer.event_id)):
        return ""
    event = two.auditor.audit.events.get(answer.event_id)
    # Not what says when, and which call of several it was.
    text = repr(replace(event, time=None, trace_id=""))
    for one, word in ((answer.event_id, "id"), (name, "it"), (name.split("/")[1], "account")):
        text = text.replace(one, word)
    return text


@pytest.fixture(scope="module")
def passer_by(mesh: Mesh) -> Iterator[Caller]:
    """Somebody without any credential, at an address of their own."""
    with ExitStack() as stack:
        addresses = {}
        for process, _ in METHODS.values():
            if process not in addresses:
                target = int(mesh.address(process, "public").rpartition(":")[2])
                proxy = stack.enter_context(CuttingProxy(free_port(), target, source=_ELSEWHERE))
                addresses[process] = f"{HOST}:{proxy.port}"
        yield stack.enter_context(Caller(mesh, "", addresses=addresses))


def test_a_stranger_learns_of_no_account_by_any_method(two: Two, passer_by: Caller) -> None:
    for method in sorted(set(REQUESTS) - _NAMELESS):
        theirs = request_of(method, two.theirs.names)
        asked = [theirs]
        for path in places(theirs):
            asked += [replaced(theirs, path, name) for name in _names_of(two, at(theirs, path))[1:]]
        told = {(answer.code, answer.message) for answer in (passer_by.call(method, request) for request in asked)}
        assert len(told) == 1, method


@pytest.mark.parametrize("credential", ["client_key", "oidc_token"])
def test_a_stranger_who_is_refused_often_learns_of_no_account(
    two: Two, mesh: Mesh, passer_by: Caller, credential: str
) -> None:
    """By nothing that comes with the answers, when not every refusal has an event of its own any more."""

    def guess(account: str) -> Answer:
        key = {"client_key": f"accounts/{account}/clientKeys/{two.theirs.names.client_key}", "secret": "guessed"}
        token = {"account": f"accounts/{account}", "token": "e30.e30.e30"}
        answer = passer_by.call(_EXCHANGE, {credential: key if credential == "client_key" else token})
        assert answer.code in ("UNAUTHENTICATED", "RESOURCE_EXHAUSTED"), answer.message
        return answer

    def shown(account: str) -> tuple[object, ...]:
        return _shown(guess(account), f"accounts/{account}")

    until(lambda: not any(guess(f"nowhere-{number}").event_id for number in range(8)), 60.0)
    there = two.theirs.names.account
    assert len({shown(account) for account in (there, "nowhere", two.mine.names.account, "nowhere-1")}) == 1
    # It is in the account's log all the same.
    with client_of(mesh, two.theirs.identity, there) as auditor:
        until(lambda: any(event.action == _GUESSED for event in auditor.audit.events.list()), 60.0)


def test_a_refusal_is_in_both_logs_and_names_here_only_what_was_written(two: Two, mesh: Mesh) -> None:
    alias = f"accounts/{two.theirs.names.account}/aliases/present"
    error = refusal(lambda: two.auditor.encrypt(alias, b"x"))
    assert error.reason == "PERMISSION_DENIED"
    assert "keys/present" not in error.message
    assert two.auditor.audit.events.get(error.event_id).resource == alias
    with client_of(mesh, two.theirs.identity, two.theirs.names.account) as owner:
        key = f"accounts/{two.theirs.names.account}/keys/present"
        found = list(owner.audit.events.list(action="crypto:Encrypt", resource=key, outcome="DENIED"))
    assert found[0].principal == f"accounts/{two.mine.names.account}/users/admin"


def test_an_identity_of_another_account_is_bound_as_one_that_is_free_and_stands_for_nobody(
    two: Two, mesh: Mesh
) -> None:
    taken, free = spiffe_id(two.theirs.identity), spiffe_id(f"user/free-{secrets.token_hex(4)}")
    for number, identity in enumerate((taken, free)):
        made = two.auditor.access.principals.create(f"users/claims-{number}", spiffe_ids=[identity])
        assert made.spiffe_ids == (identity,)
    with client_of(mesh, two.theirs.identity, two.theirs.names.account) as owner:
        assert owner.access.whoami().account == f"accounts/{two.theirs.names.account}"
    # Within the account it is told.
    assert (
        refusal(lambda: two.auditor.access.principals.create("users/again", spiffe_ids=[taken])).reason
        == "ALREADY_EXISTS"
    )
    assert two.auditor.access.principals.update("users/claims-0", description="x").spiffe_ids == (taken,)
