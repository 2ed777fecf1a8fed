"""What the keystore service is configured with."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, IPvAnyNetwork, StringConstraints

from services.runtime.config import Database, Redis, Section, ServiceSettings, SpiffeId

Id = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,62}$")]


class Bootstrap(Section):
    """The first account and its administrator, made when they are not there yet."""

    account: Id = Field(description="the account's id")
    administrator: Id = Field(description="the id of its first user")
    administrator_spiffe_id: SpiffeId = Field(description="what that user's certificate says")


class Oidc(Section):
    """Where OIDC issuers may be: accounts name them, and this service stands inside the network."""

    private_networks: tuple[IPvAnyNetwork, ...] = Field(
        default=(), description="CIDRs where issuers may be though they are not the internet's: a cluster's own, say"
    )
    refused_networks: tuple[IPvAnyNetwork, ...] = Field(
        default=(), description="CIDRs where no issuer's documents are asked for, beside link-local addresses"
    )


class KeystoreSettings(ServiceSettings):
    """The runtime's settings, the database, the Redis that will hold the rotation schedule, and the first account."""

    database: Database
    redis: Redis | None = None
    bootstrap: Bootstrap | None = None
    oidc: Oidc = Field(default_factory=Oidc)
    bind_any_spiffe_id: bool = Field(
        default=False,
        description="whether accounts may bind SPIFFE ids that the mesh's administrators gave to no account, the first"
        " one having it: for development",
    )
    root_settle_seconds: float = Field(
        default=60.0, ge=10.0, description="how long after its last blob moved a version of the root key is retired"
    )
