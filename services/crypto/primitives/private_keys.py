"""Private keys in software: made, stored as PKCS#8, loaded for use.

X-Wing's is stored as its seed of 32 bytes (draft-connolly-cfrg-xwing-kem, section 5.2), ML-DSA's and ML-KEM's as
PKCS#8 with the seed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from hashlib import shake_256

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, mlkem, rsa, x25519
from cryptography.hazmat.primitives.hpke import MLKEM768X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from services.crypto.primitives import public_keys
from services.runtime.outside import key_screening
from strongroom.keystore.v1 import key_pb2 as k
from strongroom.keystore.v1.key_pb2 import KeySpec

MlDsaPrivateKey = mldsa.MLDSA44PrivateKey | mldsa.MLDSA65PrivateKey | mldsa.MLDSA87PrivateKey
MlKemPrivateKey = mlkem.MLKEM768PrivateKey | mlkem.MLKEM1024PrivateKey
StandardPrivateKey = (
    rsa.RSAPrivateKey
    | ec.EllipticCurvePrivateKey
    | ed25519.Ed25519PrivateKey
    | x25519.X25519PrivateKey
    | MlDsaPrivateKey
    | MlKemPrivateKey
)
PrivateKey = StandardPrivateKey | MLKEM768X25519PrivateKey

_RSA_EXPONENT = 65537
_X_WING_SEED_BYTES = 32
_ML_KEM_SEED_BYTES = 64

RSA_BITS: Mapping[KeySpec.ValueType, int] = {
    k.KEY_SPEC_RSA_2048: 2048,
    k.KEY_SPEC_RSA_3072: 3072,
    k.KEY_SPEC_RSA_4096: 4096,
}
CURVES: Mapping[KeySpec.ValueType, ec.EllipticCurve] = {
    k.KEY_SPEC_EC_P256: ec.SECP256R1(),
    k.KEY_SPEC_EC_P384: ec.SECP384R1(),
    k.KEY_SPEC_EC_P521: ec.SECP521R1(),
    k.KEY_SPEC_EC_SECP256K1: ec.SECP256K1(),
}
_OTHERS: Mapping[KeySpec.ValueType, tuple[type[StandardPrivateKey], Callable[[], StandardPrivateKey]]] = {
    k.KEY_SPEC_ED25519: (ed25519.Ed25519PrivateKey, ed25519.Ed25519PrivateKey.generate),
    k.KEY_SPEC_X25519: (x25519.X25519PrivateKey, x25519.X25519PrivateKey.generate),
    k.KEY_SPEC_ML_DSA_44: (mldsa.MLDSA44PrivateKey, mldsa.MLDSA44PrivateKey.generate),
    k.KEY_SPEC_ML_DSA_65: (mldsa.MLDSA65PrivateKey, mldsa.MLDSA65PrivateKey.generate),
    k.KEY_SPEC_ML_DSA_87: (mldsa.MLDSA87PrivateKey, mldsa.MLDSA87PrivateKey.generate),
    k.KEY_SPEC_ML_KEM_768: (mlkem.MLKEM768PrivateKey, mlkem.MLKEM768PrivateKey.generate),
    k.KEY_SPEC_ML_KEM_1024: (mlkem.MLKEM1024PrivateKey, mlkem.MLKEM1024PrivateKey.generate),
}
SPECS = frozenset((*RSA_BITS, *CURVES, *_OTHERS, k.KEY_SPEC_X_WING))


def generate(spec: KeySpec.ValueType) -> bytes:
    """A new private key as it is stored."""
    if spec == k.KEY_SPEC_X_WING:
        return os.urandom(_X_WING_SEED_BYTES)
    return _encoded(_generated(spec))


def load(spec: KeySpec.ValueType, stored: bytes) -> PrivateKey:
    """What `generate` made, ready for use."""
    if spec == k.KEY_SPEC_X_WING:
        return _x_wing(stored)
    # Validated when it was made or imported.
    return load_der_private_key(stored, None, unsafe_skip_rsa_key_validation=True)  # type: ignore[return-value]


def validated(spec: KeySpec.ValueType, given: bytes) -> bytes:
    """A private key from outside as it is stored. Raises ValueError unless it is a whole one of this spec, and no
    weak one."""
    if spec == k.KEY_SPEC_X_WING:
        if len(given) != _X_WING_SEED_BYTES:
            raise ValueError("an X-Wing seed has 32 bytes")
        return given
    try:
        key = load_der_private_key(key_screening.private_key(given), None)
    except (TypeError, UnsupportedAlgorithm) as error:
        raise ValueError("no unencrypted PKCS#8 private key of a known kind") from error
    if not _is_of(spec, key):
        raise ValueError("a private key of another spec")
    return _encoded(key)  # type: ignore[arg-type]  # of this spec, so of these types


def public_key(spec: KeySpec.ValueType, stored: bytes) -> bytes:
    """The public half, as it is stored (`public_keys.load`)."""
    if spec == k.KEY_SPEC_X_WING:
        kem, agreement = _x_wing_halves(stored)
        return kem.public_key().public_bytes_raw() + agreement.public_key().public_bytes_raw()
    return public_keys.der(load(spec, stored).public_key())


def _generated(spec: KeySpec.ValueType) -> StandardPrivateKey:
    if spec in RSA_BITS:
        return rsa.generate_private_key(_RSA_EXPONENT, RSA_BITS[spec])
    if spec in CURVES:
        return ec.generate_private_key(CURVES[spec])
    return _OTHERS[spec][1]()


def _is_of(spec: KeySpec.ValueType, key: object) -> bool:
    if isinstance(key, rsa.RSAPrivateKey):
        exponent = key.public_key().public_numbers().e
        return RSA_BITS.get(spec) == key.key_size and exponent == _RSA_EXPONENT
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return spec in CURVES and CURVES[spec].name == key.curve.name
    return spec in _OTHERS and isinstance(key, _OTHERS[spec][0])


def _encoded(key: StandardPrivateKey) -> bytes:
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def _x_wing(seed: bytes) -> MLKEM768X25519PrivateKey:
    return MLKEM768X25519PrivateKey(*_x_wing_halves(seed))


def _x_wing_halves(seed: bytes) -> tuple[mlkem.MLKEM768PrivateKey, x25519.X25519PrivateKey]:
    expanded = shake_256(seed).digest(_ML_KEM_SEED_BYTES + 32)
    return (
        mlkem.MLKEM768PrivateKey.from_seed_bytes(expanded[:_ML_KEM_SEED_BYTES]),
        x25519.X25519PrivateKey.from_private_bytes(expanded[_ML_KEM_SEED_BYTES:]),
    )
