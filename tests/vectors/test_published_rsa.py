"""RSA: signatures of NIST's CAVP, and OAEP with SHA-256, through gRPC.

Private keys are what can be imported, with the public exponent 65537: of CAVP's files that leaves one key for each size
of SigVer15_186-3 and SigVerPSS_186-3, with five or six signatures for each hash, one of them valid.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from strongroom import Client
from tests.support.clients import refusal
from tests.support.vectors import published
from tests.support.vectors.published import Record
from tests.vectors.conftest import ImportKey

HASHES = {"SHA256": hashes.SHA256(), "SHA384": hashes.SHA384(), "SHA512": hashes.SHA512()}
EXPONENT = 65537
SIZES = (2048, 3072, 4096)


@dataclass(frozen=True, slots=True)
class Signed:
    """One key of CAVP, and the signatures that are to be verified with it."""

    private_key: rsa.RSAPrivateKey
    records: list[Record]


def cavp(file: str, bits: int) -> Signed:
    """The key of this size with the exponent 65537, and the records for it whose hash Strongroom has."""
    factors, private_key = dict[str, int](), None
    of_modulus, found = list[Record](), list[Record]()
    for record in published.records(f"asymmetric/RSA/FIPS_186-2/{file}.rsp"):
        if record.section != f"mod = {bits}":
            continue
        if "n" in record:
            of_modulus = []
        if "Msg" not in record:
            factors |= {name: record.number(name) for name in ("n", "p", "q") if name in record}
        elif record.number("e") == EXPONENT:
            of_modulus.append(record)
            if record.valid:  # in the others the exponent may be what is wrong
                private_key, found = key_of(**factors, d=record.number("d")), of_modulus
    assert private_key is not None
    return Signed(private_key, [record for record in found if record["SHAAlg"] in HASHES])


def key_of(n: int, p: int, q: int, d: int) -> rsa.RSAPrivateKey:
    public = rsa.RSAPublicNumbers(EXPONENT, n)
    numbers = rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), rsa.rsa_crt_iqmp(p, q), public)
    return numbers.private_key()


def algorithm(scheme: str, record: Record) -> str:
    return f"{scheme}_{record['SHAAlg'].replace('SHA', 'SHA_')}"


@pytest.mark.parametrize("bits", SIZES)
def test_pkcs1_v1_5(client: Client, import_key: ImportKey, bits: int) -> None:
    signed = cavp("SigVer15_186-3", bits)
    key = import_key(f"RSA_{bits}", "SIGN_VERIFY", published.pkcs8(signed.private_key))
    assert {record["SHAAlg"] for record in signed.records if record.valid} == set(HASHES)
    assert len(signed.records) >= 15
    for record in signed.records:
        message, signature, name = record.raw("Msg"), record.raw("S"), algorithm("RSASSA_PKCS1_V1_5", record)
        assert bool(client.verify(key, signature, message, algorithm=name)) == record.valid, record["Result"]
        if record.valid:
            assert client.sign(key, message, algorithm=name).signature == signature


@pytest.mark.parametrize("bits", SIZES)
def test_pss(client: Client, import_key: ImportKey, bits: int) -> None:
    """CAVP's salts have 10 bytes. Strongroom's are as long as the digest, in Sign and in Verify: so these signatures,
    which are otherwise good, are refused. With CAVP's keys and messages, what Sign makes is verified outside, and what
    is made outside with such a salt by Verify."""
    signed = cavp("SigVerPSS_186-3", bits)
    key = import_key(f"RSA_{bits}", "SIGN_VERIFY", published.pkcs8(signed.private_key))
    public = signed.private_key.public_key()
    assert {record["SHAAlg"] for record in signed.records if record.valid} == set(HASHES)
    for record in signed.records:
        message, name = record.raw("Msg"), algorithm("RSASSA_PSS", record)
        assert not client.verify(key, record.raw("S"), message, algorithm=name)
        if not record.valid:
            continue
        hashing = HASHES[record["SHAAlg"]]
        public.verify(record.raw("S"), message, padding.PSS(padding.MGF1(hashing), 10), hashing)
        ours = padding.PSS(padding.MGF1(hashing), hashing.digest_size)
        public.verify(client.sign(key, message, algorithm=name).signature, message, ours, hashing)
        outside = signed.private_key.sign(message, ours, hashing)
        assert client.verify(key, outside, message, algorithm=name)
        assert not client.verify(key, published.flipped(outside), message, algorithm=name)


def oaep(used: str) -> Iterator[tuple[rsa.RSAPrivateKey, list[tuple[bytes, bytes]]]]:
    """Keys, and what was encrypted to each: messages and their ciphertexts."""
    for example in published.text(f"asymmetric/RSA/oaep-custom/oaep-{used}.txt").split("# Example\n")[1:]:
        # Alternating captions and values; the private key's begin at the fourth.
        found = re.findall(r"^# (.+):\n([0-9a-f]+)$", example, re.MULTILINE)
        values = dict(found)
        n, d, p, q = (int(values[name], 16) for name in ("Modulus", "Exponent", "Prime 1", "Prime 2"))
        given = [bytes.fromhex(value) for name, value in found if name in ("Message", "Encryption")]
        yield key_of(n, p, q, d), list(zip(given[::2], given[1::2], strict=True))


def test_oaep_with_sha_256(client: Client, import_key: ImportKey) -> None:
    """The first two of ten keys, twelve of sixty ciphertexts; all keys have 2,048 bits."""
    for private_key, encrypted in published.first(2, oaep("sha256-sha256")):
        key = import_key("RSA_2048", "ENCRYPT_DECRYPT", published.pkcs8(private_key))
        assert len(encrypted) == 6
        for message, ciphertext in encrypted:
            assert client.asymmetric.decrypt(key, ciphertext).plaintext == message
            altered = published.flipped(ciphertext)
            assert refusal(partial(client.asymmetric.decrypt, key, altered)).reason == "CIPHERTEXT_INVALID"


@pytest.mark.parametrize("used", ["sha1-sha256", "sha256-sha1"])
def test_oaep_with_another_hash_or_mask_is_refused(client: Client, import_key: ImportKey, used: str) -> None:
    ((private_key, encrypted),) = published.first(1, oaep(used))
    key = import_key("RSA_2048", "ENCRYPT_DECRYPT", published.pkcs8(private_key))
    for _, ciphertext in encrypted:
        assert refusal(partial(client.asymmetric.decrypt, key, ciphertext)).reason == "CIPHERTEXT_INVALID"
