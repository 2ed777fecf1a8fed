"""What the secrets service is configured with."""

from __future__ import annotations

from pydantic import Field

from services.runtime.config import Database, Redis, Section, ServiceSettings


class RotationSettings(Section):
    """How a process works on rotations."""

    threads: int = Field(default=16, ge=1, le=256, description="rotations in work at once")
    lease_seconds: float = Field(
        default=15.0, ge=0.5, le=300, description="after which another process takes up what one that died left"
    )
    first_retry_seconds: float = Field(default=5.0, gt=0, le=60, description="the first wait; later ones double")
    plaintext_targets: list[str] = Field(
        default_factory=list, description="`host` or `host:port` of targets that may be talked to without TLS"
    )


class SecretsSettings(ServiceSettings):
    """The runtime's settings, the database that holds the secrets, and the Redis that holds their schedule. Without one
    nothing is rotated or destroyed by itself."""

    database: Database
    redis: Redis | None = None
    rotation: RotationSettings = RotationSettings()
