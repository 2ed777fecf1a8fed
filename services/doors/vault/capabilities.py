"""What a caller may do at a path of Vault: the mesh is asked what it would decide, as it decides when it is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from services.doors.mesh.calls import Mesh
from services.doors.mesh.sessions import Caller
from services.doors.settings import Mount
from services.runtime.errors import Reason, StrongroomError
from strongroom.access.v1.access_service_pb2 import SimulateAccessRequest

DENY = "deny"
_VIA = "services/doors"
_NO_NAME = (Reason.NAME_MALFORMED, Reason.FIELD_INVALID)

# What each first part of a path needs: (Vault's capability, the mesh's action); on an account where it says so.
_TRANSIT: Mapping[str, Sequence[tuple[str, str]]] = {
    "encrypt": (("update", "crypto:Encrypt"),),
    "decrypt": (("update", "crypto:Decrypt"),),
    "rewrap": (("update", "crypto:ReEncryptFrom"),),
    "datakey": (("update", "crypto:GenerateDataKey"),),
    "sign": (("update", "crypto:Sign"),),
    "verify": (("update", "crypto:Verify"),),
    "hmac": (("update", "crypto:GenerateMac"),),
    "keys": (("read", "keystore:GetKey"), ("create", "keystore:CreateKey"), ("delete", "keystore:ScheduleKeyDeletion")),
}
_KV2: Mapping[str, Sequence[tuple[str, str]]] = {
    "data": (
        ("read", "secrets:GetSecretValue"),
        ("update", "secrets:PutSecretValue"),
        ("create", "secrets:CreateSecret"),
        ("delete", "secrets:DisableSecretVersion"),
    ),
    "metadata": (
        ("read", "secrets:GetSecret"),
        ("update", "secrets:UpdateSecret"),
        ("list", "secrets:ListSecrets"),
        ("delete", "secrets:ForceDeleteSecret"),
    ),
    "delete": (("update", "secrets:DisableSecretVersion"),),
    "undelete": (("update", "secrets:EnableSecretVersion"),),
    "destroy": (("update", "secrets:DestroySecretVersion"),),
}
_KV1 = (*_KV2["data"], ("list", "secrets:ListSecrets"))
_ON_ACCOUNT = frozenset({"keystore:CreateKey", "secrets:CreateSecret", "secrets:ListSecrets"})


class Capabilities:
    """Answers `capabilities-self`."""

    def __init__(self, mesh: Mesh, mounts: Mapping[str, Mount]) -> None:
        self._mesh = mesh
        self._mounts = mounts

    def of(self, caller: Caller, paths: Sequence[str]) -> dict[str, list[str]]:
        """The capabilities at each path, and those at the first under their own name. Raises StrongroomError."""
        found = {path: self._at(caller, path) for path in paths}
        return {**found, "capabilities": found[paths[0]]}

    def _at(self, caller: Caller, path: str) -> list[str]:
        mount_name, *parts = path.strip("/").split("/")
        mount = self._mounts.get(mount_name)
        if mount is None or not parts:
            return [DENY]
        asked, resource = _asked(mount, parts, caller.account)
        permitted = [
            capability for capability, action in asked if self._permits(caller, action, _target(action, resource))
        ]
        return permitted or [DENY]

    def _permits(self, caller: Caller, action: str, resource: str) -> bool:
        request = SimulateAccessRequest(
            principal=caller.session.principal,
            action=action,
            resource=resource,
            source_address=caller.address,
            via_service=_VIA,
        )
        try:
            return bool(self._mesh.ask(caller, "SimulateAccess", request).allowed)
        except StrongroomError as error:
            if error.reason in _NO_NAME:
                return False
            raise


def _asked(mount: Mount, parts: Sequence[str], account: str) -> tuple[Sequence[tuple[str, str]], str]:
    if mount.type == "transit":
        # `datakey/plaintext/{name}` has its name one part later.
        name = parts[2] if parts[0] == "datakey" and len(parts) > 2 else "".join(parts[1:2])
        return _TRANSIT.get(parts[0], ()), f"accounts/{account}/keys/{name}"
    table, names = (_KV2.get(parts[0], ()), parts[1:]) if mount.type == "kv-v2" else (_KV1, parts)
    secret = "/".join([*mount.prefix.split("/"), *names]).strip("/")
    return table, f"accounts/{account}/secrets/{secret}"


def _target(action: str, resource: str) -> str:
    if action in _ON_ACCOUNT:
        return "/".join(resource.split("/")[:2])
    return resource
