"""Readers and writers of docs/formats.md, written from its text with `cryptography` and the standard library alone.

They exist to disagree with the services if the text does. What must be refused raises RefusedError.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from hashlib import sha256
from struct import pack, unpack
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import BlockCipherAlgorithm, Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.kbkdf import KBKDFCMAC, CounterLocation, Mode
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap_with_padding, aes_key_wrap_with_padding
from cryptography.hazmat.primitives.serialization import load_der_private_key

from tests.support.vectors import hpke

Json = Mapping[str, Any]

EXPORT_INFO = b"strongroom exported data key v1"


class RefusedError(Exception):
    """What was read is not what the text describes."""


# Encryption context


def canonical_context(pairs: Mapping[str, str]) -> bytes:
    """The canonical bytes of an encryption context."""
    encoded = sorted((key.encode(), value.encode()) for key, value in pairs.items())
    if any(not key for key, _ in encoded):
        raise RefusedError("an empty key")
    canonical = pack(">H", len(encoded)) + b"".join(_prefixed(part) for pair in encoded for part in pair)
    if len(canonical) > 8192:
        raise RefusedError("too long")
    return canonical


# Ciphertext

# The number of the algorithm, and the length of its nonce.
_ALGORITHMS: Mapping[tuple[str, str], tuple[int, int]] = {
    ("AES_256", "SOFTWARE"): (1, 24),
    ("AES_256", "HSM"): (2, 12),
    ("AES_128", "SOFTWARE"): (3, 24),
    ("AES_128", "HSM"): (4, 12),
    ("SM4", "SOFTWARE"): (5, 12),
}
_HEADER_BYTES, _TAG_BYTES = 22, 16


def ciphertext_header(vector: Json, *, version: int = 1, algorithm: int | None = None) -> bytes:
    """The 22 bytes before the nonce of what is encrypted under a vector's key."""
    number, _ = _ALGORITHMS[vector["spec"], vector["protection_level"]]
    uid = bytes.fromhex(vector["key_uid"])
    return pack(">BB16sI", version, number if algorithm is None else algorithm, uid, vector["key_version"])


def open_ciphertext(vector: Json) -> bytes:
    """The plaintext of a vector's ciphertext, for whoever has the key that the vector names, and no other."""
    data = bytes.fromhex(vector["ciphertext"])
    _, nonce_bytes = _ALGORITHMS[vector["spec"], vector["protection_level"]]
    header, nonce = data[:_HEADER_BYTES], data[_HEADER_BYTES : _HEADER_BYTES + nonce_bytes]
    sealed = data[_HEADER_BYTES + nonce_bytes :]
    if header != ciphertext_header(vector):
        raise RefusedError("of another format, algorithm, key or version")
    if not 1 <= len(sealed) - _TAG_BYTES <= 65_536:
        raise RefusedError("too short or too long")
    return _gcm_open(*_message_key(vector, nonce), sealed, header + canonical_context(vector["encryption_context"]))


def seal_ciphertext(vector: Json, nonce: bytes, plaintext: bytes, header: bytes | None = None) -> bytes:
    """What the vector's key makes of a plaintext under this nonce."""
    header = ciphertext_header(vector) if header is None else header
    associated = header + canonical_context(vector["encryption_context"])
    return header + nonce + _gcm_seal(*_message_key(vector, nonce), plaintext, associated)


def _message_key(vector: Json, nonce: bytes) -> tuple[BlockCipherAlgorithm, bytes]:
    """The block cipher of one message, and the nonce that is left for GCM."""
    key = bytes.fromhex(vector["key"])
    if vector["spec"] == "SM4":
        return algorithms.SM4(key), nonce
    if vector["protection_level"] == "HSM":
        return algorithms.AES(key), nonce
    return algorithms.AES(derived_key(key, nonce)), nonce[12:]


def derived_key(key: bytes, nonce: bytes) -> bytes:
    """SP 800-108 in counter mode over AES-CMAC, with a counter of 2 bytes: as long as the key."""
    fixed = b"\x58\x00" + nonce[:12]
    kdf = KBKDFCMAC(algorithms.AES, Mode.CounterMode, len(key), 2, None, CounterLocation.BeforeFixed, None, None, fixed)
    return kdf.derive(key)


def _gcm_open(cipher: BlockCipherAlgorithm, nonce: bytes, sealed: bytes, associated: bytes) -> bytes:
    try:
        decryptor = Cipher(cipher, modes.GCM(nonce, sealed[-_TAG_BYTES:])).decryptor()
        decryptor.authenticate_additional_data(associated)
        return decryptor.update(sealed[:-_TAG_BYTES]) + decryptor.finalize()
    except (InvalidTag, ValueError) as error:
        raise RefusedError from error


def _gcm_seal(cipher: BlockCipherAlgorithm, nonce: bytes, plaintext: bytes, associated: bytes) -> bytes:
    encryptor = Cipher(cipher, modes.GCM(nonce)).encryptor()
    encryptor.authenticate_additional_data(associated)
    return encryptor.update(plaintext) + encryptor.finalize() + encryptor.tag


# Ciphertext of an asymmetric key, and exported data key

_SUITES: Mapping[str, hpke.Suite] = {
    "HPKE_ML_KEM_768": hpke.Suite(hpke.ML_KEM_768, hpke.HKDF_SHA256, hpke.AES_256_GCM),
    "HPKE_ML_KEM_1024": hpke.Suite(hpke.ML_KEM_1024, hpke.HKDF_SHA256, hpke.AES_256_GCM),
    "HPKE_X_WING": hpke.Suite(hpke.X_WING, hpke.HKDF_SHA256, hpke.AES_256_GCM),
    "HPKE_P256": hpke.Suite(hpke.P256, hpke.HKDF_SHA256, hpke.AES_256_GCM),
    "HPKE_P384": hpke.Suite(hpke.P384, hpke.HKDF_SHA384, hpke.AES_256_GCM),
    "HPKE_P521": hpke.Suite(hpke.P521, hpke.HKDF_SHA512, hpke.AES_256_GCM),
    "HPKE_X25519": hpke.Suite(hpke.X25519, hpke.HKDF_SHA256, hpke.AES_256_GCM),
}


def open_asymmetric(vector: Json) -> bytes:
    """The plaintext of a vector's asymmetric ciphertext."""
    pairs = vector["encryption_context"]
    return _open_to_private_key(vector, canonical_context(pairs) if pairs else b"", vector["ciphertext"])


def open_export(vector: Json) -> bytes:
    """The data key that a vector's exported data key carries."""
    return _open_to_private_key(vector, EXPORT_INFO, vector["exported_key"])


def _open_to_private_key(vector: Json, info: bytes, sealed: str) -> bytes:
    encoded, message = bytes.fromhex(vector["private_key"]), bytes.fromhex(sealed)
    try:
        if vector["algorithm"] == "RSAES_OAEP_SHA_256":
            private_key = load_der_private_key(encoded, None)
            assert isinstance(private_key, rsa.RSAPrivateKey)
            oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
            return private_key.decrypt(message, oaep)
        suite = _SUITES[vector["algorithm"]]
        x_wing = suite.kem == hpke.X_WING
        key = hpke.XWingPrivateKey(encoded) if x_wing else load_der_private_key(encoded, None)
        return suite.open(key, info, message)  # type: ignore[arg-type]  # a private key of the suite's KEM
    except (InvalidTag, ValueError) as error:
        raise RefusedError from error


# Wrapped blob

KEY_VERSION, IMPORT_WRAPPING_KEY, SERVICE_KEY = "key version", "import wrapping key", "service key"


def binding(vector: Json) -> bytes:
    """The bytes of a binding, which says `of` what it is."""
    if vector["of"] == KEY_VERSION:
        texts = [b"strongroom key material", vector["account"].encode(), vector["key_name"].encode()]
        numbers = [vector[part] for part in ("version", "spec", "usage", "protection_level")]
        return _all_prefixed(*texts, bytes.fromhex(vector["key_uid"]), *(pack(">I", number) for number in numbers))
    if vector["of"] == IMPORT_WRAPPING_KEY:
        return _all_prefixed(
            b"strongroom import wrapping key",
            binding(vector["key_version"]),
            pack(">I", vector["import_method"]),
            pack(">Q", vector["expire_time_us"]),
            pack(">I", vector["spec"]),
            pack(">I", vector["protection_level"]),
        )
    return _all_prefixed(b"strongroom service key", vector["service"].encode(), vector["purpose"].encode())


def open_blob(vector: Json) -> bytes:
    """The material in a vector's blob."""
    blob, root = bytes.fromhex(vector["blob"]), vector["root"]
    if len(blob) < 6 + 12 + _TAG_BYTES:
        raise RefusedError("too short")
    version, kind, root_version = unpack(">BBI", blob[:6])
    if (version, kind, root_version) != (1, vector["kind"], root["version"]):
        raise RefusedError("of another format, kind or root version")
    sealing_key = algorithms.AES(bytes.fromhex(root["sealing_key"]))
    payload = _gcm_open(sealing_key, blob[6:18], blob[18:], blob[:6] + binding(vector["binding"]))
    if kind != 2:
        return payload
    try:
        return aes_key_unwrap_with_padding(bytes.fromhex(root["wrapping_key"]), payload)
    except (InvalidUnwrap, ValueError) as error:
        raise RefusedError from error


def seal_blob(vector: Json, nonce: bytes, material: bytes, header: bytes | None = None) -> bytes:
    """The blob of some material under this nonce."""
    root = vector["root"]
    header = pack(">BBI", 1, vector["kind"], root["version"]) if header is None else header
    wraps = vector["kind"] == 2
    payload = aes_key_wrap_with_padding(bytes.fromhex(root["wrapping_key"]), material) if wraps else material
    sealing_key = algorithms.AES(bytes.fromhex(root["sealing_key"]))
    return header + nonce + _gcm_seal(sealing_key, nonce, payload, header + binding(vector["binding"]))


# Fingerprint of imported material


def fingerprint(vector: Json) -> bytes:
    """The fingerprint of a vector's material, under the salt that its own fingerprint begins with."""
    salt = bytes.fromhex(vector["fingerprint"])[:16]
    return salt + hmac.digest(salt, binding(vector["binding"]) + bytes.fromhex(vector["material"]), sha256)


# Encrypted file of version 1

_FIXED_BYTES, _COMMITMENT_BYTES = 50, 32


def file_header(vector: Json) -> bytes:
    """The header of a vector's file."""
    encrypted_data_key = bytes.fromhex(vector["encrypted_data_key"])
    random = bytes.fromhex(vector["salt"]) + bytes.fromhex(vector["nonce_prefix"])
    length = pack(">H", len(encrypted_data_key))
    return b"\x89SRFILE\x01" + bytes([vector["chunk_size_log2"]]) + random + length + encrypted_data_key


def file_keys(data_key: bytes, header: bytes) -> tuple[bytes, bytes]:
    """File key and commitment."""
    info = b"strongroom file v1" + header
    derived = HKDF(hashes.SHA256(), 64, header[9:41], info).derive(data_key)
    return derived[:32], derived[32:]


def seal_file(vector: Json) -> bytes:
    """The file that holds a vector's content."""
    header, content = file_header(vector), bytes.fromhex(vector["content"])
    file_key, commitment = file_keys(bytes.fromhex(vector["data_key"]), header)
    size = 1 << vector["chunk_size_log2"]
    pieces = [content[start : start + size] for start in range(0, len(content), size)] or [b""]
    seal = AESGCM(file_key).encrypt
    chunks = [seal(_chunk_nonce(header, at, len(pieces)), piece, None) for at, piece in enumerate(pieces)]
    return header + commitment + b"".join(chunks)


def open_file(vector: Json) -> bytes:
    """The content of a vector's file. What RefusedError says begins with the reason of the text."""
    file, data_key = bytes.fromhex(vector["file"]), bytes.fromhex(vector["data_key"])
    if len(file) < _FIXED_BYTES or not file.startswith(b"\x89SRFILE\x01"):
        raise RefusedError("FILE_NOT_RECOGNIZED")
    power, length = file[8], int.from_bytes(file[48:50], "big")
    header, rest = file[: _FIXED_BYTES + length], file[_FIXED_BYTES + length :]
    if not (6 <= power <= 24 and 1 <= length <= 4096 and len(header) == _FIXED_BYTES + length and len(data_key) == 32):
        raise RefusedError("FILE_ALTERED")
    file_key, commitment = file_keys(data_key, header)
    if not hmac.compare_digest(rest[:_COMMITMENT_BYTES], commitment):
        raise RefusedError("FILE_ALTERED")
    chunks, size = rest[_COMMITMENT_BYTES:], (1 << power) + _TAG_BYTES
    pieces = [chunks[start : start + size] for start in range(0, len(chunks), size)]
    if not pieces or (len(pieces) > 1 and len(pieces[-1]) <= _TAG_BYTES):
        raise RefusedError("FILE_ALTERED")
    try:
        opened = [
            AESGCM(file_key).decrypt(_chunk_nonce(header, at, len(pieces)), piece, None)
            for at, piece in enumerate(pieces)
        ]
    except (InvalidTag, ValueError) as error:
        raise RefusedError("FILE_ALTERED") from error
    return b"".join(opened)


def _chunk_nonce(header: bytes, number: int, count: int) -> bytes:
    return header[41:48] + pack(">IB", number, number == count - 1)


def _prefixed(part: bytes) -> bytes:
    return pack(">H", len(part)) + part


def _all_prefixed(*parts: bytes) -> bytes:
    return b"".join(map(_prefixed, parts))
