"""What a rotator of a team's own is shown besides this service's certificate: for which account's secret it is called.

A JWT (RFC 7519) that is signed with the key of the certificate which the connection is made with, so that whoever
checks the one has what the other is verified by. It is for one rotator, one secret, one step, and a minute. Format:
docs/formats.md, "Rotation token".
"""

from __future__ import annotations

import jwt
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from services.runtime import identifiers
from services.runtime.clock import Clock, system_clock
from services.runtime.errors import Reason, StrongroomError
from services.runtime.mesh.tls import Identity
from services.runtime.requests.names import ResourceName

METADATA = "strongroom-rotation-token"
"""The metadata of a call that carries it."""
TYPE = "strongroom-rotation+jwt"
SECONDS = 60
METHODS = {
    "check": "CheckTarget",
    "create": "CreateCredential",
    "set": "SetCredential",
    "test": "TestCredential",
    "finish": "FinishRotation",
}
"""What a rotator's steps are called in the contract."""
_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384"}


def rotation_token(
    identity: Identity, audience: str, secret: ResourceName, step: str, clock: Clock = system_clock
) -> str:
    """A token for the rotator at `audience`, `host:port` as the target names it. Raises ROTATOR_FAILED for a
    certificate's key that no algorithm is known for."""
    key = load_pem_private_key(identity.key, None)
    now = clock.now_us() // 1_000_000
    claims = {
        "iss": _spiffe_id(identity.certificate),
        "aud": audience,
        "sub": str(secret),
        "account": secret.account,
        "step": step,
        "iat": now,
        "exp": now + SECONDS,
        "jti": identifiers.resource_id("rt"),
    }
    return jwt.encode(claims, key, _algorithm(key), headers={"typ": TYPE})  # type: ignore[arg-type]


def _algorithm(key: object) -> str:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "EdDSA"
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _CURVES:
        return _CURVES[key.curve.name]
    if isinstance(key, rsa.RSAPrivateKey):
        return "PS256"
    raise StrongroomError(Reason.ROTATOR_FAILED, "this service's certificate has a key that signs no tokens")


def _spiffe_id(certificate: bytes) -> str:
    leaf = x509.load_pem_x509_certificates(certificate)[0]
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return next(iter(names.get_values_for_type(x509.UniformResourceIdentifier)), "")
