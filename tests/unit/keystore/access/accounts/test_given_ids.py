"""Which SPIFFE ids an account's principals may be known by, on a real database."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
from sqlalchemy import Engine

from services.keystore.access.accounts.accounts import Accounts, NewAccount
from services.keystore.access.accounts.principals import Principals
from services.keystore.access.editing.editing import AccessEditor
from services.keystore.access.records import given_ids, store
from services.keystore.access.records.resources import Account, Principal
from services.keystore.settings import Bootstrap
from services.keystore.work.bootstrap import make_account
from services.runtime.access.authorization import Authorizer
from services.runtime.audit_client import AuditClient
from services.runtime.call import Call
from services.runtime.call import Principal as Caller
from services.runtime.config import Database
from services.runtime.errors import Reason, StrongroomError
from services.runtime.storage.database import open_database, reading
from services.runtime.storage.outbox import Outbox
from tests.support import databases
from tests.support.clocks import StillClock
from tests.support.everybody import Everybody
from tests.support.sealing import sealed

DOMAIN = "spiffe://strongroom.local"
ROOT, BILLING, OTHER = f"{DOMAIN}/user/root", f"{DOMAIN}/workload/billing", f"{DOMAIN}/workload/other"


@dataclass
class World:
    """A mesh with its administrators' account, `main`, a shop, and mallory's."""

    engine: Engine
    accounts: Accounts
    strict: Principals
    open: Principals

    def call(self) -> Call:
        return Call("test", "Test", "access:Test", principal=Caller("accounts/main/users/root", "main"))

    def give(self, account: str, *prefixes: str) -> Account:
        return self.accounts.update(self.call(), f"accounts/{account}", None, None, prefixes, "")

    def bind(self, principals: Principals, account: str, spiffe_ids: Sequence[str], user: str = "u") -> Principal:
        new = Principal(f"accounts/{account}/users/{user}", "", {}, spiffe_ids=tuple(spiffe_ids))
        return principals.create(self.call(), new, None)

    def stands_for(self, spiffe_id: str) -> str:
        with reading(self.engine) as connection:
            found = store.principal_of_identity(connection, spiffe_id)
        return found.name if found is not None else ""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    engine = sealed(open_database(Database(url=f"sqlite:///{tmp_path / 'keystore.db'}")))
    databases.migrate(engine, "keystore")
    clock, outbox = StillClock(1_800_000_000_000_000), Outbox(engine, cast(AuditClient, None))
    make_account(engine, Bootstrap(account="main", administrator="root", administrator_spiffe_id=ROOT), outbox, clock)
    editor = AccessEditor(engine, cast(Authorizer, Everybody()), outbox, clock)
    made = World(
        engine, Accounts(editor, "main"), Principals(editor, "main"), Principals(editor, "main", bind_any=True)
    )
    for account in ("shop", "mallory"):
        new = Account(f"accounts/{account}", "", {})
        made.accounts.create(made.call(), NewAccount(new, "admin", (f"{DOMAIN}/user/{account}",)), None)
    yield made
    engine.dispose()


def refused(work: object) -> StrongroomError:
    with pytest.raises(StrongroomError) as caught:
        work()  # type: ignore[operator]
    return caught.value


def test_an_account_binds_what_it_was_given_and_nothing_else(world: World) -> None:
    world.give("shop", f"{DOMAIN}/user/shop", f"{DOMAIN}/workload/")
    error = refused(lambda: world.bind(world.strict, "mallory", [BILLING]))
    assert (error.reason, error.field) == (Reason.SPIFFE_ID_NOT_GIVEN, "principal.spiffe_ids")
    # What another account was given and what nobody was are one answer.
    unknown = f"{DOMAIN}/elsewhere/x"
    again = refused(lambda: world.bind(world.strict, "mallory", [unknown]))
    assert again.message.replace(unknown, BILLING) == error.message
    assert "shop" not in error.message
    world.bind(world.strict, "shop", [BILLING])
    assert world.stands_for(BILLING) == "accounts/shop/users/u"


def test_what_a_principal_has_it_keeps_and_may_bind_again(world: World) -> None:
    name, own = "accounts/mallory/users/admin", f"{DOMAIN}/user/mallory"
    for spiffe_ids in ((own,), (), (own,)):
        world.strict.update(world.call(), Principal(name, "", {}, spiffe_ids=spiffe_ids), ["spiffe_ids"], "")
    assert world.stands_for(own) == name
    wanted = Principal(name, "", {}, spiffe_ids=(own, BILLING))
    error = refused(lambda: world.strict.update(world.call(), wanted, ["spiffe_ids"], ""))
    assert error.reason is Reason.SPIFFE_ID_NOT_GIVEN


def test_the_longest_prefix_decides(world: World) -> None:
    world.give("shop", f"{DOMAIN}/workload/")
    world.give("mallory", f"{DOMAIN}/workload/other")
    with reading(world.engine) as connection:
        holders = [given_ids.holder(connection, one) for one in (BILLING, OTHER, f"{OTHER}/x", f"{DOMAIN}/workload")]
    assert holders == ["shop", "mallory", "shop", None]
    world.give("mallory")
    with reading(world.engine) as connection:
        assert given_ids.holder(connection, OTHER) == "shop"


def test_where_any_may_be_bound_one_that_was_given_elsewhere_stands_for_nobody(world: World) -> None:
    world.give("shop", BILLING)
    for user, spiffe_id in (("one", BILLING), ("two", OTHER)):
        assert world.bind(world.open, "mallory", [spiffe_id], user).spiffe_ids == (spiffe_id,)
    assert world.stands_for(BILLING) == ""
    assert world.stands_for(OTHER) == "accounts/mallory/users/two"
    world.bind(world.open, "shop", [BILLING])
    assert world.stands_for(BILLING) == "accounts/shop/users/u"


def test_what_is_given_is_taken_from_whoever_was_quicker(world: World) -> None:
    quicker = world.bind(world.open, "mallory", [BILLING, OTHER])
    world.bind(world.open, "shop", [BILLING])
    assert world.stands_for(BILLING) == quicker.name
    world.give("shop", f"{DOMAIN}/user/shop", BILLING)
    assert world.stands_for(BILLING) == "accounts/shop/users/u"
    assert world.stands_for(OTHER) == quicker.name
    # Sessions that began with it end.
    assert world.strict.get(world.call(), quicker.name).sessions_valid_after_us is not None


def test_what_another_account_was_given_is_refused_and_said(world: World) -> None:
    error = refused(lambda: world.give("shop", f"{DOMAIN}/user/mallory"))
    assert (error.reason, error.field) == (Reason.ALREADY_EXISTS, "account.spiffe_id_prefixes")


@pytest.mark.parametrize("prefix", [ROOT, f"{DOMAIN}/user/"])
def test_an_administrator_of_the_mesh_keeps_its_identity(world: World, prefix: str) -> None:
    if prefix == ROOT:
        assert refused(lambda: world.give("shop", prefix)).reason is Reason.ALREADY_EXISTS
    else:
        # Its own is longer.
        world.give("shop", prefix)
    assert world.stands_for(ROOT) == "accounts/main/users/root"
    world.bind(world.open, "main", [OTHER])
    assert refused(lambda: world.give("shop", f"{DOMAIN}/workload/")).reason is Reason.ALREADY_EXISTS
    assert world.stands_for(OTHER) == "accounts/main/users/u"


def test_administrators_of_the_mesh_bind_what_was_given_to_nobody(world: World) -> None:
    world.give("shop", BILLING)
    world.bind(world.strict, "main", [OTHER])
    assert world.stands_for(OTHER) == "accounts/main/users/u"
    assert refused(lambda: world.bind(world.strict, "main", [BILLING], "v")).reason is Reason.ALREADY_EXISTS
