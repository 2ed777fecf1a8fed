"""The configuration file of each service of the mesh, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from deploy.dev.certificates import CertificateFiles
from deploy.dev.redis_server import USER
from deploy.dev.topology import ADMINISTRATOR, HOST, TRUST_DOMAIN, WITH_DATABASE, Topology, spiffe_id

ACCOUNT = "default"
ADMINISTRATOR_ID = "admin"

# Who calls what on each service's internal listener (architecture §2).
CALLERS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "keystore": {
        "strongroom.keystore.v1.KeyRecordService": ("crypto", "secrets", "audit"),
        "strongroom.access.v1.AccessRecordService": ("crypto", "secrets", "audit"),
        # Rotation puts one client key in another's place, and logs in with it.
        "strongroom.access.v1.ClientKeyRotationService": ("secrets",),
        "strongroom.access.v1.SessionService": ("secrets",),
    },
    "crypto": {"strongroom.crypto.v1.MaterialService": ("keystore", "audit")},
    "secrets": {},
    "audit": {
        "strongroom.audit.v1.EventLogService": ("keystore", "crypto", "secrets"),
        "strongroom.audit.v1.SealingService": ("keystore",),
        "strongroom.audit.v1.RecordKeyService": ("keystore", "secrets"),
    },
}
# Who may call public methods on an internal listener, on behalf of its own caller.
FORWARDERS: Mapping[str, tuple[str, ...]] = {"crypto": ("secrets",)}
# Who brings sessions of callers from outside the mesh, and where it may.
DOORS = "doors"
BEHIND_DOORS = ("keystore", "crypto", "secrets")
SESSIONS = "strongroom.access.v1.SessionService"
UPSTREAM: Mapping[str, tuple[str, ...]] = {
    "keystore": ("crypto", "audit"),
    "crypto": ("keystore", "audit"),
    "secrets": ("keystore", "crypto", "audit"),
    "audit": ("keystore", "crypto"),
}
WITH_REDIS = ("keystore", "secrets")


@dataclass(frozen=True)
class Configuration:
    """What the services' configurations are made from."""

    topology: Topology
    certificates: Mapping[str, CertificateFiles]
    database_urls: Mapping[str, str]
    provider: Mapping[str, str]
    span_directory: Path
    log_level: str = "INFO"
    redis_password: str = field(default="", repr=False)
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def of(self, service: str) -> dict[str, Any]:
        """The content of `service`'s file; `overrides` for it win, table by table."""
        files = self.certificates[service]
        listeners = self.topology.services[service]
        internal: dict[str, Any] = {
            "address": listeners.internal,
            "allow": {name: _identities(callers) for name, callers in CALLERS[service].items()},
        }
        if service in FORWARDERS:
            internal["may_forward"] = _identities(FORWARDERS[service])
        if service in BEHIND_DOORS:
            internal["may_pass_on"] = _identities((DOORS,))
        if service == "keystore":
            internal["may_present_certificates"] = _identities((DOORS,))
            internal["allow"][SESSIONS] += _identities((DOORS,))
        content: dict[str, Any] = {
            "listeners": {
                "public": {"address": listeners.public, "certificate_address": listeners.certificate},
                "internal": internal,
                "advertised": {
                    "token": {name: each.public for name, each in self.topology.services.items()},
                    "certificate": {name: each.certificate for name, each in self.topology.services.items()},
                },
            },
            "tls": {
                "certificate": files.certificate,
                "key": files.key,
                "trust": files.trust,
                "trust_domain": TRUST_DOMAIN,
            },
            "upstream": {name: self.topology.services[name].internal for name in UPSTREAM[service]},
            "status": {"account": ACCOUNT},
            "telemetry": {
                "span_directory": self.span_directory,
                "sample_ratio": 1.0,
                "log_level": self.log_level,
            },
        }
        if service in WITH_DATABASE:
            content["database"] = {"url": self.database_urls[service]}
        if service in WITH_REDIS:
            login = f"{USER}:{self.redis_password}@" if self.redis_password else ""
            url = f"redis://{login}{HOST}:{self.topology.redis_port}/0"
            content["redis"] = {"url": url, "passwordless": not login}
        if service == "secrets":
            # Databases and the like that somebody runs on this machine to try rotation out.
            content["rotation"] = {
                "plaintext_targets": [HOST, "localhost"],
                "targets": [{"accounts": ["*"], "places": _local_places(self.database_urls[service])}],
                "refused_targets": _stores_of_others(service, self.database_urls),
            }
        if service == "crypto":
            content["provider"] = self.provider
        if service == "audit":
            content["log"] = {"account": ACCOUNT}
        if service == "keystore":
            content["bootstrap"] = {
                "account": ACCOUNT,
                "administrator": ADMINISTRATOR_ID,
                "administrator_spiffe_id": spiffe_id(ADMINISTRATOR),
            }
            # Whoever tries the mesh out is everybody in it.
            content["bind_any_spiffe_id"] = True
            content["oidc"] = {"private_networks": ["127.0.0.0/8", "::1/128"]}
        return merged(content, self.overrides.get(service, {}))


def merged(content: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """`content` with the values of `overrides` in it: tables are merged, None removes, anything else replaces."""
    result = dict(content)
    for key, value in overrides.items():
        old = result.get(key)
        if value is None:
            result.pop(key, None)
        elif isinstance(old, Mapping) and isinstance(value, Mapping):
            result[key] = merged(old, value)
        else:
            result[key] = value
    return result


def _local_places(database_url: str) -> list[str]:
    """This machine; also the server that the mesh's own database is in, where somebody's databases are too."""
    parts = urlsplit(database_url)
    own = [f"{parts.hostname}:{parts.port or 5432}"] if parts.hostname else []
    return ["127.0.0.0/8", "::1", "localhost", *own]


def _stores_of_others(service: str, database_urls: Mapping[str, str]) -> list[str]:
    """The servers that the other services' databases are in."""
    parts = [urlsplit(url) for other, url in database_urls.items() if other != service]
    return sorted({f"{one.hostname}:{one.port or 5432}" for one in parts if one.hostname})


def _identities(services: tuple[str, ...]) -> list[str]:
    return [spiffe_id(f"service/{service}") for service in services]
