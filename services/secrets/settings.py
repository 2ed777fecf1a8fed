"""What the secrets service is configured with."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from services.runtime.config import Database, Redis, Section, ServiceSettings
from services.secrets.core.destinations import Place, destinations
from services.secrets.rotation.rotators.reach import NetworkRules, TargetRule

# The process that steps are forked from, and what a step writes to of its memory.
_FORKING_MIB, _COPIED_MIB = 96, 16


class TargetSettings(Section):
    """Places that some accounts may name as targets."""

    accounts: list[str] = Field(description="ids of accounts; `*` for every one")
    places: list[str] = Field(description="`host[:port]` or `CIDR[:port]`")

    @field_validator("places")
    @classmethod
    def _readable(cls, places: list[str]) -> list[str]:
        destinations(places)
        return places


class RotationSettings(Section):
    """How a process works on rotations."""

    threads: int = Field(default=16, ge=1, le=256, description="rotations without a target, and deletions, at once")
    lease_seconds: float = Field(
        default=15.0, ge=0.5, le=300, description="after which another process takes up what one that died left"
    )
    first_retry_seconds: float = Field(default=5.0, gt=0, le=60, description="the first wait; later ones double")
    plaintext_targets: list[str] = Field(
        default_factory=list, description="`host` or `host:port` of targets that may be talked to without TLS"
    )
    targets: list[TargetSettings] = Field(
        default_factory=list,
        description="which accounts may name which places; addresses that are not public only where they are listed",
    )
    public_targets: bool = Field(
        default=True, description="whether every account may name public addresses that `targets` does not list"
    )
    refused_targets: list[str] = Field(
        default_factory=list, description="`host:port` that no account may name; the mesh's own servers always"
    )
    target_threads: int = Field(default=16, ge=1, le=256, description="rotations with a target in work at once")
    target_share: int = Field(default=4, ge=1, le=256, description="of these, of one account")
    waiting_calls: int = Field(default=16, ge=1, le=1024, description="calls that wait for a target at once")
    check_wait_seconds: float = Field(
        default=1.0, ge=0, le=60, description="how long a call waits for the check of a target"
    )
    step_seconds: float = Field(default=60.0, ge=1, le=600, description="the longest step at a target, as a whole")
    step_cpu_seconds: int = Field(default=30, ge=1, le=600, description="its processor time")
    step_memory_mib: int = Field(default=64, ge=64, le=4096, description="its memory")
    steps_at_once: int = Field(
        default=16,
        ge=1,
        le=256,
        description="steps at targets in work at once, of rotations, checks and calls together",
    )
    step_answer_kib: int = Field(default=4096, ge=64, le=1 << 20, description="what the target may send it")

    @property
    def memory_mib(self) -> int:
        """What all steps together may take besides the service itself: a pod's limit has to leave room for it."""
        return _FORKING_MIB + self.steps_at_once * (self.step_memory_mib + _COPIED_MIB)


class SecretsSettings(ServiceSettings):
    """The runtime's settings, the database that holds the secrets, and the Redis that holds their schedule. Without one
    nothing is rotated or destroyed by itself."""

    database: Database
    redis: Redis | None = None
    rotation: RotationSettings = RotationSettings()

    @property
    def network(self) -> NetworkRules:
        """Where targets may be."""
        rotation = self.rotation
        rules = tuple(TargetRule(tuple(rule.accounts), tuple(rule.places)) for rule in rotation.targets)
        return NetworkRules(rules, rotation.public_targets, tuple(self._own()))

    def _own(self) -> Iterator[Place]:
        upstream = self.upstream
        listeners = (self.listeners.public.address, self.listeners.public.certificate_address)
        given = [upstream.keystore, upstream.crypto, upstream.audit, self.listeners.internal.address, *listeners]
        for address in (*given, *self.rotation.refused_targets):
            if address:
                host, _, port = address.rpartition(":")
                # A listener on every address of the machine is at this one too.
                yield Place(host.strip("[]").lower().replace("0.0.0.0", "127.0.0.1"), int(port))  # noqa: S104
        for url, usual in ((self.database.url, 5432), (self.redis.url if self.redis else "", 6379)):
            parts = urlsplit(url)
            if parts.hostname:
                yield Place(parts.hostname, parts.port or usual)
