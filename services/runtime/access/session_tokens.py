"""Session tokens: JWTs under Ed25519 (RFC 7519, RFC 8037). The one place that knows their claims."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from services.runtime import identifiers
from services.runtime.call import Principal, SessionScope
from services.runtime.errors import Reason, StrongroomError
from services.runtime.sensitive import SensitiveBytes
from strongroom.access.v1.session_service_pb2 import CREDENTIAL_KIND_UNSPECIFIED, CredentialKind

ALGORITHM = "EdDSA"
AUDIENCE = "strongroom"
MAX_BYTES = 6 * 1024
"""Metadata of a call is 8 KiB at most, and the token is not all of it."""

_SESSION = "session"
_CREDENTIAL = "credential"
_CREDENTIAL_KIND = "credential_kind"
_POLICIES = "session_policies"
_TAGS = "session_tags"
_ASSUMED_BY = "assumed_by"
# Of sessions that came from others alone; of a keystore from before, none could be revoked by itself.
_BEGUN_FROM = "begun_from"
# Missing in those of a keystore from before.
_AS_OF = "as_of"
# None may be missing: a token that says nothing of its narrowing is not one without narrowing.
_REQUIRED = (
    *("iss", "aud", "sub", "iat", "nbf", "exp", "jti"),
    *(_SESSION, _CREDENTIAL, _CREDENTIAL_KIND, _POLICIES, _TAGS, _ASSUMED_BY),
)
_KIND_PREFIX = "CREDENTIAL_KIND_"
_KINDS = {
    name.removeprefix(_KIND_PREFIX).lower(): kind
    for name, kind in CredentialKind.items()
    if kind != CREDENTIAL_KIND_UNSPECIFIED
}
_KIND_NAMES = {kind: name for name, kind in _KINDS.items()}
# The services' clocks differ a little from keystore's.
_BACKDATED_SECONDS = 30


def issuer(trust_domain: str) -> str:
    """The `iss` claim of a mesh's session tokens."""
    return f"spiffe://{trust_domain}/service/keystore"


def account_of(principal: str) -> str:
    """The account of a principal's name; empty for services."""
    parts = principal.split("/")
    return parts[1] if parts[0] == "accounts" and len(parts) > 2 else ""


def sign(principal: Principal, token_issuer: str, key_id: str, key: Ed25519PrivateKey) -> SensitiveBytes:
    """The token of a session from `principal.issued` to `principal.expires`. Raises FIELD_TOO_LARGE where session
    policies and tags make it larger than 6 KiB."""
    session_id, *begun_from = principal.session_ids or (identifiers.event_id(),)
    claims = {
        "iss": token_issuer,
        "aud": AUDIENCE,
        "sub": principal.name,
        "iat": principal.issued,
        "nbf": int(principal.issued) - _BACKDATED_SECONDS,
        "exp": int(principal.expires),
        "jti": session_id,
        _SESSION: principal.session_name,
        _CREDENTIAL: principal.credential,
        _CREDENTIAL_KIND: _KIND_NAMES[principal.credential_kind],
        _POLICIES: list(principal.scope.policies),
        _TAGS: dict(principal.scope.tags),
        _ASSUMED_BY: list(principal.scope.assumed_by),
        **({_BEGUN_FROM: begun_from} if begun_from else {}),
        **({_AS_OF: list(principal.as_of)} if principal.as_of else {}),
    }
    token = jwt.encode(claims, key, algorithm=ALGORITHM, headers={"kid": key_id}).encode()
    if len(token) > MAX_BYTES:
        raise StrongroomError(
            Reason.FIELD_TOO_LARGE,
            f"session policies and tags, with those before, make the token larger than {MAX_BYTES} bytes",
            field="session_policy",
            limit=str(MAX_BYTES),
        )
    return SensitiveBytes(token)


def key_id_of(token: str) -> str:
    """The id of the key that a token says to be signed by. Raises TOKEN_INVALID."""
    try:
        return str(jwt.get_unverified_header(token).get("kid", ""))
    except jwt.PyJWTError as error:
        raise invalid() from error


def read(token: str, token_issuer: str, key: Ed25519PublicKey) -> Principal:
    """The principal of a token that `key` has signed. Raises TOKEN_INVALID or TOKEN_EXPIRED."""
    try:
        claims = jwt.decode(
            token,
            key,
            algorithms=[ALGORITHM],
            audience=AUDIENCE,
            issuer=token_issuer,
            # `iat` has parts of a second, and is no limit: that is `nbf`.
            options={"require": list(_REQUIRED), "verify_iat": False},
        )
        return _principal(claims)
    except jwt.ExpiredSignatureError as error:
        raise expired() from error
    except (jwt.PyJWTError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise invalid() from error


def invalid() -> StrongroomError:
    """A token that this mesh has not signed, or not as it is."""
    return StrongroomError(Reason.TOKEN_INVALID, "the session token is not valid")


def expired() -> StrongroomError:
    """A token whose time is over."""
    return StrongroomError(Reason.TOKEN_EXPIRED, "the session token has expired")


def _principal(claims: Mapping[str, Any]) -> Principal:
    name, assumed_by = str(claims["sub"]), tuple(map(str, claims[_ASSUMED_BY]))
    as_of = tuple(map(int, claims.get(_AS_OF, ())))
    if as_of and len(as_of) != len(assumed_by) + 1:
        raise ValueError("it does not say of each whom it rests on as of when")
    return Principal(
        name,
        account_of(name),
        session_name=str(claims[_SESSION]),
        credential=str(claims[_CREDENTIAL]),
        expires=float(claims["exp"]),
        issued=float(claims["iat"]),
        credential_kind=_KINDS[claims[_CREDENTIAL_KIND]],
        scope=SessionScope(
            policies=tuple(map(str, claims[_POLICIES])),
            tags=tuple(sorted((str(key), str(value)) for key, value in claims[_TAGS].items())),
            assumed_by=assumed_by,
        ),
        session_ids=(str(claims["jti"]), *map(str, claims.get(_BEGUN_FROM, ()))),
        as_of=as_of,
    )
