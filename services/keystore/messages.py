"""Keys, versions and aliases as the contract writes them, and requests as the domain reads them."""

from __future__ import annotations

from collections.abc import Collection
from hashlib import sha256

from services.keystore.aliases import AliasContent
from services.keystore.keys import NewKey
from services.keystore.records import Alias, Key, Version
from services.runtime import clock, identifiers, names
from services.runtime.errors import Reason, StrongroomError, invalid, required, too_large
from services.runtime.key_specs import USAGES, spec_name, usage_name
from services.runtime.tags import check_tags
from strongroom.keystore.v1 import key_pb2 as pb
from strongroom.keystore.v1.key_service_pb2 import CreateAliasRequest, CreateKeyRequest, UpdateAliasRequest

_MAX_DESCRIPTION = 1024
_ALIAS_PATHS = frozenset(("key", "description"))


def new_key(request: CreateKeyRequest) -> NewKey:
    """What a request asks a new key to be. Raises FIELD_INVALID, FIELD_TOO_LARGE, NAME_MALFORMED, KEY_USAGE_INVALID,
    and NOT_YET for what is still to come."""
    account = names.parse_account(request.parent, "parent")
    key_id = names.check_id(request.key_id, "keys", "key_id") if request.key_id else identifiers.resource_id("key")
    asked = request.key
    refuse_yet("key.origin", given=asked.origin == pb.KEY_ORIGIN_EXTERNAL)
    refuse_yet("key.rotation_policy", given=asked.HasField("rotation_policy"))
    if asked.origin not in pb.KeyOrigin.values():
        raise invalid("key.origin", "is not an origin of keys")
    if asked.protection_level not in pb.ProtectionLevel.values():
        raise invalid("key.protection_level", "is not a protection level")
    spec = _spec(asked.spec)
    return NewKey(
        names.ResourceName(account, "keys", key_id),
        spec,
        _usage(spec, asked.usage),
        asked.protection_level or pb.PROTECTION_LEVEL_SOFTWARE,
        _description(asked.description, "key.description"),
        check_tags(asked.tags, "key.tags"),
        asked.deletion_protection,
    )


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
    paths = set(request.update_mask.paths) or _ALIAS_PATHS
    unknown = sorted(paths - _ALIAS_PATHS)
    if unknown:
        raise invalid("update_mask", f"names {unknown[0]}, which cannot be changed")
    if "key" in paths:
        return _alias_content(name, request.alias), paths
    # The key stays; its own name is not looked at.
    description = _description(request.alias.description, "alias.description")
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
    )


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


def refuse_yet(field: str, *, given: bool) -> None:
    """Raises NOT_YET when a field is given whose work is still to come."""
    if given:
        raise StrongroomError(Reason.NOT_YET, f"{field} is not implemented yet", field=field)


def _alias_content(name: names.ResourceName, asked: pb.Alias) -> AliasContent:
    key = names.parse(asked.key, "alias.key", "keys")
    if key.account != name.account:
        raise invalid("alias.key", "is not of the alias's account")
    return AliasContent(name, key, _description(asked.description, "alias.description"))


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


def _description(asked: str, field: str) -> str:
    if len(asked) > _MAX_DESCRIPTION:
        raise too_large(field, _MAX_DESCRIPTION, "characters")
    return asked
