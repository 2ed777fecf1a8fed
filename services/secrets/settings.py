"""What the secrets service is configured with."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import Field, TypeAdapter, field_validator

from services.runtime.config import Database, Redis, Section, ServiceSettings, SpiffeId
from services.secrets.core.destinations import Place, destination, destinations
from services.secrets.rotation.rotators.reach import NetworkRules, TargetRule

# The process that steps are forked from, what a child writes to of its memory, and what one that connects for another
# may have besides.
_FORKING_MIB, _COPIED_MIB, RELAY_MIB = 96, 16, 32
_LOOPBACK = ("127.0.0.1", "::1")
_SPIFFE = "spiffe:"
_SPIFFE_ID = TypeAdapter(SpiffeId)


class TargetSettings(Section):
    """Places that some accounts may name as targets."""

    accounts: list[str] = Field(description="ids of accounts; `*` for every one")
    places: list[str] = Field(
        description="`host[:port]`, `CIDR[:port]`, or `spiffe://…`: what the accounts' RotatorServices have to be",
    )

    @field_validator("places")
    @classmethod
    def _readable(cls, places: list[str]) -> list[str]:
        destinations(entry for entry in places if not _is_spiffe_id(entry))
        return places

    @property
    def rule(self) -> TargetRule:
        """What steps are told of it."""
        ids = [entry for entry in self.places if _is_spiffe_id(entry)]
        return TargetRule(tuple(self.accounts), tuple(e for e in self.places if e not in ids), tuple(ids))


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
        default_factory=list,
        description="`host[:port]` or `CIDR[:port]` that no account may name: the stores of the mesh's other services,"
        " keystore's and audit's databases and the HSM; those that this service itself connects to always",
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

    @field_validator("refused_targets")
    @classmethod
    def _readable(cls, refused: list[str]) -> list[str]:
        destinations(refused)
        return refused

    @property
    def memory_mib(self) -> int:
        """What all steps together may take besides the service itself: a pod's limit has to leave room for it."""
        return _FORKING_MIB + self.steps_at_once * (self.step_memory_mib + RELAY_MIB + 2 * _COPIED_MIB)


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
        rules = tuple(rule.rule for rule in rotation.targets)
        networks = tuple(entry for entry in rotation.refused_targets if destination(entry).network is not None)
        return NetworkRules(rules, rotation.public_targets, tuple(self._own()), networks)

    def _own(self) -> Iterator[Place]:
        upstream, listeners = self.upstream, self.listeners
        called = [address for given in (upstream.keystore, upstream.crypto, upstream.audit) for address in _each(given)]
        for found in (_place(address, 0) for address in called):
            yield found
            if not _is_this_machine(found):
                # What else is there is the mesh's as well: its other listeners.
                yield Place(found.host, 0)
        health = listeners.health.address if listeners.health is not None else None
        public = listeners.public
        listening = [listeners.internal.address, public.address, *_each(public.certificate_address), *_each(health)]
        for found in (_place(address, 0) for address in listening):
            # A listener on every address of the machine is at these too.
            everywhere = found.address is not None and found.address.is_unspecified
            yield from (Place(host, found.port) for host in (_LOOPBACK if everywhere else [found.host]))
        yield from (_place(entry, 0) for entry in self.rotation.refused_targets if destination(entry).network is None)
        yield from store_places(self.database.url, 5432)
        if self.redis is not None:
            yield from store_places(self.redis.url, 6379)


def store_places(url: str, usual_port: int) -> Iterator[Place]:
    """Where the servers of a database or Redis are, whichever way its URL names them: before the path, or as `host`,
    `hostaddr` and `port` behind it, several joined by commas. None for a file or socket."""
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    ports = [int(port) for value in query.get("port", ()) for port in _each(value)] or [usual_port]
    named = [unquote(parts.netloc.rpartition("@")[2]), *query.get("host", ()), *query.get("hostaddr", ())]
    for host in (host for several in named for host in _each(several)):
        if not host.startswith(("/", "@")):
            yield from {_place(host, port) for port in ports}


def _is_spiffe_id(entry: str) -> bool:
    """Raises ValueError for one that no certificate has."""
    if not entry.startswith(_SPIFFE):
        return False
    _SPIFFE_ID.validate_python(entry)
    return True


def _is_this_machine(found: Place) -> bool:
    """Where others than the mesh listen as well."""
    address = found.address
    return found.host == "localhost" or (address is not None and (address.is_loopback or address.is_unspecified))


def _each(several: str | None) -> list[str]:
    return [one.strip() for one in (several or "").split(",") if one.strip()]


def _place(entry: str, usual_port: int) -> Place:
    found = destination(entry)
    return Place(str(found.network.network_address) if found.network else found.host, found.port or usual_port)
