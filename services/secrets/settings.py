"""What the secrets service is configured with."""

from __future__ import annotations

from services.runtime.config import Database, Redis, ServiceSettings


class SecretsSettings(ServiceSettings):
    """The runtime's settings, the database that holds the secrets, and the Redis that will hold their schedule."""

    database: Database
    redis: Redis | None = None
