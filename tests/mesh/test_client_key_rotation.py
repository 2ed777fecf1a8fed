"""Client keys that a secret rotates, over a real mesh: who uses them notices nothing, who may not is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import grpc
import pytest

from deploy.dev.mesh import Mesh
from strongroom import Client, ClientKeySession
from strongroom.access.v1 import client_key_rotation_service_pb2 as pb
from strongroom.access.v1.client_key_rotation_service_pb2_grpc import ClientKeyRotationServiceStub
from strongroom.access.v1.principal_pb2 import ClientKey
from strongroom.access.v1.session_service_pb2 import ClientKeyCredential, CreateSessionRequest
from strongroom.access.v1.session_service_pb2_grpc import SessionServiceStub
from strongroom.calls.access.client_keys import CreatedClientKey
from strongroom.calls.secrets.records import RotationPolicy, Secret
from strongroom.cli.targets import once_checked
from strongroom.errors import StrongroomError, from_rpc_error
from strongroom.secrets.v1.target_pb2 import ClientKeyTarget, RotationTarget
from tests.support import access
from tests.support.access import settle
from tests.support.clients import client_by, reason_of, refusal, until

SECONDS = 10.0


@dataclass
class Rotated:
    """A workload of an account, and the secret with its client key."""

    administrator: Client
    principal: str
    made: CreatedClientKey

    @classmethod
    def of(cls, administrator: Client) -> Rotated:
        principal = access.workload(administrator)
        return cls(administrator, principal, administrator.access.client_keys.create(principal))

    @property
    def value(self) -> bytes:
        return json.dumps({"client_key": self.made.client_key.name, "secret": self.made.secret}).encode()

    def create(
        self,
        secret_id: str,
        *,
        by: Client | None = None,
        principal: str = "",
        value: bytes = b"",
        grace: timedelta = timedelta(),
        check_target: bool = True,
        policy: RotationPolicy | None = None,
    ) -> Secret:
        target = ClientKeyTarget(principal=principal or self.principal)
        return (by or self.administrator).secrets.create(
            secret_id,
            value or self.value,
            type="CLIENT_KEY",
            target=RotationTarget(client_key=target),
            grace_period=grace,
            check_target=check_target,
            rotation_policy=policy,
        )

    def credential(self, secret_id: str, stage: str = "Current") -> ClientKeySession:
        read = json.loads(self.administrator.secrets.get_value(secret_id, stage=stage).value)
        return ClientKeySession(read["client_key"], read["secret"])

    def rotation(self, secret_id: str) -> str:
        """The state of the newest rotation, and why its last attempt failed."""
        newest = next(self.administrator.secrets.rotations.list(secret_id))
        reasons = [attempt.error_reason for attempt in newest.attempts[-1:] if attempt.error_reason]
        return " ".join([newest.state, *reasons])


@pytest.fixture
def rotated(tenant: Client) -> Rotated:
    tenant.keys.aliases.create("strongroom-secrets", tenant.keys.create("secrets").name)
    return Rotated.of(tenant)


def logs_in(mesh: Mesh, account: str, credential: ClientKeySession) -> bool:
    with client_by(mesh, credential, account=account) as client:
        reason = reason_of(client.access.whoami)
    assert reason in ("", "CREDENTIAL_INVALID")
    return not reason


def test_a_client_that_logs_in_by_the_secret_works_before_during_and_after_a_rotation(
    mesh: Mesh, tenant: Client, rotated: Rotated, name: str
) -> None:
    rotated.create(name, grace=timedelta(hours=1))
    first = rotated.credential(name)
    with client_by(mesh, first, account=name) as client:
        client.access.whoami()
        tenant.secrets.rotate(name)
        # The old key works through the grace period, and so do the sessions that it began.
        until(lambda: rotated.rotation(name) == "WAITING", SECONDS)
        client.keys.create("before")
        second = rotated.credential(name)
        assert second.name != first.name
        assert rotated.credential(name, "Previous").name == first.name
        with client_by(mesh, second, account=name) as other:
            assert other.access.whoami().principal == rotated.principal
            assert {key.name for key in tenant.access.client_keys.list(rotated.principal)} == {first.name, second.name}

            tenant.secrets.rotations.resume(name)
            until(lambda: rotated.rotation(name) == "SUCCEEDED", SECONDS)
            other.keys.create("after")
        # Its session ends with it, and it begins no other.
        until(lambda: reason_of(client.access.whoami) == "CREDENTIAL_INVALID")

    assert not logs_in(mesh, name, first)
    (left,) = tenant.access.client_keys.list(rotated.principal)
    assert (left.name, left.rotated_by) == (second.name, f"accounts/{name}/secrets/{name}")


def test_what_the_service_does_by_itself_is_in_the_accounts_log(tenant: Client, rotated: Rotated, name: str) -> None:
    rotated.create(name)
    tenant.secrets.rotate(name)
    until(lambda: rotated.rotation(name) == "SUCCEEDED", SECONDS)
    new = rotated.credential(name).name

    def event(action: str, resource: str) -> tuple[str, str, str, str]:
        found = next(tenant.audit.events.list(action=action, resource=resource, principal="services/secrets"))
        assert found.attributes["secret"] == f"accounts/{name}/secrets/{name}"
        return found.principal, found.via_service, found.outcome, found.decided_by

    policy = f"accounts/{name}/policies/rotation"
    by_itself = ("services/secrets", "", "ALLOWED", policy)
    until(lambda: any(tenant.audit.events.list(action="access:DeleteClientKey", principal="services/secrets")))
    assert event("access:CreateClientKey", new) == by_itself
    assert event("access:DeleteClientKey", rotated.made.client_key.name) == by_itself
    (login, *_) = tenant.audit.events.list(action="access:CreateSession", resource=new)
    assert (login.principal, login.via_service) == (rotated.principal, "services/secrets")


@pytest.mark.parametrize(
    ("permits", "refused"),
    [
        ('action in Strongroom::Action::"secrets"', "access:CreateClientKey"),
        (
            'action in [Strongroom::Action::"secrets", Strongroom::Action::"access:CreateClientKey"]',
            "access:DeleteClientKey",
        ),
    ],
)
def test_only_who_may_make_and_delete_client_keys_of_the_principal_has_them_rotated(
    mesh: Mesh, tenant: Client, rotated: Rotated, name: str, permits: str, refused: str
) -> None:
    crypto = 'permit (principal, action in Strongroom::Action::"crypto", resource);'
    author = access.workload(tenant, permits=f"permit (principal, {permits}, resource);\n{crypto}")
    settle()
    with client_by(mesh, access.client_key(tenant, author), account=name) as client:
        error = refusal(lambda: rotated.create(name, by=client))
        assert (error.reason, error.metadata["action"]) == ("PERMISSION_DENIED", refused)
    (event,) = tenant.audit.events.list(action=refused, principal=author)
    assert (event.outcome, event.decided_by) == ("DENIED", "default-deny")


def test_another_principal_is_named_only_with_permission_on_it(
    mesh: Mesh, tenant: Client, rotated: Rotated, name: str
) -> None:
    rotated.create(name)
    other = Rotated.of(tenant)
    author = access.workload(tenant, permits='permit (principal, action in Strongroom::Action::"secrets", resource);')
    settle()
    target = RotationTarget(client_key=ClientKeyTarget(principal=other.principal))
    with client_by(mesh, access.client_key(tenant, author), account=name) as client:
        client.secrets.update(name, description="its own")
        error = refusal(lambda: client.secrets.update(name, target=target, check_target=False))
    assert (error.reason, error.metadata["action"]) == ("PERMISSION_DENIED", "access:CreateClientKey")
    # And the key in the secret is not the other principal's.
    update = partial(tenant.secrets.update, name, target=target)
    assert refusal(lambda: once_checked(update)).reason == "TARGET_LOGIN_REFUSED"


def test_no_secret_rotates_client_keys_of_another_account(
    client: Client, mesh: Mesh, tenant: Client, rotated: Rotated, name: str
) -> None:
    error = refusal(lambda: rotated.create(name, by=client, principal=rotated.principal))
    assert (error.reason, error.field) == ("FIELD_INVALID", "secret.target.client_key.principal")

    # A principal of the account's own, with a client key of the other account as the value.
    own = Rotated.of(client)
    error = refusal(lambda: own.create(name, value=rotated.value))
    assert (error.reason, error.metadata["action"]) == ("PERMISSION_DENIED", "access:DeleteClientKey")
    own.create(name)
    client.secrets.put_value(name, rotated.value)
    client.secrets.rotate(name)
    until(lambda: own.rotation(name) in ("WAITING TARGET_LOGIN_REFUSED", "FAILED TARGET_LOGIN_REFUSED"), SECONDS)

    assert [key.name for key in tenant.access.client_keys.list(rotated.principal)] == [rotated.made.client_key.name]
    assert logs_in(mesh, name, ClientKeySession(rotated.made.client_key.name, rotated.made.secret))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        ("secret", "TARGET_LOGIN_REFUSED"),
        ("disabled key", "TARGET_LOGIN_REFUSED"),
        ("disabled principal", "TARGET_LOGIN_REFUSED"),
        ("deleted principal", "TARGET_CHANGE_REFUSED"),
        ("no room", "TARGET_CHANGE_REFUSED"),
        ("policy", "TARGET_CHANGE_REFUSED"),
    ],
)
def test_what_cannot_be_rotated_is_told_when_the_secret_is_made(
    tenant: Client, rotated: Rotated, name: str, spoil: str, reason: str
) -> None:
    value = b""
    if spoil == "secret":
        value = rotated.value.replace(rotated.made.secret.encode(), b"strongroom_ck_guessed")
    elif spoil == "disabled key":
        tenant.access.client_keys.update(rotated.made.client_key.name, disabled=True)
    elif spoil == "disabled principal":
        tenant.access.principals.disable(rotated.principal)
    elif spoil == "deleted principal":
        tenant.access.principals.delete(rotated.principal)
    elif spoil == "no room":
        tenant.access.client_keys.create(rotated.principal)
    else:
        tenant.access.policies.delete("rotation")
    settle()

    error = refusal(lambda: rotated.create(name, value=value))
    assert error.reason == reason
    assert "strongroom_ck_" not in error.message
    assert reason_of(lambda: tenant.secrets.get(name)) == "SECRET_NOT_FOUND"


def test_a_principal_that_is_deleted_ends_the_rotation_at_a_person(tenant: Client, rotated: Rotated, name: str) -> None:
    rotated.create(name)
    tenant.access.principals.delete(rotated.principal)
    tenant.secrets.rotate(name)
    until(lambda: rotated.rotation(name) in ("WAITING TARGET_CHANGE_REFUSED", "FAILED TARGET_CHANGE_REFUSED"), SECONDS)
    (attempt,) = [one for one in next(tenant.secrets.rotations.list(name)).attempts if one.error_reason][:1]
    assert "PRINCIPAL_NOT_FOUND" in attempt.error_detail
    assert refusal(lambda: tenant.secrets.rotations.repair(name)).reason == "REPAIR_IMPOSSIBLE"


def test_a_client_key_must_outlive_the_rotation_that_replaces_it(tenant: Client, rotated: Rotated, name: str) -> None:
    field = "secret.target.client_key.client_key_lifetime"
    yearly = RotationPolicy(timedelta(days=90))
    error = refusal(lambda: rotated.create(name, policy=yearly))
    assert (error.reason, error.field) == ("FIELD_INVALID", field)
    rotated.create(name, policy=RotationPolicy(timedelta(days=89)), grace=timedelta(hours=1))
    error = refusal(lambda: tenant.secrets.update_rotation_policy(name, yearly))
    assert (error.reason, error.field) == ("FIELD_INVALID", field)
    error = refusal(lambda: tenant.secrets.update(name, grace_period=timedelta(days=1)))
    assert (error.reason, error.field) == ("FIELD_INVALID", field)


def test_a_key_that_a_person_put_makes_room_for_the_next(
    mesh: Mesh, tenant: Client, rotated: Rotated, name: str
) -> None:
    rotated.create(name)
    by_hand = tenant.access.client_keys.create(rotated.principal)
    value = {"client_key": by_hand.client_key.name, "secret": by_hand.secret}
    tenant.secrets.put_value(name, json.dumps(value).encode())

    tenant.secrets.rotate(name)
    until(lambda: rotated.rotation(name) == "SUCCEEDED", SECONDS)

    current = rotated.credential(name)
    assert [key.name for key in tenant.access.client_keys.list(rotated.principal)] == [current.name]
    assert logs_in(mesh, name, current)


def test_a_rotation_that_is_cancelled_leaves_no_client_key_behind(
    mesh: Mesh, tenant: Client, rotated: Rotated, name: str
) -> None:
    rotated.create(name)
    tenant.access.principals.disable(rotated.principal)
    tenant.secrets.rotate(name)
    until(lambda: rotated.rotation(name).startswith("WAITING"), SECONDS)
    assert len(list(tenant.access.client_keys.list(rotated.principal))) == 2
    tenant.access.principals.enable(rotated.principal)
    settle()
    assert tenant.secrets.rotations.cancel(name).state == "CANCELLED"

    assert [key.name for key in tenant.access.client_keys.list(rotated.principal)] == [rotated.made.client_key.name]
    assert logs_in(mesh, name, rotated.credential(name))


def test_the_one_that_logs_in_is_found_by_a_repair(mesh: Mesh, tenant: Client, rotated: Rotated, name: str) -> None:
    rotated.create(name, grace=timedelta(hours=1))
    first = rotated.credential(name)
    tenant.secrets.rotate(name)
    until(lambda: rotated.rotation(name) == "WAITING", SECONDS)
    # Somebody deletes the new one by hand, and the old one still works.
    tenant.access.client_keys.delete(rotated.credential(name).name)

    repaired = tenant.secrets.rotations.repair(name)

    assert repaired.action == "RETURN_TO_PREVIOUS"
    assert {check.credential: check.accepted for check in repaired.checks} == {"Current": False, "Previous": True}
    assert rotated.credential(name) == first
    tenant.secrets.rotate(name)
    until(lambda: rotated.rotation(name) == "WAITING", SECONDS)
    assert logs_in(mesh, name, rotated.credential(name))


# --- keystore's internal service itself

Change = Callable[[pb.InstallClientKeyRequest], None]


def _install(rotated: Rotated, account: str) -> pb.InstallClientKeyRequest:
    request = pb.InstallClientKeyRequest(
        client_key=ClientKey(
            name=f"accounts/{account}/clientKeys/ck-chosen",
            principal=rotated.principal,
            rotated_by=f"accounts/{account}/secrets/s",
        ),
        secret_sha256=bytes(32),
        current=ClientKeyCredential(client_key=rotated.made.client_key.name, secret=rotated.made.secret),
    )
    request.lifetime.FromSeconds(3600)
    return request


def _refused(mesh: Mesh, request: pb.InstallClientKeyRequest, caller: str = "service/secrets") -> StrongroomError:
    with mesh.channel("keystore", "internal", mesh.authority.issue(caller)) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            ClientKeyRotationServiceStub(channel).InstallClientKey(request, timeout=5)
        return from_rpc_error(caught.value, "keystore")


@pytest.mark.parametrize("caller", ["service/crypto", "service/audit", "user/admin"])
def test_only_the_secrets_service_replaces_client_keys(mesh: Mesh, rotated: Rotated, name: str, caller: str) -> None:
    assert _refused(mesh, _install(rotated, name), caller).reason == "CALLER_NOT_ALLOWED"
    with mesh.channel("keystore", "internal", mesh.authority.issue(caller)) as channel:
        credential = ClientKeyCredential(client_key=rotated.made.client_key.name, secret=rotated.made.secret)
        with pytest.raises(grpc.RpcError) as caught:
            SessionServiceStub(channel).CreateSession(CreateSessionRequest(client_key=credential), timeout=5)
    assert from_rpc_error(caught.value, "keystore").reason == "CALLER_NOT_ALLOWED"


def test_the_service_is_not_even_there_on_public(mesh: Mesh, rotated: Rotated, name: str) -> None:
    service = mesh.authority.issue("service/secrets")
    with mesh.channel("keystore", "certificate", service) as channel, pytest.raises(grpc.RpcError) as caught:
        ClientKeyRotationServiceStub(channel).InstallClientKey(_install(rotated, name), timeout=5)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_the_secrets_service_itself_replaces_only_what_it_holds(
    mesh: Mesh, tenant: Client, rotated: Rotated, name: str
) -> None:
    """Not even with permission on the whole account: it shows a client key of the same principal that is valid."""

    def refused(change: Change) -> tuple[str, str]:
        request = _install(rotated, name)
        change(request)
        error = _refused(mesh, request)
        return error.reason, error.field

    def to_admin(request: pb.InstallClientKeyRequest) -> None:
        request.client_key.principal = f"accounts/{name}/users/admin"

    def wrong_secret(request: pb.InstallClientKeyRequest) -> None:
        request.current.secret = "strongroom_ck_guessed"

    def other_account(request: pb.InstallClientKeyRequest) -> None:
        request.client_key.rotated_by = "accounts/default/secrets/s"

    def whole_account(request: pb.InstallClientKeyRequest) -> None:
        request.client_key.name = "accounts/default/clientKeys/ck-chosen"

    def no_hash(request: pb.InstallClientKeyRequest) -> None:
        request.secret_sha256 = b"short"

    def for_ever(request: pb.InstallClientKeyRequest) -> None:
        request.lifetime.FromSeconds(367 * 86_400)

    assert refused(to_admin) == ("CREDENTIAL_INVALID", "current")
    assert refused(wrong_secret) == ("CREDENTIAL_INVALID", "")
    assert refused(other_account) == ("FIELD_INVALID", "client_key.rotated_by")
    assert refused(whole_account) == ("FIELD_INVALID", "client_key.principal")
    assert refused(no_hash) == ("FIELD_INVALID", "secret_sha256")
    assert refused(for_ever) == ("FIELD_INVALID", "lifetime")
    tenant.access.client_keys.update(rotated.made.client_key.name, disabled=True)
    assert refused(lambda _: None) == ("CREDENTIAL_INVALID", "")
    denied = tenant.audit.events.list(action="access:CreateClientKey", principal="services/secrets")
    until(lambda: any(event.reason == "CREDENTIAL_INVALID" for event in denied))


def test_a_client_key_is_installed_once_and_not_again_when_it_was_deleted(
    mesh: Mesh, tenant: Client, rotated: Rotated, name: str
) -> None:
    request = _install(rotated, name)
    with mesh.channel("keystore", "internal", mesh.authority.issue("service/secrets")) as channel:
        stub = ClientKeyRotationServiceStub(channel)
        first, again = stub.InstallClientKey(request, timeout=5), stub.InstallClientKey(request, timeout=5)
    assert first == again
    other = _install(rotated, name)
    other.secret_sha256 = bytes(31) + b"x"
    assert _refused(mesh, other).reason == "ALREADY_EXISTS"
    tenant.access.client_keys.delete(first.name)
    assert _refused(mesh, request).reason == "ALREADY_EXISTS"
