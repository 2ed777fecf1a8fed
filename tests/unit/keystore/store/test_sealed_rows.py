"""Keystore's database in the hands of somebody else: what decides over keys and principals permits nothing unless
keystore wrote it, is missed when it was taken away, and is known to be old when it was put back."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Executable,
    Table,
    and_,
    create_engine,
    delete,
    insert,
    select,
    update,
)

from services.keystore.access.accounts import new_accounts
from services.keystore.access.editing import editing as access
from services.keystore.access.editing import kinds
from services.keystore.access.records import (
    client_key_store,
    ended_names,
    given_ids,
    grant_store,
    oidc_provider_store,
    principal_store,
)
from services.keystore.access.records import store as access_store
from services.keystore.access.records import tables as a
from services.keystore.access.records.grant_store import Grant
from services.keystore.access.records.resources import Account, ClientKey, OidcBinding, OidcProvider, Principal
from services.keystore.handlers.key_record_service import KeyRecordService
from services.keystore.root_key import store as root_store
from services.keystore.root_key.store import Rotation
from services.keystore.store import alias_store, changes, deleted_aliases, store
from services.keystore.store.model import Alias, Key, Version
from services.keystore.store.tables import aliases, key_versions, keys, metadata
from services.keystore.store.tables import deleted_aliases as deleted_aliases_table
from services.keystore.work import first_seals
from services.runtime import clock
from services.runtime.call import Call
from services.runtime.errors import Reason, StrongroomError
from services.runtime.requests.names import ResourceName
from services.runtime.sensitive import SensitiveBytes
from services.runtime.storage import row_seals
from services.runtime.storage.database import reading, transaction
from services.runtime.storage.row_seals import SEAL, UNSEALED, RowSeals
from strongroom.access.v1.access_record_service_pb2 import AccountAccess, TokenKey
from strongroom.access.v1.grant_pb2 import GrantConstraint
from strongroom.access.v1.policy_pb2 import POLICY_KIND_IDENTITY
from strongroom.keystore.v1 import key_pb2 as k
from strongroom.keystore.v1.key_record_service_pb2 import CHANGE_KIND_KEY, GetKeyRecordRequest, KeyRecord
from strongroom.keystore.v1.root_key_pb2 import ROOT_KEY_ROTATION_STATE_RUNNING
from tests.support.clocks import StillClock
from tests.support.sealing import DestroyedHere

NOW = 1_800_000_000_000_000
KEY, UID = ResourceName("acme", "keys", "k"), bytes(range(16))
ALIAS = ResourceName("acme", "aliases", "a")
ADMIN, BOB, CAROL = (f"accounts/acme/users/{name}" for name in ("ann", "bob", "carol"))
CLIENT_KEY, PROVIDER = "accounts/acme/clientKeys/ck", "accounts/acme/oidcProviders/idp"
ANN_SPIFFE, BOB_SPIFFE = "spiffe://strongroom.local/user/ann", "spiffe://strongroom.local/user/bob"
GRANTED = "crypto:Encrypt"
SEALED = [table for table in metadata.sorted_tables if SEAL in table.c and table.name not in ("requests", "outbox")]
REFUSED = {Reason.KEY_MATERIAL_REFUSED, Reason.ACCESS_RECORD_REFUSED}


@pytest.fixture
def filled(engine: Engine) -> Engine:
    """A database with something of everything."""
    with transaction(engine) as connection:
        acme = Account("accounts/acme", "", {}, spiffe_id_prefixes=(ANN_SPIFFE,))
        new_accounts.add(connection, acme, "ann", [ANN_SPIFFE], NOW)
        access.insert(connection, kinds.PRINCIPAL, Principal(BOB, "", {}, spiffe_ids=(ANN_SPIFFE, BOB_SPIFFE)), NOW)
        access.insert(connection, kinds.PRINCIPAL, Principal(CAROL, "", {}), NOW)
        principal_store.delete_principal(connection, CAROL, NOW)
        ended_names.fold(connection, "acme", 10)
        access.insert(connection, kinds.CLIENT_KEY, ClientKey(CLIENT_KEY, BOB, bytes(32), "", NOW * 2), NOW)
        provider = OidcProvider(PROVIDER, "https://idp", ("x",), "", "", "", "")
        access.insert(connection, kinds.OIDC_PROVIDER, provider, NOW)
        bind_subject(connection, "sub")
        add_key(connection)
        grant = ResourceName("acme", "grants", "g")
        grant_store.insert_grant(
            connection, Grant(grant, KEY, UID, BOB, (GRANTED,), GrantConstraint(), BOB, "", ADMIN, None, NOW)
        )
        alias = Alias(ALIAS, KEY, UID, "", 1, NOW, NOW)
        alias_store.insert_alias(connection, alias)
        deleted_aliases.remember(connection, replace(alias, name=ResourceName("acme", "aliases", "b")))
        until = clock.from_microseconds(NOW * 2)
        token_key = TokenKey(key_id="t", public_key=bytes(32), not_before=clock.from_microseconds(NOW), not_after=until)
        access_store.insert_token_key(connection, token_key, NOW)
        running = Rotation(2, ROOT_KEY_ROTATION_STATE_RUNNING, 2, NOW, NOW, pass_us=NOW)
        root_store.put_rotation(connection, running)
        changes.note(connection, CHANGE_KIND_KEY, str(KEY), "acme", UID)
    return engine


def bind_subject(connection: Connection, subject: str) -> None:
    bob = principal_store.principal(connection, BOB)
    assert bob is not None
    binding = OidcBinding(PROVIDER, subject, {})
    principal_store.update_principal(connection, replace(bob, oidc_bindings=(binding,)))


def add_key(connection: Connection) -> None:
    enabled = k.KEY_STATE_ENABLED
    level, origin = k.PROTECTION_LEVEL_SOFTWARE, k.KEY_ORIGIN_STRONGROOM
    spec, usage = k.KEY_SPEC_AES_256, k.KEY_USAGE_ENCRYPT_DECRYPT
    key = Key(KEY, UID, spec, usage, level, origin, enabled, "", {}, False, 1, 1, NOW, NOW, NOW)
    store.insert_key(connection, key)
    for number in (1, 2):
        made = Version(
            UID, number, k.KEY_VERSION_STATE_ENABLED, k.KEY_VERSION_ORIGIN_MANUAL, b"blob", b"public", 1, NOW
        )
        store.insert_version(connection, made)


def behind_its_back(engine: Engine, *statements: Executable) -> None:
    """Does what whoever writes to the database can do, past the service and every constraint between tables."""
    plain = create_engine(engine.url)
    with plain.begin() as connection:
        for statement in statements:
            connection.execute(statement)
    plain.dispose()


def accounts_view(connection: Connection) -> AccountAccess:
    found = access_store.account_access(connection, "acme", NOW)
    assert found is not None
    return found


def permits(connection: Connection) -> int:
    """How many principals and policies an account has that count for anything."""
    view = accounts_view(connection)
    return len(view.principals) + sum(
        len(policy.attached_to or ("",)) for policy in view.policies if not policy.refused
    )


# What reads a table's rows, and how much of it there is.
READERS: Mapping[str, Callable[[Connection], int]] = {
    "accounts": permits,
    "principals": permits,
    "policies": permits,
    "policy_attachments": permits,
    "identities": lambda connection: sum(
        access_store.principal_of_identity(connection, one) is not None for one in (ANN_SPIFFE, BOB_SPIFFE)
    ),
    "waiting_identities": lambda connection: sum(
        len(kinds.PRINCIPAL.require(connection, name).spiffe_ids) for name in (ADMIN, BOB)
    ),
    "ended_names": lambda connection: ended_names.is_taken(connection, CAROL),
    "given_spiffe_ids": lambda connection: given_ids.holder(connection, ANN_SPIFFE) == "acme",
    "oidc_bindings": lambda connection: principal_store.bound_to_subject(connection, PROVIDER, "sub") is not None,
    "client_keys": lambda connection: client_key_store.credential(connection, CLIENT_KEY) is not None,
    "oidc_providers": lambda connection: (
        oidc_provider_store.oidc_provider_of_issuer(connection, "acme", "https://idp") is not None
    ),
    "grants": lambda connection: len(grant_store.permitting(connection, UID, [BOB], GRANTED, {}, 10, NOW)),
    "token_keys": lambda connection: len(access_store.valid_token_keys(connection, NOW)),
    "keys": lambda connection: store.key(connection, KEY) is not None,
    "key_versions": lambda connection: len(store.versions(connection, UID)),
    "aliases": lambda connection: store.key(connection, ALIAS) is not None,
    "deleted_aliases": lambda connection: (
        deleted_aliases.key_before(connection, ResourceName("acme", "aliases", "b")) is not None
    ),
    "changes": lambda connection: len(changes.read(connection, 0, 10)),
    "root_rotation": lambda connection: root_store.rotation(connection) is not root_store.REFUSED,
}


def read(engine: Engine, table: Table) -> int:
    """How much of it there is; 0 when it is refused."""
    with reading(engine) as connection:
        try:
            return int(READERS[table.name](connection))
        except StrongroomError as error:
            assert error.reason in REFUSED
            return 0


def other(value: Any, column: Column[Any]) -> Any:
    """Another value of the same kind."""
    if value is None:
        empty: dict[Any, Any] = {bytes: b"x", str: "x"}
        return empty.get(column.type.python_type, 1)
    if isinstance(value, str):
        return value + "x" if value else "x"
    if isinstance(value, bytes):
        return bytes([value[0] ^ 1]) + value[1:] if value else b"\n"
    return value + 1


def is_row(table: Table, row: Mapping[str, Any]) -> Any:
    return and_(*(column == row[column.name] for column in table.primary_key.columns))


def rows_of(engine: Engine, table: Table) -> list[dict[str, Any]]:
    with engine.begin() as connection:
        return [dict(row._mapping) for row in connection.execute(select(table))]


@pytest.mark.parametrize("table", SEALED, ids=str)
def test_a_row_that_somebody_else_changed_counts_for_nothing(filled: Engine, table: Table) -> None:
    whole = read(filled, table)
    assert whole
    row = rows_of(filled, table)[0]
    identifying = {column.name for column in table.primary_key.columns}
    for column in table.c:
        if UNSEALED in column.info or column.name in identifying:
            continue
        changed = update(table).where(is_row(table, row))
        behind_its_back(filled, changed.values({column.name: other(row[column.name], column)}))
        assert read(filled, table) < whole, column
        behind_its_back(filled, changed.values({column.name: row[column.name]}))
    assert read(filled, table) == whole


@pytest.mark.parametrize("table", [one for one in SEALED if one is not a.accounts], ids=str)
def test_a_row_that_somebody_else_made_counts_for_nothing(filled: Engine, table: Table) -> None:
    whole = read(filled, table)
    row = rows_of(filled, table)[-1]
    # Under its own seal, and under a name of its own.
    name = next(column for column in reversed(list(table.primary_key.columns)) if column.name != "account")
    made = {**row, name.name: other(row[name.name], name)}
    unique: dict[Table, dict[str, Any]] = {keys: {"uid": bytes(16)}, a.oidc_providers: {"issuer": "https://other"}}
    made.update(unique.get(table, {}))
    behind_its_back(filled, insert(table).values(made))
    assert read(filled, table) <= whole


BOUND = (
    *(a.principals, a.policies, a.policy_attachments, a.identities, a.waiting_identities),
    *(a.given_spiffe_ids, a.oidc_bindings, a.client_keys, a.oidc_providers, a.ended_names),
)


@pytest.mark.parametrize("table", BOUND, ids=str)
def test_an_account_that_lacks_a_record_is_refused(filled: Engine, table: Table) -> None:
    row = rows_of(filled, table)[0]
    behind_its_back(filled, delete(table).where(is_row(table, row)))
    assert read(filled, a.accounts) == 0
    with pytest.raises(StrongroomError) as refused, transaction(filled) as connection:
        principal_store.delete_principal(connection, BOB, NOW)
    assert refused.value.reason is Reason.ACCESS_RECORD_REFUSED


def test_records_that_were_put_back_are_refused(filled: Engine) -> None:
    before = {table: rows_of(filled, table) for table in BOUND}
    with transaction(filled) as connection:
        bind_subject(connection, "another")
        bob = principal_store.principal(connection, BOB)
        assert bob is not None
        principal_store.update_principal(connection, replace(bob, disabled=True, spiffe_ids=(), oidc_bindings=()))
        client_key_store.delete_client_key(connection, CLIENT_KEY, NOW)
        provider = kinds.OIDC_PROVIDER.require(connection, PROVIDER)
        oidc_provider_store.update_oidc_provider(connection, replace(provider, disabled=True))
        auditor = kinds.POLICY.require(connection, "accounts/acme/policies/auditor")
        kinds.POLICY.update(connection, replace(auditor, attached_to=(), description="x"))
    whole = read(filled, a.accounts)
    assert whole
    changed = 0
    for table, rows in before.items():
        now = {tuple(row[c.name] for c in table.primary_key.columns): row for row in rows_of(filled, table)}
        for row in rows:
            present = now.get(tuple(row[c.name] for c in table.primary_key.columns))
            if present == row:
                continue
            changed += 1
            behind_its_back(filled, *put(table, row))
            assert read(filled, a.accounts) == 0, (table, row)
            behind_its_back(filled, delete(table).where(is_row(table, row)))
            if present is not None:
                behind_its_back(filled, *put(table, present))
    assert changed >= 6
    assert read(filled, a.accounts) == whole


def put(table: Table, row: Mapping[str, Any]) -> tuple[Executable, Executable]:
    return delete(table).where(is_row(table, row)), insert(table).values(dict(row))


def test_no_change_makes_a_policy_good_that_somebody_else_wrote(filled: Engine) -> None:
    name = "accounts/acme/policies/auditor"
    forged = "permit (principal, action, resource);"
    behind_its_back(filled, update(a.policies).where(a.policies.c.name == name).values(cedar=forged))
    with transaction(filled) as connection:
        policy = kinds.POLICY.require(connection, name)
        access.update(connection, kinds.POLICY, replace(policy, attached_to=(*policy.attached_to, BOB)), NOW)
    with reading(filled) as connection:
        found = {policy.name: policy for policy in accounts_view(connection).policies}
    assert [policy.refused for policy in found.values() if policy.name == name] == [True]
    assert not any(policy.refused for policy in found.values() if policy.name != name)
    assert found[name].kind == POLICY_KIND_IDENTITY


def test_a_grant_is_found_by_its_own_words(filled: Engine) -> None:
    """The table that says where to look is nobody's word for what is permitted."""
    for column, value in (("grantee", ADMIN), ("operation", "crypto:Decrypt")):
        behind_its_back(filled, update(a.grant_operations).values({column: value}))
    with reading(filled) as connection:
        assert not grant_store.permitting(connection, UID, [ADMIN], "crypto:Decrypt", {}, 10, NOW)


@pytest.mark.parametrize("version", [1, 2])
def test_a_version_of_before_is_refused_with_the_key_as_it_is(filled: Engine, version: int) -> None:
    before = {row["version"]: row for row in rows_of(filled, key_versions)}[version]
    destroy(filled, version)
    assert read(filled, key_versions) == 2
    behind_its_back(filled, *put(key_versions, before))
    assert read(filled, key_versions) == 0
    with pytest.raises(StrongroomError) as refused:
        destroy(filled, version)
    assert refused.value.reason is Reason.KEY_MATERIAL_REFUSED


def test_a_version_that_was_taken_away_is_missed(filled: Engine) -> None:
    behind_its_back(filled, delete(key_versions).where(key_versions.c.version == 1))
    assert read(filled, key_versions) == 0


def destroy(engine: Engine, number: int) -> None:
    with transaction(engine) as connection:
        key = store.key_by_uid(connection, UID, lock=True)
        version = store.version(connection, UID, number)
        assert key is not None
        assert version is not None
        store.update_version(connection, version.destroyed(k.KEY_VERSION_STATE_DESTROYED, NOW))
        revision = changes.note(connection, CHANGE_KIND_KEY, str(KEY), "acme", UID)
        store.update_key(connection, replace(key, revision=revision))


def test_a_destroyed_version_stays_so_though_everything_is_put_back(filled: Engine) -> None:
    before = {table: rows_of(filled, table) for table in (keys, key_versions)}
    destroyed = DestroyedHere()
    service = KeyRecordService(filled, destroyed, StillClock(NOW))

    def record() -> KeyRecord:
        return service.GetKeyRecord(GetKeyRecordRequest(uid=UID), Call("", "", "")).record

    assert [version.state for version in record().versions] == [k.KEY_VERSION_STATE_ENABLED] * 2
    destroyed.note([(UID, 2)])
    destroy(filled, 2)
    for table, rows in before.items():
        for row in rows:
            behind_its_back(filled, *put(table, row))
    first, second = record().versions
    assert (first.state, first.wrapped_material) == (k.KEY_VERSION_STATE_ENABLED, b"blob")
    assert (second.state, second.wrapped_material) == (k.KEY_VERSION_STATE_DESTROYED, b"")


def test_what_a_process_saw_is_not_taken_back_while_it_runs(filled: Engine) -> None:
    seconds = itertools.count(step=60.0)
    seals = RowSeals(Reason.ACCESS_RECORD_REFUSED, lambda: next(seconds))
    seals.open(SensitiveBytes(bytes(range(32))))
    engine = row_seals.sealed(filled, seals)
    before = {table: rows_of(filled, table) for table in (a.accounts, *BOUND, keys, key_versions)}
    assert read(engine, a.accounts)
    destroy(engine, 2)
    with transaction(engine) as connection:
        bob = principal_store.principal(connection, BOB)
        assert bob is not None
        access.update(connection, kinds.PRINCIPAL, replace(bob, disabled=True), NOW)
    assert read(engine, a.accounts)
    assert read(engine, keys)
    for table, rows in before.items():
        for row in rows:
            behind_its_back(filled, *put(table, row))
    assert read(engine, a.accounts) == read(engine, keys) == 0
    # Another process has not seen it.
    assert read(filled, a.accounts)


@pytest.fixture
def old(filled: Engine) -> Engine:
    """As a release without seals left it."""
    for table in SEALED:
        behind_its_back(filled, update(table).values({SEAL: None}))
    behind_its_back(filled, update(keys).values(versions_digest=None))
    behind_its_back(filled, update(a.accounts).values(contents=None, contents_revision=None))
    return filled


def test_rows_from_before_there_were_seals_are_sealed_once(old: Engine) -> None:
    destroyed = DestroyedHere()
    behind_its_back(
        old,
        update(key_versions).where(key_versions.c.version == 2).values(state=k.KEY_VERSION_STATE_DESTROYED),
    )
    assert not any(read(old, table) for table in SEALED if table is not a.waiting_identities)
    with transaction(old) as connection:
        first_seals.seal_all(destroyed, connection)
    assert all(read(old, table) for table in SEALED)
    assert destroyed.noted == {(UID, 2)}


def test_aliases_are_their_own_rows(filled: Engine) -> None:
    """A key that is good is not reached by an alias that is not."""
    behind_its_back(filled, update(aliases).values(key_uid=UID, description="x"))
    assert read(filled, aliases) == 0
    assert read(filled, keys) == 1
    assert read(filled, deleted_aliases_table) == 1
