"""Types of transit keys, and what each is in the mesh."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from services.doors.vault.errors import invalid, unsupported
from strongroom.keystore.v1.key_pb2 import Key, KeySpec, KeyUsage

_ENCRYPT, _SIGN, _MAC = (
    KeyUsage.KEY_USAGE_ENCRYPT_DECRYPT,
    KeyUsage.KEY_USAGE_SIGN_VERIFY,
    KeyUsage.KEY_USAGE_GENERATE_VERIFY_MAC,
)
_AGREE, _ENCAPSULATE = KeyUsage.KEY_USAGE_KEY_AGREEMENT, KeyUsage.KEY_USAGE_KEY_ENCAPSULATION


@dataclass(frozen=True, slots=True)
class KeyType:
    """A type by its name in Vault, or one of our own where Vault has none."""

    name: str
    spec: KeySpec.ValueType
    usages: tuple[KeyUsage.ValueType, ...]
    """The default first."""


DEFAULT = "aes256-gcm96"

_TYPES = {
    kind.name: kind
    for kind in (
        KeyType("aes256-gcm96", KeySpec.KEY_SPEC_AES_256, (_ENCRYPT,)),
        KeyType("aes128-gcm96", KeySpec.KEY_SPEC_AES_128, (_ENCRYPT,)),
        KeyType("sm4-gcm96", KeySpec.KEY_SPEC_SM4, (_ENCRYPT,)),
        KeyType("ed25519", KeySpec.KEY_SPEC_ED25519, (_SIGN,)),
        KeyType("ecdsa-p256", KeySpec.KEY_SPEC_EC_P256, (_SIGN, _AGREE)),
        KeyType("ecdsa-p384", KeySpec.KEY_SPEC_EC_P384, (_SIGN, _AGREE)),
        KeyType("ecdsa-p521", KeySpec.KEY_SPEC_EC_P521, (_SIGN, _AGREE)),
        KeyType("ecdsa-secp256k1", KeySpec.KEY_SPEC_EC_SECP256K1, (_SIGN,)),
        KeyType("rsa-2048", KeySpec.KEY_SPEC_RSA_2048, (_SIGN, _ENCRYPT)),
        KeyType("rsa-3072", KeySpec.KEY_SPEC_RSA_3072, (_SIGN, _ENCRYPT)),
        KeyType("rsa-4096", KeySpec.KEY_SPEC_RSA_4096, (_SIGN, _ENCRYPT)),
        KeyType("ml-dsa-44", KeySpec.KEY_SPEC_ML_DSA_44, (_SIGN,)),
        KeyType("ml-dsa-65", KeySpec.KEY_SPEC_ML_DSA_65, (_SIGN,)),
        KeyType("ml-dsa-87", KeySpec.KEY_SPEC_ML_DSA_87, (_SIGN,)),
        KeyType("ml-kem-768", KeySpec.KEY_SPEC_ML_KEM_768, (_ENCRYPT, _ENCAPSULATE)),
        KeyType("ml-kem-1024", KeySpec.KEY_SPEC_ML_KEM_1024, (_ENCRYPT, _ENCAPSULATE)),
        KeyType("x-wing", KeySpec.KEY_SPEC_X_WING, (_ENCRYPT,)),
        KeyType("x25519", KeySpec.KEY_SPEC_X25519, (_AGREE,)),
    )
}
_HMAC: Mapping[int, KeySpec.ValueType] = {
    0: KeySpec.KEY_SPEC_HMAC_256,
    32: KeySpec.KEY_SPEC_HMAC_256,
    48: KeySpec.KEY_SPEC_HMAC_384,
    64: KeySpec.KEY_SPEC_HMAC_512,
}
_USAGES = {"encrypt": _ENCRYPT, "sign": _SIGN, "agree": _AGREE, "encapsulate": _ENCAPSULATE}

SYMMETRIC = frozenset({KeySpec.KEY_SPEC_AES_256, KeySpec.KEY_SPEC_AES_128, KeySpec.KEY_SPEC_SM4})


def named(name: str, key_size: int, parameter_set: str) -> KeyType:
    """The type that a request names. Raises HttpError."""
    name = name or DEFAULT
    if name == "hmac":
        if key_size not in _HMAC:
            raise unsupported("an HMAC key has 32, 48 or 64 bytes")
        return KeyType("hmac", _HMAC[key_size], (_MAC,))
    if name == "ml-dsa":
        name = f"ml-dsa-{parameter_set or '44'}"
    kind = _TYPES.get(name)
    if kind is None:
        raise unsupported(f"keys of type {name[:32]!r}; there are {', '.join([*_TYPES, 'hmac', 'ml-dsa'])}")
    return kind


def usage(kind: KeyType, asked: str) -> KeyUsage.ValueType:
    """What a key is for: one thing for its whole life, which `usage` chooses where there is a choice. Raises
    HttpError."""
    if not asked:
        return kind.usages[0]
    wanted = _USAGES.get(asked)
    if wanted not in kind.usages:
        raise invalid(f"a key of type {kind.name} cannot be for usage {asked[:32]!r}")
    return wanted


def of_key(key: Key) -> str:
    """The name of a key's type."""
    if key.usage == _MAC:
        return "hmac"
    name = next((kind.name for kind in _TYPES.values() if kind.spec == key.spec), "")
    return "ml-dsa" if name.startswith("ml-dsa-") else name


def parameter_set(key: Key) -> str:
    """The parameter set of an ML-DSA key; empty for others."""
    name = next((kind.name for kind in _TYPES.values() if kind.spec == key.spec), "")
    return name.removeprefix("ml-dsa-") if name.startswith("ml-dsa-") else ""
