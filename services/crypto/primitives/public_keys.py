"""Public keys: read from callers, written for them."""

from __future__ import annotations

from hashlib import sha256

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, mlkem, rsa, x25519
from cryptography.hazmat.primitives.hpke import MLKEM768X25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)

from services.runtime.errors import Reason, StrongroomError, required, too_large
from services.runtime.outside import key_screening
from services.runtime.outside.key_screening import KeyRefusedError
from strongroom.keystore.v1 import key_pb2 as k
from strongroom.keystore.v1.key_pb2 import KeySpec

MlDsaPublicKey = mldsa.MLDSA44PublicKey | mldsa.MLDSA65PublicKey | mldsa.MLDSA87PublicKey
MlKemPublicKey = mlkem.MLKEM768PublicKey | mlkem.MLKEM1024PublicKey
PublicKey = (
    rsa.RSAPublicKey
    | ec.EllipticCurvePublicKey
    | ed25519.Ed25519PublicKey
    | x25519.X25519PublicKey
    | MlDsaPublicKey
    | MlKemPublicKey
    | MLKEM768X25519PublicKey
)

_MAX_BYTES = 8192
_ML_KEM_768_BYTES = 1184
_X_WING_BYTES = _ML_KEM_768_BYTES + 32


class Asymmetric:
    """Material that has a public half."""

    def __init__(self, public_key: PublicKey) -> None:
        self.public_key = public_key


def load(spec: KeySpec.ValueType, encoded: bytes) -> PublicKey:
    """A stored public key: SubjectPublicKeyInfo in DER; for X-Wing the raw key (ML-KEM-768's, then X25519's)."""
    if spec == k.KEY_SPEC_X_WING:
        if len(encoded) != _X_WING_BYTES:
            raise ValueError("an X-Wing public key has 1,216 bytes")
        return MLKEM768X25519PublicKey(
            mlkem.MLKEM768PublicKey.from_public_bytes(encoded[:_ML_KEM_768_BYTES]),
            x25519.X25519PublicKey.from_public_bytes(encoded[_ML_KEM_768_BYTES:]),
        )
    return load_der_public_key(encoded)  # type: ignore[return-value]  # what was stored is of a known spec


def read(encoded: bytes, field: str) -> PublicKey:
    """A caller's public key, SubjectPublicKeyInfo in PEM or DER. Raises FIELD_REQUIRED, FIELD_TOO_LARGE beyond 8 KiB,
    PUBLIC_KEY_INVALID also for keys that are not safe to load. Whoever asks has permission: this is costly."""
    if not encoded:
        raise required(field)
    if len(encoded) > _MAX_BYTES:
        raise too_large(field, _MAX_BYTES)
    try:
        der = key_screening.public_key(encoded)
    except KeyRefusedError as refused:
        raise invalid(field, str(refused)) from refused
    try:
        return load_der_public_key(der)  # type: ignore[return-value]  # whoever uses it asks for its kind
    except (ValueError, UnsupportedAlgorithm) as error:
        raise invalid(field, "is no public key of its algorithm") from error


def der(key: PublicKey) -> bytes:
    """SubjectPublicKeyInfo in DER."""
    if isinstance(key, MLKEM768X25519PublicKey):
        raise TypeError("X-Wing has no SubjectPublicKeyInfo")
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def pem(spec: KeySpec.ValueType, encoded: bytes) -> str:
    """The PEM of a stored public key; empty for X-Wing, which has none."""
    key = load(spec, encoded)
    if isinstance(key, MLKEM768X25519PublicKey):
        return ""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def fingerprint(encoded: bytes) -> bytes:
    """SHA-256 of a public key as it is stored."""
    return sha256(encoded).digest()


def invalid(field: str, why: str) -> StrongroomError:
    """A public key cannot be accepted; `why` completes the sentence "<field> …"."""
    return StrongroomError(Reason.PUBLIC_KEY_INVALID, f"{field} {why}", field=field)
