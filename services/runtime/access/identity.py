"""From a certificate or a session token to the principal that it stands for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from services.runtime.access import session_tokens
from services.runtime.access.access_records import AccessRecords
from services.runtime.access.session_tokens import account_of
from services.runtime.call import Call, Principal
from services.runtime.changes import Change, ChangeFeed, FreshCache
from services.runtime.clock import Clock, microseconds, seconds, system_clock
from services.runtime.config import InternalListener
from services.runtime.errors import Reason, StrongroomError
from services.runtime.mesh.forwarding import ON_BEHALF_OF, Metadata
from strongroom.access.v1.access_record_service_pb2 import TokenKey
from strongroom.access.v1.session_service_pb2 import CREDENTIAL_KIND_CERTIFICATE
from strongroom.keystore.v1.key_record_service_pb2 import ChangeKind

_CACHED_TOKENS = 65_536
_CACHED_IDENTITIES = 65_536
_CACHED_CERTIFICATES = 4_096
# So that tokens that name keys of nobody cannot make a worker ask keystore all the time.
_REREAD_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class _TokenKey:
    public: Ed25519PublicKey
    not_before: float
    not_after: float


class Identities:
    """Authenticates callers of the public services.

    Tokens are verified once and remembered by digest until they expire or the signing keys change; certificates have
    been verified by TLS, and their SPIFFE id is looked up.
    """

    def __init__(
        self,
        records: AccessRecords,
        feed: ChangeFeed,
        trust_domain: str,
        clock: Clock = system_clock,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._records = records
        self._issuer = session_tokens.issuer(trust_domain)
        self._trust_prefix = f"spiffe://{trust_domain}/"
        self._clock = clock
        self._monotonic = monotonic
        self._reread_at = 0.0
        self._tokens: dict[bytes, Principal] = {}
        self._token_keys: FreshCache[str, dict[str, _TokenKey]] = FreshCache(feed, 1)
        self._bound: FreshCache[str, Principal] = FreshCache(feed, _CACHED_IDENTITIES)
        feed.age(self._tokens)
        feed.listen(self._changed, self._forget_all)

    def from_token(self, token: str) -> Principal:
        """The principal of a session token. Raises TOKEN_INVALID or TOKEN_EXPIRED."""
        digest = sha256(token.encode()).digest()
        principal = self._tokens.get(digest)
        if principal is None:
            principal = self._verify(token)
            if len(self._tokens) >= _CACHED_TOKENS:
                self._tokens.clear()
            self._tokens[digest] = principal
        if seconds(self._clock.now_us()) >= principal.expires:
            self._tokens.pop(digest, None)
            raise session_tokens.expired()
        return principal

    def remembered_token(self, token: str) -> Principal | None:
        """The principal of a token that has been verified and holds; None for any other, whatever it is."""
        principal = self._tokens.get(sha256(token.encode()).digest())
        return principal if principal is not None and seconds(self._clock.now_us()) < principal.expires else None

    def last_known(self, token: str) -> Principal | None:
        """The principal of a token by the signing keys that were read last, however long ago that was."""
        try:
            key = (self._token_keys.peek("all") or {}).get(session_tokens.key_id_of(token))
            principal = session_tokens.read(token, self._issuer, key.public) if key is not None else None
        except StrongroomError:
            return None
        return principal if principal is not None and seconds(self._clock.now_us()) < principal.expires else None

    def remembered_certificate(self, spiffe_id: str) -> Principal | None:
        """The principal that a SPIFFE id was last seen bound to, however long ago that was; None where it was not."""
        return self._bound.peek(spiffe_id)

    def from_certificate(self, spiffe_id: str) -> Principal:
        """The principal that a certificate's SPIFFE id is bound to. Raises IDENTITY_UNKNOWN."""
        if not spiffe_id.startswith(self._trust_prefix):
            raise StrongroomError(Reason.IDENTITY_UNKNOWN, "the certificate carries no SPIFFE id of this trust domain")
        return self._bound.get(spiffe_id, lambda: self._resolve(spiffe_id))

    def _resolve(self, spiffe_id: str) -> tuple[Principal, int]:
        name, as_of_revision = self._records.resolve_identity(spiffe_id)
        if name is None:
            raise StrongroomError(
                Reason.IDENTITY_UNKNOWN,
                "the certificate's SPIFFE id is bound to no principal",
                spiffe_id=spiffe_id,
            )
        principal = Principal(name, account_of(name), credential=spiffe_id, credential_kind=CREDENTIAL_KIND_CERTIFICATE)
        return principal, as_of_revision

    def _verify(self, token: str) -> Principal:
        key = self._token_key(session_tokens.key_id_of(token))
        principal = session_tokens.read(token, self._issuer, key.public)
        if not key.not_before <= principal.issued or not seconds(self._clock.now_us()) < key.not_after:
            raise session_tokens.invalid()
        return principal

    def _token_key(self, key_id: str) -> _TokenKey:
        key = self._token_keys.get("all", self._read_token_keys).get(key_id)
        if key is None and self._monotonic() >= self._reread_at:
            # Signed by a keystore process that began after these keys were read.
            self._reread_at = self._monotonic() + _REREAD_SECONDS
            self._token_keys.drop("all")
            key = self._token_keys.get("all", self._read_token_keys).get(key_id)
        if key is None:
            raise StrongroomError(Reason.TOKEN_INVALID, "the session token is signed by no key of this mesh")
        return key

    def _read_token_keys(self) -> tuple[dict[str, _TokenKey], int]:
        keys, as_of_revision = self._records.token_keys()
        return {key.key_id: _token_key(key) for key in keys}, as_of_revision

    def _changed(self, change: Change) -> None:
        if change.kind == ChangeKind.CHANGE_KIND_TOKEN_KEY:
            self._token_keys.clear()
            self._tokens.clear()
        elif change.kind == ChangeKind.CHANGE_KIND_PRINCIPAL:
            self._bound.clear()

    def _forget_all(self) -> None:
        self._token_keys.clear()
        self._tokens.clear()
        self._bound.clear()


class Callers:
    """Authenticates callers on the internal listener: services of the mesh, by certificate alone."""

    def __init__(self, settings: InternalListener) -> None:
        self._allow = {service: frozenset(ids) for service, ids in settings.allow.items()}
        self._may_forward = frozenset(settings.may_forward)
        self._may_pass_on = frozenset(settings.may_pass_on)
        self._may_present = frozenset(settings.may_present_certificates)

    def require_allowed(self, spiffe_id: str, service: str) -> None:
        """Raises CALLER_NOT_ALLOWED unless the configuration lets this identity call this internal service."""
        if spiffe_id not in self.allowed(service):
            raise not_allowed(service)

    def allowed(self, service: str) -> frozenset[str]:
        """The identities that the configuration lets call this internal service."""
        return self._allow.get(service, frozenset())

    def require_may_forward(self, spiffe_id: str) -> None:
        """Raises CALLER_NOT_ALLOWED unless the configuration lets this service act for its own callers."""
        if spiffe_id not in self._may_forward:
            raise StrongroomError(Reason.CALLER_NOT_ALLOWED, "this identity may not act for another principal")

    def require_may_pass_on(self, spiffe_id: str) -> None:
        """Raises CALLER_NOT_ALLOWED unless the configuration lets this service bring its callers' sessions."""
        if spiffe_id not in self._may_pass_on:
            self.require_may_forward(spiffe_id)

    def require_may_present_certificates(self, spiffe_id: str) -> None:
        """Raises CALLER_NOT_ALLOWED unless the configuration lets this service say whose certificate it has seen."""
        if spiffe_id not in self._may_present:
            raise StrongroomError(Reason.CALLER_NOT_ALLOWED, "this identity may not present certificates of others")


def not_allowed(service: str) -> StrongroomError:
    """What those are told whom the configuration does not let call an internal service."""
    return StrongroomError(Reason.CALLER_NOT_ALLOWED, f"this identity may not call {service}")


def named_principal(metadata: Metadata) -> Principal:
    """The principal without a session that a service which may forward acts for."""
    name = header(metadata, ON_BEHALF_OF)
    if not name:
        raise StrongroomError(Reason.UNAUTHENTICATED, f"{ON_BEHALF_OF} is missing")
    return Principal(name, account_of(name), credential_kind=CREDENTIAL_KIND_CERTIFICATE)


def header(metadata: Metadata, key: str) -> str:
    """The first value of a metadata key, or the empty string."""
    for name, value in metadata:
        if name == key and isinstance(value, str):
            return value
    return ""


def spiffe_id_of(context: grpc.ServicerContext) -> str:
    """The SPIFFE id of the peer's verified certificate, or the empty string. gRPC has checked its form."""
    values: Mapping[str, Iterable[bytes]] = context.auth_context()  # type: ignore[assignment]  # the stubs are wrong
    return next(iter(values.get("peer_spiffe_id", ())), b"").decode()


def certificate_expires_us(context: grpc.ServicerContext) -> int | None:
    """When the peer's verified certificate ends, in microseconds since the Unix epoch; None without one."""
    values: Mapping[str, Iterable[bytes]] = context.auth_context()  # type: ignore[assignment]  # the stubs are wrong
    pem = next(iter(values.get("x509_pem_cert", ())), b"")
    return _end_of(pem) if pem else None


def ends_us(call: Call) -> int | None:
    """When what the caller of an authenticated call came with ends, in microseconds since the Unix epoch: its session,
    or without one the connection's certificate. None where that is not known."""
    expires = call.principal.expires
    return round(expires * 1e6) if expires else call.certificate_expires_us()


def ended(call: Call) -> StrongroomError:
    """What the caller is told once that has ended."""
    if call.principal.expires:
        return session_tokens.expired()
    return StrongroomError(Reason.TOKEN_EXPIRED, "the client certificate has ended: connect with one that holds")


@lru_cache(maxsize=_CACHED_CERTIFICATES)
def _end_of(pem: bytes) -> int:
    return int(x509.load_pem_x509_certificate(pem).not_valid_after_utc.timestamp()) * 1_000_000


def service_name_of(spiffe_id: str) -> str:
    """`services/secrets` for `spiffe://…/service/secrets`."""
    return "services/" + spiffe_id.rsplit("/", 1)[-1]


def _token_key(key: TokenKey) -> _TokenKey:
    return _TokenKey(
        Ed25519PublicKey.from_public_bytes(key.public_key),
        microseconds(key.not_before) / 1e6,
        microseconds(key.not_after) / 1e6,
    )
