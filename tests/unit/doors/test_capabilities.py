"""What a caller is told that it may do at a path is what the door would do there for it."""

from __future__ import annotations

from typing import Any, cast

import pytest

from services.doors.settings import Mount
from services.doors.vault.capabilities import Capabilities
from services.doors.vault.system import System
from strongroom.access.v1.access_service_pb2 import SimulateAccessRequest, SimulateAccessResponse
from tests.support.clocks import StillClock
from tests.unit.doors.meshes import CALLER, AnsweringMesh, asked

MOUNTS = {
    "secret": Mount(type="kv-v2"),
    "kv": Mount(type="kv-v1"),
    "transit": Mount(type="transit"),
    "mariadb": Mount(type="kv-v2", prefix="mariadb"),
}
KEY, SECRET, ACCOUNT = "accounts/shop/keys/k", "accounts/shop/secrets/a/b", "accounts/shop"
WRAPPING = "accounts/shop/keys/vault-transit-wrapping-key"


def told(path: str, *permitted: tuple[str, str]) -> list[str]:
    """The capabilities at a path of who may do this: actions with their resources."""

    def simulated(request: SimulateAccessRequest) -> SimulateAccessResponse:
        assert request.principal == CALLER.session.principal
        return SimulateAccessResponse(allowed=(request.action, request.resource) in permitted)

    mesh = AnsweringMesh({"SimulateAccess": simulated})
    return Capabilities(mesh.mesh, MOUNTS).of(CALLER, [path])[path]


@pytest.mark.parametrize(
    ("path", "capability", "needs"),
    [
        ("transit/encrypt/k", "update", "crypto:Encrypt"),
        ("transit/encrypt/k", "update", "crypto:AsymmetricEncrypt"),
        ("transit/decrypt/k", "update", "crypto:AsymmetricDecrypt"),
        ("transit/rewrap/k", "update", "crypto:ReEncryptFrom crypto:ReEncryptTo"),
        ("transit/datakey/plaintext/k", "update", "crypto:GenerateDataKey"),
        ("transit/datakey/wrapped/k", "update", "crypto:GenerateDataKeyWithoutPlaintext"),
        ("transit/sign/k/sha2-256", "update", "crypto:Sign"),
        ("transit/verify/k", "update", "crypto:VerifyMac"),
        ("transit/hmac/k", "update", "crypto:GenerateMac"),
        ("transit/keys/k", "read", "keystore:GetKey keystore:ListKeyVersions"),
        ("transit/keys/k", "delete", "keystore:GetKey keystore:ScheduleKeyDeletion"),
        ("transit/keys/k/rotate", "update", "keystore:CreateKeyVersion"),
        ("transit/keys/k/config", "update", "keystore:GetKey keystore:UpdateRotationPolicy"),
        (
            "transit/keys/k/trim",
            "update",
            "keystore:ListKeyVersions keystore:DestroyKeyVersion keystore:SetDeletionProtection",
        ),
    ],
)
def test_what_is_done_with_a_key_needs_what_the_door_asks_for(path: str, capability: str, needs: str) -> None:
    actions = [(action, KEY) for action in needs.split()]
    assert told(path, *actions) == [capability]
    for left_out in actions:
        assert told(path, *(one for one in actions if one != left_out)) == ["deny"]
    assert told(path, *((action, f"{KEY}-other") for action, _ in actions)) == ["deny"]


@pytest.mark.parametrize(
    ("path", "capabilities", "needs"),
    [
        ("transit/keys", ["list"], [("keystore:ListKeys", ACCOUNT)]),
        ("transit/keys/k", ["create", "update"], [("keystore:CreateKey", ACCOUNT)]),
        ("transit/wrapping_key", ["read"], [("crypto:GetPublicKey", WRAPPING)]),
        ("transit/random/32", ["update"], [("crypto:GenerateRandom", ACCOUNT)]),
        ("sys/wrapping/wrap", ["update"], [("secrets:CreateSecret", ACCOUNT)]),
        ("secret/data/a/b", ["read"], [("secrets:GetSecretValue", SECRET)]),
        (
            "secret/data/a/b",
            ["read", "update", "patch"],
            [("secrets:GetSecretValue", SECRET), ("secrets:PutSecretValue", SECRET)],
        ),
        ("secret/metadata/a/b", ["list"], [("secrets:ListSecrets", ACCOUNT)]),
        ("secret/metadata", ["list"], [("secrets:ListSecrets", ACCOUNT)]),
        ("mariadb/destroy/1", ["update"], [("secrets:DestroySecretVersion", "accounts/shop/secrets/mariadb/1")]),
        ("kv/a/b", ["read"], [("secrets:GetSecretValue", SECRET), ("secrets:DisableSecretVersion", SECRET)]),
        ("kv", ["list"], [("secrets:ListSecrets", ACCOUNT)]),
        (
            "transit/keys/k/import",
            ["update"],
            [
                ("keystore:CreateKey", ACCOUNT),
                ("crypto:AsymmetricDecrypt", WRAPPING),
                ("keystore:GetParametersForImport", KEY),
                ("keystore:ImportKeyMaterial", KEY),
            ],
        ),
    ],
)
def test_what_else_there_is_needs_what_it_is_of(
    path: str, capabilities: list[str], needs: list[tuple[str, str]]
) -> None:
    assert told(path, *needs) == capabilities
    assert told(path) == ["deny"]


@pytest.mark.parametrize(
    ("path", "capabilities"),
    [
        ("transit/hash/sha2-256", ["update"]),
        ("auth/token/lookup-self", ["read", "update"]),
        ("auth/token/renew-self", ["update"]),
        ("auth/approle/login", ["update"]),
        ("sys/mounts", ["read"]),
        ("sys/internal/ui/mounts/secret/a/b", ["read"]),
        ("sys/capabilities-self", ["update"]),
        ("secret/config", ["read", "update"]),
    ],
)
def test_what_everybody_may_do_the_mesh_is_not_asked_for(path: str, capabilities: list[str]) -> None:
    assert Capabilities(AnsweringMesh({}).mesh, MOUNTS).of(CALLER, [path])[path] == capabilities


@pytest.mark.parametrize(
    "path",
    [
        "nowhere/x",
        "transit",
        "transit/nothing",
        "transit/encrypt",
        "transit/encrypt/No",
        "transit/keys/k/nothing",
        "transit/export/encryption-key/k",
        "secret/data",
        "secret/data/No",
        "secret/data/a//b",
        "sys/seal",
        "auth/token/create",
    ],
)
def test_nobody_may_do_anything_where_nothing_is(path: str) -> None:
    mesh = AnsweringMesh({"SimulateAccess": SimulateAccessResponse(allowed=True)})
    assert Capabilities(mesh.mesh, MOUNTS).of(CALLER, [path])[path] == ["deny"]


def test_the_mesh_is_asked_once_for_each_action_on_a_resource() -> None:
    mesh = AnsweringMesh({"SimulateAccess": SimulateAccessResponse(allowed=False)})
    Capabilities(mesh.mesh, MOUNTS).of(CALLER, ["transit/keys/k/config"] * 3)
    assert len(mesh.asked) == 1


def test_whoever_has_a_token_is_told_what_it_may_do() -> None:
    mesh = AnsweringMesh({"GetCallerIdentity": None, "SimulateAccess": SimulateAccessResponse(allowed=True)})
    system = System(mesh.mesh, cast(Any, None), MOUNTS, cast(Any, Tokens()), StillClock(0))
    body = {"token": "theirs", "paths": ["transit/encrypt/k"]}
    status, said = asked(system, "capabilities", body=body)
    assert (status, said["data"]["transit/encrypt/k"]) == (200, ["update"])


class Tokens:
    """Callers by their tokens."""

    def of_another(self, request: Any) -> Any:
        assert request.text("token") == "theirs"
        return request
