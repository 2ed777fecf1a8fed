"""What access control is made of. Names are resource names; times are in microseconds since the Unix epoch; `revision`
is that of the last change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from services.runtime.access.authorization import Resource
from strongroom.access.v1.policy_pb2 import PolicyKind
from strongroom.access.v1.principal_pb2 import PrincipalKind

USERS, WORKLOADS, ROLES = "users", "workloads", "roles"
PRINCIPALS = (USERS, WORKLOADS, ROLES)

KINDS: Mapping[str, PrincipalKind.ValueType] = {
    USERS: PrincipalKind.PRINCIPAL_KIND_USER,
    WORKLOADS: PrincipalKind.PRINCIPAL_KIND_WORKLOAD,
    ROLES: PrincipalKind.PRINCIPAL_KIND_ROLE,
}
"""What kind of principal each collection holds."""

_ENTITIES = {
    USERS: "User",
    WORKLOADS: "Workload",
    ROLES: "Role",
    "keys": "Key",
    "secrets": "Secret",
    "policies": "Policy",
    "clientKeys": "ClientKey",
    "oidcProviders": "OidcProvider",
}


def account_of(name: str) -> str:
    """The id of the account that a resource belongs to, or is."""
    return name.split("/")[1]


def id_of(name: str) -> str:
    """The id at the end of a name."""
    return name.rpartition("/")[2]


def collection_of(name: str) -> str:
    """The collection that a resource of an account is in; empty for the account itself."""
    parts = name.split("/")
    return parts[2] if len(parts) > 2 else ""


def resource(name: str, revision: int = 0, tags: Mapping[str, str] | None = None) -> Resource:
    """What access policies see of a resource, also of one that does not exist."""
    entity = _ENTITIES.get(collection_of(name), "Account")
    return Resource(entity, name, account_of(name), revision, tags or {})


@dataclass(frozen=True, slots=True)
class Account:
    """A tenant."""

    name: str
    display_name: str
    tags: Mapping[str, str]
    disabled: bool = False
    revision: int = 0
    created_us: int = 0
    updated_us: int = 0
    spiffe_id_prefixes: tuple[str, ...] = ()
    """SPIFFE ids that were given to it, or with `/` at the end all that are below."""

    @property
    def resource(self) -> Resource:
        """What access policies see of it."""
        return resource(self.name)


@dataclass(frozen=True, slots=True)
class OidcBinding:
    """An OIDC subject that stands for a principal."""

    provider: str
    subject: str
    required_claims: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RoleSettings:
    """How a role may be assumed."""

    trust_policy: str
    max_session_s: int


@dataclass(frozen=True, slots=True)
class Principal:
    """A user, workload or role."""

    name: str
    description: str
    tags: Mapping[str, str]
    roles: tuple[str, ...] = ()
    spiffe_ids: tuple[str, ...] = ()
    oidc_bindings: tuple[OidcBinding, ...] = ()
    role_settings: RoleSettings | None = None
    """Of roles alone."""
    disabled: bool = False
    sessions_valid_after_us: int | None = None
    ended_sessions: Mapping[str, int] = field(default_factory=dict)
    """When each session that was revoked by itself would have ended, by its id."""
    revision: int = 0
    created_us: int = 0
    updated_us: int = 0

    @property
    def as_of_us(self) -> int:
        """What a session rests on that begins with the record as it is: each later change that ends sessions has a
        later time."""
        return max(self.updated_us, self.sessions_valid_after_us or 0)

    def ending_sessions(self, now_us: int) -> Principal:
        """The record with all sessions that began with it as it is ended, whatever another replica's clock says."""
        return replace(self, sessions_valid_after_us=max(now_us, self.as_of_us + 1))

    @property
    def kind(self) -> PrincipalKind.ValueType:
        """What kind it is."""
        return KINDS[collection_of(self.name)]

    @property
    def resource(self) -> Resource:
        """What access policies see of it."""
        return resource(self.name, self.revision, self.tags)


@dataclass(frozen=True, slots=True)
class Policy:
    """A set of Cedar policies, and what it is attached to."""

    name: str
    kind: PolicyKind.ValueType
    cedar: str
    attached_to: tuple[str, ...]
    description: str
    revision: int = 0
    created_us: int = 0
    updated_us: int = 0

    @property
    def resource(self) -> Resource:
        """What access policies see of it."""
        return resource(self.name, self.revision)


@dataclass(frozen=True, slots=True)
class ClientKey:
    """A key that a client authenticates with."""

    name: str
    principal: str
    secret_sha256: bytes = field(repr=False)
    description: str
    expires_us: int
    disabled: bool = False
    used_us: int | None = None
    rotated_by: str = ""
    """The secret whose rotation made it; empty for one that a caller made."""
    revision: int = 0
    created_us: int = 0
    updated_us: int = 0

    @property
    def resource(self) -> Resource:
        """What access policies see of it."""
        return resource(self.name, self.revision)


@dataclass(frozen=True, slots=True)
class OidcProvider:
    """An issuer of OIDC tokens that an account accepts."""

    name: str
    issuer: str
    audiences: tuple[str, ...]
    jwks_uri: str
    ca_certificates: str
    static_jwks: str
    description: str
    disabled: bool = False
    fetched_us: int | None = None
    fetch_error: str = ""
    revision: int = 0
    created_us: int = 0
    updated_us: int = 0

    @property
    def resource(self) -> Resource:
        """What access policies see of it."""
        return resource(self.name, self.revision)


@dataclass(frozen=True, slots=True)
class Quota:
    """How many requests are let through for an account or principal."""

    target: str
    requests_per_second: float | None = None
    burst: int = 0
    """0 stands for two seconds' worth."""
    default_principal_requests_per_second: float | None = None
    """Of accounts alone."""
    revision: int = 0
    updated_us: int = 0
