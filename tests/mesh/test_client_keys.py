"""Client keys over a real mesh."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from deploy.dev.mesh import Mesh
from strongroom import Client, ClientKeySession
from tests.support.clients import client_by, refusal


def test_a_secret_is_shown_once_and_is_not_in_any_answer_after(tenant: Client, name: str) -> None:
    made = tenant.access.client_keys.create("users/admin", description="laptop")

    assert made.client_key.principal == f"accounts/{name}/users/admin"
    assert made.secret.startswith("strongroom_ck_")
    assert len(made.secret) == 66
    assert made.secret not in repr(made)
    read = tenant.access.client_keys.get(made.client_key.name)
    assert (read.description, read.disabled, read.last_use_time) == ("laptop", False, None)
    assert read.create_time is not None
    assert read.expire_time is not None
    assert timedelta(days=89) < read.expire_time - read.create_time <= timedelta(days=90)
    assert [key.name for key in tenant.access.client_keys.list()] == [read.name]


def test_a_principal_has_at_most_two_that_count(tenant: Client) -> None:
    first = tenant.access.client_keys.create("users/admin").client_key.name
    second = tenant.access.client_keys.create("users/admin").client_key.name
    assert refusal(lambda: tenant.access.client_keys.create("users/admin")).reason == "LIMIT_EXCEEDED"
    tenant.access.principals.create("workloads/build")
    tenant.access.client_keys.create("workloads/build")

    assert tenant.access.client_keys.update(first, disabled=True).disabled
    third = tenant.access.client_keys.create("users/admin").client_key.name
    assert refusal(lambda: tenant.access.client_keys.update(first, disabled=False)).reason == "LIMIT_EXCEEDED"
    # One that is disabled can still be described.
    assert tenant.access.client_keys.update(first, description="old").disabled
    tenant.access.client_keys.delete(second)
    assert not tenant.access.client_keys.update(first, disabled=False).disabled
    assert {key.name for key in tenant.access.client_keys.list("users/admin")} == {first, third}


def test_a_repeated_request_shows_the_secret_until_it_is_used(
    mesh: Mesh, tenant: Client, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "strongroom.calls.access.client_keys.new_request_id", lambda: "00000000-0000-4000-8000-00000000c1ea"
    )
    made = tenant.access.client_keys.create("users/admin")
    again = tenant.access.client_keys.create("users/admin")
    assert (again.client_key.name, again.secret) == (made.client_key.name, made.secret)
    with client_by(mesh, ClientKeySession(made.client_key.name, made.secret), account=name) as user:
        assert user.access.whoami().principal == f"accounts/{name}/users/admin"
    error = refusal(lambda: tenant.access.client_keys.create("users/admin"))
    assert (error.reason, error.metadata["client_key"]) == ("SECRET_SHOWN", made.client_key.name)
    assert made.secret not in error.message
    assert len(list(tenant.access.client_keys.list())) == 1


def test_a_client_key_is_a_users_or_workloads_of_the_account(tenant: Client) -> None:
    error = refusal(lambda: tenant.access.client_keys.create("roles/auditor"))
    assert (error.reason, error.field) == ("FIELD_INVALID", "client_key.principal")
    assert refusal(lambda: tenant.access.client_keys.create("users/nobody")).reason == "PRINCIPAL_NOT_FOUND"


@pytest.mark.parametrize("lifetime", [timedelta(seconds=-1), timedelta(days=367)])
def test_a_client_key_ends_within_366_days(tenant: Client, lifetime: timedelta) -> None:
    expire_time = datetime.now(UTC) + lifetime
    error = refusal(lambda: tenant.access.client_keys.create("users/admin", expire_time=expire_time))
    assert (error.reason, error.field) == ("FIELD_INVALID", "client_key.expire_time")


def test_a_client_key_that_was_deleted_is_gone(tenant: Client) -> None:
    made = tenant.access.client_keys.create("users/admin").client_key
    assert refusal(lambda: tenant.access.client_keys.delete(made.name, etag="1")).reason == "ETAG_MISMATCH"
    tenant.access.client_keys.delete(made.name, etag=made.etag)
    assert refusal(lambda: tenant.access.client_keys.get(made.name)).reason == "CLIENT_KEY_NOT_FOUND"
    assert refusal(lambda: tenant.access.client_keys.delete(made.name)).reason == "CLIENT_KEY_NOT_FOUND"
    assert list(tenant.access.client_keys.list()) == []
