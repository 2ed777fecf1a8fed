"""The secrets service over a real mesh: lists, stages, deletion, versions that leaked, batches, watches, rotation."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial

import grpc
import pytest

from deploy.dev.mesh import Mesh
from strongroom import Client, SecretCache, StrongroomError
from strongroom.calls.secrets.records import RotationPolicy, SecretValue
from strongroom.calls.secrets.rotations import Rotation
from strongroom.calls.secrets.watch import SecretChange
from strongroom.cli.targets import once_checked
from strongroom.errors import event_id_in, from_rpc_error
from strongroom.secrets.v1 import secret_service_pb2 as pb
from strongroom.secrets.v1.password_rule_pb2 import PasswordRule
from strongroom.secrets.v1.secret_service_pb2_grpc import SecretServiceStub
from strongroom.secrets.v1.target_pb2 import DatabaseTarget, RotationTarget, TargetAddress
from tests.support.clients import reason_of, refusal, until


def ended(client: Client, name: str) -> Rotation:
    """The latest rotation, once it has ended."""
    found: list[Rotation] = []

    def has_ended() -> bool:
        found[:] = client.secrets.rotations.list(name, limit=1)
        return found[0].state in ("SUCCEEDED", "FAILED", "CANCELLED")

    until(has_ended, 30)
    return found[0]


def test_secrets_are_listed_by_filter_and_page(client: Client, name: str) -> None:
    for number in range(5):
        client.secrets.create(f"{name}-{number}", b"v", tags={"team": "blue" if number % 2 else "green"})
    client.secrets.delete(f"{name}-4", force=True)

    def listed(condition: str) -> list[str]:
        found = client.secrets.list(f"id_prefix = {name}" + (f" AND {condition}" if condition else ""))
        return [secret.name[-1] for secret in found]

    assert listed("") == ["0", "1", "2", "3"]
    assert listed("tags.team = blue") == ["1", "3"]
    assert listed("state = DELETED") == ["4"]
    assert listed("type = MYSQL") == []
    assert refusal(lambda: listed("colour = red")).field == "filter"


def test_pages_belong_to_their_list(client: Client, mesh: Mesh, name: str) -> None:
    for number in range(3):
        client.secrets.create(f"{name}-{number}", b"v")
    with mesh.channel("secrets") as channel:
        stub = SecretServiceStub(channel)
        request = pb.ListSecretsRequest(parent=client.names.account, page_size=2, filter=f"id_prefix = {name}")
        page = stub.ListSecrets(request, timeout=10)
        request.page_token = page.next_page_token
        rest = stub.ListSecrets(request, timeout=10)
    assert [len(page.secrets), len(rest.secrets), rest.next_page_token] == [2, 1, ""]


def test_stages_move_only_from_where_they_are(client: Client, name: str) -> None:
    client.secrets.create(name, b"one")
    client.secrets.put_value(name, b"two")
    client.secrets.put_value(name, b"three", stages=["candidate"])

    assert dict(client.secrets.move_stage(name, "blue", to_version=1).stages)["blue"] == 1
    assert refusal(lambda: client.secrets.move_stage(name, "blue", to_version=2)).reason == "STAGE_CONFLICT"
    moved = client.secrets.move_stage(name, "Current", to_version=3, from_version=2)
    assert (moved.stages["Current"], moved.stages["Previous"]) == (3, 2)
    assert client.secrets.get_value(name).value == b"three"
    assert "blue" not in client.secrets.move_stage(name, "blue", from_version=1).stages
    removal = refusal(lambda: client.secrets.move_stage(name, "Current", from_version=3))
    assert (removal.reason, removal.field) == ("FIELD_INVALID", "move_to_version")


def test_a_value_that_leaked_is_served_no_more(client: Client, name: str) -> None:
    client.secrets.create(name, b"leaked")
    version = f"{name}/versions/1"
    assert client.secrets.versions.disable(version, comment="on a forum").state == "DISABLED"
    assert refusal(lambda: client.secrets.get_value(name)).reason == "SECRET_VERSION_DISABLED"
    assert client.secrets.versions.enable(version).state == "ENABLED"
    assert client.secrets.get_value(name).value == b"leaked"


def test_a_deleted_secret_is_not_read_and_can_be_restored(client: Client, name: str) -> None:
    client.secrets.create(name, b"v")
    deleted = client.secrets.delete(name, recovery_window=timedelta(days=7))
    assert deleted.state == "PENDING_DELETION"
    assert deleted.delete_time is not None
    assert refusal(lambda: client.secrets.get_value(name)).reason == "SECRET_PENDING_DELETION"
    assert refusal(lambda: client.secrets.put_value(name, b"w")).reason == "SECRET_PENDING_DELETION"
    assert client.secrets.restore(name).state == "ENABLED"
    assert client.secrets.get_value(name).value == b"v"
    assert refusal(lambda: client.secrets.restore(name)).reason == "SECRET_STATE_INVALID"

    assert client.secrets.delete(name, force=True).state == "DELETED"
    assert refusal(lambda: client.secrets.get_value(name)).reason == "SECRET_NOT_FOUND"
    assert refusal(lambda: client.secrets.create(name, b"again")).reason == "ALREADY_EXISTS"


@pytest.mark.parametrize("days", [6, 31])
def test_a_recovery_window_outside_its_limits_is_refused(client: Client, name: str, days: int) -> None:
    client.secrets.create(name, b"v")
    error = refusal(lambda: client.secrets.delete(name, recovery_window=timedelta(days=days)))
    assert (error.reason, error.field) == ("FIELD_INVALID", "recovery_window")


def test_the_oldest_values_beyond_retention_are_destroyed(client: Client, name: str) -> None:
    client.secrets.create(name, b"1", retained_versions=2)
    for number in (2, 3):
        client.secrets.put_value(name, str(number).encode())
    states = {version.name[-1]: version.state for version in client.secrets.versions.list(name)}
    assert states == {"3": "ENABLED", "2": "ENABLED", "1": "DESTROYED"}
    assert refusal(lambda: client.secrets.get_value(name, version=1)).reason == "SECRET_VERSION_DESTROYED"


def test_fields_of_json_values_are_read_by_name_and_pointer(client: Client, name: str) -> None:
    client.secrets.create(name, json.dumps({"password": "hünter2", "hosts": [{"port": 5432}], "a/b": True}).encode())

    def field(path: str) -> bytes:
        return client.secrets.get_value(name, field=path).value

    assert field("password").decode() == "hünter2"
    assert field("/hosts/0/port") == b"5432"
    assert field("/a~1b") == b"true"
    assert json.loads(field("hosts")) == [{"port": 5432}]
    assert reason_of(lambda: field("absent")) == "SECRET_FIELD_NOT_FOUND"
    assert reason_of(lambda: field("/bad~2")) == "FIELD_INVALID"


def test_a_batch_has_an_outcome_for_each(client: Client, name: str) -> None:
    client.secrets.create(f"{name}-a", b"a")
    client.secrets.create(f"{name}-b", b"b")
    client.secrets.versions.disable(f"{name}-b/versions/1")

    first, second, third = client.secrets.batch_get_values([f"{name}-a", f"{name}-b", f"{name}-c"])

    assert isinstance(first, SecretValue)
    assert first.value == b"a"
    assert isinstance(second, StrongroomError)
    assert isinstance(third, StrongroomError)
    assert (second.reason, third.reason) == ("SECRET_VERSION_DISABLED", "SECRET_NOT_FOUND")


def test_an_item_that_is_malformed_leaves_the_rest_of_its_batch_alone(client: Client, mesh: Mesh, name: str) -> None:
    made = client.secrets.create(name, b"a")
    malformed = ("", "accounts/default/secrets/Not A Name", f"{made.name}/versions/x", "accounts/default/keys/k")
    items = [pb.GetSecretValueRequest(name=item) for item in (*malformed, made.name)]
    items += [pb.GetSecretValueRequest(name=made.name, stage="no stage"), items[-1]]
    with mesh.channel("secrets") as channel:
        request = pb.BatchGetSecretValueRequest(parent="accounts/default", items=items)
        response, rpc = SecretServiceStub(channel).BatchGetSecretValue.with_call(request, timeout=5)

    outcomes = [outcome.error.reason or outcome.value.value for outcome in response.outcomes]
    assert outcomes == ["FIELD_REQUIRED", *3 * ["NAME_MALFORMED"], b"a", "FIELD_INVALID", b"a"]
    trace_id = client.audit.events.get(event_id_in(rpc.trailing_metadata())).trace_id
    events = {(e.resource, e.outcome, e.reason): e.item_count for e in client.audit.events.list(trace_id=trace_id)}
    read = events.pop((made.name, "ALLOWED", ""))
    assert read == 1
    assert {("", "FAILED", "FIELD_REQUIRED"): 1, ("", "FAILED", "NAME_MALFORMED"): 3}.items() <= events.items()
    for other in ("accounts/other/secrets/s", "accounts/other/secrets/s/versions/1"):
        request = pb.BatchGetSecretValueRequest(parent="accounts/default", items=[pb.GetSecretValueRequest(name=other)])
        with mesh.channel("secrets") as channel, pytest.raises(grpc.RpcError) as caught:
            SecretServiceStub(channel).BatchGetSecretValue(request, timeout=5)
        assert from_rpc_error(caught.value, "secrets").field == "items"


def test_what_is_given_of_a_secret_is_changed(client: Client, name: str) -> None:
    made = client.secrets.create(name, b"v", tags={"team": "blue"})
    changed = client.secrets.update(name, description="of the night shift", etag=made.etag)
    assert (changed.description, changed.tags) == ("of the night shift", {"team": "blue"})
    assert refusal(lambda: client.secrets.update(name, description="x", etag=made.etag)).reason == "ETAG_MISMATCH"


def test_random_passwords_are_as_the_rule_says(client: Client) -> None:
    assert len(client.secrets.generate_password()) == 40
    password = client.secrets.generate_password(PasswordRule(length=64, exclude_punctuation=True))
    assert (len(password), password.isalnum()) == (64, True)
    rule = PasswordRule(exclude_characters="0123456789")
    assert refusal(lambda: client.secrets.generate_password(rule)).reason == "PASSWORD_RULE_INVALID"


def test_a_generic_secret_is_rotated_with_its_history(client: Client, name: str) -> None:
    client.secrets.create(name, b"first")
    begun = client.secrets.rotate(name)
    assert (begun.state, begun.trigger) == ("RUNNING", "MANUAL")
    rotation = ended(client, name)

    assert rotation.state == "SUCCEEDED"
    assert [(attempt.step, attempt.error_reason) for attempt in rotation.attempts] == [
        ("CREATE", ""),
        ("SET", ""),
        ("TEST", ""),
        ("FINISH", ""),
    ]
    assert client.secrets.get_value(name).value != b"first"
    assert client.secrets.get_value(name, stage="Previous").value == b"first"
    assert client.secrets.get(name).last_rotate_time is not None


def test_a_value_that_no_password_can_replace_is_not_rotated(client: Client, name: str) -> None:
    client.secrets.create(name, b'{"a": 1}')
    assert refusal(lambda: client.secrets.rotate(name)).reason == "ROTATION_UNSUPPORTED"
    policy = RotationPolicy(timedelta(days=30))
    assert refusal(lambda: client.secrets.update_rotation_policy(name, policy)).reason == "ROTATION_UNSUPPORTED"
    other = refusal(lambda: client.secrets.create(f"{name}-2", b"[1]", rotation_policy=policy))
    assert other.reason == "ROTATION_UNSUPPORTED"


@pytest.mark.parametrize(
    ("policy", "field"),
    [
        (RotationPolicy(timedelta(hours=5)), "rotation_policy.period"),
        (RotationPolicy(timedelta(days=366)), "rotation_policy.period"),
        (RotationPolicy(timedelta(days=4), jitter=timedelta(days=2)), "rotation_policy.jitter"),
        (RotationPolicy(timedelta(days=4), window_start="24:00"), "rotation_policy.window.start"),
        (RotationPolicy(timedelta(days=4), window_start="02:00", time_zone="Mars"), "rotation_policy.window.time_zone"),
    ],
)
def test_a_policy_outside_its_limits_is_refused(client: Client, name: str, policy: RotationPolicy, field: str) -> None:
    client.secrets.create(name, b"v")
    error = refusal(lambda: client.secrets.update_rotation_policy(name, policy))
    assert (error.reason, error.field) == ("FIELD_INVALID", field)


def test_a_policy_says_when_the_next_rotation_is(client: Client, name: str) -> None:
    client.secrets.create(name, b"v")
    planned = client.secrets.update_rotation_policy(name, RotationPolicy(timedelta(days=30), jitter=timedelta(days=7)))
    assert planned.next_rotate_time is not None
    assert planned.create_time is not None
    assert timedelta(days=22) < planned.next_rotate_time - planned.create_time < timedelta(days=31)
    assert client.secrets.update_rotation_policy(name, None).next_rotate_time is None


def database(host: str, **fields: object) -> RotationTarget:
    address = TargetAddress(host=host, port=1)
    return RotationTarget(database=DatabaseTarget(address=address, username="app", **fields))  # type: ignore[arg-type]


LOGIN = b'{"username": "app", "password": "x"}'


@pytest.mark.parametrize(
    ("value", "target", "reason", "field"),
    [
        (LOGIN, None, "FIELD_REQUIRED", "secret.target.database"),
        (b"password", database("127.0.0.1"), "FIELD_INVALID", "value"),
        (b"", database("127.0.0.1"), "FIELD_REQUIRED", "value"),
        (LOGIN, database("127.0.0.1"), "TARGET_UNREACHABLE", ""),
        (LOGIN, database("no host"), "FIELD_INVALID", "secret.target.database.address.host"),
        (LOGIN, database("db", strategy=2), "FIELD_REQUIRED", "secret.target.database.master_secret"),
        (LOGIN, database("db", master_secret="accounts/other/secrets/m"), "FIELD_INVALID", "master_secret"),
    ],
)
def test_a_target_that_cannot_work_is_told_when_the_secret_is_made(
    client: Client, name: str, value: bytes, target: RotationTarget | None, reason: str, field: str
) -> None:
    create = partial(client.secrets.create, name, value, type="POSTGRESQL", target=target)
    error = refusal(lambda: once_checked(create))
    assert error.reason == reason, error.message
    assert error.field.endswith(field)
    assert refusal(lambda: client.secrets.get(name)).reason == "SECRET_NOT_FOUND"


class Watcher:
    """Reads a watch on a thread of its own."""

    def __init__(self, client: Client, *names: str, resume_token: str = "") -> None:
        self._watch = client.secrets.watch(names, resume_token=resume_token)
        self.changes: list[SecretChange] = []
        self.error: StrongroomError | None = None
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        try:
            self.changes.extend(self._watch)
        except StrongroomError as error:
            self.error = error

    def wait_for(self, holds: Callable[[SecretChange], bool], seconds: float = 10.0) -> SecretChange:
        until(lambda: any(map(holds, self.changes)), seconds)
        return next(filter(holds, self.changes))

    def stop(self) -> None:
        self._watch.close()
        self._thread.join()


def test_watchers_hear_of_changes_and_can_resume(client: Client, name: str) -> None:
    client.secrets.create(name, b"one")
    watcher = Watcher(client, name)
    first = watcher.wait_for(lambda change: change.change == "STATE")
    assert dict(first.stages) == {"Current": 1}

    client.secrets.put_value(name, b"two")
    heard = watcher.wait_for(lambda change: change.change == "STAGE")
    assert dict(heard.stages) == {"Current": 2, "Previous": 1}
    watcher.stop()

    client.secrets.versions.disable(f"{name}/versions/2")
    client.secrets.delete(name)
    resumed = Watcher(client, name, resume_token=heard.resume_token)
    resumed.wait_for(lambda change: change.change == "DELETED")
    assert [change.change for change in resumed.changes] == ["VERSION_DISABLED", "DELETED"]
    resumed.stop()


def test_many_watchers_leave_room_for_calls(client: Client, name: str) -> None:
    client.secrets.create(name, b"one")
    watchers = [Watcher(client, name) for _ in range(80)]
    for watcher in watchers:
        watcher.wait_for(lambda change: change.change == "STATE", 60)
    client.secrets.put_value(name, b"two", timeout=20)
    for watcher in watchers:
        watcher.wait_for(lambda change: change.change == "STAGE", 60)
        watcher.stop()


def test_a_cache_answers_the_new_value_soon_after_it_was_put(client: Client, name: str) -> None:
    client.secrets.create(name, b"one")
    with SecretCache(client, ttl=3600) as cache:
        assert cache.get(name).value == b"one"
        time.sleep(0.5)
        client.secrets.put_value(name, b"two")
        until(lambda: cache.get(name).value == b"two", 10)
        client.secrets.versions.disable(f"{name}/versions/2")
        until(lambda: reason_of(lambda: cache.get(name)) == "SECRET_VERSION_DISABLED", 10)
