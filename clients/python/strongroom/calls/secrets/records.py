"""What is known of secrets, their versions and values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from strongroom.convert import duration, enum_number, enum_text, moment, span
from strongroom.secrets.v1 import password_rule_pb2, rotation_pb2, secret_pb2, target_pb2
from strongroom.transport import Answer


@dataclass(frozen=True, slots=True)
class RotationPolicy:
    """When a secret is rotated by itself: every `period` (6 hours to 365 days), less a random time up to `jitter`.

    With `window_start` (`HH:MM` in `time_zone`) it is rotated only in a maintenance window of `window_duration`, on
    `window_days` (`MONDAY`, …; empty for every day). `max_attempts` is how often a step is tried: 10 by default.
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
    numbers. `active_rotation` is the full name of a rotation that is not ended, `target` and `password_rule` the
    contract's messages.
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
    password_rule: password_rule_pb2.PasswordRule | None = None
    """What rotation's passwords look like; None for the default."""


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
        grace_period=span(secret.grace_period),
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
        password_rule=secret.password_rule if secret.HasField("password_rule") else None,
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
            duration=duration(policy.window_duration),
            time_zone=policy.time_zone,
        )
    return rotation_pb2.RotationPolicy(
        period=duration(policy.period), jitter=duration(policy.jitter), window=window, max_attempts=policy.max_attempts
    )


def _policy(policy: rotation_pb2.RotationPolicy) -> RotationPolicy:
    window = policy.window
    return RotationPolicy(
        period=span(policy.period),
        jitter=span(policy.jitter),
        window_start=window.start,
        window_duration=span(window.duration),
        window_days=tuple(enum_text(rotation_pb2.Weekday, "WEEKDAY_", day) for day in window.days),
        time_zone=window.time_zone,
        max_attempts=policy.max_attempts,
    )
