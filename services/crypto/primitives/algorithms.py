"""Which algorithms a key can be used with: one table of specs and usages."""

from __future__ import annotations

from collections.abc import Mapping

from cryptography.hazmat.primitives import hashes

from services.runtime.errors import Reason, StrongroomError
from strongroom.crypto.v1 import algorithm_pb2 as a
from strongroom.crypto.v1.algorithm_pb2 import Algorithm
from strongroom.keystore.v1 import key_pb2 as k
from strongroom.keystore.v1.key_pb2 import KeySpec, KeyUsage

_RSA_SIGNATURES = (
    a.ALGORITHM_RSASSA_PSS_SHA_256,
    a.ALGORITHM_RSASSA_PSS_SHA_384,
    a.ALGORITHM_RSASSA_PSS_SHA_512,
    a.ALGORITHM_RSASSA_PKCS1_V1_5_SHA_256,
    a.ALGORITHM_RSASSA_PKCS1_V1_5_SHA_384,
    a.ALGORITHM_RSASSA_PKCS1_V1_5_SHA_512,
)
_OAEP = (a.ALGORITHM_RSAES_OAEP_SHA_256,)
_ECDH = (a.ALGORITHM_ECDH,)

RSA_SPECS = (k.KEY_SPEC_RSA_2048, k.KEY_SPEC_RSA_3072, k.KEY_SPEC_RSA_4096)

# For AES the protection level decides between the two. Otherwise the first is what requests may leave out.
ALGORITHMS: Mapping[tuple[KeySpec.ValueType, KeyUsage.ValueType], tuple[Algorithm.ValueType, ...]] = {
    (k.KEY_SPEC_AES_256, k.KEY_USAGE_ENCRYPT_DECRYPT): (a.ALGORITHM_XAES_256_GCM, a.ALGORITHM_HSM_AES_256_GCM),
    (k.KEY_SPEC_AES_128, k.KEY_USAGE_ENCRYPT_DECRYPT): (a.ALGORITHM_AES_128_GCM, a.ALGORITHM_HSM_AES_128_GCM),
    (k.KEY_SPEC_SM4, k.KEY_USAGE_ENCRYPT_DECRYPT): (a.ALGORITHM_SM4_GCM,),
    (k.KEY_SPEC_HMAC_256, k.KEY_USAGE_GENERATE_VERIFY_MAC): (a.ALGORITHM_HMAC_SHA_256,),
    (k.KEY_SPEC_HMAC_384, k.KEY_USAGE_GENERATE_VERIFY_MAC): (a.ALGORITHM_HMAC_SHA_384,),
    (k.KEY_SPEC_HMAC_512, k.KEY_USAGE_GENERATE_VERIFY_MAC): (a.ALGORITHM_HMAC_SHA_512,),
    **{(spec, k.KEY_USAGE_SIGN_VERIFY): _RSA_SIGNATURES for spec in RSA_SPECS},
    **{(spec, k.KEY_USAGE_ENCRYPT_DECRYPT): _OAEP for spec in RSA_SPECS},
    (k.KEY_SPEC_EC_P256, k.KEY_USAGE_SIGN_VERIFY): (a.ALGORITHM_ECDSA_SHA_256,),
    (k.KEY_SPEC_EC_P384, k.KEY_USAGE_SIGN_VERIFY): (a.ALGORITHM_ECDSA_SHA_384,),
    (k.KEY_SPEC_EC_P521, k.KEY_USAGE_SIGN_VERIFY): (a.ALGORITHM_ECDSA_SHA_512,),
    (k.KEY_SPEC_EC_SECP256K1, k.KEY_USAGE_SIGN_VERIFY): (a.ALGORITHM_ECDSA_SHA_256,),
    (k.KEY_SPEC_EC_P256, k.KEY_USAGE_KEY_AGREEMENT): _ECDH,
    (k.KEY_SPEC_EC_P384, k.KEY_USAGE_KEY_AGREEMENT): _ECDH,
    (k.KEY_SPEC_EC_P521, k.KEY_USAGE_KEY_AGREEMENT): _ECDH,
    (k.KEY_SPEC_X25519, k.KEY_USAGE_KEY_AGREEMENT): _ECDH,
    (k.KEY_SPEC_ED25519, k.KEY_USAGE_SIGN_VERIFY): (a.ALGORITHM_ED25519,),
    (k.KEY_SPEC_ML_DSA_44, k.KEY_USAGE_SIGN_VERIFY): (a.ALGORITHM_ML_DSA_44,),
    (k.KEY_SPEC_ML_DSA_65, k.KEY_USAGE_SIGN_VERIFY): (a.ALGORITHM_ML_DSA_65,),
    (k.KEY_SPEC_ML_DSA_87, k.KEY_USAGE_SIGN_VERIFY): (a.ALGORITHM_ML_DSA_87,),
    (k.KEY_SPEC_ML_KEM_768, k.KEY_USAGE_KEY_ENCAPSULATION): (a.ALGORITHM_ML_KEM_768,),
    (k.KEY_SPEC_ML_KEM_1024, k.KEY_USAGE_KEY_ENCAPSULATION): (a.ALGORITHM_ML_KEM_1024,),
    (k.KEY_SPEC_ML_KEM_768, k.KEY_USAGE_ENCRYPT_DECRYPT): (a.ALGORITHM_HPKE_ML_KEM_768,),
    (k.KEY_SPEC_ML_KEM_1024, k.KEY_USAGE_ENCRYPT_DECRYPT): (a.ALGORITHM_HPKE_ML_KEM_1024,),
    (k.KEY_SPEC_X_WING, k.KEY_USAGE_ENCRYPT_DECRYPT): (a.ALGORITHM_HPKE_X_WING,),
}

_SHA_256, _SHA_384, _SHA_512 = hashes.SHA256(), hashes.SHA384(), hashes.SHA512()

# What each algorithm hashes with. ML-DSA's "digest" is the message representative mu, 64 bytes; Ed25519 has none.
HASHES: Mapping[Algorithm.ValueType, hashes.SHA256 | hashes.SHA384 | hashes.SHA512] = {
    a.ALGORITHM_RSASSA_PSS_SHA_256: _SHA_256,
    a.ALGORITHM_RSASSA_PSS_SHA_384: _SHA_384,
    a.ALGORITHM_RSASSA_PSS_SHA_512: _SHA_512,
    a.ALGORITHM_RSASSA_PKCS1_V1_5_SHA_256: _SHA_256,
    a.ALGORITHM_RSASSA_PKCS1_V1_5_SHA_384: _SHA_384,
    a.ALGORITHM_RSASSA_PKCS1_V1_5_SHA_512: _SHA_512,
    a.ALGORITHM_ECDSA_SHA_256: _SHA_256,
    a.ALGORITHM_ECDSA_SHA_384: _SHA_384,
    a.ALGORITHM_ECDSA_SHA_512: _SHA_512,
    a.ALGORITHM_HMAC_SHA_256: _SHA_256,
    a.ALGORITHM_HMAC_SHA_384: _SHA_384,
    a.ALGORITHM_HMAC_SHA_512: _SHA_512,
}

PSS = frozenset(_RSA_SIGNATURES[:3])
ML_DSA = frozenset((a.ALGORITHM_ML_DSA_44, a.ALGORITHM_ML_DSA_65, a.ALGORITHM_ML_DSA_87))


def choose(
    possible: tuple[Algorithm.ValueType, ...], requested: Algorithm.ValueType, field: str = "algorithm"
) -> Algorithm.ValueType:
    """The algorithm asked for, or the default when none was. Raises ALGORITHM_INVALID for one that does not fit."""
    if not requested:
        return possible[0]
    if requested not in possible:
        fitting = ", ".join(short_name(algorithm) for algorithm in possible)
        raise StrongroomError(
            Reason.ALGORITHM_INVALID, f"{field} does not fit the key, which has {fitting}", field=field
        )
    return requested


def short_name(algorithm: Algorithm.ValueType) -> str:
    """An algorithm's name without the enum's prefix."""
    return Algorithm.Name(algorithm).removeprefix("ALGORITHM_")
