"""XAES-256-GCM (C2SP), AES-GCM (NIST's CAVP) and SM4-GCM (RFC 8998).

Decrypt takes ciphertexts whose associated data is Strongroom's own header and context, and published vectors have
others. But the encrypted bytes of GCM do not depend on associated data: so through gRPC the published key, nonce and
encrypted bytes are decrypted under a tag for that header. Published tags are checked one level below, where associated
data is a parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from deploy.dev.mesh import Mesh
from services.crypto.primitives import ciphers
from services.crypto.primitives.ciphers import Cipher
from services.crypto.providers.pkcs11 import provider as pkcs11
from services.runtime.errors import Reason, StrongroomError
from strongroom import Client
from strongroom.keystore.v1 import key_pb2 as k
from tests.support.clients import refusal
from tests.support.tokens import provider_in, softhsm_pool
from tests.support.vectors import documented, published
from tests.support.vectors.published import Record
from tests.vectors.conftest import ImportKey

CONTEXT = {"tenant": "blue"}
C2SP_NONCE = b"ABCDEFGHIJKLMNOPQRSTUVWX"
AES = {"AES_128": (128, k.KEY_SPEC_AES_128), "AES_256": (256, k.KEY_SPEC_AES_256)}


def check(client: Client, key: str, vector: dict[str, Any], nonce: bytes, plaintext: bytes, encrypted: bytes) -> None:
    """Decrypts the encrypted bytes under a tag of our own, and opens what Encrypt makes with the published key."""
    made = client.encrypt(key, plaintext, CONTEXT).ciphertext
    vector |= {"key_uid": made[2:18].hex(), "key_version": 1, "encryption_context": CONTEXT, "ciphertext": made.hex()}
    assert documented.open_ciphertext(vector) == plaintext

    sealed = documented.seal_ciphertext(vector, nonce, plaintext)
    assert sealed[22 + len(nonce) : -16] == encrypted
    assert client.decrypt(sealed, CONTEXT).plaintext == plaintext
    for wrong in (published.flipped(sealed), published.flipped(sealed, 22), published.flipped(sealed, -17)):
        assert refusal(lambda given=wrong: client.decrypt(given, CONTEXT)).reason == "CIPHERTEXT_INVALID"  # type: ignore[misc]
    assert refusal(lambda: client.decrypt(sealed)).reason == "CIPHERTEXT_INVALID"


@pytest.mark.parametrize(
    ("key", "encrypted"),
    [(b"\x01" * 32, "ce546ef63c9cc60765923609"), (b"\x03" * 32, "986ec1832593df5443a17943")],
    ids=["most-significant-bit-clear", "most-significant-bit-set"],
)
def test_xaes_256_gcm(client: Client, import_key: ImportKey, key: bytes, encrypted: str) -> None:
    """Both of C2SP's; with the published tags, and the 10,000 accumulated ones: test_xaes_256_gcm.py."""
    name = import_key("AES_256", "ENCRYPT_DECRYPT", key, level="SOFTWARE")
    vector = {"spec": "AES_256", "protection_level": "SOFTWARE", "key": key.hex()}
    check(client, name, vector, C2SP_NONCE, b"XAES-256-GCM", bytes.fromhex(encrypted))


@pytest.mark.parametrize("spec", AES)
def test_aes_gcm_in_the_token(client: Client, mesh: Mesh, import_key: ImportKey, spec: str) -> None:
    """The first two of 75 keys of each size with 51 bytes of plaintext."""
    found = (record for record in cavp("gcmEncryptExtIV", AES[spec][0]) if "PTlen = 408" in record.section)
    chosen = published.first(2, found)
    if mesh.provider == "local":
        error = refusal(lambda: import_key(spec, "ENCRYPT_DECRYPT", chosen[0].raw("Key"), level="HSM"))
        assert error.reason == "UNSUPPORTED_IN_HSM"
        return
    for record in chosen:
        name = import_key(spec, "ENCRYPT_DECRYPT", record.raw("Key"), level="HSM")
        vector = {"spec": spec, "protection_level": "HSM", "key": record["Key"]}
        check(client, name, vector, record.raw("IV"), record.raw("PT"), record.raw("CT"))


def test_sm4_gcm(client: Client, import_key: ImportKey) -> None:
    """The only one of RFC 8998."""
    (record,) = published.records("ciphers/SM4/rfc8998.txt")
    name = import_key("SM4", "ENCRYPT_DECRYPT", record.raw("KEY"))
    vector = {"spec": "SM4", "protection_level": "SOFTWARE", "key": record["KEY"]}
    check(client, name, vector, record.raw("IV"), record.raw("PLAINTEXT"), record.raw("CIPHERTEXT"))


def test_sm4_gcm_with_the_published_tag() -> None:
    (record,) = published.records("ciphers/SM4/rfc8998.txt")
    cipher = ciphers.in_software(k.KEY_SPEC_SM4, record.raw("KEY"))
    sealed = record.raw("IV") + record.raw("CIPHERTEXT") + record.raw("TAG")
    assert cipher.decrypt(sealed, record.raw("AAD")) == record.raw("PLAINTEXT")
    assert refused(lambda: cipher.decrypt(sealed, b""))


@pytest.fixture(scope="module")
def in_token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[k.KeySpec.ValueType, bytes], Cipher]]:
    """Puts a key into a token and answers its cipher."""
    with softhsm_pool(tmp_path_factory.mktemp("token")) as pool:
        pkcs11.initialize(pool)
        provider = provider_in(pool)

        def cipher(spec: k.KeySpec.ValueType, key: bytes) -> Cipher:
            made = provider.import_hsm_key(spec, key)
            return ciphers.in_token(
                spec, provider.hsm_key(spec, k.KEY_USAGE_ENCRYPT_DECRYPT, made.root_version, made.wrapped)
            )

        yield cipher


@pytest.mark.parametrize("spec", AES)
def test_aes_gcm_in_the_token_with_published_tags(
    in_token: Callable[[k.KeySpec.ValueType, bytes], Cipher], spec: str
) -> None:
    """Every vector of CAVP's decryption with the lengths of nonce and tag that Strongroom uses: 375 for each size."""
    bits, number = AES[spec]
    outcomes = []
    for record in cavp("gcmDecrypt", bits):
        cipher = in_token(number, record.raw("Key"))
        sealed, bound = record.raw("IV") + record.raw("CT") + record.raw("Tag"), record.raw("AAD")
        outcomes.append("FAIL" not in record)
        if outcomes[-1]:
            assert cipher.decrypt(sealed, bound) == record.raw("PT")
        else:
            assert refused(lambda cipher=cipher, sealed=sealed, bound=bound: cipher.decrypt(sealed, bound))  # type: ignore[misc]
    assert len(outcomes) == 375
    assert set(outcomes) == {True, False}


def cavp(file: str, bits: int) -> Iterator[Record]:
    """The records with a nonce of 96 bits and a tag of 128."""
    for record in published.records(f"ciphers/AES/GCM/{file}{bits}.rsp"):
        if "IVlen = 96" in record.section and "Taglen = 128" in record.section and "Key" in record:
            yield record


def refused(work: Callable[[], bytes]) -> bool:
    with pytest.raises(StrongroomError) as caught:
        work()
    return caught.value.reason is Reason.CIPHERTEXT_INVALID
