"""Secrets and their values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from types import TracebackType
from typing import Self

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from strongroom.calls.base import Calls, new_request_id, pages
from strongroom.convert import enum_number, enum_text, moment
from strongroom.errors import StrongroomError
from strongroom.secrets.v1 import password_rule_pb2, rotation_pb2, secret_pb2, target_pb2
from strongroom.secrets.v1 import secret_service_pb2 as pb
from strongroom.secrets.v1.secret_service_pb2_grpc import SecretServiceStub
from strongroom.transport import Answer, Endpoint, ResponseStream


@dataclass(frozen=True, slots=True)
class RotationPolicy:
    """When a secret is rotated by itself: every `period` (6 hours to 365 days), earlier by a random time up to
    `jitter`.

    With `window_start` (`HH:MM` in `time_zone`) only in a maintenance window of `window_duration`, on `window_days`
    (`MONDAY`, …; empty for every day). `max_attempts` is how often a step is tried: 10 by default.
    """

    period: timedelta
    jitter: timedelta = timedelta()
    window_start: str = ""
    window_duration: timedelta = timedelta(hours=1)
    window_days: Sequence[str] = ()
    time_zone: str = ""
    max_attempts: int = 0


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret's record; it holds no value.

    `type` and `state` are such as `GENERIC` and `ENABLED`; `stages` maps `Current`, `Previous`, … to version
    numbers. `active_rotation` is the full name of a rotation that is not ended, `target` the contract's message.
    """

    name: str
    type: str
    state: str
    key: str
    description: str
    tags: Mapping[str, str]
    stages: Mapping[str, int]
    retained_versions: int
    target: target_pb2.RotationTarget | None
    rotation_policy: RotationPolicy | None
    grace_period: timedelta
    active_rotation: str
    active_rotation_state: str
    next_rotate_time: datetime | None
    last_rotate_time: datetime | None
    delete_time: datetime | None
    create_time: datetime | None
    update_time: datetime | None
    etag: str
    event_id: str = ""
    allowed_destinations: Sequence[str] = ()
    bound_by: str = ""
    """Who named the target as it is; empty where that is not known."""


@dataclass(frozen=True, slots=True)
class SecretVersion:
    """One version's record; it holds no value. `name` is `accounts/…/secrets/…/versions/{number}`.

    `value_size` is in bytes; `key_version` is what its data key is encrypted under; `origin` is PUT or ROTATION.
    """

    name: str
    state: str
    stages: tuple[str, ...]
    origin: str
    key_version: str
    value_size: int
    create_time: datetime | None
    disable_time: datetime | None
    destroy_time: datetime | None
    event_id: str = ""


@dataclass(frozen=True, slots=True)
class SecretValue:
    """A value, with the version that it is of. The value is not in the `repr`."""

    name: str
    value: bytes = field(repr=False)
    stages: tuple[str, ...]
    create_time: datetime | None
    event_id: str = ""

    @property
    def text(self) -> str:
        """The value as text. Raises UnicodeDecodeError where it is not UTF-8."""
        return self.value.decode()


@dataclass(frozen=True, slots=True)
class SecretChange:
    """One change of a watched secret. `change` is STATE (how it is as the watch begins), STAGE, VERSION_DISABLED,
    VERSION_ENABLED, DELETED, RESTORED, or empty for a sign of life. `resume_token` carries on from here."""

    change: str
    name: str
    stages: Mapping[str, int]
    version: int
    resume_token: str
    time: datetime | None


class SecretCalls(Calls):
    """Methods that keep secrets. `secret` is an id (`payments/db`) or a full name; `version` is
    `payments/db/versions/2`, or a full name.

    Each takes `timeout` in seconds and raises StrongroomError; the contract names the reasons
    (`protos/strongroom/secrets/v1/secret_service.proto`).
    """

    @cached_property
    def _secrets(self) -> Endpoint[SecretServiceStub]:
        return self._transport.endpoint("secrets", SecretServiceStub)

    def create_secret(
        self,
        secret_id: str,
        value: bytes = b"",
        *,
        type: str = "",  # noqa: A002  # the contract's word
        key: str = "",
        description: str = "",
        tags: Mapping[str, str] | None = None,
        retained_versions: int = 0,
        target: target_pb2.RotationTarget | None = None,
        password_rule: password_rule_pb2.PasswordRule | None = None,
        rotation_policy: RotationPolicy | None = None,
        grace_period: timedelta | None = None,
        allowed_destinations: Sequence[str] = (),
        dry_run: bool = False,
        check_target: bool = True,
        timeout: float | None = None,
    ) -> Secret:
        """Makes a secret whose values are encrypted under `key`, by default the key behind the account's alias
        `strongroom-secrets`, with a first value of up to 65,536 bytes, or none.

        `type` is GENERIC by default; the others have a `target`, which is asked whether value and master credential log
        in unless `check_target` is false. `secret_id` is up to 63 characters of `[a-z0-9._-]`, in parts that slashes
        divide (`payments/db`). `allowed_destinations` are the `host[:port]` and `CIDR[:port]` that the values may be
        sent to, by default any. Raises ALREADY_EXISTS, also for an id used before; FIELD_TOO_LARGE, KEY_NOT_FOUND,
        TARGET_UNREACHABLE, TARGET_LOGIN_REFUSED, MASTER_LOGIN_REFUSED.
        """
        request = pb.CreateSecretRequest(
            parent=self.names.account,
            secret_id=secret_id,
            secret=secret_pb2.Secret(
                type=enum_number(secret_pb2.SecretType, "SECRET_TYPE_", type, "type"),
                key=self.names.key(key) if key else "",
                description=description,
                tags=tags or {},
                retained_versions=retained_versions,
                target=target,
                password_rule=password_rule,
                rotation_policy=policy_message(rotation_policy) if rotation_policy else None,
                grace_period=span(grace_period),
                allowed_destinations=allowed_destinations,
            ),
            value=value,
            request_id=new_request_id(),
            validate_only=dry_run,
            skip_target_check=not check_target,
        )
        return answered_secret(self._secrets.call(self._secrets.stub.CreateSecret, request, timeout))

    def get_secret(self, secret: str, *, timeout: float | None = None) -> Secret:
        """A secret's record, in whatever state."""
        request = pb.GetSecretRequest(name=self.names.secret(secret))
        return answered_secret(self._secrets.call(self._secrets.stub.GetSecret, request, timeout))

    def list_secrets(
        self,
        filter: str = "",  # noqa: A002  # the contract's word
        *,
        limit: int | None = None,
        timeout: float | None = None,
    ) -> Iterator[Secret]:
        """The account's secrets by name, such as those of `type = POSTGRESQL AND tags.team = "payments"`."""

        def fetch(token: str, size: int) -> tuple[Iterator[Secret], str]:
            request = pb.ListSecretsRequest(parent=self.names.account, filter=filter, page_token=token, page_size=size)
            page = self._secrets.call(self._secrets.stub.ListSecrets, request, timeout).response
            return map(secret_of, page.secrets), page.next_page_token

        return pages(fetch, limit)

    def list_secret_versions(
        self,
        secret: str,
        filter: str = "",  # noqa: A002
        *,
        limit: int | None = None,
        timeout: float | None = None,
    ) -> Iterator[SecretVersion]:
        """A secret's versions, newest first, such as those of `state = ENABLED`."""
        name = self.names.secret(secret)

        def fetch(token: str, size: int) -> tuple[Iterator[SecretVersion], str]:
            request = pb.ListSecretVersionsRequest(parent=name, filter=filter, page_token=token, page_size=size)
            page = self._secrets.call(self._secrets.stub.ListSecretVersions, request, timeout).response
            return map(version_of, page.secret_versions), page.next_page_token

        return pages(fetch, limit)

    def get_secret_value(
        self, secret: str, *, stage: str = "", version: int = 0, field: str = "", timeout: float | None = None
    ) -> SecretValue:
        """The value at a stage, by default `Current`, or of a version by its number.

        `field` asks for one member of a JSON value. Raises SECRET_NOT_FOUND, SECRET_VERSION_NOT_FOUND,
        STAGE_NOT_FOUND, SECRET_FIELD_NOT_FOUND.
        """
        name = self.names.secret(secret)
        request = pb.GetSecretValueRequest(
            name=f"{name}/versions/{version}" if version else name, stage=stage, field=field
        )
        answer = self._secrets.call(self._secrets.stub.GetSecretValue, request, timeout)
        return value_of(answer.response, answer.event_id)

    def put_secret_value(
        self, secret: str, value: bytes, *, stages: Sequence[str] = (), timeout: float | None = None
    ) -> SecretVersion:
        """Stores a value of 1 to 65,536 bytes as a new version, at `Current` unless `stages` says otherwise.

        What was Current becomes Previous. Raises SECRET_NOT_FOUND, FIELD_TOO_LARGE.
        """
        request = pb.PutSecretValueRequest(
            name=self.names.secret(secret), value=value, stages=stages, request_id=new_request_id()
        )
        answer = self._secrets.call(self._secrets.stub.PutSecretValue, request, timeout)
        return version_of(answer.response, answer.event_id)

    def batch_get_secret_values(
        self, secrets: Sequence[str], *, stage: str = "", timeout: float | None = None
    ) -> list[SecretValue | StrongroomError]:
        """The values of up to 100 secrets at a stage, in their order; an error in the place of one that cannot be
        had."""
        items = [pb.GetSecretValueRequest(name=self.names.secret(secret), stage=stage) for secret in secrets]
        request = pb.BatchGetSecretValueRequest(parent=self.names.account, items=items)
        answer = self._secrets.call(self._secrets.stub.BatchGetSecretValue, request, timeout)
        return [_outcome(outcome, answer.event_id) for outcome in answer.response.outcomes]

    def move_secret_stage(
        self,
        secret: str,
        stage: str,
        *,
        to_version: int = 0,
        from_version: int = 0,
        timeout: float | None = None,
    ) -> Secret:
        """Moves a stage to a version, adds it, or removes it (`to_version` 0). Raises STAGE_CONFLICT when it is not at
        `from_version`."""
        request = pb.UpdateSecretVersionStageRequest(
            name=self.names.secret(secret), stage=stage, move_to_version=to_version, remove_from_version=from_version
        )
        return answered_secret(self._secrets.call(self._secrets.stub.UpdateSecretVersionStage, request, timeout))

    def disable_secret_version(self, version: str, *, comment: str = "", timeout: float | None = None) -> SecretVersion:
        """Stops serving a version's value at once. The target goes on to accept it until it is rotated."""
        request = pb.DisableSecretVersionRequest(name=self.names.secret_version(version), comment=comment)
        answer = self._secrets.call(self._secrets.stub.DisableSecretVersion, request, timeout)
        return version_of(answer.response, answer.event_id)

    def enable_secret_version(self, version: str, *, timeout: float | None = None) -> SecretVersion:
        """Serves a disabled version's value again."""
        request = pb.EnableSecretVersionRequest(name=self.names.secret_version(version))
        answer = self._secrets.call(self._secrets.stub.EnableSecretVersion, request, timeout)
        return version_of(answer.response, answer.event_id)

    def update_secret(
        self,
        secret: str,
        *,
        description: str | None = None,
        tags: Mapping[str, str] | None = None,
        key: str | None = None,
        retained_versions: int | None = None,
        target: target_pb2.RotationTarget | None = None,
        password_rule: password_rule_pb2.PasswordRule | None = None,
        grace_period: timedelta | None = None,
        allowed_destinations: Sequence[str] | None = None,
        etag: str = "",
        check_target: bool = True,
        timeout: float | None = None,
    ) -> Secret:
        """Changes what is given; with an etag, only if that is still current: ETAG_MISMATCH."""
        given = {
            "description": description,
            "tags": tags,
            "key": self.names.key(key) if key else key,
            "retained_versions": retained_versions,
            "target": target,
            "password_rule": password_rule,
            "grace_period": span(grace_period),
            "allowed_destinations": allowed_destinations,
        }
        changed = {field: value for field, value in given.items() if value is not None}
        request = pb.UpdateSecretRequest(
            secret=secret_pb2.Secret(name=self.names.secret(secret), etag=etag, **changed),  # type: ignore[arg-type]
            update_mask=FieldMask(paths=list(changed)),
            skip_target_check=not check_target,
        )
        return answered_secret(self._secrets.call(self._secrets.stub.UpdateSecret, request, timeout))

    def delete_secret(
        self,
        secret: str,
        *,
        recovery_window: timedelta | None = None,
        force: bool = False,
        timeout: float | None = None,
    ) -> Secret:
        """Stops every reading of a secret, and destroys its values after 7 to 30 days (30 by default); at once and for
        good with `force`. Raises RESOURCE_IN_USE."""
        request = pb.DeleteSecretRequest(
            name=self.names.secret(secret), recovery_window=span(recovery_window), force=force
        )
        return answered_secret(self._secrets.call(self._secrets.stub.DeleteSecret, request, timeout))

    def restore_secret(self, secret: str, *, timeout: float | None = None) -> Secret:
        """Takes a planned deletion back. Raises SECRET_STATE_INVALID."""
        request = pb.RestoreSecretRequest(name=self.names.secret(secret))
        return answered_secret(self._secrets.call(self._secrets.stub.RestoreSecret, request, timeout))

    def generate_random_password(
        self, rule: password_rule_pb2.PasswordRule | None = None, *, timeout: float | None = None
    ) -> str:
        """A random password, stored nowhere. Raises PASSWORD_RULE_INVALID."""
        request = pb.GenerateRandomPasswordRequest(password_rule=rule)
        return self._secrets.call(self._secrets.stub.GenerateRandomPassword, request, timeout).response.password

    def watch_secrets(self, secrets: Sequence[str], *, resume_token: str = "") -> SecretWatch:
        """Tells the changes of up to 1,000 secrets as they come: iterate over it, and close it."""
        request = pb.WatchSecretRequest(
            names=[self.names.secret(secret) for secret in secrets], resume_token=resume_token
        )
        return SecretWatch(self._secrets.stream(self._secrets.stub.WatchSecret, request))


class SecretWatch:
    """A watch of secrets: an iterator of changes, a context manager, closed from any thread."""

    def __init__(self, stream: ResponseStream[pb.WatchSecretResponse]) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[SecretChange]:
        for told in self._stream:
            yield SecretChange(
                change=enum_text(pb.SecretChange, "SECRET_CHANGE_", told.change).replace("UNSPECIFIED", ""),
                name=told.name,
                stages=dict(told.stages),
                version=told.version,
                resume_token=told.resume_token,
                time=moment(told.time),
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends it."""
        self._stream.close()


def secret_of(secret: secret_pb2.Secret, event_id: str = "") -> Secret:
    """A secret's record from the contract's message."""
    return Secret(
        name=secret.name,
        type=enum_text(secret_pb2.SecretType, "SECRET_TYPE_", secret.type),
        state=enum_text(secret_pb2.SecretState, "SECRET_STATE_", secret.state),
        key=secret.key,
        description=secret.description,
        tags=dict(secret.tags),
        stages=dict(secret.stages),
        retained_versions=secret.retained_versions,
        target=secret.target if secret.HasField("target") else None,
        rotation_policy=_policy(secret.rotation_policy) if secret.HasField("rotation_policy") else None,
        grace_period=secret.grace_period.ToTimedelta(),
        active_rotation=secret.active_rotation,
        active_rotation_state=state_text(secret.active_rotation_state),
        next_rotate_time=moment(secret.next_rotate_time),
        last_rotate_time=moment(secret.last_rotate_time),
        delete_time=moment(secret.delete_time),
        create_time=moment(secret.create_time),
        update_time=moment(secret.update_time),
        etag=secret.etag,
        event_id=event_id,
        allowed_destinations=tuple(secret.allowed_destinations),
        bound_by=secret.target_binding.principal,
    )


def version_of(version: secret_pb2.SecretVersion, event_id: str = "") -> SecretVersion:
    """A version's record from the contract's message."""
    return SecretVersion(
        name=version.name,
        state=enum_text(secret_pb2.SecretVersionState, "SECRET_VERSION_STATE_", version.state),
        stages=tuple(version.stages),
        origin=enum_text(secret_pb2.SecretVersionOrigin, "SECRET_VERSION_ORIGIN_", version.origin),
        key_version=version.key_version,
        value_size=version.value_size,
        create_time=moment(version.create_time),
        disable_time=moment(version.disable_time),
        destroy_time=moment(version.destroy_time),
        event_id=event_id,
    )


def value_of(value: secret_pb2.SecretValue, event_id: str = "") -> SecretValue:
    """A value from the contract's message."""
    return SecretValue(
        name=value.name,
        value=value.value,
        stages=tuple(value.stages),
        create_time=moment(value.create_time),
        event_id=event_id,
    )


def answered_secret(answer: Answer[secret_pb2.Secret]) -> Secret:
    """The record that a call answered."""
    return secret_of(answer.response, answer.event_id)


def state_text(state: rotation_pb2.RotationState.ValueType) -> str:
    """`RUNNING` and the like; empty for none."""
    return enum_text(rotation_pb2.RotationState, "ROTATION_STATE_", state).replace("UNSPECIFIED", "")


def policy_message(policy: RotationPolicy) -> rotation_pb2.RotationPolicy:
    """A rotation policy as the contract has it. Raises FIELD_INVALID for a day that is none."""
    window = None
    if policy.window_start:
        window = rotation_pb2.MaintenanceWindow(
            days=[enum_number(rotation_pb2.Weekday, "WEEKDAY_", day, "window_days") for day in policy.window_days],
            start=policy.window_start,
            duration=span(policy.window_duration),
            time_zone=policy.time_zone,
        )
    return rotation_pb2.RotationPolicy(
        period=span(policy.period), jitter=span(policy.jitter), window=window, max_attempts=policy.max_attempts
    )


def span(duration: timedelta | None) -> Duration | None:
    """A duration as the contract has it."""
    if duration is None:
        return None
    message = Duration()
    message.FromTimedelta(duration)
    return message


def _policy(policy: rotation_pb2.RotationPolicy) -> RotationPolicy:
    window = policy.window
    return RotationPolicy(
        period=policy.period.ToTimedelta(),
        jitter=policy.jitter.ToTimedelta(),
        window_start=window.start,
        window_duration=window.duration.ToTimedelta(),
        window_days=tuple(enum_text(rotation_pb2.Weekday, "WEEKDAY_", day) for day in window.days),
        time_zone=window.time_zone,
        max_attempts=policy.max_attempts,
    )


def _outcome(outcome: pb.GetSecretValueOutcome, event_id: str) -> SecretValue | StrongroomError:
    if outcome.WhichOneof("outcome") == "value":
        return value_of(outcome.value, event_id)
    return StrongroomError(outcome.error.reason, outcome.error.message, event_id=event_id)
