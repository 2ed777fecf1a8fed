"""`sys/`: what clients ask of Vault itself: whether it is well, what is mounted, what they may do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from services.doors.listening.exchange import Head, Response
from services.doors.mesh.calls import Mesh
from services.doors.mesh.health import MeshHealth
from services.doors.settings import Mount
from services.doors.vault import answers, errors
from services.doors.vault.callers import Callers
from services.doors.vault.capabilities import Capabilities
from services.doors.vault.requests import Operation, Request
from services.runtime.clock import Clock

VERSION = "1.18.0+strongroom"
"""The version of Vault whose API this is."""

_CLUSTER = "strongroom"
_LOGINS = ("approle", "cert", "jwt", "kubernetes", "token")


class System:
    """Paths below `sys/`."""

    def __init__(
        self, mesh: Mesh, health: MeshHealth, mounts: Mapping[str, Mount], callers: Callers, clock: Clock
    ) -> None:
        self._mesh = mesh
        self._health = health
        self._mounts = mounts
        self._callers = callers
        self._clock = clock
        self._capabilities = Capabilities(mesh, mounts)

    def open(self, head: Head, path: tuple[str, ...]) -> Response | None:
        """The answer to what is asked without a token; None for anything else."""
        if head.method not in ("GET", "HEAD"):
            return None
        if path == ("health",):
            return self._healthy(head.query)
        if path == ("seal-status",):
            return answers.bare(self._seal_status())
        if path == ("leader",):
            return answers.bare(
                {
                    "ha_enabled": False,
                    "is_self": True,
                    "leader_address": "",
                    "leader_cluster_address": "",
                    "performance_standby": False,
                }
            )
        if path == ("init",):
            return answers.bare({"initialized": True})
        return None

    def answer(self, request: Request) -> Response:
        """The answer to a caller. Raises HttpError, StrongroomError."""
        self._mesh.require(request.caller)
        match request.operation, request.path:
            case Operation.READ, ("mounts",):
                return _both(self._all_mounts())
            case Operation.READ, ("mounts", name):
                return _both(self._mount(name))
            case Operation.READ, ("mounts", name, "tune"):
                return _both(self._tuning(name))
            case Operation.READ, ("auth",):
                return _both({f"{name}/": _described(name, f"auth_{name}") for name in _LOGINS})
            case Operation.READ, ("internal", "ui", "mounts"):
                return answers.data({"secret": self._all_mounts(), "auth": {}})
            case Operation.READ, ("internal", "ui", "mounts", name, *_):
                return answers.data({**self._mount(name), "path": f"{name}/"})
            case Operation.WRITE, ("capabilities-self",):
                return _both(self._capabilities.of(request.caller, _paths(request)))
            case Operation.WRITE, ("capabilities",):
                return _both(self._capabilities.of(self._callers.of_another(request).caller, _paths(request)))
            case ((Operation.WRITE | Operation.DELETE), (("mounts" | "auth"), *_)):
                raise errors.unsupported("what is mounted stands in the door's configuration")
            case _:
                raise errors.not_found()

    def _healthy(self, query: Mapping[str, str]) -> Response:
        serves = self._health.serves()
        status = _code(query, "activecode", 200) if serves else _code(query, "sealedcode", 503)
        return answers.bare(
            {
                "initialized": True,
                "sealed": not serves,
                "standby": False,
                "performance_standby": False,
                "replication_performance_mode": "disabled",
                "replication_dr_mode": "disabled",
                "server_time_utc": self._clock.now_us() // 1_000_000,
                "version": VERSION,
                "cluster_name": _CLUSTER,
                "cluster_id": _CLUSTER,
            },
            status,
        )

    def _seal_status(self) -> dict[str, Any]:
        return {
            "type": "strongroom",
            "initialized": True,
            "sealed": not self._health.serves(),
            "t": 0,
            "n": 0,
            "progress": 0,
            "nonce": "",
            "version": VERSION,
            "build_date": "",
            "migration": False,
            "cluster_name": _CLUSTER,
            "cluster_id": _CLUSTER,
            "recovery_seal": False,
            "storage_type": "strongroom",
        }

    def _all_mounts(self) -> dict[str, Any]:
        return {f"{name}/": self._mount(name) for name in self._mounts}

    def _mount(self, name: str) -> dict[str, Any]:
        mount = self._mounts.get(name)
        if mount is None:
            raise errors.not_found()
        return {**_described(name, mount.type.partition("-")[0]), "options": _options(mount)}

    def _tuning(self, name: str) -> dict[str, Any]:
        mount = self._mounts.get(name)
        if mount is None:
            raise errors.not_found()
        return {
            "default_lease_ttl": 0,
            "max_lease_ttl": 0,
            "force_no_cache": False,
            "description": "",
            "options": _options(mount),
        }


def _options(mount: Mount) -> dict[str, str] | None:
    kind, _, version = mount.type.partition("-v")
    return {"version": version} if kind == "kv" else None


def _described(name: str, kind: str) -> dict[str, Any]:
    return {
        "accessor": f"{kind}_{name}",
        "type": kind.removeprefix("auth_"),
        "description": "",
        "config": {"default_lease_ttl": 0, "max_lease_ttl": 0, "force_no_cache": False},
        "local": False,
        "seal_wrap": False,
        "external_entropy_access": False,
        "uuid": f"{kind}_{name}",
    }


def _both(payload: Mapping[str, Any]) -> Response:
    """Vault answers these twice over, since clients look in either place."""
    return answers.data(payload, beside=payload)


def _code(query: Mapping[str, str], name: str, usual: int) -> int:
    given = query.get(name, "")
    is_status = len(given) == 3 and given.isascii() and given.isdecimal()
    return int(given) if is_status and 200 <= int(given) < 600 else usual


def _paths(request: Request) -> Sequence[str]:
    given = request.parameters.get("paths", request.parameters.get("path"))
    paths = [given] if isinstance(given, str) else given
    if not isinstance(paths, list) or not paths or not all(isinstance(path, str) for path in paths):
        raise errors.invalid("paths are required: a list of texts")
    if len(paths) > 64:
        raise errors.invalid("at most 64 paths are taken at once")
    return paths
