"""Where values are sent is for those who can read them: the service's own authority is lent to nobody else."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial

import pytest

from deploy.dev.mesh import Mesh
from deploy.dev.topology import HOST, spiffe_id
from strongroom import Client
from strongroom.secrets.v1 import secret_service_pb2 as pb
from strongroom.secrets.v1.secret_pb2 import Secret
from strongroom.secrets.v1.target_pb2 import (
    TARGET_TLS_DISABLED,
    DatabaseTarget,
    GrpcTarget,
    RedisTarget,
    RotationTarget,
    SshTarget,
    TargetAddress,
)
from tests.support.clients import client_of, reason_of, refusal, until

LOGIN = b'{"username": "app", "password": "the own password"}'
MASTER = b'{"username": "root", "password": "the master password"}'
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINiKvBRMhRQBPJJZRUXz/TVQrNtqTPVGmuJbqUPqaYDb"

Person = Callable[[str], Client]


@dataclass
class Trap:
    """A server of the attacker's, that counts who comes."""

    listener: socket.socket = field(default_factory=lambda: socket.create_server((HOST, 0)))
    visits: int = 0

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.visits += 1
            connection.close()


@pytest.fixture
def trap() -> Iterator[Trap]:
    trap = Trap()
    threading.Thread(target=trap.serve, daemon=True).start()
    yield trap
    trap.listener.shutdown(socket.SHUT_RDWR)
    trap.listener.close()


@pytest.fixture
def person(tenant: Client, mesh: Mesh, name: str) -> Iterator[Person]:
    """Makes a user of the tenant's account with a policy of their own."""
    with ExitStack() as stack:

        def make(policy: str) -> Client:
            identity = f"user/{name}-eve"
            tenant.access.principals.create("users/eve", spiffe_ids=[spiffe_id(identity)])
            look = 'permit (principal, action == Strongroom::Action::"access:GetAccount", resource);'
            tenant.access.policies.create("of-eve", look + policy, attached_to=["users/eve"])
            client = stack.enter_context(client_of(mesh, identity, name, timeout=30.0))
            until(lambda: reason_of(client.access.accounts.get) == "", 2.0)
            return client

        yield make


def without(*unless: str) -> str:
    """A policy that permits everything but these conditions."""
    return "permit (principal, action, resource);" + "".join(
        f"forbid (principal, action, resource) when {{ {condition} }};" for condition in unless
    )


def reading(secret: str) -> str:
    return f'action == Strongroom::Action::"secrets:GetSecretValue" && resource == Strongroom::Secret::"{secret}"'


def opening(key: str) -> str:
    return f'action == Strongroom::Action::"crypto:Decrypt" && resource == Strongroom::Key::"{key}"'


@dataclass(frozen=True)
class World:
    """A tenant's secret with a master, each under a key of its own."""

    secret: str
    master: str
    secret_key: str
    master_key: str


def target(port: int, master: str, username: str = "app") -> RotationTarget:
    address = TargetAddress(host=HOST, port=port, tls=TARGET_TLS_DISABLED)
    return RotationTarget(database=DatabaseTarget(address=address, username=username, master_secret=master))


@pytest.fixture
def world(tenant: Client) -> World:
    keys = [tenant.keys.create(key_id).name for key_id in ("of-secret", "of-master")]
    master = tenant.secrets.create("db.master", MASTER, key=keys[1])
    secret = tenant.secrets.create(
        "db", LOGIN, type="POSTGRESQL", target=target(1, master.name), key=keys[0], check_target=False
    )
    assert secret.bound_by.endswith("/users/admin")
    return World(secret.name, master.name, *keys)


MISSING = {
    "the value": lambda world: reading(world.secret),
    "the value's key": lambda world: opening(world.secret_key),
    "the master's value": lambda world: reading(world.master),
    "the master's key": lambda world: opening(world.master_key),
}


@pytest.mark.parametrize("missing", MISSING)
def test_nobody_retargets_what_they_cannot_read(
    tenant: Client, person: Person, world: World, trap: Trap, missing: str
) -> None:
    eve = person(without(MISSING[missing](world)))
    tries: list[Callable[[], object]] = []
    places = [target(trap.port, world.master), target(1, world.master, "another")]
    # Without a master nothing of it goes anywhere.
    places += [] if "master" in missing else [target(trap.port, "")]
    for check in (True, False):
        tries += [partial(eve.secrets.update, world.secret, target=wanted, check_target=check) for wanted in places]
    for attempt in tries:
        assert refusal(attempt).reason == "PERMISSION_DENIED"
    unchanged = tenant.secrets.get(world.secret)
    assert unchanged.target == target(1, world.master)
    assert trap.visits == 0


@pytest.mark.parametrize("missing", ["the master's value", "the master's key"])
def test_nobody_makes_a_secret_with_a_master_that_they_cannot_read(
    person: Person, world: World, trap: Trap, missing: str
) -> None:
    eve = person(without(MISSING[missing](world)))
    redis = RotationTarget(
        redis=RedisTarget(
            address=TargetAddress(host=HOST, port=trap.port, tls=TARGET_TLS_DISABLED),
            username="app",
            master_secret=world.master,
        )
    )
    rotator = RotationTarget(grpc=GrpcTarget(address=f"{HOST}:{trap.port}", master_secret=world.master))
    wanted = {"POSTGRESQL": target(trap.port, world.master), "MYSQL": target(trap.port, world.master)}
    for kind, place in {**wanted, "REDIS_ACL": redis, "GRPC": rotator}.items():
        for dry, check in ((False, True), (False, False), (True, True)):
            for value in (LOGIN, b""):
                error = refusal(
                    partial(eve.secrets.create, "mine", value, type=kind, target=place, dry_run=dry, check_target=check)
                )
                assert error.reason == "PERMISSION_DENIED", kind
    assert trap.visits == 0


def test_whoever_reads_both_may_and_is_recorded(person: Person, world: World) -> None:
    eve = person(without())
    moved = eve.secrets.update(world.secret, target=target(2, world.master), check_target=False)
    assert moved.bound_by.endswith("/users/eve")


@pytest.mark.parametrize("missing", MISSING)
def test_nobody_chooses_what_is_set_at_a_target_by_an_authority_that_they_cannot_read(
    tenant: Client, person: Person, world: World, missing: str
) -> None:
    """A repair would log in as the master, and set it there."""
    eve = person(without(MISSING[missing](world)))
    for stages in ((), ("Current",), ("staged",)):
        assert refusal(partial(eve.secrets.put_value, world.secret, LOGIN, stages=stages)).reason == "PERMISSION_DENIED"
    assert len(list(tenant.secrets.versions.list(world.secret))) == 1
    assert eve.secrets.create("plain", LOGIN, key=world.secret_key).name
    assert eve.secrets.put_value("plain", LOGIN)


def test_whoever_reads_both_puts_values_also_after_one_that_is_withdrawn(person: Person, world: World) -> None:
    eve = person(without())
    eve.secrets.put_value(world.secret, LOGIN)
    eve.secrets.versions.disable(f"{world.secret}/versions/2")
    eve.secrets.versions.disable(f"{world.master}/versions/1")
    assert eve.secrets.put_value(world.secret, LOGIN).name.endswith("/versions/3")


def test_other_changes_need_no_reading(person: Person, world: World) -> None:
    eve = person(without(reading(world.secret), reading(world.master)))
    assert eve.secrets.update(world.secret, description="ours", tags={"a": "b"}).description == "ours"
    # The same place again is no new pair.
    assert eve.secrets.update(world.secret, target=target(1, world.master), check_target=False).etag


def test_a_master_that_may_not_be_read_now_is_lent_to_nobody(tenant: Client, world: World) -> None:
    tenant.secrets.versions.disable(f"{world.master}/versions/1")
    ports = itertools.count(2)

    def retarget() -> object:
        return tenant.secrets.update(world.secret, target=target(next(ports), world.master), check_target=False)

    assert refusal(retarget).reason == "SECRET_VERSION_DISABLED"
    tenant.secrets.versions.enable(f"{world.master}/versions/1")
    tenant.keys.disable(world.master_key)
    until(lambda: reason_of(retarget) == "KEY_DISABLED", 3.0)


def test_an_old_version_is_not_brought_back_by_who_cannot_read_it(tenant: Client, person: Person, world: World) -> None:
    """Else one would retarget with a value of one's own at Current, and then put the real one back."""
    other = tenant.keys.create("of-eve").name
    tenant.secrets.update(world.secret, key=other)
    tenant.secrets.put_value(world.secret, LOGIN)
    tenant.secrets.put_value(world.secret, LOGIN)
    eve = person(without(opening(world.secret_key)))
    back = lambda: eve.secrets.move_stage(world.secret, "Current", to_version=1, from_version=3)  # noqa: E731
    assert refusal(back).reason == "PERMISSION_DENIED"
    assert refusal(lambda: eve.secrets.move_stage(world.secret, "Pending", to_version=1)).reason == "PERMISSION_DENIED"
    # What is sent there already goes on to be: the way back after a bad change stays open.
    returned = eve.secrets.move_stage(world.secret, "Current", to_version=2, from_version=3)
    assert returned.stages["Current"] == 2


def test_an_old_master_is_not_brought_back_by_who_cannot_read_it(tenant: Client, person: Person, world: World) -> None:
    tenant.secrets.update(world.master, key=tenant.keys.create("of-eve").name)
    for _ in range(2):
        tenant.secrets.put_value(world.master, MASTER)
    eve = person(without(opening(world.master_key)))
    eve.secrets.update(world.secret, target=target(2, world.master), check_target=False)
    back = lambda: eve.secrets.move_stage(world.master, "Current", to_version=1, from_version=3)  # noqa: E731
    assert refusal(back).reason == "PERMISSION_DENIED"


def test_the_next_value_comes_under_another_key_only_for_who_can_read_the_last(
    person: Person, world: World, tenant: Client
) -> None:
    other = tenant.keys.create("of-eve").name
    eve = person(without(opening(world.secret_key)))
    assert refusal(lambda: eve.secrets.update(world.secret, key=other)).reason == "PERMISSION_DENIED"


def test_what_a_rotator_is_told_decides_where_values_go(tenant: Client, person: Person, trap: Trap) -> None:
    place = RotationTarget(grpc=GrpcTarget(address=f"{HOST}:1", parameters={"database": "ours"}))
    key = tenant.keys.create("of-remote").name
    made = tenant.secrets.create("remote", b"v", type="GRPC", target=place, key=key, check_target=False)
    eve = person(without(reading(made.name)))
    theirs = RotationTarget(grpc=GrpcTarget(address=f"{HOST}:1", parameters={"database": "theirs"}))
    assert (
        refusal(lambda: eve.secrets.update("remote", target=theirs, check_target=False)).reason == "PERMISSION_DENIED"
    )
    assert refusal(lambda: eve.secrets.update("remote", tags={"database": "theirs"})).reason == "PERMISSION_DENIED"
    assert trap.visits == 0


def test_host_keys_and_users_over_ssh_decide_it_too(tenant: Client, person: Person) -> None:
    given = SshTarget(host=HOST, port=1, username="ours", host_keys=[HOST_KEY])
    value = b'{"username": "ours", "private_key": "x", "public_key": "y"}'
    key = tenant.keys.create("of-ssh").name
    target = RotationTarget(ssh=given)
    made = tenant.secrets.create("ssh", value, type="SSH_KEY_PAIR", target=target, key=key, check_target=False)
    eve = person(without(reading(made.name)))
    for change in ({"username": "theirs"}, {"authorized_keys_path": "elsewhere"}, {"port": 2}, {"host": "localhost"}):
        changed = RotationTarget(ssh=given)
        for changed_field, value_ in change.items():
            setattr(changed.ssh, changed_field, value_)
        error = refusal(partial(eve.secrets.update, "ssh", target=changed, check_target=False))
        assert error.reason == "PERMISSION_DENIED", change


def test_a_secret_says_where_it_may_be_sent(tenant: Client, person: Person, world: World, trap: Trap) -> None:
    def reason(work: Callable[[], object]) -> str:
        return str(refusal(work).reason)

    tenant.secrets.update(world.master, allowed_destinations=["db.internal:5432", "10.0.0.0/8", f"{HOST}:1"])
    elsewhere = target(trap.port, world.master)
    for check in (True, False):
        assert (
            reason(partial(tenant.secrets.update, world.secret, target=elsewhere, check_target=check))
            == "DESTINATION_NOT_ALLOWED"
        )
    eve = person(without('action == Strongroom::Action::"secrets:UpdateAllowedDestinations"'))
    assert reason(lambda: eve.secrets.update(world.master, allowed_destinations=[])) == "PERMISSION_DENIED"
    # A list that is made shorter holds at the next use, whatever was bound before.
    tenant.secrets.update(world.master, allowed_destinations=["db.internal:5432"])
    assert reason(lambda: tenant.secrets.rotations.repair(world.secret)) == "DESTINATION_NOT_ALLOWED"
    tenant.secrets.update(world.master, allowed_destinations=[])
    tenant.secrets.update(world.secret, allowed_destinations=["[2001:db8::/32]:5432"])
    assert reason(lambda: tenant.secrets.rotations.repair(world.secret)) == "DESTINATION_NOT_ALLOWED"
    assert trap.visits == 0


@pytest.mark.parametrize("entry", ["", "a b", "10.0.0.1/8", "host:0", "host:70000", "300.0.0.1", "[::1", "*", "h/8"])
def test_a_list_of_destinations_is_checked(tenant: Client, world: World, entry: str) -> None:
    error = refusal(lambda: tenant.secrets.update(world.master, allowed_destinations=[entry]))
    assert (error.reason, error.field) == ("FIELD_INVALID", "secret.allowed_destinations")


def test_no_request_gets_past_the_question(person: Person, world: World, trap: Trap, mesh: Mesh, name: str) -> None:
    """Masks, dry runs and fields beside it change nothing of it."""
    person(without(reading(world.secret)))
    wanted = Secret(name=world.secret, target=target(trap.port, world.master), description="harmless", tags={"a": "b"})
    requests = [
        pb.UpdateSecretRequest(secret=wanted, skip_target_check=skip, validate_only=dry)
        for skip in (True, False)
        for dry in (True, False)
    ]
    for paths in (["target"], ["target", "description"], ["tags", "target"], ["description", "tags", "target"]):
        masked = pb.UpdateSecretRequest(secret=wanted, skip_target_check=True)
        masked.update_mask.paths.extend(paths)
        requests.append(masked)
    with client_of(mesh, f"user/{name}-eve", name) as eve:
        stub = eve.secrets._service.stub
        for request in requests:
            error = refusal(partial(eve.secrets._service.call, stub.UpdateSecret, request, None))
            assert error.reason == "PERMISSION_DENIED", request
    assert trap.visits == 0


def test_targets_inside_the_network_and_the_meshs_own_servers_are_refused(
    tenant: Client, world: World, mesh: Mesh
) -> None:
    """The development mesh opens this machine, and no other address inside."""
    places = [
        TargetAddress(host="10.0.0.1", port=5432),
        TargetAddress(host="169.254.169.254", port=80),
        TargetAddress(host="::ffff:a00:1", port=5432),
    ]
    for service in ("keystore", "crypto", "audit", "secrets"):
        host, _, port = mesh.address(service, "internal").rpartition(":")
        places.append(TargetAddress(host=host, port=int(port)))
    for place in places:
        wanted = RotationTarget(database=DatabaseTarget(address=place, username="app"))
        update = partial(tenant.secrets.update, world.secret, target=wanted)
        # A machine that is busy answers later than a call waits.
        until(lambda update=update: reason_of(update) != "TARGET_CHECK_PENDING", 30)  # type: ignore[misc]
        assert reason_of(update) == "DESTINATION_NOT_ALLOWED", place


@pytest.mark.parametrize("unless", ["reading", "opening"])
def test_another_key_for_what_is_put_next_needs_what_reading_needs(
    tenant: Client, person: Callable[[str], Client], unless: str
) -> None:
    """Also of a secret that goes nowhere: whoever may read the key of the next value reads that value."""
    keys = [tenant.keys.create(key_id).name for key_id in ("theirs", "mine")]
    secret = tenant.secrets.create("plain", b"value", key=keys[0]).name
    eve = person(without(reading(secret) if unless == "reading" else opening(keys[0])))
    assert refusal(lambda: eve.secrets.update("plain", key=keys[1])).reason == "PERMISSION_DENIED"
    assert tenant.secrets.get("plain").key == keys[0]
    assert eve.secrets.update("plain", description="x").description == "x"
    assert tenant.secrets.update("plain", key=keys[1]).key == keys[1]
