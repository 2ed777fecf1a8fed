"""Secrets and their values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING

from strongroom.calls.base import Part, mask_of, new_request_id, pages
from strongroom.calls.secrets.records import (
    RotationPolicy,
    Secret,
    SecretValue,
    SecretVersion,
    answered_secret,
    policy_message,
    secret_of,
    value_of,
    version_of,
)
from strongroom.convert import duration, enum_number
from strongroom.errors import StrongroomError
from strongroom.names import Names
from strongroom.secrets.v1 import password_rule_pb2, secret_pb2, target_pb2
from strongroom.secrets.v1 import secret_service_pb2 as pb
from strongroom.secrets.v1.secret_service_pb2_grpc import SecretServiceStub
from strongroom.streams import ResponseStream
from strongroom.transport import Transport

if TYPE_CHECKING:
    from strongroom.calls.secrets.client_keys import ClientKeySecrets
    from strongroom.calls.secrets.rotations import Rotation, SecretRotations
    from strongroom.calls.secrets.versions import SecretVersions
    from strongroom.calls.secrets.watch import SecretWatch


class Secrets(Part[SecretServiceStub]):
    """Keeps secrets. `secret` is an id (`payments/db`) or a full name."""

    def __init__(self, transport: Transport, names: Names) -> None:
        super().__init__(transport.endpoint("secrets", SecretServiceStub), names)
        self._transport = transport

    @cached_property
    def versions(self) -> SecretVersions:
        """The versions of secrets."""
        from strongroom.calls.secrets.versions import SecretVersions

        return SecretVersions(self._service, self._names)

    @cached_property
    def rotations(self) -> SecretRotations:
        """Rotations of secrets: what was tried, and what to do with one that does not go on by itself."""
        from strongroom.calls.secrets.rotations import SecretRotations

        return SecretRotations(self._service, self._names)

    @cached_property
    def client_keys(self) -> ClientKeySecrets:
        """Secrets that hold and rotate a client key of Strongroom."""
        from strongroom.access.v1.access_service_pb2_grpc import AccessServiceStub
        from strongroom.calls.access.client_keys import ClientKeys
        from strongroom.calls.secrets.client_keys import ClientKeySecrets

        access = self._transport.endpoint("keystore", AccessServiceStub)
        return ClientKeySecrets(self, ClientKeys(access, self._names))

    def create(
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
        """Makes a secret, with a first value of up to 65,536 bytes or none.

        `secret_id` is up to 63 characters of `[a-z0-9._-]`, in parts that slashes divide (`payments/db`). Values are
        encrypted under `key`, by default the key behind the account's alias `strongroom-secrets`. `type` is GENERIC by
        default; the others have a `target`, which is asked whether value and master credential log in unless
        `check_target` is false. `allowed_destinations` are the `host[:port]` and `CIDR[:port]` that values may be sent
        to, by default any. With `dry_run` nothing is made. Raises ALREADY_EXISTS, also for an id used before;
        FIELD_TOO_LARGE, KEY_NOT_FOUND, TARGET_UNREACHABLE, TARGET_LOGIN_REFUSED, MASTER_LOGIN_REFUSED.
        """
        request = pb.CreateSecretRequest(
            parent=self._names.account,
            secret_id=self._names.id("secrets", secret_id),
            secret=secret_pb2.Secret(
                type=enum_number(secret_pb2.SecretType, "SECRET_TYPE_", type, "type"),
                key=self._names.key(key) if key else "",
                description=description,
                tags=tags or {},
                retained_versions=retained_versions,
                target=target,
                password_rule=password_rule,
                rotation_policy=policy_message(rotation_policy) if rotation_policy else None,
                grace_period=duration(grace_period) if grace_period is not None else None,
                allowed_destinations=allowed_destinations,
            ),
            value=value,
            request_id=new_request_id(),
            validate_only=dry_run,
            skip_target_check=not check_target,
        )
        return answered_secret(self._service.call(self._service.stub.CreateSecret, request, timeout))

    def get(self, secret: str, *, timeout: float | None = None) -> Secret:
        """Answers a secret's record, in whatever state. Raises SECRET_NOT_FOUND."""
        request = pb.GetSecretRequest(name=self._names.secret(secret))
        return answered_secret(self._service.call(self._service.stub.GetSecret, request, timeout))

    def list(
        self,
        filter: str = "",  # noqa: A002  # the contract's word
        *,
        limit: int | None = None,
        timeout: float | None = None,
    ) -> Iterator[Secret]:
        """Lists the account's secrets by name.

        `filter` is such as `type = POSTGRESQL AND tags.team = "payments"`. Pages are fetched as they are needed,
        `limit` items at most; `timeout` is for each page.
        """

        def fetch(token: str, size: int) -> tuple[Iterator[Secret], str]:
            request = pb.ListSecretsRequest(parent=self._names.account, filter=filter, page_token=token, page_size=size)
            page = self._service.call(self._service.stub.ListSecrets, request, timeout).response
            return map(secret_of, page.secrets), page.next_page_token

        return pages(fetch, limit)

    def update(
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
        """Changes what is given of a secret: `None` leaves a field as it is.

        With an `etag`, it is changed only if that is still current: ETAG_MISMATCH. A new target is asked whether the
        credentials log in unless `check_target` is false. Raises KEY_NOT_FOUND, TARGET_UNREACHABLE,
        TARGET_LOGIN_REFUSED.
        """
        given = {
            "description": description,
            "tags": tags,
            "key": self._names.key(key) if key else key,
            "retained_versions": retained_versions,
            "target": target,
            "password_rule": password_rule,
            "grace_period": duration(grace_period) if grace_period is not None else None,
            "allowed_destinations": allowed_destinations,
        }
        changed = {field: value for field, value in given.items() if value is not None}
        request = pb.UpdateSecretRequest(
            secret=secret_pb2.Secret(name=self._names.secret(secret), etag=etag, **changed),  # type: ignore[arg-type]
            update_mask=mask_of(given),
            skip_target_check=not check_target,
        )
        return answered_secret(self._service.call(self._service.stub.UpdateSecret, request, timeout))

    def delete(
        self,
        secret: str,
        *,
        recovery_window: timedelta | None = None,
        force: bool = False,
        timeout: float | None = None,
    ) -> Secret:
        """Stops every reading of a secret, and destroys its values when the recovery window is over.

        The window is 7 to 30 days, 30 by default; with `force` the values are destroyed at once and for good. Raises
        RESOURCE_IN_USE.
        """
        request = pb.DeleteSecretRequest(name=self._names.secret(secret), force=force, request_id=new_request_id())
        if recovery_window is not None:
            request.recovery_window.CopyFrom(duration(recovery_window))
        return answered_secret(self._service.call(self._service.stub.DeleteSecret, request, timeout))

    def restore(self, secret: str, *, timeout: float | None = None) -> Secret:
        """Takes a planned deletion back. Raises SECRET_STATE_INVALID."""
        request = pb.RestoreSecretRequest(name=self._names.secret(secret))
        return answered_secret(self._service.call(self._service.stub.RestoreSecret, request, timeout))

    def get_value(
        self, secret: str, *, stage: str = "", version: int = 0, field: str = "", timeout: float | None = None
    ) -> SecretValue:
        """Answers the value at a stage, by default `Current`, or of a version by its number.

        `field` asks for one member of a JSON value. Raises SECRET_NOT_FOUND, SECRET_VERSION_NOT_FOUND,
        STAGE_NOT_FOUND, SECRET_FIELD_NOT_FOUND.
        """
        name = self._names.secret(secret)
        request = pb.GetSecretValueRequest(
            name=f"{name}/versions/{version}" if version else name, stage=stage, field=field
        )
        answer = self._service.call(self._service.stub.GetSecretValue, request, timeout)
        return value_of(answer.response, answer.event_id)

    def put_value(
        self, secret: str, value: bytes, *, stages: Sequence[str] = (), timeout: float | None = None
    ) -> SecretVersion:
        """Stores a value of 1 to 65,536 bytes as a new version, at `Current` unless `stages` says otherwise.

        What was Current becomes Previous. Raises SECRET_NOT_FOUND, FIELD_TOO_LARGE.
        """
        request = pb.PutSecretValueRequest(
            name=self._names.secret(secret), value=value, stages=stages, request_id=new_request_id()
        )
        answer = self._service.call(self._service.stub.PutSecretValue, request, timeout)
        return version_of(answer.response, answer.event_id)

    def batch_get_values(
        self, secrets: Sequence[str], *, stage: str = "", timeout: float | None = None
    ) -> Sequence[SecretValue | StrongroomError]:
        """Answers the values of up to 100 secrets at a stage, by default `Current`, in their order.

        In the place of one that cannot be had stands the StrongroomError that says why.
        """
        items = [pb.GetSecretValueRequest(name=self._names.secret(secret), stage=stage) for secret in secrets]
        request = pb.BatchGetSecretValueRequest(parent=self._names.account, items=items)
        answer = self._service.call(self._service.stub.BatchGetSecretValue, request, timeout)
        return [_outcome(outcome, answer.event_id) for outcome in answer.response.outcomes]

    def move_stage(
        self,
        secret: str,
        stage: str,
        *,
        to_version: int = 0,
        from_version: int = 0,
        timeout: float | None = None,
    ) -> Secret:
        """Moves a stage of a secret to a version, adds it, or removes it (`to_version` 0).

        Raises STAGE_CONFLICT when the stage is not at `from_version`.
        """
        request = pb.UpdateSecretVersionStageRequest(
            name=self._names.secret(secret), stage=stage, move_to_version=to_version, remove_from_version=from_version
        )
        return answered_secret(self._service.call(self._service.stub.UpdateSecretVersionStage, request, timeout))

    def generate_password(
        self, rule: password_rule_pb2.PasswordRule | None = None, *, timeout: float | None = None
    ) -> str:
        """Answers a random password, which is stored nowhere. Raises PASSWORD_RULE_INVALID."""
        request = pb.GenerateRandomPasswordRequest(password_rule=rule)
        return self._service.call(self._service.stub.GenerateRandomPassword, request, timeout).response.password

    def watch(self, secrets: Sequence[str], *, resume_token: str = "") -> SecretWatch:
        """Tells the changes of up to 1,000 secrets as they come: iterate over it, and close it."""
        from strongroom.calls.secrets.watch import SecretWatch

        names = [self._names.secret(secret) for secret in secrets]

        def request(token: str) -> pb.WatchSecretRequest:
            return pb.WatchSecretRequest(names=names, resume_token=token)

        def begin(token: str) -> ResponseStream[pb.WatchSecretResponse]:
            return self._service.stream(lambda stub: stub.WatchSecret, request(token), request)

        return SecretWatch(begin, resume_token)

    def update_rotation_policy(
        self, secret: str, policy: RotationPolicy | None, *, timeout: float | None = None
    ) -> Secret:
        """Sets a secret's rotation policy, or removes it with None. Raises FIELD_INVALID, ROTATION_UNSUPPORTED."""
        message = policy_message(policy) if policy else None
        request = pb.UpdateRotationPolicyRequest(name=self._names.secret(secret), rotation_policy=message)
        return answered_secret(self._service.call(self._service.stub.UpdateRotationPolicy, request, timeout))

    def rotate(self, secret: str, *, timeout: float | None = None) -> Rotation:
        """Begins a rotation now, and does not wait for its end. Raises ROTATION_ACTIVE, ROTATION_UNSUPPORTED."""
        from strongroom.calls.secrets.rotations import answered_rotation

        request = pb.RotateSecretRequest(name=self._names.secret(secret), request_id=new_request_id())
        return answered_rotation(self._service.call(self._service.stub.RotateSecret, request, timeout))


def _outcome(outcome: pb.GetSecretValueOutcome, event_id: str) -> SecretValue | StrongroomError:
    if outcome.WhichOneof("outcome") == "value":
        return value_of(outcome.value, event_id)
    return StrongroomError(outcome.error.reason, outcome.error.message, event_id=event_id)
