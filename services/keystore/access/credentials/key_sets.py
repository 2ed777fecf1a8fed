"""Key sets of OIDC issuers (JWKS, RFC 7517): which key may verify which token, under which algorithm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from services.runtime.outside import key_screening
from services.runtime.outside.key_screening import KeyRefusedError

PRIVATE_MEMBERS = frozenset(("d", "p", "q", "dp", "dq", "qi", "oth", "k"))
"""What a JWK of a public key does not have (RFC 7518, sections 6.2.2, 6.3.2 and 6.4)."""

# 8,192 bits in base64url
_MAX_NUMBER_CHARACTERS = 1366

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey | Ed448PublicKey

# By type and curve: a key of one kind never verifies under another kind's algorithm, and none is symmetric.
_ALGORITHMS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("RSA", ""): ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA",),
    ("OKP", "Ed448"): ("EdDSA",),
}
ALGORITHMS = frozenset(name for names in _ALGORITHMS.values() for name in names)


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key, and the algorithms under which it may verify."""

    key_id: str | None
    public: PublicKey
    algorithms: tuple[str, ...]


def read(document: Mapping[str, Any]) -> tuple[VerificationKey, ...]:
    """The keys of a set that verify signatures. Others, and such as this service does not know, are left out as RFC
    7517, section 5, asks. Raises ValueError where the document is no key set."""
    members = document.get("keys")
    if not isinstance(members, list):
        raise ValueError("it is no key set")  # noqa: TRY004  # wrong content, not a wrong argument
    return tuple(key for key in map(_key, members) if key is not None)


def choose(keys: Sequence[VerificationKey], header: Mapping[str, Any]) -> VerificationKey | None:
    """The one key that a token of this header can be signed by."""
    key_id, algorithm = header.get("kid"), header.get("alg")
    fitting = [key for key in keys if algorithm in key.algorithms and (key_id is None or key.key_id == key_id)]
    return fitting[0] if len(fitting) == 1 else None


def _key(member: Any) -> VerificationKey | None:
    if not isinstance(member, dict) or not _verifies(member) or not _is_short(member):
        return None
    # A set that gives a private key away is not to be believed; to load one would also cost what its numbers make it.
    if PRIVATE_MEMBERS & member.keys():
        return None
    known = _ALGORITHMS.get((str(member.get("kty")), str(member.get("crv", ""))), ())
    algorithms = tuple(name for name in known if member.get("alg", name) == name)
    if not algorithms:
        return None
    try:
        public = jwt.PyJWK(member, algorithms[0]).key
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    if not isinstance(public, PublicKey) or not _is_bounded(public):
        return None
    key_id = member.get("kid")
    return VerificationKey(str(key_id) if key_id is not None else None, public, algorithms)


def _is_short(member: Mapping[str, Any]) -> bool:
    """Whether a key's numbers are, before anything computes with them."""
    return all(len(str(member.get(name, ""))) <= _MAX_NUMBER_CHARACTERS for name in ("n", "e", "x", "y"))


def _is_bounded(public: PublicKey) -> bool:
    try:
        if isinstance(public, RSAPublicKey):
            key_screening.verifying(public.public_numbers())
    except KeyRefusedError:
        return False
    return True


def _verifies(member: Mapping[str, Any]) -> bool:
    operations = member.get("key_ops", ["verify"])
    return member.get("use", "sig") == "sig" and isinstance(operations, list) and "verify" in operations
