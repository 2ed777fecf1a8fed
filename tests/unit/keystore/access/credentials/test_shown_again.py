"""The answer that shows a credential may be lost: the same request shows it again, until somebody has used it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast
from uuid import uuid4

import pytest
from sqlalchemy import Engine

from services.keystore.access.accounts import new_accounts
from services.keystore.access.accounts.accounts import Accounts, MadeAccount, NewAccount
from services.keystore.access.credentials.client_keys import ClientKeys, is_secret_of
from services.keystore.access.editing import plans
from services.keystore.access.editing.editing import AccessEditor
from services.keystore.access.records import client_key_store
from services.keystore.access.records.resources import Account, ClientKey
from services.runtime.access.authorization import Authorizer
from services.runtime.audit_client import AuditClient
from services.runtime.call import Call
from services.runtime.call import Principal as Caller
from services.runtime.errors import Reason, StrongroomError
from services.runtime.sensitive import SensitiveBytes
from services.runtime.storage.database import reading, transaction
from services.runtime.storage.outbox import Outbox
from services.runtime.storage.request_ids import Repeatable, repeatable
from strongroom.access.v1 import access_service_pb2 as pb
from tests.support.clocks import StillClock
from tests.support.everybody import Everybody

NOW_US = 1_800_000_000_000_000
ENDS_US = NOW_US + 10**12
ADMIN, OTHER = "accounts/mesh/users/admin", "accounts/mesh/users/other"


@dataclass(frozen=True, slots=True)
class World:
    """The account of a mesh's administrators."""

    engine: Engine
    accounts: Accounts
    client_keys: ClientKeys

    def call(self, by: str = ADMIN) -> Call:
        return Call("test", "Test", "access:Test", principal=Caller(by, "mesh"))

    def asked(self, request_id: str, by: str = ADMIN) -> Repeatable | None:
        return repeatable(pb.CreateClientKeyRequest(request_id=request_id), self.call(by))

    def key(self, request_id: str, by: str = ADMIN) -> tuple[ClientKey, SensitiveBytes]:
        return self.client_keys.create(self.call(by), "mesh", ADMIN, "", ENDS_US, self.asked(request_id, by))

    def account(self, request_id: str) -> MadeAccount:
        new = NewAccount(Account("accounts/shop", "", {}), "admin", ())
        return self.accounts.create(self.call(), new, self.asked(request_id))

    def use(self, key: ClientKey) -> None:
        with transaction(self.engine) as connection:
            client_key_store.note_use(connection, key.name, NOW_US)

    def opens(self, key: ClientKey, secret: SensitiveBytes | None) -> bool:
        with reading(self.engine) as connection:
            found = client_key_store.client_key(connection, key.name)
        return secret is not None and is_secret_of(secret.reveal().decode(), found)


@pytest.fixture
def world(engine: Engine) -> World:
    with transaction(engine) as connection:
        new_accounts.add(connection, Account("accounts/mesh", "", {}), "admin", [], 1)
    outbox = Outbox(engine, cast(AuditClient, None))
    editor = AccessEditor(engine, cast(Authorizer, Everybody()), outbox, StillClock(NOW_US))
    return World(engine, Accounts(editor, "mesh"), ClientKeys(editor))


def test_the_same_request_shows_the_same_secret_until_it_is_used(world: World) -> None:
    asked = str(uuid4())
    key, secret = world.key(asked)
    again, shown = world.key(asked)
    assert (again.name, shown.reveal()) == (key.name, secret.reveal())
    assert world.opens(key, shown)
    world.use(key)
    with pytest.raises(StrongroomError) as refused:
        world.key(asked)
    assert (refused.value.reason, refused.value.metadata["client_key"]) == (Reason.SECRET_SHOWN, key.name)
    assert secret.reveal().decode() not in str(refused.value)


def test_a_new_account_is_never_without_its_only_credential(world: World) -> None:
    asked = str(uuid4())
    made = world.account(asked)
    again = world.account(asked)
    assert made.client_key is not None
    assert again.client_key is not None
    assert (again.account.name, again.client_key.name) == ("accounts/shop", made.client_key.name)
    assert world.opens(made.client_key, again.secret)
    world.use(made.client_key)
    used = world.account(asked)
    assert (used.account.name, used.secret) == ("accounts/shop", None)
    assert used.client_key is not None
    assert used.client_key.used_us == NOW_US


def test_it_is_shown_to_who_asked_first_alone(world: World) -> None:
    asked = str(uuid4())
    key, secret = world.key(asked)
    other, others = world.key(asked, by=OTHER)
    assert other.name != key.name
    assert others.reveal() != secret.reveal()


def test_what_is_stored_of_a_request_does_not_make_its_secret(world: World) -> None:
    # Whoever reads the database finds the id as it is stored, and asks with that.
    asked = world.asked(str(uuid4()))
    assert asked is not None
    stored = world.asked(asked.request_id)
    assert stored is not None
    assert stored.witness != asked.witness
    assert asked.witness.hex() not in repr(asked)
    assert asked.request_id.replace("-", "") not in asked.witness.hex()


def test_a_lost_answer_is_found_in_an_account_that_is_full_since(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = str(uuid4())
    key, _ = world.key(asked)
    monkeypatch.setattr(plans, "MAX_CLIENT_KEYS_KEPT", 1)
    assert world.key(asked)[0].name == key.name
    with pytest.raises(StrongroomError) as refused:
        world.key(str(uuid4()))
    assert refused.value.reason is Reason.LIMIT_EXCEEDED
