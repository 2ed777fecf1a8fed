"""What each key spec may be used for: keystore checks new keys by it, crypto has algorithms for just these."""

from __future__ import annotations

from collections.abc import Mapping

from strongroom.keystore.v1 import key_pb2 as k
from strongroom.keystore.v1.key_pb2 import KeySpec, KeyUsage

_ENCRYPTING = (k.KEY_USAGE_ENCRYPT_DECRYPT,)
_SIGNING = (k.KEY_USAGE_SIGN_VERIFY,)
_AUTHENTICATING = (k.KEY_USAGE_GENERATE_VERIFY_MAC,)
_AGREEING = (k.KEY_USAGE_KEY_AGREEMENT,)
_ENCAPSULATING = (k.KEY_USAGE_KEY_ENCAPSULATION,)

# Where there is one usage it is the default; where there are several a caller has to choose.
USAGES: Mapping[KeySpec.ValueType, tuple[KeyUsage.ValueType, ...]] = {
    k.KEY_SPEC_AES_256: _ENCRYPTING,
    k.KEY_SPEC_AES_128: _ENCRYPTING,
    k.KEY_SPEC_SM4: _ENCRYPTING,
    k.KEY_SPEC_HMAC_256: _AUTHENTICATING,
    k.KEY_SPEC_HMAC_384: _AUTHENTICATING,
    k.KEY_SPEC_HMAC_512: _AUTHENTICATING,
    k.KEY_SPEC_RSA_2048: _ENCRYPTING + _SIGNING,
    k.KEY_SPEC_RSA_3072: _ENCRYPTING + _SIGNING,
    k.KEY_SPEC_RSA_4096: _ENCRYPTING + _SIGNING,
    k.KEY_SPEC_EC_P256: _SIGNING + _AGREEING,
    k.KEY_SPEC_EC_P384: _SIGNING + _AGREEING,
    k.KEY_SPEC_EC_P521: _SIGNING + _AGREEING,
    k.KEY_SPEC_EC_SECP256K1: _SIGNING,
    k.KEY_SPEC_X25519: _AGREEING,
    k.KEY_SPEC_ED25519: _SIGNING,
    k.KEY_SPEC_ML_DSA_44: _SIGNING,
    k.KEY_SPEC_ML_DSA_65: _SIGNING,
    k.KEY_SPEC_ML_DSA_87: _SIGNING,
    k.KEY_SPEC_ML_KEM_768: _ENCAPSULATING + _ENCRYPTING,
    k.KEY_SPEC_ML_KEM_1024: _ENCAPSULATING + _ENCRYPTING,
    k.KEY_SPEC_X_WING: _ENCRYPTING,
}


def spec_name(spec: KeySpec.ValueType) -> str:
    """A spec's name without the enum's prefix."""
    return KeySpec.Name(spec).removeprefix("KEY_SPEC_")


def usage_name(usage: KeyUsage.ValueType) -> str:
    """A usage's name without the enum's prefix."""
    return KeyUsage.Name(usage).removeprefix("KEY_USAGE_")
