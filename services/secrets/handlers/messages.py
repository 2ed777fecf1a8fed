"""Secrets as the contract writes them, and requests as the domain reads them. Rotations are in
`rotation_messages`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from services.runtime import clock
from services.runtime.errors import StrongroomError, invalid, required, too_large
from services.runtime.requests import checksums, names
from services.runtime.requests.fields import whole_seconds
from services.runtime.requests.tags import check_tags
from services.runtime.sensitive import SensitiveBytes
from services.secrets.core.destinations import check_destinations
from services.secrets.core.model import CURRENT, DEFAULT_GRACE_SECONDS, Secret, Version
from services.secrets.core.stages import check_stage
from services.secrets.kinds.known import declarations
from services.secrets.life.creating import NewSecret
from services.secrets.life.lifecycle import SecretUpdate, StageMove
from services.secrets.rotation.policy import check_policy
from services.secrets.rotation.targets.targets import TargetRules
from services.secrets.values.json_fields import check_field
from services.secrets.values.passwords import check_rule
from services.secrets.values.sealing import NewValue
from services.secrets.values.values import check_value
from services.secrets.values.vault import OpenedVersion, Reading
from strongroom.crypto.v1.crypto_pb2 import ItemError
from strongroom.secrets.v1 import secret_pb2 as pb
from strongroom.secrets.v1.password_rule_pb2 import PasswordRule
from strongroom.secrets.v1.secret_service_pb2 import (
    CreateSecretRequest,
    DeleteSecretRequest,
    GetSecretValueOutcome,
    GetSecretValueRequest,
    PutSecretValueRequest,
    UpdateSecretRequest,
    UpdateSecretVersionStageRequest,
)

DEFAULT_KEY_ALIAS = "strongroom-secrets"
"""The alias of an account whose key is taken where a secret names none."""

_MAX_DESCRIPTION = 1024
_DEFAULT_RETAINED = 10
_LEAST_RETAINED = 2
_MOST_RETAINED = 100
_MAX_GRACE_SECONDS = 7 * 86_400
_DEFAULT_WINDOW_SECONDS = 30 * 86_400
_MIN_WINDOW_SECONDS = 7 * 86_400
_MAX_COMMENT = 256
_UPDATABLE = (
    "key",
    "description",
    "tags",
    "retained_versions",
    "target",
    "password_rule",
    "grace_period",
    "allowed_destinations",
)


def new_secret(request: CreateSecretRequest, rules: TargetRules) -> NewSecret:
    """What a request asks a new secret to be. Raises FIELD_REQUIRED, FIELD_INVALID, FIELD_TOO_LARGE, NAME_MALFORMED,
    PASSWORD_RULE_INVALID."""
    account = names.parse_account(request.parent, "parent")
    if not request.secret_id:
        raise required("secret_id")
    secret_id = names.check_id(request.secret_id, "secrets", "secret_id")
    asked = request.secret
    kind = _type(asked.type)
    return NewSecret(
        names.ResourceName(account, "secrets", secret_id),
        kind,
        _key(asked.key, account),
        _description(asked.description),
        check_tags(asked.tags, "secret.tags"),
        _retained(asked.retained_versions),
        rules.check(kind, asked.target if asked.HasField("target") else None, account),
        _rule(asked),
        check_policy(asked.rotation_policy, "secret.rotation_policy") if asked.HasField("rotation_policy") else None,
        _grace(asked),
        check_destinations(asked.allowed_destinations, "secret.allowed_destinations"),
    )


def secret_update(request: UpdateSecretRequest) -> SecretUpdate:
    """What a request asks to change of a secret; whether a target fits its type is left to see. Raises as
    `new_secret`."""
    asked = request.secret
    name = names.parse(asked.name, "secret.name", "secrets")
    paths = set(request.update_mask.paths) or {path for path in _UPDATABLE if is_set(asked, path)}
    for path in paths:
        if path not in _UPDATABLE:
            raise invalid("update_mask", f"names {path}, which is none of {', '.join(_UPDATABLE)}")
    if not paths:
        raise required("update_mask")
    fields: dict[str, Any] = {}
    if "key" in paths:
        fields["key"] = _key(asked.key, name.account)
    if "description" in paths:
        fields["description"] = _description(asked.description)
    if "tags" in paths:
        fields["tags"] = check_tags(asked.tags, "secret.tags")
    if "retained_versions" in paths:
        fields["retained_versions"] = _retained(asked.retained_versions)
    if "target" in paths:
        fields["target"] = asked.target if asked.HasField("target") else None
    if "password_rule" in paths:
        fields["password_rule"] = _rule(asked)
    if "grace_period" in paths:
        fields["grace_period_s"] = _grace(asked)
    if "allowed_destinations" in paths:
        fields["allowed_destinations"] = check_destinations(asked.allowed_destinations, "secret.allowed_destinations")
    return SecretUpdate(name, fields, asked.etag)


def deletion_window(request: DeleteSecretRequest) -> int:
    """From now to the destruction, in seconds. Raises FIELD_INVALID."""
    if not request.HasField("recovery_window"):
        return _DEFAULT_WINDOW_SECONDS
    if request.force:
        raise invalid("recovery_window", "cannot be given with force")
    seconds = whole_seconds(request.recovery_window, "recovery_window")
    if not _MIN_WINDOW_SECONDS <= seconds <= _DEFAULT_WINDOW_SECONDS:
        raise invalid("recovery_window", "must be from 7 to 30 days")
    return seconds


def reading(request: GetSecretValueRequest) -> Reading:
    """What a request wants to read. Raises FIELD_REQUIRED, FIELD_INVALID, NAME_MALFORMED."""
    name = names.parse(request.name, "name", "secrets", versioned=None)
    if request.stage:
        check_stage(request.stage)
    return Reading(name, request.stage, check_field(request.field))


def item_reading(request: GetSecretValueRequest) -> Reading | StrongroomError:
    """What an item of a batch wants to read, or what is wrong with it, which concerns no other item."""
    try:
        return reading(request)
    except StrongroomError as error:
        return error


def stage_move(request: UpdateSecretVersionStageRequest) -> StageMove:
    """Which stage a request moves where. Raises FIELD_REQUIRED, FIELD_INVALID."""
    stage = check_stage(request.stage)
    if not request.move_to_version and not request.remove_from_version:
        raise required("move_to_version")
    if stage == CURRENT and not request.move_to_version:
        raise invalid("move_to_version", "cannot be absent for Current, which is always at a version")
    return StageMove(stage, request.move_to_version, request.remove_from_version)


def comment(text: str) -> str:
    """Why, for the audit log. Raises FIELD_TOO_LARGE."""
    if len(text) > _MAX_COMMENT:
        raise too_large("comment", _MAX_COMMENT, "characters")
    return text


def outcome_message(outcome: OpenedVersion | StrongroomError) -> GetSecretValueOutcome:
    """One item's outcome in a batch."""
    if isinstance(outcome, StrongroomError):
        return GetSecretValueOutcome(error=ItemError(reason=outcome.reason, message=outcome.message))
    return GetSecretValueOutcome(value=value_message(outcome))


def new_value(request: CreateSecretRequest | PutSecretValueRequest) -> NewValue:
    """The value that a request carries. Raises FIELD_REQUIRED, FIELD_TOO_LARGE, FIELD_INVALID, CHECKSUM_MISMATCH."""
    value = check_value(request.value)
    checksums.verify_given(request, "value_crc32c", request.value)
    return NewValue(value, _format(request.format, value))


def secret_message(secret: Secret) -> pb.Secret:
    """A secret as callers see it."""
    return pb.Secret(
        name=str(secret.name),
        type=secret.type,
        state=secret.state,
        key=secret.key,
        description=secret.description,
        tags=secret.tags,
        stages=secret.stages,
        retained_versions=secret.retained_versions,
        target=secret.target,
        password_rule=secret.password_rule,
        rotation_policy=secret.rotation_policy,
        grace_period=Duration(seconds=secret.grace_period_s),
        active_rotation=f"{secret.name}/rotations/{secret.active_rotation}" if secret.active_rotation else "",
        active_rotation_state=secret.active_rotation_state,
        next_rotate_time=clock.optional_moment(secret.next_rotate_us),
        last_rotate_time=clock.optional_moment(secret.last_rotate_us),
        delete_time=clock.optional_moment(secret.delete_us),
        create_time=clock.from_microseconds(secret.created_us),
        update_time=clock.from_microseconds(secret.updated_us),
        etag=str(secret.revision),
        allowed_destinations=secret.allowed_destinations,
        target_binding=secret.target_binding,
    )


def version_message(version: Version, stages: Sequence[str]) -> pb.SecretVersion:
    """A version as callers see it, without its value."""
    return pb.SecretVersion(
        name=str(version.name),
        state=version.state,
        stages=stages,
        origin=version.origin,
        key_version=version.key_version,
        format=version.format,
        value_size=version.value_size,
        create_time=clock.from_microseconds(version.created_us),
        disable_time=clock.optional_moment(version.disabled_us),
        destroy_time=clock.optional_moment(version.destroyed_us),
    )


def value_message(opened: OpenedVersion) -> pb.SecretValue:
    """A version with its value."""
    value = opened.value.reveal()
    return pb.SecretValue(
        name=str(opened.version.name),
        value=value,
        format=opened.format,
        stages=opened.stages,
        create_time=clock.from_microseconds(opened.version.created_us),
        value_crc32c=checksums.crc32c(value),
        tags=opened.tags,
    )


def is_set(message: Message, field: str) -> bool:
    """Whether a field has a value that is not its default."""
    return any(descriptor.name == field for descriptor, _ in message.ListFields())


def _type(asked: pb.SecretType.ValueType) -> pb.SecretType.ValueType:
    kind = asked or pb.SECRET_TYPE_GENERIC
    if kind not in declarations():
        raise invalid("secret.type", "is not a type of secret")
    return kind


def _description(asked: str) -> str:
    if len(asked) > _MAX_DESCRIPTION:
        raise too_large("secret.description", _MAX_DESCRIPTION, "characters")
    return asked


def _rule(asked: pb.Secret) -> PasswordRule | None:
    if not asked.HasField("password_rule"):
        return None
    check_rule(asked.password_rule, "secret.password_rule")
    return asked.password_rule


def _grace(asked: pb.Secret) -> int:
    if not asked.HasField("grace_period"):
        return DEFAULT_GRACE_SECONDS
    seconds = whole_seconds(asked.grace_period, "secret.grace_period")
    if not 0 <= seconds <= _MAX_GRACE_SECONDS:
        raise invalid("secret.grace_period", "must be from 0 to 7 days")
    return seconds


def _key(asked: str, account: str) -> str:
    if not asked:
        return f"accounts/{account}/aliases/{DEFAULT_KEY_ALIAS}"
    if names.parse(asked, "secret.key", "keys", "aliases").account != account:
        raise invalid("secret.key", "is not of the secret's account")
    return asked


def _retained(asked: int) -> int:
    if asked and not _LEAST_RETAINED <= asked <= _MOST_RETAINED:
        raise invalid("secret.retained_versions", f"must be from {_LEAST_RETAINED} to {_MOST_RETAINED}")
    return asked or _DEFAULT_RETAINED


def _format(asked: pb.ValueFormat.ValueType, value: SensitiveBytes) -> pb.ValueFormat.ValueType:
    if asked not in pb.ValueFormat.values():
        raise invalid("format", "is not a format of values")
    if asked == pb.VALUE_FORMAT_BINARY:
        return asked
    if _is_utf8(value):
        return pb.VALUE_FORMAT_TEXT
    if asked == pb.VALUE_FORMAT_TEXT:
        raise invalid("value", "is not UTF-8 text")
    return pb.VALUE_FORMAT_BINARY


def _is_utf8(value: SensitiveBytes) -> bool:
    try:
        value.reveal().decode()
    except UnicodeDecodeError:
        # Not handed on: the exception holds the value.
        return False
    return True
