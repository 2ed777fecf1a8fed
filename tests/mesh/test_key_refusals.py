"""Everything that KeyService refuses, method by method: the reason, and the field that is at fault."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from deploy.dev.mesh import Mesh
from strongroom import Client
from strongroom.errors import from_rpc_error
from strongroom.keystore.v1 import key_pb2 as k
from strongroom.keystore.v1 import key_service_pb2 as pb
from strongroom.keystore.v1.key_service_pb2_grpc import KeyServiceStub
from tests.support.clients import client_of, refusal

PARENT = "accounts/default"
DAY = 86_400
UNKNOWN: Any = 9_999
INVALID = "KEY_STATE_INVALID"


def key_name(state: str) -> str:
    return f"{PARENT}/keys/key-refusals-{state}"


class World:
    """A caller of keystore, with a key in each state that one can be brought to within a test."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._stub = KeyServiceStub(channel)

    def told(self, method: str, request: Message) -> tuple[str, str]:
        """The reason and the field of a refusal."""
        error = refusal(lambda: self.call(method, request))
        return error.reason, error.field

    def call(self, method: str, request: Message) -> None:
        try:
            getattr(self._stub, method)(request, timeout=10)
        except grpc.RpcError as error:
            raise from_rpc_error(error, "keystore") from None


@pytest.fixture(scope="module")
def world(mesh: Mesh) -> Iterator[World]:
    with client_of(mesh) as client, mesh.channel("keystore") as channel:
        for state in ("enabled", "disabled", "pending-deletion", "pending-import", "protected", "imported", "signing"):
            external = state in ("pending-import", "imported")
            client.keys.create(
                key_name(state).rpartition("/")[2],
                spec="ED25519" if state == "signing" else "AES_256",
                origin="EXTERNAL" if external else "STRONGROOM",
                deletion_protection=state == "protected",
            )
        client.keys.material.wrap_and_import(key_name("imported"), bytes(32))
        # Versions: 1 destroyed, 2 disabled, 3 enabled, 4 primary.
        for state in ("enabled", "protected"):
            for _ in range(3):
                client.keys.rotate(key_name(state))
        for version in (1, 2):
            client.keys.versions.disable(f"{key_name('enabled')}/versions/{version}")
        client.keys.versions.disable(f"{key_name('protected')}/versions/2")
        client.keys.versions.destroy(f"{key_name('enabled')}/versions/1")
        client.keys.rotate(key_name("imported"))
        client.keys.disable(key_name("disabled"))
        client.keys.schedule_deletion(key_name("pending-deletion"))
        client.keys.aliases.create("key-refusals", key_name("enabled"))
        yield World(channel)


@dataclass(frozen=True)
class Method:
    """A method that names a key: a request that is right but for the name."""

    name: str
    request: Callable[[str], Message]
    field: str = "name"
    of_version: bool = False
    alias: bool = True


METHODS = [
    Method("GetKey", lambda name: pb.GetKeyRequest(name=name)),
    Method("UpdateKey", lambda name: pb.UpdateKeyRequest(key=k.Key(name=name)), "key.name"),
    Method("EnableKey", lambda name: pb.EnableKeyRequest(name=name)),
    Method("DisableKey", lambda name: pb.DisableKeyRequest(name=name)),
    Method("SetDeletionProtection", lambda name: pb.SetDeletionProtectionRequest(name=name)),
    Method("ScheduleKeyDeletion", lambda name: pb.ScheduleKeyDeletionRequest(name=name), alias=False),
    Method("CancelKeyDeletion", lambda name: pb.CancelKeyDeletionRequest(name=name)),
    Method("TagKey", lambda name: pb.TagKeyRequest(name=name, tags={"a": "b"})),
    Method("UntagKey", lambda name: pb.UntagKeyRequest(name=name, tag_keys=["a"])),
    Method("UpdateRotationPolicy", lambda name: pb.UpdateRotationPolicyRequest(name=name)),
    Method("ListKeyVersions", lambda name: pb.ListKeyVersionsRequest(parent=name), "parent"),
    Method("CreateKeyVersion", lambda name: pb.CreateKeyVersionRequest(parent=name), "parent"),
    Method("GetKeyVersion", lambda name: pb.GetKeyVersionRequest(name=name), of_version=True),
    Method("EnableKeyVersion", lambda name: pb.EnableKeyVersionRequest(name=name), of_version=True),
    Method("DisableKeyVersion", lambda name: pb.DisableKeyVersionRequest(name=name), of_version=True),
    Method("DestroyKeyVersion", lambda name: pb.DestroyKeyVersionRequest(name=name), of_version=True),
    Method(
        "CancelKeyVersionDestruction", lambda name: pb.CancelKeyVersionDestructionRequest(name=name), of_version=True
    ),
    Method("SetPrimaryKeyVersion", lambda name: pb.SetPrimaryKeyVersionRequest(name=name), of_version=True),
    Method(
        "GetParametersForImport",
        lambda name: pb.GetParametersForImportRequest(
            name=name, import_method=k.IMPORT_METHOD_RSA_AES_KEY_WRAP_3072_SHA256
        ),
    ),
    Method(
        "ImportKeyMaterial",
        lambda name: pb.ImportKeyMaterialRequest(name=name, import_token=b"t", encrypted_material=b"m"),
    ),
    Method("DeleteImportedKeyMaterial", lambda name: pb.DeleteImportedKeyMaterialRequest(name=name)),
]
REQUESTS = {method.name: method.request for method in METHODS}
# Those that name something else, or nothing.
OTHERS = {"CreateKey", "ListKeys", "CreateAlias", "GetAlias", "ListAliases", "UpdateAlias", "DeleteAlias"} | {
    "RotateRootKey",
    "GetRootKeyStatus",
}

by_method = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)


def test_every_method_is_here() -> None:
    assert set(REQUESTS) | OTHERS == {method.name for method in pb.DESCRIPTOR.services_by_name["KeyService"].methods}


@by_method
def test_a_key_has_to_be_named(world: World, method: Method) -> None:
    assert world.told(method.name, method.request("")) == ("FIELD_REQUIRED", method.field)
    malformed = ["x", f"{PARENT}/secrets/x", f"{PARENT}/keys/Capital", f"{PARENT}/keys/x/versions/0"]
    if method.of_version:
        malformed += [key_name("enabled"), f"{PARENT}/aliases/key-refusals/versions/1"]
    elif method.name not in ("GetParametersForImport", "ImportKeyMaterial", "DeleteImportedKeyMaterial"):
        malformed.append(f"{key_name('enabled')}/versions/1")
    if not method.alias:
        malformed.append(f"{PARENT}/aliases/key-refusals")
    for name in malformed:
        assert world.told(method.name, method.request(name)) == ("NAME_MALFORMED", method.field)


@by_method
def test_a_key_has_to_be_there(world: World, method: Method) -> None:
    suffix = "/versions/1" if method.of_version else ""
    assert world.told(method.name, method.request(f"{PARENT}/keys/absent{suffix}"))[0] == "KEY_NOT_FOUND"
    assert world.told(method.name, method.request(f"accounts/other/keys/absent{suffix}"))[0] == "PERMISSION_DENIED"
    if method.of_version:
        missing = f"{key_name('enabled')}/versions/9"
        assert world.told(method.name, method.request(missing))[0] == "KEY_VERSION_NOT_FOUND"
    elif method.alias:
        assert world.told(method.name, method.request(f"{PARENT}/aliases/absent"))[0] == "ALIAS_NOT_FOUND"


# What each state forbids; what it allows is in test_lifecycle, and random lives are in tests/unit/keystore.
@pytest.mark.parametrize(
    ("method", "name", "reason"),
    [
        *((method, "pending-deletion", INVALID) for method in ("EnableKey", "DisableKey", "SetDeletionProtection")),
        *((method, "pending-deletion", INVALID) for method in ("ScheduleKeyDeletion", "UpdateRotationPolicy")),
        *((method, "pending-deletion", INVALID) for method in ("CreateKeyVersion", "GetParametersForImport")),
        ("DeleteImportedKeyMaterial", "pending-deletion", INVALID),
        *((method, "pending-deletion/versions/1", INVALID) for method in ("EnableKeyVersion", "DisableKeyVersion")),
        *((method, "pending-deletion/versions/1", INVALID) for method in ("DestroyKeyVersion", "SetPrimaryKeyVersion")),
        *((method, "pending-import", INVALID) for method in ("EnableKey", "DisableKey", "CreateKeyVersion")),
        *((method, "pending-import", INVALID) for method in ("CancelKeyDeletion", "DeleteImportedKeyMaterial")),
        *((method, "pending-import/versions/1", INVALID) for method in ("EnableKeyVersion", "DisableKeyVersion")),
        *((method, "pending-import/versions/1", INVALID) for method in ("DestroyKeyVersion", "SetPrimaryKeyVersion")),
        ("CreateKeyVersion", "disabled", "KEY_DISABLED"),
        ("CancelKeyDeletion", "disabled", INVALID),
        ("CancelKeyDeletion", "enabled", INVALID),
        ("GetParametersForImport", "enabled", INVALID),
        ("DeleteImportedKeyMaterial", "enabled", INVALID),
        ("ScheduleKeyDeletion", "protected", "DELETION_PROTECTED"),
        ("DestroyKeyVersion", "protected/versions/2", "DELETION_PROTECTED"),
        # The primary version, an enabled one, a disabled one, a destroyed one.
        *((method, "enabled/versions/4", INVALID) for method in ("DisableKeyVersion", "DestroyKeyVersion")),
        ("EnableKeyVersion", "enabled/versions/4", INVALID),
        *((method, "enabled/versions/3", INVALID) for method in ("EnableKeyVersion", "DestroyKeyVersion")),
        *((method, "enabled/versions/2", INVALID) for method in ("DisableKeyVersion", "SetPrimaryKeyVersion")),
        *((method, "enabled/versions/1", INVALID) for method in ("EnableKeyVersion", "DisableKeyVersion")),
        *((method, "enabled/versions/1", INVALID) for method in ("DestroyKeyVersion", "SetPrimaryKeyVersion")),
        *(("CancelKeyVersionDestruction", f"enabled/versions/{number}", INVALID) for number in (1, 2, 3, 4)),
        # A version that waits for material.
        ("CreateKeyVersion", "imported", INVALID),
        *((method, "imported/versions/2", INVALID) for method in ("EnableKeyVersion", "DisableKeyVersion")),
        ("SetPrimaryKeyVersion", "imported/versions/2", INVALID),
        ("DeleteImportedKeyMaterial", "imported/versions/2", INVALID),
    ],
)
def test_a_state_that_forbids_it_refuses(world: World, method: str, name: str, reason: str) -> None:
    assert world.told(method, REQUESTS[method](key_name(name)))[0] == reason


def _create(key: k.Key | None = None, key_id: str = "refused", **given: Any) -> Message:
    return pb.CreateKeyRequest(**{"parent": PARENT, "key_id": key_id, "key": key or k.Key(), **given})


def _days(days: float) -> Duration:
    return Duration(seconds=int(days * DAY))


def _policy(period: Duration) -> k.RotationPolicy:
    return k.RotationPolicy(period=period)


def _window(window: Duration) -> Message:
    return pb.ScheduleKeyDeletionRequest(name=key_name("enabled"), pending_window=window)


def _tag(tags: dict[str, str]) -> Message:
    return pb.TagKeyRequest(name=key_name("enabled"), tags=tags)


def _alias(key: str = "", alias_id: str = "refused", **given: Any) -> Message:
    return pb.CreateAliasRequest(
        parent=PARENT, alias_id=alias_id, alias=k.Alias(key=key or key_name("enabled"), **given)
    )


def _move(key: str, **given: Any) -> Message:
    alias = k.Alias(name=f"{PARENT}/aliases/key-refusals", key=key, **given)
    return pb.UpdateAliasRequest(alias=alias)


def _listing(message: type[Any], **given: Any) -> Message:
    request: Message = message(**given)
    return request


def _import(**given: Any) -> Message:
    wanted = {"name": key_name("pending-import"), "import_token": b"t", "encrypted_material": b"m", **given}
    return pb.ImportKeyMaterialRequest(**wanted)


TAGS_51 = {f"tag-{number}": "" for number in range(51)}
LIMITS: dict[str, tuple[dict[str, str], str]] = {
    "51 tags": (TAGS_51, "FIELD_TOO_LARGE"),
    "an empty tag key": ({"": "b"}, "FIELD_INVALID"),
    "a tag key of 129 characters": ({"k" * 129: "b"}, "FIELD_TOO_LARGE"),
    "a tag value of 257 characters": ({"a": "v" * 257}, "FIELD_TOO_LARGE"),
}
FIELDS: dict[str, tuple[str, Message, str, str]] = {
    # --- CreateKey
    "no parent": ("CreateKey", _create(parent=""), "FIELD_REQUIRED", "parent"),
    "a malformed parent": ("CreateKey", _create(parent="default"), "NAME_MALFORMED", "parent"),
    "a malformed id": ("CreateKey", _create(key_id="Capital"), "FIELD_INVALID", "key_id"),
    "an id of 64 characters": ("CreateKey", _create(key_id="k" * 64), "FIELD_INVALID", "key_id"),
    "an id in use": ("CreateKey", _create(key_id="key-refusals-enabled"), "ALREADY_EXISTS", "key_id"),
    "an unknown spec": ("CreateKey", _create(k.Key(spec=UNKNOWN)), "FIELD_INVALID", "key.spec"),
    "an unknown usage": ("CreateKey", _create(k.Key(usage=UNKNOWN)), "FIELD_INVALID", "key.usage"),
    "an unknown level": (
        "CreateKey",
        _create(k.Key(protection_level=UNKNOWN)),
        "FIELD_INVALID",
        "key.protection_level",
    ),
    "an unknown origin": ("CreateKey", _create(k.Key(origin=UNKNOWN)), "FIELD_INVALID", "key.origin"),
    "no usage of several": ("CreateKey", _create(k.Key(spec=k.KEY_SPEC_RSA_2048)), "FIELD_REQUIRED", "key.usage"),
    "another usage": ("CreateKey", _create(k.Key(usage=k.KEY_USAGE_SIGN_VERIFY)), "KEY_USAGE_INVALID", "key.usage"),
    "a spec that the token lacks": (
        "CreateKey",
        _create(k.Key(spec=k.KEY_SPEC_SM4, protection_level=k.PROTECTION_LEVEL_HSM)),
        "UNSUPPORTED_IN_HSM",
        "protection_level",
    ),
    "a description of 1,025 characters": (
        "CreateKey",
        _create(k.Key(description="d" * 1_025)),
        "FIELD_TOO_LARGE",
        "key.description",
    ),
    **{
        f"{what} at creation": ("CreateKey", _create(k.Key(tags=tags)), why, "key.tags")
        for what, (tags, why) in LIMITS.items()
    },
    **{
        f"a rotation period of {what}": (
            "CreateKey",
            _create(k.Key(rotation_policy=_policy(period))),
            "FIELD_INVALID",
            "key.rotation_policy.period",
        )
        for what, period in (
            ("nothing", Duration()),
            ("less than 7 days", Duration(seconds=7 * DAY - 1)),
            ("more than 730 days", Duration(seconds=730 * DAY + 1)),
            ("7 days and a half second", Duration(seconds=7 * DAY, nanos=500_000_000)),
        )
    },
    "rotation of a signing key": (
        "CreateKey",
        _create(k.Key(spec=k.KEY_SPEC_ED25519, rotation_policy=_policy(_days(30)))),
        "FIELD_INVALID",
        "key.rotation_policy",
    ),
    "rotation of imported material": (
        "CreateKey",
        _create(k.Key(origin=k.KEY_ORIGIN_EXTERNAL, rotation_policy=_policy(_days(30)))),
        "FIELD_INVALID",
        "key.rotation_policy",
    ),
    "a request id that is no UUID": ("CreateKey", _create(request_id="1"), "FIELD_INVALID", "request_id"),
    # --- changes of a key
    "an unknown path": (
        "UpdateKey",
        pb.UpdateKeyRequest(key=k.Key(name=key_name("enabled")), update_mask=FieldMask(paths=["spec"])),
        "FIELD_INVALID",
        "update_mask",
    ),
    "a new description of 1,025 characters": (
        "UpdateKey",
        pb.UpdateKeyRequest(key=k.Key(name=key_name("enabled"), description="d" * 1_025)),
        "FIELD_TOO_LARGE",
        "key.description",
    ),
    "an old etag": (
        "UpdateKey",
        pb.UpdateKeyRequest(key=k.Key(name=key_name("enabled"), etag="0")),
        "ETAG_MISMATCH",
        "key.etag",
    ),
    "a comment of 257 characters": (
        "SetDeletionProtection",
        pb.SetDeletionProtectionRequest(name=key_name("enabled"), comment="c" * 257),
        "FIELD_TOO_LARGE",
        "comment",
    ),
    **{
        f"a window of {what}": ("ScheduleKeyDeletion", _window(window), "FIELD_INVALID", "pending_window")
        for what, window in (
            ("nothing", Duration()),
            ("less than 7 days", Duration(seconds=7 * DAY - 1)),
            ("more than 366 days", Duration(seconds=366 * DAY + 1)),
            ("-7 days", _days(-7)),
            ("7 days and a nanosecond", Duration(seconds=7 * DAY, nanos=1)),
        )
    },
    "no tags": ("TagKey", _tag({}), "FIELD_REQUIRED", "tags"),
    **{what: ("TagKey", _tag(tags), why, "tags") for what, (tags, why) in LIMITS.items()},
    "no tag keys": ("UntagKey", pb.UntagKeyRequest(name=key_name("enabled")), "FIELD_REQUIRED", "tag_keys"),
    **{
        f"a new rotation period of {days} days": (
            "UpdateRotationPolicy",
            pb.UpdateRotationPolicyRequest(name=key_name("enabled"), rotation_policy=_policy(_days(days))),
            "FIELD_INVALID",
            "rotation_policy.period",
        )
        for days in (0, 6, 731)
    },
    **{
        f"rotation of a key that is {state}": (
            "UpdateRotationPolicy",
            pb.UpdateRotationPolicyRequest(name=key_name(state), rotation_policy=_policy(_days(30))),
            "FIELD_INVALID",
            "rotation_policy",
        )
        for state in ("signing", "imported")
    },
    "a version's request id that is no UUID": (
        "CreateKeyVersion",
        pb.CreateKeyVersionRequest(parent=key_name("enabled"), request_id="1"),
        "FIELD_INVALID",
        "request_id",
    ),
    # --- lists
    **{
        f"{method} {what}": (method, _listing(request, parent=name, **given), why, field)
        for method, request, name in (
            ("ListKeys", pb.ListKeysRequest, PARENT),
            ("ListKeyVersions", pb.ListKeyVersionsRequest, key_name("enabled")),
            ("ListAliases", pb.ListAliasesRequest, PARENT),
        )
        for what, given, why, field in (
            ("with a negative page size", {"page_size": -1}, "FIELD_INVALID", "page_size"),
            ("with a page token of nobody's", {"page_token": "AAAA"}, "PAGE_TOKEN_INVALID", "page_token"),
            ("with a page token that is no base64", {"page_token": "%"}, "PAGE_TOKEN_INVALID", "page_token"),
            ("with an unknown field", {"filter": "colour = red"}, "FIELD_INVALID", "filter"),
            ("without a value", {"filter": "state"}, "FIELD_INVALID", "filter"),
            ("with a long filter", {"filter": "x" * 4_097}, "FIELD_INVALID", "filter"),
        )
    },
    "an unknown state": (
        "ListKeys",
        pb.ListKeysRequest(parent=PARENT, filter="state = ASLEEP"),
        "FIELD_INVALID",
        "filter",
    ),
    "11 terms": (
        "ListKeys",
        pb.ListKeysRequest(parent=PARENT, filter=" AND ".join(["state = ENABLED"] * 11)),
        "FIELD_INVALID",
        "filter",
    ),
    "a list of no parent": ("ListKeys", pb.ListKeysRequest(), "FIELD_REQUIRED", "parent"),
    "a list of another account": (
        "ListKeys",
        pb.ListKeysRequest(parent="accounts/other"),
        "PERMISSION_DENIED",
        "",
    ),
    "aliases of no parent": ("ListAliases", pb.ListAliasesRequest(), "FIELD_REQUIRED", "parent"),
    "aliases of what is no key": (
        "ListAliases",
        pb.ListAliasesRequest(parent=PARENT, filter="key = x"),
        "NAME_MALFORMED",
        "filter",
    ),
    # --- imports
    "no import method": (
        "GetParametersForImport",
        pb.GetParametersForImportRequest(name=key_name("pending-import")),
        "FIELD_REQUIRED",
        "import_method",
    ),
    "an unknown import method": (
        "GetParametersForImport",
        pb.GetParametersForImportRequest(name=key_name("pending-import"), import_method=UNKNOWN),
        "FIELD_INVALID",
        "import_method",
    ),
    "parameters of an absent version": (
        "GetParametersForImport",
        pb.GetParametersForImportRequest(
            name=f"{key_name('pending-import')}/versions/9", import_method=k.IMPORT_METHOD_RSA_OAEP_3072_SHA256
        ),
        "KEY_VERSION_NOT_FOUND",
        "name",
    ),
    "no import token": ("ImportKeyMaterial", _import(import_token=b""), "FIELD_REQUIRED", "import_token"),
    "a token of 8 KiB and one byte": (
        "ImportKeyMaterial",
        _import(import_token=bytes(8_193)),
        "FIELD_TOO_LARGE",
        "import_token",
    ),
    "a token of nobody's": ("ImportKeyMaterial", _import(), "IMPORT_TOKEN_INVALID", "import_token"),
    "no material": ("ImportKeyMaterial", _import(encrypted_material=b""), "FIELD_REQUIRED", "encrypted_material"),
    "material of 16 KiB and one byte": (
        "ImportKeyMaterial",
        _import(encrypted_material=bytes(16_385)),
        "FIELD_TOO_LARGE",
        "encrypted_material",
    ),
    "material that was altered": (
        "ImportKeyMaterial",
        _import(encrypted_material_crc32c=1),
        "CHECKSUM_MISMATCH",
        "encrypted_material_crc32c",
    ),
    "material that has expired": (
        "ImportKeyMaterial",
        _import(material_expire_time=Timestamp(seconds=1)),
        "FIELD_INVALID",
        "material_expire_time",
    ),
    # --- aliases
    "no alias id": ("CreateAlias", _alias(alias_id=""), "FIELD_REQUIRED", "alias_id"),
    "a malformed alias id": ("CreateAlias", _alias(alias_id="Capital"), "FIELD_INVALID", "alias_id"),
    "an alias id in use": ("CreateAlias", _alias(alias_id="key-refusals"), "ALREADY_EXISTS", "alias_id"),
    "an alias of no key": (
        "CreateAlias",
        pb.CreateAliasRequest(parent=PARENT, alias_id="refused"),
        "FIELD_REQUIRED",
        "alias.key",
    ),
    "an alias of an alias": ("CreateAlias", _alias(f"{PARENT}/aliases/key-refusals"), "NAME_MALFORMED", "alias.key"),
    "an alias of another account's key": ("CreateAlias", _alias("accounts/other/keys/a"), "FIELD_INVALID", "alias.key"),
    "an alias of an absent key": ("CreateAlias", _alias(f"{PARENT}/keys/absent"), "KEY_NOT_FOUND", "alias.key"),
    "an alias's description of 1,025 characters": (
        "CreateAlias",
        _alias(description="d" * 1_025),
        "FIELD_TOO_LARGE",
        "alias.description",
    ),
    "an alias to a key of another usage": ("UpdateAlias", _move(key_name("signing")), "FIELD_INVALID", "alias.key"),
    "an alias to an absent key": ("UpdateAlias", _move(f"{PARENT}/keys/absent"), "KEY_NOT_FOUND", "alias.key"),
    "an alias to nothing": ("UpdateAlias", _move(""), "FIELD_REQUIRED", "alias.key"),
    "an alias's old etag": ("UpdateAlias", _move(key_name("enabled"), etag="0"), "ETAG_MISMATCH", "etag"),
    "an alias's unknown path": (
        "UpdateAlias",
        pb.UpdateAliasRequest(
            alias=k.Alias(name=f"{PARENT}/aliases/key-refusals"), update_mask=FieldMask(paths=["name"])
        ),
        "FIELD_INVALID",
        "update_mask",
    ),
    "an old etag of a deletion": (
        "DeleteAlias",
        pb.DeleteAliasRequest(name=f"{PARENT}/aliases/key-refusals", etag="0"),
        "ETAG_MISMATCH",
        "etag",
    ),
    **{
        f"{method} of an absent alias": (method, request, "ALIAS_NOT_FOUND", "name")
        for method, request in (
            ("GetAlias", pb.GetAliasRequest(name=f"{PARENT}/aliases/absent")),
            ("DeleteAlias", pb.DeleteAliasRequest(name=f"{PARENT}/aliases/absent")),
        )
    },
    **{
        f"{method} of a key": (method, request, "NAME_MALFORMED", field)
        for method, request, field in (
            ("GetAlias", pb.GetAliasRequest(name=key_name("enabled")), "name"),
            ("DeleteAlias", pb.DeleteAliasRequest(name=key_name("enabled")), "name"),
            ("UpdateAlias", pb.UpdateAliasRequest(alias=k.Alias(name=key_name("enabled"))), "alias.name"),
        )
    },
    "a root rotation's request id that is no UUID": (
        "RotateRootKey",
        pb.RotateRootKeyRequest(request_id="1"),
        "FIELD_INVALID",
        "request_id",
    ),
}


@pytest.mark.parametrize("case", FIELDS)
def test_a_field_that_is_wrong_is_named(world: World, case: str) -> None:
    method, request, reason, field = FIELDS[case]
    assert world.told(method, request) == (reason, field)


def test_what_is_at_its_limit_is_taken(client: Client, name: str) -> None:
    tags = {f"{number:03}".ljust(128, "k"): "v" * 256 for number in range(50)}
    made = client.keys.create(name, description="d" * 1_024, tags=tags, rotation_period=timedelta(days=730))
    assert made.tags == tags
    assert client.keys.set_deletion_protection(name, protected=True, comment="c" * 256).deletion_protection
    assert not client.keys.set_deletion_protection(name, protected=False).deletion_protection
    assert client.keys.schedule_deletion(name, timedelta(days=366)).state == "PENDING_DELETION"
    told = [
        event.attributes.get("comment") for event in client.audit.events.list(action="keystore:SetDeletionProtection")
    ]
    assert "c" * 256 in told


def test_a_key_has_50_aliases_and_no_more(client: Client, name: str) -> None:
    key, other = client.keys.create(name).name, client.keys.create(f"{name}-other").name
    for number in range(50):
        client.keys.aliases.create(f"{name}-{number}", key)
    error = refusal(lambda: client.keys.aliases.create(f"{name}-50", key))
    assert (error.reason, error.field) == ("LIMIT_EXCEEDED", "alias.key")
    elsewhere = client.keys.aliases.create(f"{name}-50", other).name
    assert refusal(lambda: client.keys.aliases.move(elsewhere, key)).reason == "LIMIT_EXCEEDED"
    client.keys.aliases.delete(f"{name}-0")
    assert client.keys.aliases.move(elsewhere, key).key == key


def test_another_request_under_the_same_id_is_refused(world: World, name: str) -> None:
    first = _create(key_id=name, request_id="00000000-0000-4000-8000-0000000beef1")
    world.call("CreateKey", first)
    again = _create(key_id=f"{name}-2", request_id="00000000-0000-4000-8000-0000000beef1")
    assert world.told("CreateKey", again) == ("REQUEST_ID_REUSED", "request_id")
