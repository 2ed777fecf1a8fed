"""Client keys over a real mesh."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from strongroom import Client
from tests.support.clients import refusal


def test_a_secret_is_shown_once_and_is_not_in_any_answer_after(tenant: Client, name: str) -> None:
    made = tenant.create_client_key("users/admin", description="laptop")

    assert made.client_key.principal == f"accounts/{name}/users/admin"
    assert made.secret.startswith("strongroom_ck_")
    assert len(made.secret) == 66
    assert made.secret not in repr(made)
    read = tenant.get_client_key(made.client_key.name)
    assert (read.description, read.disabled, read.last_use_time) == ("laptop", False, None)
    assert read.create_time is not None
    assert read.expire_time is not None
    assert timedelta(days=89) < read.expire_time - read.create_time <= timedelta(days=90)
    assert [key.name for key in tenant.list_client_keys()] == [read.name]


def test_a_principal_has_at_most_two_that_count(tenant: Client) -> None:
    first = tenant.create_client_key("users/admin").client_key.name
    second = tenant.create_client_key("users/admin").client_key.name
    assert refusal(lambda: tenant.create_client_key("users/admin")).reason == "LIMIT_EXCEEDED"
    tenant.create_principal("workloads/build")
    tenant.create_client_key("workloads/build")

    assert tenant.update_client_key(first, disabled=True).disabled
    third = tenant.create_client_key("users/admin").client_key.name
    assert refusal(lambda: tenant.update_client_key(first, disabled=False)).reason == "LIMIT_EXCEEDED"
    # One that is disabled can still be described.
    assert tenant.update_client_key(first, description="old").disabled
    tenant.delete_client_key(second)
    assert not tenant.update_client_key(first, disabled=False).disabled
    assert {key.name for key in tenant.list_client_keys("users/admin")} == {first, third}


def test_a_repeated_request_shows_no_secret(tenant: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strongroom.calls.client_keys.new_request_id", lambda: "00000000-0000-4000-8000-00000000c1ea")
    made = tenant.create_client_key("users/admin")
    error = refusal(lambda: tenant.create_client_key("users/admin"))
    assert (error.reason, error.metadata["client_key"]) == ("SECRET_SHOWN", made.client_key.name)
    assert made.secret not in error.message
    assert len(list(tenant.list_client_keys())) == 1


def test_a_client_key_is_a_users_or_workloads_of_the_account(tenant: Client) -> None:
    error = refusal(lambda: tenant.create_client_key("roles/auditor"))
    assert (error.reason, error.field) == ("FIELD_INVALID", "client_key.principal")
    assert refusal(lambda: tenant.create_client_key("users/nobody")).reason == "PRINCIPAL_NOT_FOUND"


@pytest.mark.parametrize("lifetime", [timedelta(seconds=-1), timedelta(days=367)])
def test_a_client_key_ends_within_366_days(tenant: Client, lifetime: timedelta) -> None:
    expire_time = datetime.now(UTC) + lifetime
    error = refusal(lambda: tenant.create_client_key("users/admin", expire_time=expire_time))
    assert (error.reason, error.field) == ("FIELD_INVALID", "client_key.expire_time")


def test_a_client_key_that_was_deleted_is_gone(tenant: Client) -> None:
    made = tenant.create_client_key("users/admin").client_key
    assert refusal(lambda: tenant.delete_client_key(made.name, etag="1")).reason == "ETAG_MISMATCH"
    tenant.delete_client_key(made.name, etag=made.etag)
    assert refusal(lambda: tenant.get_client_key(made.name)).reason == "CLIENT_KEY_NOT_FOUND"
    assert refusal(lambda: tenant.delete_client_key(made.name)).reason == "CLIENT_KEY_NOT_FOUND"
    assert list(tenant.list_client_keys()) == []
