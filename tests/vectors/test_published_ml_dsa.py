"""ML-DSA: known answers of its reference implementation, through gRPC.

They all have a context, which Strongroom leaves empty where it is given the message: so the message goes in as its
representative mu, computed here as FIPS 204 says. They are deterministic and Strongroom's are hedged: so they are
verified, and those of Sign are verified outside.
"""

from __future__ import annotations

from hashlib import shake_256
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import mldsa

from strongroom import Client
from tests.support.vectors import published
from tests.vectors.conftest import ImportKey

PRIVATE_KEYS: dict[int, type[Any]] = {
    44: mldsa.MLDSA44PrivateKey,
    65: mldsa.MLDSA65PrivateKey,
    87: mldsa.MLDSA87PrivateKey,
}


def mu(public_key: bytes, context: bytes, message: bytes) -> bytes:
    """The message representative; FIPS 204, algorithms 2 and 7, without pre-hashing."""
    framed = bytes([0, len(context)]) + context + message
    return shake_256(shake_256(public_key).digest(64) + framed).digest(64)


@pytest.mark.parametrize("level", PRIVATE_KEYS)
def test_ml_dsa(client: Client, import_key: ImportKey, level: int) -> None:
    """The first two of 100, each with a key of its own."""
    for record in published.first(2, published.records(f"asymmetric/MLDSA/kat_MLDSA_{level}_det_pure.rsp")):
        message, signature = record.raw("msg"), record.raw("sm")[: -int(record["mlen"])]
        private_key = PRIVATE_KEYS[level].from_seed_bytes(record.raw("xi"))
        key = import_key(f"ML_DSA_{level}", "SIGN_VERIFY", published.pkcs8(private_key))
        assert client.asymmetric.get_public_key(key).der.endswith(record.raw("pk"))

        digest = mu(record.raw("pk"), record.raw("ctx"), message)
        assert client.verify(key, signature, digest=digest)
        assert not client.verify(key, published.flipped(signature), digest=digest)
        assert not client.verify(key, published.flipped(signature, 0), digest=digest)
        assert not client.verify(key, signature, digest=mu(record.raw("pk"), b"", message))
        assert not client.verify(key, signature, message)
        # And what Sign makes of a message is a signature with the empty context.
        public_key = private_key.public_key()
        public_key.verify(client.sign(key, message).signature, message)
        public_key.verify(client.sign(key, digest=digest).signature, message, record.raw("ctx"))
