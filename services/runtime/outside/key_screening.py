"""Keys from outside, screened before a library that computes with them loads them.

Loading validates, and validating costs what the key's numbers make it cost: the primality of a prime of 9,689 bits
takes OpenSSL half a minute, in which nothing else runs. So the algorithm is looked at first, among those that are
known, and every number is bounded and consistent before it reaches OpenSSL. A key that is screened loads within a few
milliseconds, an RSA private key of 4,096 bits within 0.3 s.

RSA keys that the mesh is to use itself also meet FIPS 186-5, appendix A.1.1: primes of half the modulus' bits that are
not close together, an odd public exponent between 2^16 and 2^256, and a private exponent above half the modulus.
Whether the generator of a modulus was weak (ROCA, shared primes) is not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import lcm
from typing import ClassVar, Final

from asn1crypto import core, keys, pem
from asn1crypto.x509 import Certificate
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import Encoding

MIN_RSA_BITS: Final = 2048
MAX_RSA_BITS: Final = 8192
_RSA_BITS = (2048, 3072, 4096)
# FIPS 186-5 allows 256 bits, of which OpenSSL takes 64 with a longer modulus.
_LONG_EXPONENT_BITS = 256
_MAX_BITS_WITH_LONG_EXPONENT = 3072
_SHORT_EXPONENT_BITS = 64
_MIN_DISTANCE_BITS = 100

_RSA = "1.2.840.113549.1.1.1"
_RSASSA_PSS = "1.2.840.113549.1.1.10"
_EC = "1.2.840.10045.2.1"
_CURVES: Mapping[str, int] = {
    # The curve's OID: bytes of a coordinate.
    "1.2.840.10045.3.1.7": 32,
    "1.3.132.0.34": 48,
    "1.3.132.0.35": 66,
    "1.3.132.0.10": 32,
}
_ED448 = "1.3.101.113"
_RAW = ("1.3.101.110", "1.3.101.112")
"""X25519 and Ed25519."""
_PUBLIC_BYTES: Mapping[str, int] = {
    **dict.fromkeys(_RAW, 32),
    # ML-DSA-44, -65 and -87
    "2.16.840.1.101.3.4.3.17": 1312,
    "2.16.840.1.101.3.4.3.18": 1952,
    "2.16.840.1.101.3.4.3.19": 2592,
    # ML-KEM-768 and -1024
    "2.16.840.1.101.3.4.4.2": 1184,
    "2.16.840.1.101.3.4.4.3": 1568,
}
_MAX_PQC_PRIVATE_BYTES = 5120

_FOREIGN_ERRORS = (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError)
"""What asn1crypto raises for what is no DER, or not of the type."""


class KeyRefusedError(ValueError):
    """A key must not be loaded. The text completes "the key …", and holds nothing of the key."""


class _Algorithm(core.Sequence):  # type: ignore[misc]
    _fields: ClassVar = [("algorithm", core.ObjectIdentifier), ("parameters", core.Any, {"optional": True})]


class _PublicKey(core.Sequence):  # type: ignore[misc]
    """SubjectPublicKeyInfo (RFC 5280, section 4.1)."""

    _fields: ClassVar = [("algorithm", _Algorithm), ("key", core.OctetBitString)]


class _Attributes(core.SetOf):  # type: ignore[misc]
    _child_spec = core.Any


class _PrivateKey(core.Sequence):  # type: ignore[misc]
    """OneAsymmetricKey (RFC 5958, section 2), whose first version is PKCS#8's PrivateKeyInfo."""

    _fields: ClassVar = [
        ("version", core.Integer),
        ("algorithm", _Algorithm),
        ("key", core.OctetString),
        ("attributes", _Attributes, {"implicit": 0, "optional": True}),
        ("public_key", core.OctetBitString, {"implicit": 1, "optional": True}),
    ]


class _EcPrivateKey(core.Sequence):  # type: ignore[misc]
    """ECPrivateKey (RFC 5915, section 3)."""

    _fields: ClassVar = [
        ("version", core.Integer),
        ("key", core.OctetString),
        ("curve", core.ObjectIdentifier, {"explicit": 0, "optional": True}),
        ("public_key", core.OctetBitString, {"explicit": 1, "optional": True}),
    ]


def public_key(encoded: bytes) -> bytes:
    """A public key, SubjectPublicKeyInfo in PEM or DER, as DER that is safe to load. The caller has bounded its size.

    Raises KeyRefusedError for another structure, an algorithm or a curve that is not known, explicit parameters of a
    curve, RSASSA-PSS keys (made to sign, by their own rule), and numbers out of their bounds.
    """
    try:
        der = pem.unarmor(encoded)[2] if encoded.lstrip().startswith(b"-----") else encoded
        algorithm, parameters, key = _parts(_PublicKey.load(der, strict=True))
        if algorithm == _RSA:
            numbers = keys.RSAPublicKey.load(key, strict=True).native
            rsa_public(numbers["modulus"], numbers["public_exponent"])
        elif algorithm == _EC:
            size = _coordinate_bytes(parameters)
            _require(len(key) in (1 + size, 1 + 2 * size), "is no point of its curve")
        else:
            _require(algorithm in _PUBLIC_BYTES, _why_not(algorithm))
            _require(len(key) == _PUBLIC_BYTES[algorithm], "is of another length than its algorithm has")
    except KeyRefusedError:
        raise
    except _FOREIGN_ERRORS as error:
        raise KeyRefusedError("is no SubjectPublicKeyInfo in PEM or DER") from error
    return der


def private_key(der: bytes) -> bytes:
    """A private key, PKCS#8 in DER without a password, that is safe to load. The caller has bounded its size.

    Raises KeyRefusedError as `public_key` does, and for RSA keys that FIPS 186-5 calls weak.
    """
    try:
        algorithm, parameters, key = _parts(_PrivateKey.load(der, strict=True))
        if algorithm == _RSA:
            _require_rsa_private(keys.RSAPrivateKey.load(key, strict=True))
        elif algorithm == _EC:
            _require_ec_private(_EcPrivateKey.load(key, strict=True), parameters)
        elif algorithm in _RAW:
            inner = core.OctetString.load(key, strict=True).native
            _require(len(inner) == _PUBLIC_BYTES[algorithm], "is of another length than its algorithm has")
        else:
            _require(algorithm in _PUBLIC_BYTES, _why_not(algorithm))
            _require(len(key) <= _MAX_PQC_PRIVATE_BYTES, "is of another length than its algorithm has")
    except KeyRefusedError:
        raise
    except _FOREIGN_ERRORS:
        # Not handed on: the exception may quote the key.
        raise KeyRefusedError("is no unencrypted PKCS#8 private key in DER") from None
    return der


def rsa_public(modulus: int, exponent: int) -> None:
    """Raises KeyRefusedError unless an RSA public key may be encrypted to: an odd modulus of 2,048 to 8,192 bits, and
    an odd exponent above 2^16 that OpenSSL computes with."""
    _require_verifiable(modulus, exponent)
    _require(modulus.bit_length() >= MIN_RSA_BITS, f"is an RSA key of less than {MIN_RSA_BITS} bits")
    _require(exponent > 1 << 16, "has a public exponent that is not above 2^16")


def certificates(text: str) -> None:
    """Checks the certificates of a PEM text: each has a key that signatures can be verified with at a bounded cost.
    Raises KeyRefusedError. The caller has bounded the text's size."""
    try:
        for certificate in x509.load_pem_x509_certificates(text.encode()):
            der = certificate.public_bytes(Encoding.DER)
            key = Certificate.load(der, strict=True)["tbs_certificate"]["subject_public_key_info"].dump()
            _require_verifying(*_parts(_PublicKey.load(key, strict=True)))
    except KeyRefusedError:
        raise
    except _FOREIGN_ERRORS as error:
        raise KeyRefusedError("is none in PEM") from error


def verifying(numbers: RSAPublicNumbers) -> None:
    """Raises KeyRefusedError unless signatures of an RSA key are verified at a bounded cost."""
    _require_verifiable(numbers.n, numbers.e)


def _require_verifying(algorithm: str, parameters: core.Any, key: bytes) -> None:
    if algorithm in (_RSA, _RSASSA_PSS):
        numbers = keys.RSAPublicKey.load(key, strict=True).native
        _require_verifiable(numbers["modulus"], numbers["public_exponent"])
    elif algorithm == _EC:
        _coordinate_bytes(parameters)
    else:
        _require(algorithm in _PUBLIC_BYTES or algorithm == _ED448, _why_not(algorithm))


def _require_verifiable(modulus: int, exponent: int) -> None:
    bits = modulus.bit_length()
    _require(modulus > 0 and bits <= MAX_RSA_BITS, f"is an RSA key of more than {MAX_RSA_BITS} bits")
    _require(modulus % 2 == 1, "has an even modulus")
    longest = _LONG_EXPONENT_BITS if bits <= _MAX_BITS_WITH_LONG_EXPONENT else _SHORT_EXPONENT_BITS
    _require(exponent > 2 and exponent % 2 == 1, "has a public exponent that is even or below 3")
    _require(exponent.bit_length() <= longest, f"has a public exponent of more than {longest} bits")


def _require_rsa_private(key: keys.RSAPrivateKey) -> None:
    """FIPS 186-5, appendix A.1.1. Sizes come first: afterwards the arithmetic is short."""
    _require(key["version"].native == "two-prime", "is an RSA key of more than two primes")
    n, e, d = (key[name].native for name in ("modulus", "public_exponent", "private_exponent"))
    p, q = key["prime1"].native, key["prime2"].native
    bits = n.bit_length()
    _require(bits in _RSA_BITS, "is an RSA key of another size than 2,048, 3,072 or 4,096 bits")
    rsa_public(n, e)
    half = bits // 2
    _require(p > 1 and q > 1, "has a prime that is none")
    _require(p.bit_length() == half and q.bit_length() == half, "has primes that are not of half its bits")
    _require(1 < d < n, "has a private exponent out of its range")
    for name in ("exponent1", "exponent2", "coefficient"):
        _require(0 < key[name].native < n, "has numbers that do not fit together")
    _require(p * q == n, "has a modulus that is not the product of its primes")
    _require(min(p, q) ** 2 >> (bits - 1) != 0, "has a prime that is too small")
    _require(abs(p - q).bit_length() > half - _MIN_DISTANCE_BITS, "has primes that are close together")
    order = lcm(p - 1, q - 1)
    _require(e * d % order == 1, "has a private exponent that is not its public one's")
    _require((d % order).bit_length() > half, "has a short private exponent")
    _require(
        (key["exponent1"].native - d) % (p - 1) == 0
        and (key["exponent2"].native - d) % (q - 1) == 0
        and key["coefficient"].native * q % p == 1,
        "has numbers that do not fit together",
    )


def _require_ec_private(key: _EcPrivateKey, parameters: core.Any) -> None:
    _require(len(key["key"].native) == _coordinate_bytes(parameters), "is of another length than its curve has")
    repeated = key["curve"].native
    _require(repeated is None or repeated == parameters.parsed.native, "names two curves")


def _parts(key: _PublicKey | _PrivateKey) -> tuple[str, core.Any, bytes]:
    algorithm = key["algorithm"]
    return algorithm["algorithm"].dotted, algorithm["parameters"], key["key"].native


def _coordinate_bytes(parameters: core.Any) -> int:
    curve = parameters.parsed
    _require(isinstance(curve, core.ObjectIdentifier), "has parameters of a curve instead of the curve's name")
    _require(curve.dotted in _CURVES, "is of a curve that is not known here")
    return _CURVES[curve.dotted]


def _why_not(algorithm: str) -> str:
    if algorithm == _RSASSA_PSS:
        return "is an RSASSA-PSS key, which does not encrypt: give one of the algorithm rsaEncryption"
    return "is of an algorithm that is not known here"


def _require(holds: object, why_not: str) -> None:
    if not holds:
        raise KeyRefusedError(why_not)
