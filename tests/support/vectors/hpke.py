"""HPKE (RFC 9180) in base mode, the receiver's side, from the RFC's text and the drafts that formats.md names.

Block ciphers, curves and lattices are `cryptography`'s; the key schedule and the combiners are written here, so that
what `cryptography.hazmat.primitives.hpke` and the services make is opened by somebody else.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha3_256, shake_256
from struct import pack

from cryptography.hazmat.primitives.asymmetric import ec, mlkem, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

P256, P384, P521, X25519, ML_KEM_768, ML_KEM_1024, X_WING = 0x10, 0x11, 0x12, 0x20, 0x41, 0x42, 0x647A
HKDF_SHA256, HKDF_SHA384, HKDF_SHA512 = 1, 2, 3
AES_128_GCM, AES_256_GCM = 1, 2

ENCAPSULATED_BYTES = {P256: 65, P384: 97, P521: 133, X25519: 32, ML_KEM_768: 1088, ML_KEM_1024: 1568, X_WING: 1120}

_HASHES = {HKDF_SHA256: "sha256", HKDF_SHA384: "sha384", HKDF_SHA512: "sha512"}
_KEY_BYTES = {AES_128_GCM: 16, AES_256_GCM: 32}
_CURVES: Mapping[int, ec.EllipticCurve] = {P256: ec.SECP256R1(), P384: ec.SECP384R1(), P521: ec.SECP521R1()}
_DHKEM_HASHES = {P256: "sha256", P384: "sha384", P521: "sha512", X25519: "sha256"}
_X_WING_LABEL = bytes.fromhex("5c2e2f2f5e5c")
_ML_KEM_768_BYTES = 1088


class XWingPrivateKey:
    """X-Wing's private key, expanded from its seed of 32 bytes (draft-connolly-cfrg-xwing-kem, section 5.2)."""

    def __init__(self, seed: bytes) -> None:
        expanded = shake_256(seed).digest(96)
        self.lattice = mlkem.MLKEM768PrivateKey.from_seed_bytes(expanded[:64])
        self.curve = x25519.X25519PrivateKey.from_private_bytes(expanded[64:])

    def public_bytes(self) -> bytes:
        """ML-KEM-768's public key, then X25519's."""
        return self.lattice.public_key().public_bytes_raw() + self.curve.public_key().public_bytes_raw()


PrivateKey = (
    ec.EllipticCurvePrivateKey
    | x25519.X25519PrivateKey
    | mlkem.MLKEM768PrivateKey
    | mlkem.MLKEM1024PrivateKey
    | XWingPrivateKey
)


@dataclass(frozen=True, slots=True)
class Suite:
    """A KEM, a KDF and an AEAD by their numbers in the RFC's registries."""

    kem: int
    kdf: int
    aead: int

    def schedule(self, shared_secret: bytes, info: bytes) -> tuple[bytes, bytes]:
        """Key and base nonce; RFC 9180, section 5.1, in base mode."""
        suite, name = b"HPKE" + pack(">HHH", self.kem, self.kdf, self.aead), _HASHES[self.kdf]
        context = (
            b"\0" + _extract(name, suite, b"", b"psk_id_hash", b"") + _extract(name, suite, b"", b"info_hash", info)
        )
        secret = _extract(name, suite, shared_secret, b"secret", b"")
        key = _expand(name, suite, secret, b"key", context, _KEY_BYTES[self.aead])
        return key, _expand(name, suite, secret, b"base_nonce", context, 12)

    def open(self, private_key: PrivateKey, info: bytes, message: bytes) -> bytes:
        """The plaintext of `enc ‖ ct`: the first message, without associated data. Raises InvalidTag, ValueError."""
        enc, sealed = message[: ENCAPSULATED_BYTES[self.kem]], message[ENCAPSULATED_BYTES[self.kem] :]
        key, nonce = self.schedule(decapsulate(self.kem, private_key, enc), info)
        return AESGCM(key).decrypt(nonce, sealed, None)


def decapsulate(kem: int, private_key: PrivateKey, enc: bytes) -> bytes:
    """The shared secret that `enc` carries. Raises ValueError for what is no encapsulated key."""
    if isinstance(private_key, XWingPrivateKey):
        on_lattice, on_curve = enc[:_ML_KEM_768_BYTES], enc[_ML_KEM_768_BYTES:]
        return sha3_256(
            private_key.lattice.decapsulate(on_lattice)
            + private_key.curve.exchange(x25519.X25519PublicKey.from_public_bytes(on_curve))
            + on_curve
            + private_key.curve.public_key().public_bytes_raw()
            + _X_WING_LABEL
        ).digest()
    if isinstance(private_key, ec.EllipticCurvePrivateKey):
        peer = ec.EllipticCurvePublicKey.from_encoded_point(_CURVES[kem], enc)
        own = private_key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        return _of_diffie_hellman(kem, private_key.exchange(ec.ECDH(), peer), enc + own)
    if isinstance(private_key, x25519.X25519PrivateKey):
        agreed = private_key.exchange(x25519.X25519PublicKey.from_public_bytes(enc))
        return _of_diffie_hellman(kem, agreed, enc + private_key.public_key().public_bytes_raw())
    return private_key.decapsulate(enc)


def _of_diffie_hellman(kem: int, agreed: bytes, context: bytes) -> bytes:
    """RFC 9180, section 4.1, ExtractAndExpand."""
    suite, name = b"KEM" + pack(">H", kem), _DHKEM_HASHES[kem]
    prk = _extract(name, suite, b"", b"eae_prk", agreed)
    return _expand(name, suite, prk, b"shared_secret", context, len(prk))


def _extract(name: str, suite: bytes, salt: bytes, label: bytes, ikm: bytes) -> bytes:
    return hmac.digest(salt, b"HPKE-v1" + suite + label + ikm, name)


def _expand(name: str, suite: bytes, prk: bytes, label: bytes, info: bytes, length: int) -> bytes:
    """One block of HKDF-Expand, which is all that HPKE asks for."""
    block = hmac.digest(prk, pack(">H", length) + b"HPKE-v1" + suite + label + info + b"\x01", name)
    return block[:length]
