"""Secrets of client keys."""

from __future__ import annotations

import re
from pathlib import Path

from services.keystore.access.credentials import client_keys
from services.runtime.access import client_key_secrets

FORMATS = Path(__file__).parents[5] / "docs" / "formats.md"


def test_a_secret_is_as_the_formats_say() -> None:
    secret = client_key_secrets.secret_of(bytes(range(32)))
    assert secret == "strongroom_ck_aaaqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dypq"
    kept = client_key_secrets.secret_sha256(secret).hex()
    assert f"`{secret}`, kept as\n`{kept}`" in FORMATS.read_text()


def test_a_new_secret_is_random_and_cannot_print_itself() -> None:
    made = [client_keys.made("accounts/acme/users/ann", "", 1) for _ in range(2)]
    (first, secret), (second, other) = made
    assert first.name != second.name
    assert secret.reveal() != other.reveal()
    text = secret.reveal().decode()
    assert re.fullmatch(r"strongroom_ck_[a-z2-7]{52}", text)
    assert first.secret_sha256 == client_key_secrets.secret_sha256(text)
    for shown in (repr(made), str(secret), f"{secret}"):
        assert text not in shown
        assert first.secret_sha256.hex() not in shown
