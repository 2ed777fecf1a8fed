"""What a caller may do at a path of Vault: the mesh is asked what it would decide, as it decides when it is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from services.doors.listening.exchange import HttpError
from services.doors.mesh.calls import Mesh
from services.doors.mesh.sessions import Caller
from services.doors.settings import Mount
from services.doors.vault import permissions
from services.doors.vault.kv.store import KvSecrets
from services.doors.vault.permissions import ACCOUNT, KEY, OWN, PATH, WRAPPING, Ways
from services.doors.vault.transit.imports import WRAPPING_KEY
from services.doors.vault.transit.names import full_key_name
from services.runtime.errors import Reason, StrongroomError
from strongroom.access.v1.access_service_pb2 import SimulateAccessRequest

DENY = "deny"
_VIA = "services/doors"
_NO_NAME = (Reason.NAME_MALFORMED, Reason.FIELD_INVALID)
_TABLES = {"transit": permissions.TRANSIT, "kv-v2": permissions.KV2, "kv-v1": permissions.KV1}
_OWN_TABLES = {"sys": permissions.SYS, "auth": permissions.AUTH}

Permits = Callable[[str, str], bool]


class Capabilities:
    """Answers `capabilities-self`, and `capabilities` of a token that is known."""

    def __init__(self, mesh: Mesh, mounts: Mapping[str, Mount]) -> None:
        self._mesh = mesh
        self._mounts = mounts

    def of(self, caller: Caller, paths: Sequence[str]) -> dict[str, list[str]]:
        """The capabilities at each path, and those at the first under their own name. Raises StrongroomError."""
        told: dict[tuple[str, str], bool] = {}

        def permits(action: str, resource: str) -> bool:
            if (action, resource) not in told:
                told[action, resource] = self._simulated(caller, action, resource)
            return told[action, resource]

        found = {path: self._at(caller, path, permits) for path in paths}
        return {**found, "capabilities": found[paths[0]]}

    def _at(self, caller: Caller, path: str, permits: Permits) -> list[str]:
        mount_name, *parts = path.strip("/").split("/")
        mount = self._mounts.get(mount_name)
        table = _TABLES[mount.type] if mount is not None else _OWN_TABLES.get(mount_name, {})
        needs, named = permissions.at(table, parts)
        try:
            resource = self._resource(caller, mount, named)
        except HttpError:
            # There is nothing of this name, and cannot be.
            return [DENY]
        targets = {
            "": resource,
            ACCOUNT: f"accounts/{caller.account}",
            OWN: "/".join(caller.session.principal.split("/")[:2]),
            WRAPPING: full_key_name(caller, WRAPPING_KEY),
        }
        return [need.capability for need in needs if _is_permitted(need, targets, permits)] or [DENY]

    def _resource(self, caller: Caller, mount: Mount | None, named: Mapping[str, Sequence[str]]) -> str:
        """The key or secret that a path names; empty for none. Raises HttpError."""
        if KEY in named:
            return full_key_name(caller, named[KEY][0])
        if PATH in named and mount is not None:
            return KvSecrets(self._mesh, mount.prefix).name(caller, named[PATH])
        return ""

    def _simulated(self, caller: Caller, action: str, resource: str) -> bool:
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


def _is_permitted(need: Ways, targets: Mapping[str, str], permits: Permits) -> bool:
    return any(all(permits(action, targets[target]) for action, target in way) for way in need.ways)
