"""From a certificate or a session token to the principal that it stands for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256

import grpc
import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from services.runtime.access_records import AccessRecords
from services.runtime.call import Principal
from services.runtime.changes import ChangeFeed, FreshCache
from services.runtime.config import InternalListener
from services.runtime.errors import Reason, StrongroomError
from strongroom.access.v1.access_record_service_pb2 import TokenKey
from strongroom.keystore.v1.key_record_service_pb2 import Change, ChangeKind

TOKEN_ALGORITHM = "EdDSA"  # noqa: S105
TOKEN_AUDIENCE = "strongroom"  # noqa: S105
SESSION_CLAIM = "session"
CREDENTIAL_CLAIM = "credential"
ON_BEHALF_OF = "strongroom-on-behalf-of"
SESSION_NAME = "strongroom-session-name"
SOURCE_ADDRESS = "strongroom-source-address"

_CACHED_TOKENS = 65_536
_CACHED_IDENTITIES = 65_536
_LEEWAY_SECONDS = 0

Metadata = Sequence[tuple[str, str | bytes]]


def token_issuer(trust_domain: str) -> str:
    """The `iss` claim of this mesh's session tokens."""
    return f"spiffe://{trust_domain}/service/keystore"


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
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._records = records
        self._issuer = token_issuer(trust_domain)
        self._trust_prefix = f"spiffe://{trust_domain}/"
        self._wall_clock = wall_clock
        self._tokens: dict[bytes, tuple[Principal, float]] = {}
        self._token_keys: FreshCache[str, dict[str, Ed25519PublicKey]] = FreshCache(feed, 1)
        self._bound: FreshCache[str, Principal] = FreshCache(feed, _CACHED_IDENTITIES)
        feed.listen(self._changed, self._forget_all)

    def from_token(self, token: str) -> Principal:
        """The principal of a session token. Raises TOKEN_INVALID or TOKEN_EXPIRED."""
        digest = sha256(token.encode()).digest()
        remembered = self._tokens.get(digest)
        if remembered is None:
            remembered = self._verify(token)
            if len(self._tokens) >= _CACHED_TOKENS:
                self._tokens.clear()
            self._tokens[digest] = remembered
        principal, expires = remembered
        if self._wall_clock() >= expires:
            self._tokens.pop(digest, None)
            raise StrongroomError(Reason.TOKEN_EXPIRED, "the session token has expired")
        return principal

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
        return Principal(name, account_of(name), credential=spiffe_id), as_of_revision

    def _verify(self, token: str) -> tuple[Principal, float]:
        try:
            header = jwt.get_unverified_header(token)
            key = self._token_key(str(header.get("kid", "")))
            claims = jwt.decode(
                token,
                key,
                algorithms=[TOKEN_ALGORITHM],
                audience=TOKEN_AUDIENCE,
                issuer=self._issuer,
                leeway=_LEEWAY_SECONDS,
                options={"require": ["exp", "iat", "nbf", "sub", "aud", "iss", "jti"]},
            )
        except jwt.ExpiredSignatureError as error:
            raise StrongroomError(Reason.TOKEN_EXPIRED, "the session token has expired") from error
        except jwt.InvalidTokenError as error:
            raise StrongroomError(Reason.TOKEN_INVALID, "the session token is not valid") from error
        name = str(claims["sub"])
        session_name, credential = str(claims.get(SESSION_CLAIM, "")), str(claims.get(CREDENTIAL_CLAIM, ""))
        expires = float(claims["exp"])
        return Principal(name, account_of(name), session_name, credential, expires), expires

    def _token_key(self, key_id: str) -> Ed25519PublicKey:
        key = self._token_keys.get("all", self._read_token_keys).get(key_id)
        if key is None:
            # Signed by a keystore process that began after these keys were read.
            self._token_keys.drop("all")
            key = self._token_keys.get("all", self._read_token_keys).get(key_id)
        if key is None:
            raise StrongroomError(Reason.TOKEN_INVALID, "the session token is signed by no key of this mesh")
        return key

    def _read_token_keys(self) -> tuple[dict[str, Ed25519PublicKey], int]:
        keys, as_of_revision = self._records.token_keys()
        return {key.key_id: _public_key(key) for key in keys}, as_of_revision

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

    def require_allowed(self, spiffe_id: str, service: str) -> None:
        """Raises CALLER_NOT_ALLOWED unless the configuration lets this identity call this internal service."""
        if spiffe_id not in self._allow.get(service, ()):
            raise StrongroomError(Reason.CALLER_NOT_ALLOWED, f"this identity may not call {service}")

    def forwarded(self, spiffe_id: str, metadata: Metadata) -> Principal:
        """The principal that a service of the mesh acts for. Raises CALLER_NOT_ALLOWED for services that may not."""
        if spiffe_id not in self._may_forward:
            raise StrongroomError(Reason.CALLER_NOT_ALLOWED, "this identity may not act for another principal")
        name = header(metadata, ON_BEHALF_OF)
        if not name:
            raise StrongroomError(Reason.UNAUTHENTICATED, f"{ON_BEHALF_OF} is missing")
        return Principal(name, account_of(name), header(metadata, SESSION_NAME))


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


def service_name_of(spiffe_id: str) -> str:
    """`services/secrets` for `spiffe://…/service/secrets`."""
    return "services/" + spiffe_id.rsplit("/", 1)[-1]


def account_of(principal: str) -> str:
    """The account of a principal's name; empty for services."""
    parts = principal.split("/")
    return parts[1] if parts[0] == "accounts" and len(parts) > 2 else ""


def _public_key(key: TokenKey) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(key.public_key)
