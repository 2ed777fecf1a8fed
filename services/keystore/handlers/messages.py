"""Keys, versions and aliases as the contract writes them, and requests as the domain reads them."""

from __future__ import annotations

from collections.abc import Collection
from hashlib import sha256

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from services.keystore.keys.aliases import AliasContent
from services.keystore.keys.imports import Begun
from services.keystore.keys.keys import NewKey
from services.keystore.keys.lifecycle import check_rotates
from services.keystore.root_key.rotation import Status
from services.keystore.root_key.store import Rotation
from services.keystore.store.model import Alias, Key, Version
from services.runtime import clock, identifiers
from services.runtime.errors import Reason, StrongroomError, invalid, required, too_large
from services.runtime.requests import checksums, names
from services.runtime.requests.fields import changed_paths, check_text
from services.runtime.requests.key_specs import USAGES, spec_name, usage_name
from services.runtime.requests.tags import check_tags
from strongroom.keystore.v1 import key_pb2 as pb
from strongroom.keystore.v1 import root_key_pb2 as root_pb
from strongroom.keystore.v1.key_service_pb2 import (
    CreateAliasRequest,
    CreateKeyRequest,
    DestroyKeyVersionRequest,
    GetParametersForImportResponse,
    ImportKeyMaterialRequest,
    ScheduleKeyDeletionRequest,
    SetDeletionProtectionRequest,
    UpdateAliasRequest,
    UpdateKeyRequest,
    UpdateRotationPolicyRequest,
)

_MAX_COMMENT = 256
_DAY_SECONDS = 86_400
_ROTATION_DAYS = range(7, 731)
_WINDOW_DAYS = range(7, 367)
_DEFAULT_WINDOW_DAYS = 30
_MAX_TOKEN_BYTES = 8_192
_MAX_MATERIAL_BYTES = 16_384
_LONGEST_EXPIRY_US = 10 * 366 * _DAY_SECONDS * 1_000_000
_ALIAS_PATHS = frozenset(("key", "description"))


def new_key(request: CreateKeyRequest) -> NewKey:
    """What a request asks a new key to be. Raises FIELD_INVALID, FIELD_TOO_LARGE, NAME_MALFORMED, KEY_USAGE_INVALID."""
    account = names.parse_account(request.parent, "parent")
    key_id = names.check_id(request.key_id, "keys", "key_id") if request.key_id else identifiers.resource_id("key")
    asked = request.key
    if asked.origin not in pb.KeyOrigin.values():
        raise invalid("key.origin", "is not an origin of keys")
    if asked.protection_level not in pb.ProtectionLevel.values():
        raise invalid("key.protection_level", "is not a protection level")
    spec = _spec(asked.spec)
    if asked.HasField("rotation_policy"):
        check_rotates(spec, asked.origin or pb.KEY_ORIGIN_STRONGROOM, "key.rotation_policy")
    return NewKey(
        names.ResourceName(account, "keys", key_id),
        spec,
        _usage(spec, asked.usage),
        asked.protection_level or pb.PROTECTION_LEVEL_SOFTWARE,
        asked.origin or pb.KEY_ORIGIN_STRONGROOM,
        check_text(asked.description, "key.description"),
        check_tags(asked.tags, "key.tags"),
        asked.deletion_protection,
        rotation_period(asked, "key.rotation_policy"),
    )


def rotation_period(asked: pb.Key | UpdateRotationPolicyRequest, field: str) -> int | None:
    """Seconds from one version to the next, None without a policy. Raises FIELD_INVALID unless they are whole seconds
    of 7 to 730 days."""
    if not asked.HasField("rotation_policy"):
        return None
    return _whole_seconds(asked.rotation_policy.period, _ROTATION_DAYS, f"{field}.period")


def deletion_window(request: ScheduleKeyDeletionRequest) -> int:
    """Seconds until a key is destroyed: 30 days by default. Raises FIELD_INVALID outside 7 to 366 days."""
    if not request.HasField("pending_window"):
        return _DEFAULT_WINDOW_DAYS * _DAY_SECONDS
    return _whole_seconds(request.pending_window, _WINDOW_DAYS, "pending_window")


def waiting_period(request: DestroyKeyVersionRequest) -> int | None:
    """Seconds until a version is destroyed; None for at once. Raises FIELD_INVALID outside 7 to 366 days."""
    if not request.HasField("waiting_period"):
        return None
    return _whole_seconds(request.waiting_period, _WINDOW_DAYS, "waiting_period")


def comment(request: SetDeletionProtectionRequest) -> str:
    """Why, in the caller's words. Raises FIELD_TOO_LARGE."""
    return check_text(request.comment, "comment", _MAX_COMMENT)


def description_change(request: UpdateKeyRequest) -> str:
    """The description that a key is to have. Raises FIELD_INVALID for a mask that names anything else."""
    changed_paths(request.update_mask, ("description",))
    return check_text(request.key.description, "key.description")


def new_alias(request: CreateAliasRequest) -> AliasContent:
    """What a request asks a new alias to be. Raises FIELD_REQUIRED, FIELD_INVALID, FIELD_TOO_LARGE, NAME_MALFORMED."""
    account = names.parse_account(request.parent, "parent")
    if not request.alias_id:
        raise required("alias_id")
    alias_id = names.check_id(request.alias_id, "aliases", "alias_id")
    return _alias_content(names.ResourceName(account, "aliases", alias_id), request.alias)


def alias_change(request: UpdateAliasRequest) -> tuple[AliasContent, Collection[str]]:
    """What a request asks an alias to become, and which of its fields. Raises as `new_alias` does."""
    name = names.parse(request.alias.name, "alias.name", "aliases")
    paths = changed_paths(request.update_mask, _ALIAS_PATHS)
    if "key" in paths:
        return _alias_content(name, request.alias), paths
    # The key stays; its own name is not looked at.
    description = check_text(request.alias.description, "alias.description")
    return AliasContent(name, name, description), paths


def key_message(key: Key) -> pb.Key:
    """A key as callers see it."""
    return pb.Key(
        name=str(key.name),
        uid=key.uid,
        spec=key.spec,
        usage=key.usage,
        protection_level=key.protection_level,
        origin=key.origin,
        state=key.state,
        description=key.description,
        tags=key.tags,
        deletion_protection=key.deletion_protection,
        primary_version=key.primary_version,
        create_time=clock.from_microseconds(key.created_us),
        update_time=clock.from_microseconds(key.updated_us),
        last_rotate_time=clock.from_microseconds(key.rotated_us),
        etag=str(key.revision),
        rotation_policy=_rotation_policy(key.rotation_period_s),
        next_rotate_time=_moment(key.next_rotate_us),
        delete_time=_moment(key.delete_us),
        destroy_time=_moment(key.destroyed_us),
        expire_time=_moment(key.expires_us),
    )


def _rotation_policy(period_s: int | None) -> pb.RotationPolicy | None:
    return None if period_s is None else pb.RotationPolicy(period=Duration(seconds=period_s))


def _moment(us: int | None) -> Timestamp | None:
    return None if us is None else clock.from_microseconds(us)


def version_message(key: Key, version: Version) -> pb.KeyVersion:
    """A version as callers see it."""
    return pb.KeyVersion(
        name=str(key.version_name(version.version)),
        state=version.state,
        primary=version.version == key.primary_version,
        origin=version.origin,
        public_key_sha256=sha256(version.public_key).digest() if version.public_key else b"",
        root_version=version.root_version,
        create_time=clock.from_microseconds(version.created_us),
        message_count=version.message_count,
        retire_time=_moment(version.retired_us),
        import_time=_moment(version.imported_us),
        expire_time=_moment(version.expires_us),
        destroy_time=_moment(version.destroyed_us),
    )


def root_key_message(status: Status) -> root_pb.RootKeyStatus:
    """The root key as administrators of the mesh see it."""
    made = {version.version: version.create_time for version in status.provider.versions if version.create_time.seconds}
    present = [version.version for version in status.provider.versions]
    return root_pb.RootKeyStatus(
        versions=[
            root_pb.RootKeyVersion(
                version=version,
                state=_root_state(version, present),
                blob_count=status.blob_counts.get(version, 0),
                create_time=made.get(version),
                retire_time=_moment(status.retirements.get(version)),
            )
            for version in sorted({*present, *status.retirements})
        ],
        current_version=present[-1],
        provider=status.provider.provider,
        rotation=_rotation_message(status.rotation) if status.rotation is not None else None,
    )


def _root_state(version: int, present: list[int]) -> root_pb.RootKeyVersionState.ValueType:
    if version == present[-1]:
        return root_pb.ROOT_KEY_VERSION_STATE_CURRENT
    if version in present:
        return root_pb.ROOT_KEY_VERSION_STATE_UNWRAP_ONLY
    return root_pb.ROOT_KEY_VERSION_STATE_RETIRED


def _rotation_message(rotation: Rotation) -> root_pb.RootKeyRotation:
    return root_pb.RootKeyRotation(
        target_version=rotation.target_version,
        state=rotation.state,
        total_count=rotation.total_count,
        done_count=rotation.done_count,
        failed_count=rotation.failed_count,
        last_error_reason=rotation.error_reason,
        last_error_detail=rotation.error_detail,
        start_time=clock.from_microseconds(rotation.started_us),
        progress_time=clock.from_microseconds(rotation.progressed_us),
        end_time=_moment(rotation.ended_us),
    )


def alias_message(alias: Alias) -> pb.Alias:
    """An alias as callers see it."""
    return pb.Alias(
        name=str(alias.name),
        key=str(alias.key),
        description=alias.description,
        create_time=clock.from_microseconds(alias.created_us),
        update_time=clock.from_microseconds(alias.updated_us),
        etag=str(alias.revision),
    )


def import_message(begun: Begun, method: pb.ImportMethod.ValueType) -> GetParametersForImportResponse:
    """What the owner of material needs in order to wrap and import it."""
    parameters = begun.parameters
    return GetParametersForImportResponse(
        name=str(begun.version),
        import_method=method,
        public_key=parameters.public_key,
        public_key_crc32c=checksums.crc32c(parameters.public_key),
        import_token=parameters.token,
        expire_time=clock.from_microseconds(begun.expire_us),
        protection_level=parameters.protection_level,
    )


def material_to_import(request: ImportKeyMaterialRequest, now_us: int) -> int | None:
    """When the material of a request is to expire, None for never. Raises FIELD_REQUIRED, FIELD_TOO_LARGE,
    CHECKSUM_MISMATCH for the material and the token, and FIELD_INVALID for an expiry that is not in the next 10
    years."""
    for field, limit in (("import_token", _MAX_TOKEN_BYTES), ("encrypted_material", _MAX_MATERIAL_BYTES)):
        given: bytes = getattr(request, field)
        if not given:
            raise required(field)
        if len(given) > limit:
            raise too_large(field, limit)
    checksums.verify_given(request, "encrypted_material_crc32c", request.encrypted_material)
    if not request.HasField("material_expire_time"):
        return None
    expires_us = clock.microseconds(request.material_expire_time)
    if not now_us < expires_us <= now_us + _LONGEST_EXPIRY_US:
        raise invalid("material_expire_time", "is not within the next 10 years")
    return expires_us


def _alias_content(name: names.ResourceName, asked: pb.Alias) -> AliasContent:
    key = names.parse(asked.key, "alias.key", "keys")
    if key.account != name.account:
        raise invalid("alias.key", "is not of the alias's account")
    return AliasContent(name, key, check_text(asked.description, "alias.description"))


def _spec(asked: pb.KeySpec.ValueType) -> pb.KeySpec.ValueType:
    if asked not in pb.KeySpec.values():
        raise invalid("key.spec", "is not a spec of keys")
    return asked or pb.KEY_SPEC_AES_256


def _usage(spec: pb.KeySpec.ValueType, asked: pb.KeyUsage.ValueType) -> pb.KeyUsage.ValueType:
    if asked not in pb.KeyUsage.values():
        raise invalid("key.usage", "is not a usage of keys")
    usages = USAGES[spec]
    if not asked and len(usages) > 1:
        raise required("key.usage")
    if asked and asked not in usages:
        fitting = " or ".join(map(usage_name, usages))
        raise StrongroomError(Reason.KEY_USAGE_INVALID, f"{spec_name(spec)} keys are for {fitting}", field="key.usage")
    return asked or usages[0]


def _whole_seconds(asked: Duration, days: range, field: str) -> int:
    first, last = days.start * _DAY_SECONDS, (days.stop - 1) * _DAY_SECONDS
    if asked.nanos or not first <= asked.seconds <= last:
        raise invalid(field, f"is not {days.start} to {days.stop - 1} days in whole seconds")
    return asked.seconds
