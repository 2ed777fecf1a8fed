"""Secrets and their values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from strongroom.calls.base import Calls, new_request_id
from strongroom.convert import enum_text, moment
from strongroom.secrets.v1 import secret_pb2
from strongroom.secrets.v1 import secret_service_pb2 as pb
from strongroom.secrets.v1.secret_service_pb2_grpc import SecretServiceStub
from strongroom.transport import Endpoint


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret's record; it holds no value.

    `type` and `state` are such as `GENERIC` and `ENABLED`; `stages` maps `Current`, `Previous`, … to version
    numbers.
    """

    name: str
    type: str
    state: str
    key: str
    description: str
    tags: Mapping[str, str]
    stages: Mapping[str, int]
    create_time: datetime | None
    update_time: datetime | None
    etag: str
    event_id: str


@dataclass(frozen=True, slots=True)
class SecretVersion:
    """One version's record; it holds no value. `name` is `accounts/…/secrets/…/versions/{number}`.

    `value_size` is in bytes; `key_version` is what its data key is encrypted under.
    """

    name: str
    state: str
    stages: tuple[str, ...]
    key_version: str
    value_size: int
    create_time: datetime | None
    event_id: str


@dataclass(frozen=True, slots=True)
class SecretValue:
    """A value, with the version that it is of. The value is not in the `repr`."""

    name: str
    value: bytes = field(repr=False)
    stages: tuple[str, ...]
    create_time: datetime | None
    event_id: str

    @property
    def text(self) -> str:
        """The value as text. Raises UnicodeDecodeError where it is not UTF-8."""
        return self.value.decode()


class SecretCalls(Calls):
    """Methods that keep secrets. `secret` is an id (`db.password`) or a full name.

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
        key: str = "",
        description: str = "",
        tags: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Secret:
        """Makes a secret whose values are encrypted under `key`, by default the key behind the account's alias
        `strongroom-secrets`, with a first value of up to 65,536 bytes, or none.

        `secret_id` matches `[a-z0-9][a-z0-9._-]{0,62}`. Raises ALREADY_EXISTS, also for an id used before;
        FIELD_TOO_LARGE, KEY_NOT_FOUND.
        """
        request = pb.CreateSecretRequest(
            parent=self.names.account,
            secret_id=secret_id,
            secret=secret_pb2.Secret(key=self.names.key(key) if key else "", description=description, tags=tags or {}),
            value=value,
            request_id=new_request_id(),
        )
        answer = self._secrets.call(self._secrets.stub.CreateSecret, request, timeout)
        secret = answer.response
        return Secret(
            name=secret.name,
            type=enum_text(secret_pb2.SecretType, "SECRET_TYPE_", secret.type),
            state=enum_text(secret_pb2.SecretState, "SECRET_STATE_", secret.state),
            key=secret.key,
            description=secret.description,
            tags=dict(secret.tags),
            stages=dict(secret.stages),
            create_time=moment(secret.create_time),
            update_time=moment(secret.update_time),
            etag=secret.etag,
            event_id=answer.event_id,
        )

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
        value = answer.response
        return SecretValue(
            name=value.name,
            value=value.value,
            stages=tuple(value.stages),
            create_time=moment(value.create_time),
            event_id=answer.event_id,
        )

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
        version = answer.response
        return SecretVersion(
            name=version.name,
            state=enum_text(secret_pb2.SecretVersionState, "SECRET_VERSION_STATE_", version.state),
            stages=tuple(version.stages),
            key_version=version.key_version,
            value_size=version.value_size,
            create_time=moment(version.create_time),
            event_id=answer.event_id,
        )
