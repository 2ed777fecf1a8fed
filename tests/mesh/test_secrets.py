"""Secrets over a real mesh: made, read, replaced, and each kind of bad input with its reason."""

from __future__ import annotations

import uuid

import pytest

from deploy.dev.mesh import Mesh
from strongroom import Client
from strongroom.secrets.v1 import secret_service_pb2
from strongroom.secrets.v1.secret_service_pb2_grpc import SecretServiceStub
from tests.support.clients import reason_of, refusal, until


def test_a_secret_is_made_and_read(client: Client, name: str) -> None:
    made = client.secrets.create(name, b"hunter2", description="of the night shift", tags={"team": "blue"})
    read = client.secrets.get_value(name)

    assert made.name.endswith(f"/secrets/{name}")
    assert (made.description, made.tags) == ("of the night shift", {"team": "blue"})
    assert read.value == b"hunter2"
    assert read.name == f"{made.name}/versions/1"
    assert read.stages == ("Current",)


def test_a_secrets_id_may_have_parts(client: Client, name: str) -> None:
    secret = client.secrets.create(f"{name}/db", b"one").name
    assert secret.endswith(f"/secrets/{name}/db")
    client.secrets.create(f"{name}/db/replica", b"another")
    assert client.secrets.put_value(f"{name}/db", b"two").name == f"{secret}/versions/2"
    assert client.secrets.get_value(f"{name}/db", version=1).value == b"one"
    client.secrets.versions.disable(f"{name}/db/versions/1")
    assert refusal(lambda: client.secrets.get_value(f"{name}/db", version=1)).reason == "SECRET_VERSION_DISABLED"
    assert {one.name for one in client.secrets.list(filter=f'id_prefix = "{name}/"')} == {secret, f"{secret}/replica"}
    never = "forbid (principal, action, resource) when { false };"
    client.access.policies.create(name, never, kind="RESOURCE", attached_to=[f"secrets/{name}/db"])
    assert client.access.policies.get(name).attached_to == (secret,)
    assert next(client.audit.events.list(resource=secret, limit=1)).resource == secret
    assert refusal(lambda: client.secrets.create(f"{name}//db", b"x")).reason == "FIELD_INVALID"


def test_a_new_value_becomes_current_and_the_old_one_previous(client: Client, name: str) -> None:
    client.secrets.create(name, b"one")
    put = client.secrets.put_value(name, b"two")

    assert put.name.endswith("/versions/2")
    assert client.secrets.get_value(name).value == b"two"
    assert client.secrets.get_value(name, stage="Previous").value == b"one"
    assert client.secrets.get_value(name, version=1).value == b"one"


def test_a_secret_is_encrypted_under_the_key_that_was_asked_for(client: Client, name: str, key: str) -> None:
    client.secrets.create(name, b"value", key=key)
    version = client.secrets.put_value(name, b"value 2")
    assert version.key_version == f"{key}/versions/1"

    client.keys.disable(key)

    until(lambda: reason_of(lambda: client.secrets.get_value(name)) == "KEY_DISABLED")
    client.keys.enable(key)
    until(lambda: not reason_of(lambda: client.secrets.get_value(name)))
    assert client.secrets.get_value(name).value == b"value 2"


def test_a_request_that_is_repeated_is_done_once(client: Client, mesh: Mesh, name: str) -> None:
    parent = client.secrets.create(name, b"one").name
    request = secret_service_pb2.PutSecretValueRequest(name=parent, value=b"two", request_id=str(uuid.uuid4()))
    with mesh.channel("secrets") as channel:
        put = SecretServiceStub(channel).PutSecretValue
        first, second = put(request, timeout=5), put(request, timeout=5)

    assert first.name == second.name == f"{parent}/versions/2"


@pytest.mark.parametrize(
    ("value", "reason"), [(b"", "FIELD_REQUIRED"), (b"x" * 65_537, "FIELD_TOO_LARGE")], ids=["empty", "too-large"]
)
def test_a_value_of_the_wrong_size_is_refused(client: Client, name: str, value: bytes, reason: str) -> None:
    client.secrets.create(name, b"one")
    error = refusal(lambda: client.secrets.put_value(name, value))
    assert (error.reason, error.field) == (reason, "value")
    assert client.secrets.get_value(name).value == b"one"


def test_what_is_not_there_is_named(client: Client, name: str) -> None:
    assert refusal(lambda: client.secrets.get_value(name)).reason == "SECRET_NOT_FOUND"
    client.secrets.create(name, b"one")
    assert refusal(lambda: client.secrets.get_value(name, version=7)).reason == "SECRET_VERSION_NOT_FOUND"
    assert refusal(lambda: client.secrets.get_value(name, stage="Pending")).reason == "STAGE_NOT_FOUND"
    assert refusal(lambda: client.secrets.create(name, b"again")).reason == "ALREADY_EXISTS"
    assert refusal(lambda: client.secrets.create("Bad Name", b"x")).field == "secret_id"
