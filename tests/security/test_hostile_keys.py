"""Keys made to stop whoever loads them: nothing is parsed before permission, and nothing that costs is loaded."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from functools import cache
from math import gcd, prod
from typing import Any

import pytest
from asn1crypto import core, keys
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa, x448, x25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from services.crypto.handlers.asymmetric_service import AsymmetricHandlers
from services.crypto.handlers.crypto_service import EncryptionHandlers
from services.crypto.handlers.data_key_service import DataKeyHandlers
from services.crypto.keys.generation import Generation
from services.crypto.operations import exports
from services.crypto.primitives import ciphertexts, private_keys, public_keys
from services.keystore.access.credentials import key_sets
from services.runtime.call import Call
from services.runtime.errors import Reason, StrongroomError
from services.runtime.outside import key_screening
from services.runtime.outside.key_screening import KeyRefusedError
from services.runtime.rpc.handlers import by_method
from services.secrets.kinds import ssh_keys
from strongroom.crypto.v1 import crypto_pb2
from strongroom.crypto.v1.algorithm_pb2 import ALGORITHM_XAES_256_GCM
from strongroom.keystore.v1 import key_pb2 as k

# What any of these may cost on a loaded machine; on the old code the worst took 40 seconds.
SECONDS = 5.0

ED, X = k.KEY_SPEC_ED25519, k.KEY_SPEC_X25519
P256 = core.ObjectIdentifier("1.2.840.10045.3.1.7")
# Of 256 bits: the field of secp256k1.
_PRIME_256 = 2**256 - 2**32 - 977
_SMALL = prod(range(3, 2000, 2))
M2203 = 2**2203 - 1
M9689 = 2**9689 - 1
METHODS = crypto_pb2.DESCRIPTOR.services_by_name["CryptoService"].methods_by_name
MARK = b"\x30\x82parsed"


def spki(algorithm: str, key: bytes, parameters: Any = None) -> bytes:
    """A SubjectPublicKeyInfo of any algorithm, by its OID."""

    class Algorithm(core.Sequence):  # type: ignore[misc]
        _fields = [("oid", core.ObjectIdentifier), ("parameters", core.Any, {"optional": True})]  # noqa: RUF012

    class PublicKey(core.Sequence):  # type: ignore[misc]
        _fields = [("algorithm", Algorithm), ("key", core.OctetBitString)]  # noqa: RUF012

    found = {"oid": algorithm} | ({"parameters": parameters} if parameters is not None else {})
    encoded: bytes = PublicKey({"algorithm": Algorithm(found), "key": key}).dump()
    return encoded


def rsa_public(n: int, e: int, algorithm: str = "1.2.840.113549.1.1.1") -> bytes:
    """An RSA public key of any numbers."""
    return spki(algorithm, keys.RSAPublicKey({"modulus": n, "public_exponent": e}).dump(), core.Null())


def rsa_private(p: int, q: int, e: int = 65537, **other: int) -> bytes:
    """An RSA private key in PKCS#8 of any numbers, that fit together unless `other` says so."""
    d = pow(e, -1, (p - 1) * (q - 1))
    numbers = {
        "modulus": p * q, "public_exponent": e, "private_exponent": d, "prime1": p, "prime2": q,
        "exponent1": d % (p - 1), "exponent2": d % (q - 1), "coefficient": pow(q, -1, p),
    }  # fmt: skip
    inner = keys.RSAPrivateKey({"version": 0, **numbers, **other})
    return pkcs8("rsa", inner.dump())


def pkcs8(algorithm: str, inner: bytes) -> bytes:
    """PKCS#8 around any bytes."""

    class Algorithm(core.Sequence):  # type: ignore[misc]
        _fields = [("algorithm", core.ObjectIdentifier)]  # noqa: RUF012

    oids = {
        "rsa": "1.2.840.113549.1.1.1", "pss": "1.2.840.113549.1.1.10", "ed25519": "1.3.101.112",
        "x25519": "1.3.101.110", "ed448": "1.3.101.113", "x448": "1.3.101.111", "ml-dsa": "2.16.840.1.101.3.4.3.18",
        "ml-kem": "2.16.840.1.101.3.4.4.2",
    }  # fmt: skip

    class PrivateKey(core.Sequence):  # type: ignore[misc]
        _fields = [("version", core.Integer), ("algorithm", Algorithm), ("key", core.OctetString)]  # noqa: RUF012

    encoded: bytes = PrivateKey({"version": 0, "algorithm": {"algorithm": oids[algorithm]}, "key": inner}).dump()
    return encoded


def dh(p: int) -> bytes:
    """A key of Diffie-Hellman in a group of this prime."""

    class Group(core.Sequence):  # type: ignore[misc]
        _fields = [("p", core.Integer), ("g", core.Integer)]  # noqa: RUF012

    return spki("1.2.840.113549.1.3.1", core.Integer(3).dump(), Group({"p": p, "g": 2}))


def explicit_curve() -> bytes:
    """A point of a curve that is told by its numbers."""

    class Numbers(core.Sequence):  # type: ignore[misc]
        _fields = [("version", core.Integer), ("p", core.Integer)]  # noqa: RUF012

    return spki("1.2.840.10045.2.1", b"\x04" + bytes(64), Numbers({"version": 1, "p": M9689}))


def der_of(key: Any) -> bytes:
    """A well-made public key."""
    encoded: bytes = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return encoded


def private_of(key: Any) -> bytes:
    """A private key in PKCS#8."""
    encoded: bytes = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return encoded


def of_zeros(algorithm: str, size: int) -> Callable[[], bytes]:
    """A private key whose inner one has so many zeros."""
    return lambda: pkcs8(algorithm, core.OctetString(bytes(size)).dump())


def with_password() -> bytes:
    """A private key that is encrypted."""
    encryption = serialization.BestAvailableEncryption(b"x")
    return ed25519.Ed25519PrivateKey.generate().private_bytes(Encoding.DER, PrivateFormat.PKCS8, encryption)


def small_order_x25519() -> bytes:
    return spki("1.3.101.110", bytes(32))


GOOD_N = rsa.generate_private_key(65537, 2048).public_key().public_numbers().n
PUBLIC: dict[str, Callable[[], bytes]] = {
    "DH with a large prime": lambda: dh(M9689),
    "DSA": lambda: der_of(dsa.generate_private_key(1024)),  # noqa: S505
    "a curve by its numbers": explicit_curve,
    "a curve that is not known": lambda: der_of(ec.generate_private_key(ec.SECP224R1())),
    "an Edwards key of another kind": lambda: der_of(ed448.Ed448PrivateKey.generate()),
    "X448": lambda: der_of(x448.X448PrivateKey.generate()),
    "RSASSA-PSS": lambda: rsa_public(GOOD_N, 65537, "1.2.840.113549.1.1.10"),
    "RSAES-OAEP": lambda: rsa_public(GOOD_N, 65537, "1.2.840.113549.1.1.7"),
    "even RSA": lambda: rsa_public(GOOD_N + 1, 65537),
    "small RSA": lambda: rsa_public(GOOD_N >> 1024 | 1, 65537),
    "huge RSA": lambda: rsa_public((1 << 30_000) + 1, 65537),
    "RSA beyond what is computed": lambda: rsa_public((1 << 8192) + 1, 65537),
    "a huge exponent": lambda: rsa_public(GOOD_N, GOOD_N - 2),
    "a long exponent of a long modulus": lambda: rsa_public((1 << 4095) + 1, (1 << 200) + 1),
    "exponent 1": lambda: rsa_public(GOOD_N, 1),
    "exponent 3": lambda: rsa_public(GOOD_N, 3),
    "an even exponent": lambda: rsa_public(GOOD_N, 65538),
    "a negative modulus": lambda: rsa_public(-GOOD_N, 65537),
    "a modulus of nothing": lambda: rsa_public(0, 65537),
    "X25519 of another length": lambda: spki("1.3.101.110", bytes(31)),
    "a point of another length": lambda: spki("1.2.840.10045.2.1", b"\x04" + bytes(63), P256),
    "no point of the curve": lambda: spki("1.2.840.10045.2.1", b"\x04" + bytes(64), P256),
    "ML-KEM of another length": lambda: spki("2.16.840.1.101.3.4.4.2", bytes(1183)),
    "ML-KEM out of its field": lambda: spki("2.16.840.1.101.3.4.4.2", b"\xff" * 1184),
    "PKCS#1": lambda: rsa.generate_private_key(65537, 2048).public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1),
    "no DER": lambda: b"\x30\x84\xff\xff\xff\xff",
    "nested": lambda: b"\x30\x80" * 4000,
    "PEM without an end": lambda: b"-----BEGIN PUBLIC KEY-----\nAAAA",
    "PEM of nothing": lambda: b"-----",
    "more behind it": lambda: der_of(x25519.X25519PrivateKey.generate()) + b"\x00",
}  # fmt: skip


@pytest.mark.parametrize("what", PUBLIC)
def test_a_hostile_public_key_is_refused_at_once(what: str) -> None:
    encoded = PUBLIC[what]()
    begun = time.monotonic()
    with pytest.raises(StrongroomError) as caught:
        exports.read_target(crypto_pb2.ExportTarget(public_key=encoded[:8192])).encrypt(bytes(32), "ciphertext")
    assert caught.value.reason is Reason.PUBLIC_KEY_INVALID
    assert time.monotonic() - begun < SECONDS


def test_a_point_of_small_order_cannot_be_encrypted_to() -> None:
    with pytest.raises(StrongroomError) as caught:
        exports.read_target(crypto_pb2.ExportTarget(public_key=small_order_x25519())).encrypt(bytes(32), "ciphertext")
    assert caught.value.reason is Reason.PUBLIC_KEY_INVALID


@pytest.mark.parametrize(
    "make",
    [
        lambda: rsa.generate_private_key(65537, 2048),
        lambda: ec.generate_private_key(ec.SECP384R1()),
        x25519.X25519PrivateKey.generate,
    ],
)
def test_a_well_made_public_key_is_taken_in_both_forms(make: Callable[[], Any]) -> None:
    public = make().public_key()
    for encoding in (Encoding.DER, Encoding.PEM):
        public_keys.read(public.public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo), "key")


def close_primes() -> tuple[int, int]:
    """Two primes of 1,024 bits that differ in their lowest bits alone."""
    p, _ = primes(2048)
    q = p + 2
    while gcd(q, _SMALL) > 1 or not is_prime(q) or q % 65537 == 1:
        q += 2
    return p, q


@cache
def primes(bits: int) -> tuple[int, int]:
    """The primes of a fresh RSA key."""
    numbers = rsa.generate_private_key(65537, bits).private_numbers()
    return numbers.p, numbers.q


def prime_of(bits: int) -> int:
    """A prime of a size: one of a fresh RSA key's."""
    return primes(2 * bits)[0]


def is_prime(number: int) -> bool:
    return all(pow(base, number - 1, number) == 1 for base in (2, 3))


def weak_d() -> bytes:
    """A private exponent that is short, as Wiener's attack needs it."""
    p, q = primes(2048)
    d = 65537
    e = pow(d, -1, (p - 1) * (q - 1))
    return rsa_private(p, q, e)


PRIVATE: dict[str, tuple[Any, Callable[[], bytes]]] = {
    "large primes": (k.KEY_SPEC_RSA_2048, lambda: rsa_private(M2203, M9689)),
    "a large p": (k.KEY_SPEC_RSA_2048, lambda: rsa_private(*primes(2048), prime1=2**3217 - 1)),
    "a modulus of the size alone": (k.KEY_SPEC_RSA_2048, lambda: rsa_private(M2203, M9689, modulus=GOOD_N)),
    "primes close together": (k.KEY_SPEC_RSA_2048, lambda: rsa_private(*close_primes())),
    "primes of different sizes": (k.KEY_SPEC_RSA_2048, lambda: rsa_private(prime_of(1792), _PRIME_256)),
    "the same prime twice": (k.KEY_SPEC_RSA_2048, lambda: rsa_private(*primes(2048), prime2=0)),
    "a small exponent": (k.KEY_SPEC_RSA_2048, lambda: rsa_private(*primes(2048), private_exponent=3, public_exponent=17)),  # noqa: E501
    "a short private exponent": (k.KEY_SPEC_RSA_2048, weak_d),
    "another private exponent": (k.KEY_SPEC_RSA_2048, lambda: rsa_private(*primes(2048), private_exponent=65537)),
    "a huge coefficient": (k.KEY_SPEC_RSA_2048, lambda: rsa_private(*primes(2048), coefficient=1 << 60_000)),
    "a composite prime": (k.KEY_SPEC_RSA_2048, lambda: rsa_private(prime_of(1024), primes(1024)[0] * primes(1024)[1])),
    "a negative prime": (k.KEY_SPEC_RSA_2048, lambda: rsa_private(*primes(2048), prime1=-3)),
    "RSASSA-PSS": (k.KEY_SPEC_RSA_2048, lambda: pkcs8("pss", b"")),
    **{
        f"{name} with an inner key of {size} bytes": (spec, of_zeros(name, size))
        for name, spec in (("ed25519", ED), ("x25519", X), ("ed448", ED), ("x448", X))
        for size in (0, 1, 31, 33, 57, 200)
    },
    **{
        f"{name} of {size} bytes": (spec, of_zeros(name, size))
        for name, spec in (("ml-dsa", k.KEY_SPEC_ML_DSA_65), ("ml-kem", k.KEY_SPEC_ML_KEM_768))
        for size in (0, 31, 33, 65, 2400)
    },
    "an elliptic key of another kind": (k.KEY_SPEC_EC_P256, lambda: private_of(ed25519.Ed25519PrivateKey.generate())),
    "another curve": (k.KEY_SPEC_EC_P256, lambda: private_of(ec.generate_private_key(ec.SECP384R1()))),
    "Ed25519 for X25519": (k.KEY_SPEC_X25519, lambda: private_of(ed25519.Ed25519PrivateKey.generate())),
    "with a password": (k.KEY_SPEC_ED25519, with_password),
    "no DER": (k.KEY_SPEC_ED25519, lambda: b"\x30\x80"),
    "nothing": (k.KEY_SPEC_ED25519, lambda: b""),
}  # fmt: skip


@pytest.mark.parametrize("what", PRIVATE)
def test_a_hostile_or_weak_private_key_is_refused_at_once(what: str) -> None:
    spec, make = PRIVATE[what]
    given = make()
    begun = time.monotonic()
    with pytest.raises(ValueError, match=r".+") as caught:
        private_keys.validated(spec, given)
    assert time.monotonic() - begun < SECONDS
    if what == "primes close together":
        assert isinstance(caught.value, KeyRefusedError)


@pytest.mark.parametrize("bits", [2048, 3072, 4096])
def test_keys_as_openssl_makes_them_are_strong_enough(bits: int) -> None:
    key = rsa.generate_private_key(65537, bits)
    key_screening.private_key(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))


def number(value: int) -> str:
    """Base64url, as a JWK has numbers."""
    return base64.urlsafe_b64encode(value.to_bytes((value.bit_length() + 7) // 8, "big")).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "members",
    [
        {"n": number((1 << 60_000) + 1), "e": "AQAB"},
        {"n": number((1 << 8193) + 1), "e": "AQAB"},
        {"n": number(GOOD_N), "e": number(GOOD_N - 2)},
        {"n": number(GOOD_N + 1), "e": "AQAB"},
        {"n": number(M2203 * M9689), "e": "AQAB", "d": number(M9689), "p": number(M2203), "q": number(M9689)},
        {"n": number(GOOD_N), "e": "AQAB", "d": number(GOOD_N - 2)},
        {"n": 5, "e": None},
        {"n": ["x"], "e": {}},
    ],
)
def test_hostile_keys_of_an_issuer_are_left_out_at_once(members: dict[str, Any]) -> None:
    begun = time.monotonic()
    assert key_sets.read(json.loads(json.dumps({"keys": [{"kty": "RSA", "kid": "a", **members}]}))) == ()
    assert time.monotonic() - begun < SECONDS


@pytest.mark.parametrize(
    "line",
    [
        "ssh-dss AAAAB3NzaC1kc3MAAAABAwAAAAEDAAAAAQMAAAABAw==",
        "ssh-rsa " + base64.b64encode(b"\0\0\0\x07ssh-rsa\0\0\0\x01\x04\0\0\0\x02\x01\0").decode(),
        "ssh-rsa " + "A" * 20_000,
        "-----BEGIN PUBLIC KEY-----\nMAA=\n-----END PUBLIC KEY-----",
        "",
    ],
)  # fmt: skip
def test_hostile_host_keys_are_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        ssh_keys.host_keys([line])


class Nobody:
    """Stands for the keys of a service whose caller may use none of them."""

    def carried(self, _call: Call, _uid: bytes) -> Any:
        return type("Key", (), {"account": "other", "uid": bytes(16)})()

    def _refuse(self, *_arguments: Any, **_named: Any) -> Any:
        raise StrongroomError(Reason.PERMISSION_DENIED, "not permitted")

    named = authorized = authorize = uid_of = _refuse


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_parsed_before_the_caller_is_permitted(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reached: list[str] = []
    for module, name in (
        (key_screening, "public_key"), (key_screening, "private_key"), (public_keys, "load_der_public_key"),
        (private_keys, "load_der_private_key"), (exports, "read_target"), (public_keys, "read"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, lambda *_a, name=name, **_n: reached.append(name))
    nobody: Any = Nobody()
    handlers = (
        EncryptionHandlers(nobody, nobody, nobody),
        DataKeyHandlers(nobody, Generation()),
        AsymmetricHandlers(nobody),
    )
    behaviours = by_method(METHODS[method].containing_service, handlers)
    request = message_factory.GetMessageClass(METHODS[method].input_type)()
    fill(request)
    try:
        answered = behaviours[method](request, Call("strongroom.crypto.v1.CryptoService", method, "crypto:Test"))
    except StrongroomError as refusal:
        assert refusal.reason in (Reason.PERMISSION_DENIED, Reason.CIPHERTEXT_INVALID)
    else:
        assert all(outcome.HasField("error") for outcome in answered.outcomes)
    assert reached == []


def fill(message: Any) -> None:
    """Sets every field to something hostile that passes the cheap checks."""
    kind: Descriptor = message.DESCRIPTOR
    for field in kind.fields:
        if field.name.endswith("crc32c") or field.name in ("digest", "algorithm"):
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            continue
        if field.message_type is not None:
            inner = getattr(message, field.name)
            if field.is_repeated:
                fill(inner.add())
            elif not field.message_type.full_name.startswith("google."):
                inner.SetInParent()
                fill(inner)
        elif field.type == FieldDescriptor.TYPE_BYTES:
            setattr(message, field.name, ciphertext() if "ciphertext" in field.name else MARK)
        elif field.type == FieldDescriptor.TYPE_STRING:
            setattr(message, field.name, "accounts/other/keys/theirs")
        elif field.type == FieldDescriptor.TYPE_ENUM:
            setattr(message, field.name, k.KEY_SPEC_RSA_2048 if field.name == "spec" else 0)
        elif field.type != FieldDescriptor.TYPE_BOOL:
            setattr(message, field.name, 32)


def ciphertext() -> bytes:
    """One of somebody else's key."""
    return ciphertexts.header(ALGORITHM_XAES_256_GCM, bytes(16), 1) + bytes(64)
