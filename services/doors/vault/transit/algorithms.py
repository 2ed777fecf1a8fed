"""Signature algorithms as Vault names them, and which of the mesh's each may be."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from services.doors.vault.errors import invalid, unsupported
from services.doors.vault.requests import text_in
from strongroom.crypto.v1.algorithm_pb2 import Algorithm

_HASHES = {"sha2-256": "SHA_256", "sha2-384": "SHA_384", "sha2-512": "SHA_512"}
_PADDINGS = {"pss": "PSS", "pkcs1v15": "PKCS1_V1_5"}
# Each hashes as it does, whatever hash a request names; so does Vault with Ed25519.
_OWN_HASH = (
    Algorithm.ALGORITHM_ED25519,
    Algorithm.ALGORITHM_ML_DSA_44,
    Algorithm.ALGORITHM_ML_DSA_65,
    Algorithm.ALGORITHM_ML_DSA_87,
)
_SCALAR_BYTES = {
    Algorithm.ALGORITHM_ECDSA_SHA_256: 32,
    Algorithm.ALGORITHM_ECDSA_SHA_384: 48,
    Algorithm.ALGORITHM_ECDSA_SHA_512: 66,
}
MACS = {
    "sha2-256": Algorithm.ALGORITHM_HMAC_SHA_256,
    "sha2-384": Algorithm.ALGORITHM_HMAC_SHA_384,
    "sha2-512": Algorithm.ALGORITHM_HMAC_SHA_512,
}


@dataclass(frozen=True, slots=True)
class Wish:
    """How a request wants to sign: the algorithms that it may mean, by what the key is, and how signatures are
    written."""

    candidates: Sequence[Algorithm.ValueType]
    is_digest: bool
    is_jws: bool

    @classmethod
    def of(cls, parameters: dict[str, Any], hash_in_path: str) -> Wish:
        """What the parameters say, the hash's name also at the end of the path. Raises HttpError."""
        name = hash_in_path or text_in(parameters, "hash_algorithm") or text_in(parameters, "algorithm")
        padding = text_in(parameters, "signature_algorithm")
        marshaling = text_in(parameters, "marshaling_algorithm", "asn1")
        if marshaling not in ("asn1", "jws"):
            raise invalid("marshaling_algorithm is asn1 or jws")
        if padding and padding not in _PADDINGS:
            raise invalid(f"there is no signature_algorithm {padding[:32]!r}: pss or pkcs1v15")
        if name and name not in _HASHES:
            raise unsupported(f"the hash {name[:32]!r}: one of {', '.join(_HASHES)}")
        if text_in(parameters, "salt_length", "auto") not in ("auto", "hash"):
            raise unsupported("a salt_length other than hash: salts are as long as the digest")
        prehashed = parameters.get("prehashed") in (True, "true")
        return cls(_candidates(name, padding), prehashed, marshaling == "jws")


def _candidates(name: str, padding: str) -> Sequence[Algorithm.ValueType]:
    if not name and padding != "pkcs1v15":
        return (Algorithm.ALGORITHM_UNSPECIFIED,)
    suffix = _HASHES[name or "sha2-256"]
    rsa = Algorithm.Value(f"ALGORITHM_RSASSA_{_PADDINGS[padding or 'pss']}_{suffix}")
    return (rsa, Algorithm.Value(f"ALGORITHM_ECDSA_{suffix}"), *_OWN_HASH)


def to_jws(signature: bytes, algorithm: Algorithm.ValueType) -> str:
    """A signature as JSON Web Signatures have it (RFC 7515): base64url, of ECDSA the two numbers alone."""
    size = _SCALAR_BYTES.get(algorithm)
    if size is not None:
        r, s = decode_dss_signature(signature)
        signature = r.to_bytes(size, "big") + s.to_bytes(size, "big")
    return base64.urlsafe_b64encode(signature).decode().rstrip("=")


def from_jws(text: str, algorithm: Algorithm.ValueType) -> bytes:
    """The signature that `to_jws` wrote. Raises HttpError."""
    try:
        signature = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise invalid("invalid signature: could not decode base64url") from None
    size = _SCALAR_BYTES.get(algorithm)
    if size is None or len(signature) != 2 * size:
        return signature
    return encode_dss_signature(int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big"))
