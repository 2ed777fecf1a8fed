"""Secrets as the contract writes them, and requests as the domain reads them."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.message import Message

from services.runtime import checksums, clock, names
from services.runtime.errors import Reason, StrongroomError, invalid, required, too_large
from services.runtime.sensitive import SensitiveBytes
from services.runtime.tags import check_tags
from services.secrets.records import Secret, Version
from services.secrets.values import check_value
from services.secrets.vault import NewSecret, NewValue, OpenedVersion
from strongroom.secrets.v1 import secret_pb2 as pb
from strongroom.secrets.v1.secret_service_pb2 import CreateSecretRequest, PutSecretValueRequest

DEFAULT_KEY_ALIAS = "strongroom-secrets"
"""The alias of an account whose key is taken where a secret names none."""

_MAX_DESCRIPTION = 1024
_DEFAULT_RETAINED = 10
_LEAST_RETAINED = 2
_MOST_RETAINED = 100
_NOT_YET = ("target", "password_rule", "rotation_policy", "grace_period")


def new_secret(request: CreateSecretRequest) -> NewSecret:
    """What a request asks a new secret to be. Raises FIELD_REQUIRED, FIELD_INVALID, FIELD_TOO_LARGE, NAME_MALFORMED,
    and NOT_YET for what rotation needs."""
    account = names.parse_account(request.parent, "parent")
    if not request.secret_id:
        raise required("secret_id")
    secret_id = names.check_id(request.secret_id, "secrets", "secret_id")
    asked = request.secret
    for field in _NOT_YET:
        if _is_set(asked, field):
            raise _not_yet(f"secret.{field}")
    if len(asked.description) > _MAX_DESCRIPTION:
        raise too_large("secret.description", _MAX_DESCRIPTION, "characters")
    return NewSecret(
        names.ResourceName(account, "secrets", secret_id),
        _type(asked.type),
        _key(asked.key, account),
        asked.description,
        check_tags(asked.tags, "secret.tags"),
        _retained(asked.retained_versions),
    )


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
        create_time=clock.from_microseconds(secret.created_us),
        update_time=clock.from_microseconds(secret.updated_us),
        etag=str(secret.revision),
    )


def version_message(version: Version, stages: Sequence[str]) -> pb.SecretVersion:
    """A version as callers see it, without its value."""
    disabled, destroyed = version.disabled_us, version.destroyed_us
    return pb.SecretVersion(
        name=str(version.name),
        state=version.state,
        stages=stages,
        origin=version.origin,
        key_version=version.key_version,
        format=version.format,
        value_size=version.value_size,
        create_time=clock.from_microseconds(version.created_us),
        disable_time=clock.from_microseconds(disabled) if disabled is not None else None,
        destroy_time=clock.from_microseconds(destroyed) if destroyed is not None else None,
    )


def value_message(opened: OpenedVersion) -> pb.SecretValue:
    """A version with its value."""
    value = opened.value.reveal()
    return pb.SecretValue(
        name=str(opened.version.name),
        value=value,
        format=opened.version.format,
        stages=opened.stages,
        create_time=clock.from_microseconds(opened.version.created_us),
        value_crc32c=checksums.crc32c(value),
    )


def refuse_yet(field: str, *, given: bool) -> None:
    """Raises NOT_YET when a field is given whose work is still to come."""
    if given:
        raise _not_yet(field)


def _type(asked: pb.SecretType.ValueType) -> pb.SecretType.ValueType:
    if asked in (pb.SECRET_TYPE_UNSPECIFIED, pb.SECRET_TYPE_GENERIC):
        return pb.SECRET_TYPE_GENERIC
    if asked not in pb.SecretType.values():
        raise invalid("secret.type", "is not a type of secret")
    raise _not_yet("secret.type")


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


def _not_yet(field: str) -> StrongroomError:
    return StrongroomError(Reason.NOT_YET, f"{field} is not implemented yet", field=field)


def _is_set(message: Message, field: str) -> bool:
    return any(descriptor.name == field for descriptor, _ in message.ListFields())
