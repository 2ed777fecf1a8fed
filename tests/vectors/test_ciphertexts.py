"""Ciphertexts as docs/formats.md lays them out, taken apart here with nothing of the service's own."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.kbkdf import KBKDFCMAC, CounterLocation, Mode

from services.crypto import ciphers
from services.crypto.xaes import XAES128GCM
from services.runtime.errors import Reason, StrongroomError
from strongroom.keystore.v1 import key_pb2 as k

KEY = bytes(range(16))
NONCE = bytes(range(100, 124))
PLAINTEXT = b"plaintext"
ASSOCIATED = b"associated data"


def derived(key: bytes, nonce: bytes) -> bytes:
    """SP 800-108 in counter mode over AES-CMAC by another library: a counter of 2 bytes, 58 00, half the nonce."""
    kdf = KBKDFCMAC(
        algorithms.AES,
        Mode.CounterMode,
        16,
        2,
        None,
        CounterLocation.BeforeFixed,
        None,
        None,
        b"X\x00" + nonce[:12],
    )
    return kdf.derive(key)


def test_aes_128_derives_its_keys_as_sp_800_108_does() -> None:
    sealed = XAES128GCM(KEY).encrypt(PLAINTEXT, ASSOCIATED)
    nonce, body = sealed[:24], sealed[24:]
    assert AESGCM(derived(KEY, nonce)).decrypt(nonce[12:], body, ASSOCIATED) == PLAINTEXT


def test_aes_128_opens_what_another_implementation_made() -> None:
    body = AESGCM(derived(KEY, NONCE)).encrypt(NONCE[12:], PLAINTEXT, ASSOCIATED)
    assert XAES128GCM(KEY).decrypt(NONCE + body, ASSOCIATED) == PLAINTEXT


def test_sm4_is_gcm_with_the_nonce_in_front() -> None:
    sealed = ciphers.in_software(k.KEY_SPEC_SM4, KEY).encrypt(PLAINTEXT, ASSOCIATED)
    opener = Cipher(algorithms.SM4(KEY), modes.GCM(sealed[:12], sealed[-16:])).decryptor()
    opener.authenticate_additional_data(ASSOCIATED)
    assert opener.update(sealed[12:-16]) + opener.finalize() == PLAINTEXT


@pytest.mark.parametrize("spec", [k.KEY_SPEC_AES_256, k.KEY_SPEC_AES_128, k.KEY_SPEC_SM4])
def test_what_was_altered_is_refused(spec: k.KeySpec.ValueType) -> None:
    cipher = ciphers.in_software(spec, bytes(range(ciphers.KEY_BYTES[spec])))
    sealed = cipher.encrypt(PLAINTEXT, ASSOCIATED)
    altered = [bytes(byte ^ (at == position) for at, byte in enumerate(sealed)) for position in range(len(sealed))]
    for one, bound in [*((one, ASSOCIATED) for one in altered), (sealed, b""), (sealed[:-1], ASSOCIATED)]:
        with pytest.raises(StrongroomError) as refused:
            cipher.decrypt(one, bound)
        assert refused.value.reason is Reason.CIPHERTEXT_INVALID
    assert cipher.decrypt(sealed, ASSOCIATED) == PLAINTEXT
