"""Whoever has much of an account looked at keeps neither threads from others nor others from taking something away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from services.keystore.access.accounts.oidc_providers import OidcProviders
from services.keystore.access.accounts.principals import Principals
from services.keystore.access.credentials.client_keys import ClientKeys
from services.keystore.access.editing import plans, turns
from services.keystore.access.editing.editing import AccessEditor
from services.keystore.access.editing.turns import Turns
from services.keystore.access.policies.policies import Policies
from services.keystore.access.records import client_key_store
from services.keystore.access.records.reading import LocalAccessRecords
from services.keystore.access.records.resources import Policy, Principal
from services.keystore.store import changes
from services.runtime.access.authorization import Authorizer
from services.runtime.audit_client import AuditClient
from services.runtime.call import Call
from services.runtime.call import Principal as Caller
from services.runtime.changes import ChangeFeed
from services.runtime.errors import Reason, StrongroomError
from services.runtime.storage.outbox import Outbox
from strongroom.access.v1.policy_pb2 import POLICY_KIND_IDENTITY
from tests.support.clients import until
from tests.support.clocks import StillClock
from tests.unit.keystore.access.editing.test_order import (
    ACCOUNT,
    ADMIN,
    ANN,
    KEY_EXPIRES_US,
    OTHER,
    PERMIT,
    POLICY,
    ROLE,
    World,
    provider_of,
)

SECONDS = 20.0
# Of which each listener has as many for one account.
THREADS = 64


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "world")


class Slow:
    """Plans of one account, which take as long as they are held."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.begun: list[str] = []
        self.until: Callable[[], bool] = lambda: True


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slow]:
    made, read = Slow(), plans.Plan.require

    def require(plan: plans.Plan, call: Call, *arguments: Any) -> None:
        if plan._account == "acme":
            made.begun.append(call.method)
            made.go.wait(SECONDS)
            if call.method == "Give":
                until(made.until, SECONDS)
        read(plan, call, *arguments)

    monkeypatch.setattr(plans.Plan, "require", require)
    yield made
    made.go.set()


def call_of(who: str, method: str = "Test", *, seconds: float | None = None) -> Call:
    call = Call("test", method, "access:Test", principal=Caller(f"{ACCOUNT}/users/{who}", "acme"))
    call.seconds_left = lambda: seconds
    return call


def reason(work: Callable[[], Any]) -> str:
    try:
        work()
    except StrongroomError as error:
        return error.reason
    return ""


def creation(world: World, number: int, who: str) -> Callable[[], Any]:
    new = Principal(f"{ACCOUNT}/users/new{number}", "", {})
    return lambda: world.principals.create(call_of(who), new, None)


def test_one_account_s_changes_that_wait_take_few_threads(world: World, slow: Slow) -> None:
    with ThreadPoolExecutor(THREADS + 2) as threads:
        made = [threads.submit(reason, creation(world, number, f"u{number % 16}")) for number in range(THREADS)]
        until(lambda: sum(one.done() for one in made) == THREADS - 1 - turns.MOST_OF_ACCOUNT, SECONDS)
        assert {one.result() for one in made if one.done()} == {Reason.OVERLOADED}
        # Others are served, and what is taken away comes next.
        other = Principal("accounts/mesh/users/other", "", {})
        assert threads.submit(reason, lambda: world.principals.create(world.call(), other, None)).result(SECONDS) == ""
        waiting = world.editor._planning._turns
        disabling = threads.submit(reason, lambda: world.principals.disable(call_of("admin", "Disable"), ANN))
        until(lambda: waiting.count(removes=True) == 1, SECONDS)
        slow.go.set()
        assert disabling.result(SECONDS) == ""
        assert slow.begun[1] == "Disable"


def test_one_principal_s_changes_leave_room_for_others_of_the_account(world: World, slow: Slow) -> None:
    with ThreadPoolExecutor(THREADS) as threads:
        made = [threads.submit(reason, creation(world, number, "greedy")) for number in range(40)]
        until(lambda: sum(one.done() for one in made) == 39 - turns.MOST_OF_PRINCIPAL, SECONDS)
        other = threads.submit(reason, creation(world, 100, "other"))
        waiting = world.editor._planning._turns
        until(lambda: other.done() or waiting.count(removes=False) == turns.MOST_OF_PRINCIPAL + 1, SECONDS)
        slow.go.set()
        assert other.result(SECONDS) == ""


def test_no_change_waits_for_longer_than_its_caller(world: World, slow: Slow) -> None:
    with ThreadPoolExecutor(1) as threads:
        first: Future[str] = threads.submit(reason, creation(world, 1, "u"))
        until(lambda: bool(slow.begun), SECONDS)
        began = time.monotonic()
        late = Principal(f"{ACCOUNT}/users/late", "", {})
        assert reason(lambda: world.principals.create(call_of("v", seconds=0.05), late, None)) == Reason.OVERLOADED
        assert time.monotonic() - began < 5.0
        slow.go.set()
        assert first.result(SECONDS) == ""
    assert not world.editor._planning._turns._busy


def test_many_accounts_together_take_no_more_threads_than_may_wait() -> None:
    waiting, go = Turns(), threading.Event()

    def wait(account: str) -> None:
        with waiting.turn(call_of(account), account, removes=False):
            go.wait(SECONDS)

    accounts = [f"a{number}" for number in range(10)]
    with ThreadPoolExecutor(2 * THREADS) as threads:
        first = [threads.submit(reason, partial(wait, one)) for one in accounts]
        until(lambda: len(waiting._busy) == len(accounts), SECONDS)
        more = [threads.submit(reason, partial(wait, one)) for one in accounts for _ in range(8)]
        until(lambda: sum(one.done() for one in more) == 80 - turns.MOST, SECONDS)
        go.set()
        assert {one.result(SECONDS) for one in first} == {""}
        assert [one.result(SECONDS) for one in more].count("") == turns.MOST


def test_one_removal_of_somebody_else_s_comes_in_however_many_wait_and_soon(world: World, slow: Slow) -> None:
    slow.go.set()
    world.principals.create(world.call(), Principal(f"{ACCOUNT}/users/scratch", "", {}), None)
    slow.go.clear()
    slow.begun.clear()

    def toggle(who: str) -> Callable[[], Any]:
        return lambda: world.principals.set_roles(call_of(who), f"{ACCOUNT}/users/scratch", (), "")

    with ThreadPoolExecutor(THREADS) as threads:
        hostile = [threads.submit(reason, toggle(who)) for who in ("one", "two") for _ in range(16)]
        waiting = world.editor._planning._turns
        until(lambda: sum(one.done() for one in hostile) == 31 - turns.MOST_OF_ACCOUNT, SECONDS)
        disabling = threads.submit(reason, lambda: world.principals.disable(call_of("admin", "Disable"), ANN))
        until(lambda: sum(one.done() for one in hostile) == 32 - turns.MOST_OF_ACCOUNT, SECONDS)
        assert waiting.count(removes=True) == turns.MOST_OF_ACCOUNT
        slow.go.set()
        assert disabling.result(SECONDS) == ""
        # Of each of the others one came first, at most.
        assert slow.begun.index("Disable") <= 3


@pytest.mark.parametrize("removes", [True, False])
def test_no_principals_however_many_keep_others_out_by_coming_again(removes: bool) -> None:
    waiting = Turns()
    go: dict[str, threading.Event] = {}

    def wait(who: str) -> str:
        with waiting.turn(call_of(who), "acme", removes=removes):
            go[who].wait(SECONDS)
        return who

    crowd = [f"hostile{number}" for number in range(turns.MOST_OF_ACCOUNT + 1)]
    go = {who: threading.Event() for who in (*crowd, "admin")}
    with ThreadPoolExecutor(THREADS) as threads:

        def begin(who: str, count: int) -> Future[str]:
            begun = threads.submit(reason, lambda: wait(who))
            until(lambda: begun.done() or waiting.count(removes=removes) == count, SECONDS)
            return begun

        first = begin(crowd[0], 0)
        until(lambda: "acme" in waiting._busy, SECONDS)
        others = [begin(who, number) for number, who in enumerate(crowd[1:], 1)]
        # Nobody else had a turn yet.
        assert begin("admin", 0).result(SECONDS) == Reason.OVERLOADED
        go[crowd[0]].set()
        first.result(SECONDS)
        until(lambda: waiting.count(removes=removes) == turns.MOST_OF_ACCOUNT - 1, SECONDS)
        again = begin(crowd[0], turns.MOST_OF_ACCOUNT)
        admin = threads.submit(reason, lambda: wait("admin"))
        assert again.result(SECONDS) == Reason.OVERLOADED
        for event in go.values():
            event.set()
        assert [one.result(SECONDS) for one in (*others, admin)] == [""] * (turns.MOST_OF_ACCOUNT + 1)


def real(world: World) -> AccessEditor:
    """An editor that decides as keystore does, and has caught up just now, as every call does when it begins."""
    feed = ChangeFeed(lambda since, **_: changes.since(world.engine, since, 100))
    clock = StillClock(1_800_000_000_000_000)
    authorizer = Authorizer(LocalAccessRecords(world.engine, clock), feed)
    feed.poll()
    return AccessEditor(world.engine, authorizer, Outbox(world.engine, cast(AuditClient, None)), clock)


def client_key_in(editor: AccessEditor) -> str:
    with editor.reading() as connection:
        return client_key_store.client_keys_page(connection, "acme", "", 1, ())[0].name


Work = Callable[[AccessEditor, Call], Any]
WAITING: dict[str, Work] = {
    "CreatePrincipal": lambda editor, call: Principals(editor).create(
        call, Principal(f"{ACCOUNT}/users/two", "", {}), None
    ),
    "SetPrincipalRoles": lambda editor, call: Principals(editor).set_roles(call, ADMIN, (ROLE,), ""),
    "DeletePrincipal": lambda editor, call: Principals(editor).delete(call, ROLE, ""),
    "CreateClientKey": lambda editor, call: ClientKeys(editor).create(call, "acme", ANN, "", KEY_EXPIRES_US, None),
    "AttachPolicy": lambda editor, call: Policies(editor, "mesh").attach(call, OTHER, ANN),
    "EnablePrincipal": lambda editor, call: Principals(editor).enable(call, ADMIN),
    "UpdateClientKey": lambda editor, call: ClientKeys(editor).update(call, client_key_in(editor), "mine", False, ""),
    "UpdateOidcProvider": lambda editor, call: OidcProviders(editor).update(
        call, replace(provider_of("one"), audiences=("mine",)), {"audiences"}, ""
    ),
    "UpdatePolicy": lambda editor, call: Policies(editor, "mesh").update(call, OTHER, PERMIT, None, ""),
    "CreatePolicy": lambda editor, call: Policies(editor, "mesh").create(
        call, Policy(f"{ACCOUNT}/policies/new", POLICY_KIND_IDENTITY, PERMIT, (ANN,), ""), None
    ),
}
TAKEN: dict[str, tuple[Work, Reason]] = {
    "disabled": (lambda editor, call: Principals(editor).disable(call, ANN), Reason.PRINCIPAL_DISABLED),
    "not permitted": (
        lambda editor, call: Policies(editor, "mesh").detach(call, POLICY, ANN),
        Reason.PERMISSION_DENIED,
    ),
}


# What takes something away would come first.
@pytest.mark.parametrize("waiting", [one for one in WAITING if one != "DeletePrincipal"])
@pytest.mark.parametrize("taken", TAKEN)
def test_what_is_taken_from_a_caller_while_it_waits_it_does_no_more(
    world: World, slow: Slow, waiting: str, taken: str
) -> None:
    slow.go.set()
    world.policies.detach(world.call(), OTHER, ANN)
    slow.go.clear()
    slow.begun.clear()
    editor = real(world)
    turns_, (take, refused) = editor._planning._turns, TAKEN[taken]
    mine = call_of("ann", waiting)
    with ThreadPoolExecutor(3) as threads:
        one = Principal(f"{ACCOUNT}/users/one", "", {})
        first = threads.submit(reason, lambda: Principals(editor).create(call_of("admin"), one, None))
        until(lambda: bool(slow.begun), SECONDS)
        second = threads.submit(reason, lambda: WAITING[waiting](editor, mine))
        until(lambda: turns_.count(removes=False) + turns_.count(removes=True) == 1, SECONDS)
        removal = threads.submit(reason, lambda: take(editor, call_of("admin", "Take")))
        until(lambda: turns_.count(removes=False) + turns_.count(removes=True) == 2, SECONDS)
        slow.go.set()
        assert (first.result(SECONDS), removal.result(SECONDS)) == ("", "")
        assert second.result(SECONDS) == refused


@pytest.mark.parametrize("waiting", WAITING)
def test_who_waits_does_it_all_the_same_and_is_told_of_once(world: World, slow: Slow, waiting: str) -> None:
    editor = real(world)
    mine = call_of("ann", waiting)
    with ThreadPoolExecutor(2) as threads:
        one = Principal(f"{ACCOUNT}/users/one", "", {})
        first = threads.submit(reason, lambda: Principals(editor).create(call_of("admin"), one, None))
        until(lambda: bool(slow.begun), SECONDS)
        second = threads.submit(reason, lambda: WAITING[waiting](editor, mine))
        turns_ = editor._planning._turns
        until(lambda: turns_.count(removes=False) + turns_.count(removes=True) == 1, SECONDS)
        slow.go.set()
        assert (first.result(SECONDS), second.result(SECONDS)) == ("", "")
    told = [(event.action, event.resource) for event in mine.events]
    assert len(told) == len(set(told))
    assert told


def test_a_removal_is_not_overtaken_between_what_it_asks_for(world: World, slow: Slow) -> None:
    slow.go.set()
    scratch = [f"{ACCOUNT}/users/scratch{number}" for number in range(turns.MOST_OF_ACCOUNT)]
    for name in scratch:
        world.principals.create(world.call(), Principal(name, "", {}), None)
    slow.go.clear()
    slow.begun.clear()
    waiting = world.editor._planning._turns

    def give(number: int) -> Callable[[], Any]:
        who = f"hostile{number % 2}"
        return lambda: world.principals.set_roles(call_of(who, "Give"), scratch[number], (ROLE,), "")

    with ThreadPoolExecutor(THREADS) as threads:
        given = [threads.submit(reason, give(0))]
        until(lambda: bool(slow.begun), SECONDS)
        given += [threads.submit(reason, give(number)) for number in range(1, turns.MOST_OF_ACCOUNT)]
        until(lambda: waiting.count(removes=False) == turns.MOST_OF_ACCOUNT - 1, SECONDS)
        deleting = threads.submit(reason, lambda: world.principals.delete(call_of("admin", "Delete"), ROLE, ""))
        until(lambda: waiting.count(removes=True) == 1, SECONDS)
        # Whoever comes in between takes as long as the removal takes to come back.
        slow.until = lambda: deleting.done() or waiting.count(removes=True) == 1
        slow.go.set()
        assert deleting.result(SECONDS) == ""
        assert [one.result(SECONDS) for one in given].count("") == 1


def test_removals_do_not_keep_what_gives_something_from_being_made(world: World, slow: Slow) -> None:
    slow.go.set()
    world.principals.create(world.call(), Principal(f"{ACCOUNT}/users/scratch", "", {}), None)
    slow.go.clear()
    slow.begun.clear()
    waiting = world.editor._planning._turns

    def take(who: str) -> Callable[[], Any]:
        return lambda: world.principals.set_roles(call_of(who, "Take"), f"{ACCOUNT}/users/scratch", (), "")

    with ThreadPoolExecutor(THREADS) as threads:
        hostile = [threads.submit(reason, take("one"))]
        until(lambda: bool(slow.begun), SECONDS)
        hostile += [threads.submit(reason, take(who)) for who in ("one", "two") for _ in range(6)]
        until(lambda: waiting.count(removes=True) == turns.MOST_OF_ACCOUNT, SECONDS)
        made = [threads.submit(reason, creation(world, number, "admin")) for number in range(2)]
        until(lambda: waiting.count(removes=False) == 2, SECONDS)
        slow.go.set()
        assert [one.result(SECONDS) for one in (*made, *hostile)] == [""] * 15
    # One of each in turn, while both wait.
    assert slow.begun[:5] == ["Take", "Test", "Take", "Test", "Take"]
