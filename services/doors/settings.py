"""The configuration of the doors' process."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.runtime.config import Address, Addresses, Section, Telemetry, Tls
from services.runtime.extension import Choice

_SEGMENT = r"[a-z0-9][a-z0-9._-]*"
MountPath = Annotated[str, StringConstraints(pattern=rf"^{_SEGMENT}$", max_length=63)]
Account = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,62}$")]


class HttpListener(Section):
    """Where a door's clients connect, and how much of them a process takes on."""

    address: Address = Field(description="`host:port`; TLS, unless `plaintext`")
    plaintext: bool = Field(default=False, description="HTTP without TLS; on a loopback address alone")
    certificate: Path | None = Field(default=None, description="what clients see in place of the mesh's certificate")
    key: Path | None = Field(default=None, description="its private key")
    client_trust: Path | None = Field(
        default=None, description="whom client certificates chain to; by default whom the mesh trusts"
    )
    threads: int = Field(default=128, ge=1, le=512, description="requests in work at once")
    max_waiting: int = Field(default=512, ge=0, description="whole requests that wait for a thread; more get 503")
    max_connections: int = Field(default=1024, ge=1, description="more are closed as they come")
    max_address_connections: int = Field(default=512, ge=1, description="of those, from one address")
    max_header_kib: int = Field(default=32, ge=8, le=256, description="a request's line and headers")
    max_body_kib: int = Field(default=8192, ge=64, le=65_536, description="a request's body; more gets 413")
    max_held_mib: int = Field(default=64, ge=8, description="bodies of all requests at once; more get 503")
    request_seconds: float = Field(default=10.0, gt=0, le=300, description="how long a request may take to come")
    answer_seconds: float = Field(default=60.0, gt=0, le=600, description="how long an answer may take to be made")
    idle_seconds: float = Field(default=90.0, ge=1, description="after which a connection without a request is closed")
    handshake_seconds: float = Field(default=10.0, gt=0, le=120, description="for TLS")
    drain_seconds: float = Field(default=10.0, ge=0, description="how long requests in work may take after SIGTERM")

    @model_validator(mode="after")
    def _is_private(self) -> Self:
        if self.plaintext and not _is_loopback(self.address):
            raise ValueError("plaintext is for a loopback address alone")
        if (self.certificate is None) != (self.key is None):
            raise ValueError("give certificate and key together, or neither")
        return self


class MeshAddresses(Section):
    """Internal addresses of the services that a door calls: of one replica or of several, joined by commas."""

    keystore: Addresses = Field(description="keystore's internal listener")
    crypto: Addresses = Field(description="crypto's internal listener")
    secrets: Addresses = Field(description="the secrets service's internal listener")
    engine: Choice = Field(
        default="auto",
        description="what calls them: grpcio's channel, the extension that `make native` builds, or `auto`: the "
        "extension where it is built",
    )


class Mount(Section):
    """What answers below a path, `/v1/{path}/`."""

    type: Literal["kv-v1", "kv-v2", "transit"] = Field(description="which engine of Vault it is")
    prefix: Annotated[str, StringConstraints(pattern=rf"^$|^{_SEGMENT}(/{_SEGMENT})*$", max_length=40)] = Field(
        default="", description="for kv: the first parts of the ids of the secrets that are shown here"
    )


def _usual_mounts() -> dict[MountPath, Mount]:
    return {"secret": Mount(type="kv-v2"), "kv": Mount(type="kv-v1"), "transit": Mount(type="transit")}


class VaultSettings(Section):
    """The door for what speaks Vault's HTTP API."""

    listener: HttpListener
    account: Account = Field(default="default", description="whose client keys and OIDC tokens come without namespace")
    mounts: dict[MountPath, Mount] = Field(default_factory=_usual_mounts)
    session_seconds: int = Field(default=3600, ge=60, le=43_200, description="how long a login lasts")

    @model_validator(mode="after")
    def _keeps_reserved_paths(self) -> Self:
        taken = {"sys", "auth", "cubbyhole", "identity"} & self.mounts.keys()
        if taken:
            raise ValueError(f"nothing can be mounted at {', '.join(sorted(taken))}")
        return self


class DoorsSettings(BaseSettings):
    """The doors that a process opens, who it is in the mesh, and where the mesh is."""

    model_config = SettingsConfigDict(extra="forbid", env_nested_delimiter="__")

    tls: Tls
    upstream: MeshAddresses
    vault: VaultSettings
    telemetry: Telemetry = Telemetry()


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
