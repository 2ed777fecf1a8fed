"""Short names of resources."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from strongroom.errors import StrongroomError
from strongroom.names import Names, last_part

NAMES = Names("main")


@pytest.mark.parametrize(
    ("given", "full"),
    [
        ("payments", "accounts/main/keys/payments"),
        ("alias/payments", "accounts/main/aliases/payments"),
        ("accounts/other/keys/payments", "accounts/other/keys/payments"),
        ("accounts/main/keys/payments/versions/2", "accounts/main/keys/payments/versions/2"),
    ],
)
def test_a_key_is_an_id_an_alias_or_a_full_name(given: str, full: str) -> None:
    assert NAMES.key(given) == full


def test_aliases_secrets_and_events_are_completed() -> None:
    assert NAMES.alias("payments") == NAMES.alias("alias/payments") == "accounts/main/aliases/payments"
    assert NAMES.secret("db.password") == "accounts/main/secrets/db.password"
    assert NAMES.secret("payments/db") == "accounts/main/secrets/payments/db"
    assert NAMES.secret_version("payments/db/versions/2") == "accounts/main/secrets/payments/db/versions/2"
    assert NAMES.event("0193-1") == "accounts/main/events/0193-1"


def test_a_name_that_is_neither_is_malformed() -> None:
    for name in ("keys/", "a/b", "/payments", "keys/a/b", "keys/payments/versions/1", "users/ann"):
        with pytest.raises(StrongroomError) as refusal:
            NAMES.key(name)
        assert (refusal.value.reason, refusal.value.field) == ("NAME_MALFORMED", "key")


# What commands print of a thing, beside its id: `audit events`, `grant list` and `sign` say its kind.
_PRINTED = {
    "keys": NAMES.key,
    "aliases": NAMES.key,
    "secrets": NAMES.secret,
    "roles": NAMES.role,
    "policies": NAMES.policy,
    "grants": NAMES.grant,
    "clientKeys": NAMES.client_key,
    "oidcProviders": NAMES.oidc_provider,
    "events": NAMES.event,
}


@pytest.mark.parametrize("kind", _PRINTED)
def test_every_form_that_is_printed_of_a_thing_is_taken_for_it(kind: str) -> None:
    full = f"accounts/main/{kind}/one"
    printed = {full, NAMES.relative(full), NAMES.shorten(full)}
    if kind != "aliases":
        printed.add(last_part(full))
    assert {_PRINTED[kind](name) for name in printed} == {full}
    assert NAMES.recorded(NAMES.relative(full), "resource") == full


@pytest.mark.parametrize(
    ("complete", "full"),
    [
        (NAMES.key_or_version, "accounts/main/keys/k/versions/2"),
        (NAMES.secret_version, "accounts/main/secrets/payments/db/versions/2"),
        (NAMES.secret, "accounts/main/secrets/payments/db"),
        (NAMES.secret, "accounts/main/secrets/secrets/db"),
        (NAMES.secret, "accounts/main/secrets/keys/db"),
        (NAMES.principal, "accounts/main/roles/reader"),
        (NAMES.target, "accounts/main/secrets/payments/db"),
        (NAMES.resource, "accounts/main/clientKeys/ck-1"),
        (NAMES.resource, "accounts/main/aliases/current"),
    ],
)
def test_versions_and_ids_in_parts_are_taken_as_they_are_printed(complete: Callable[[str], str], full: str) -> None:
    shortest = {NAMES.shorten(full)} if complete not in (NAMES.target, NAMES.resource) else set()
    for name in {full, NAMES.relative(full), *shortest}:
        assert complete(name) == full


def test_an_empty_name_is_required() -> None:
    for name in ("", "alias/"):
        with pytest.raises(StrongroomError) as refusal:
            NAMES.key(name)
        assert refusal.value.reason == "FIELD_REQUIRED"


def test_without_an_account_full_names_alone_do() -> None:
    assert Names("").key("accounts/a/keys/k") == "accounts/a/keys/k"
    with pytest.raises(StrongroomError) as refusal:
        Names("").key("k")
    assert (refusal.value.reason, refusal.value.field) == ("FIELD_REQUIRED", "account")


def test_short_names_stand_for_what_they_came_from() -> None:
    for name in ("accounts/main/keys/payments", "accounts/main/aliases/payments", "accounts/other/keys/k"):
        assert NAMES.key(NAMES.shorten(name)) == name
    assert NAMES.shorten("accounts/main/keys/k/versions/1") == "keys/k/versions/1"
    assert NAMES.shorten("accounts/main/secrets/payments/db") == "payments/db"
    assert NAMES.shorten("accounts/main/secrets/payments/db/versions/1") == "secrets/payments/db/versions/1"
    assert Names("").shorten("accounts/main/keys/k") == "accounts/main/keys/k"
    assert last_part("accounts/main/keys/k") == "k"


def test_principals_roles_and_targets_are_completed() -> None:
    assert NAMES.principal("users/ann") == "accounts/main/users/ann"
    assert NAMES.role("operator") == NAMES.role("roles/operator") == "accounts/main/roles/operator"
    assert NAMES.target("keys/payments") == "accounts/main/keys/payments"
    assert NAMES.target("accounts/main") == "accounts/main"
    for complete, name in ((NAMES.principal, "ann"), (NAMES.principal, "keys/k"), (NAMES.target, "policies/p")):
        with pytest.raises(StrongroomError) as refusal:
            complete(name)
        assert refusal.value.reason == "NAME_MALFORMED"


def test_an_account_is_an_id_a_full_name_or_the_own_one() -> None:
    assert NAMES.other_account("") == "accounts/main"
    assert NAMES.other_account("shop") == NAMES.other_account("accounts/shop") == "accounts/shop"
    with pytest.raises(StrongroomError):
        NAMES.other_account("accounts/shop/users/ann")


def test_a_full_name_comes_apart() -> None:
    assert NAMES.parts("accounts/shop/users/ann", "principal") == ("accounts/shop", "users", "ann")
    with pytest.raises(StrongroomError) as refusal:
        NAMES.parts("accounts/shop", "principal")
    assert (refusal.value.reason, refusal.value.field) == ("NAME_MALFORMED", "principal")


@pytest.mark.parametrize(
    ("given", "full"),
    [
        ("keys/payments", "accounts/main/keys/payments"),
        ("keys/payments/versions/2", "accounts/main/keys/payments/versions/2"),
        ("secrets/payments/db", "accounts/main/secrets/payments/db"),
        ("users/ann", "accounts/main/users/ann"),
        ("clientKeys/ck-1", "accounts/main/clientKeys/ck-1"),
        ("alias/current", "accounts/main/aliases/current"),
        ("log", "accounts/main/log"),
        ("quotas", "accounts/main/quotas"),
        ("principals", "accounts/main/principals"),
        ("accounts/other/keys/k", "accounts/other/keys/k"),
        ("accounts/main", "accounts/main"),
        ("services/secrets", "services/secrets"),
        ("logs/main", "logs/main"),
        ("spiffe://strongroom.test/user/a", "spiffe://strongroom.test/user/a"),
    ],
)
def test_what_events_are_looked_for_by_is_completed(given: str, full: str) -> None:
    assert NAMES.recorded(given, "resource") == full
    assert NAMES.recorded(NAMES.relative(full), "resource") == full


@pytest.mark.parametrize("name", ["payments", "key/payments", "KEYS/payments", "user/ann", "a"])
def test_what_nothing_can_be_called_is_not_looked_for(name: str) -> None:
    with pytest.raises(StrongroomError) as refused:
        NAMES.recorded(name, "resource")
    assert (refused.value.reason, refused.value.field) == ("NAME_MALFORMED", "resource")


def test_names_in_a_filter_are_completed() -> None:
    asked = 'kind = RESOURCE AND attached_to = "keys/k" AND id_prefix = keys'
    assert NAMES.completed(asked, "attached_to") == (
        'kind = RESOURCE AND attached_to = "accounts/main/keys/k" AND id_prefix = keys'
    )
    for whole in ('attached_to = "accounts/a/keys/k"', "kind = RESOURCE", "", 'attached_to = "other/x"'):
        assert NAMES.completed(whole, "attached_to") == whole
