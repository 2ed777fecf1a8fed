"""Ed25519: the vectors of its authors, through gRPC."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric import ed25519

from strongroom import Client
from tests.support.vectors import published
from tests.vectors.conftest import ImportKey

# Vector n signs a message of n bytes.
CHOSEN = (0, 1, 64, 127, 1023)


def test_ed25519(client: Client, import_key: ImportKey) -> None:
    """Five of 1,024, each with a key of its own."""
    lines = published.text("asymmetric/Ed25519/sign.input").splitlines()
    assert len(lines) == 1024
    for line in (lines[number] for number in CHOSEN):
        private, public, message, signed = (bytes.fromhex(part) for part in line.split(":")[:4])
        key = import_key(
            "ED25519", "SIGN_VERIFY", published.pkcs8(ed25519.Ed25519PrivateKey.from_private_bytes(private[:32]))
        )
        signature = signed[:64]
        assert client.asymmetric.get_public_key(key).der.endswith(public)
        assert client.sign(key, message).signature == signature
        assert client.verify(key, signature, message)
        assert not client.verify(key, published.flipped(signature), message)
        assert not client.verify(key, published.flipped(signature, 0), message)
        assert not client.verify(key, signature, message + b"\0")
