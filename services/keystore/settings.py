"""What the keystore service is configured with."""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints

from services.runtime.config import Database, Redis, Section, ServiceSettings, SpiffeId

Id = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,62}$")]


class Bootstrap(Section):
    """The first account and its administrator, made when they are not there yet."""

    account: Id
    administrator: Id
    administrator_spiffe_id: SpiffeId


class KeystoreSettings(ServiceSettings):
    """The runtime's settings, the database, the Redis that will hold the rotation schedule, and the first account."""

    database: Database
    redis: Redis | None = None
    bootstrap: Bootstrap | None = None
