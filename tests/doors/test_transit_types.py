"""Every type of transit key, every length and every batch, by hvac."""

from __future__ import annotations

import hvac
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, mldsa, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from hvac.exceptions import InvalidRequest

from strongroom import Client
from tests.doors.test_transit import b64, decrypt, encrypt, plain

Wanted = dict[str, str | int]
PUBLIC = {
    "rsa": (rsa.RSAPublicKey,),
    "ecdsa": (ec.EllipticCurvePublicKey,),
    "ml": (mldsa.MLDSA65PublicKey, mldsa.MLDSA87PublicKey),
}


def create(vault: hvac.Client, name: str, wanted: Wanted) -> dict[str, object]:
    """A key of any kind, as the door tells of it."""
    described: dict[str, object] = vault.write_data(f"transit/keys/{name}", data=wanted)["data"]
    return described


def batch(vault: hvac.Client, path: str, items: list[dict[str, str]]) -> list[dict[str, object]]:
    answer = vault.adapter.request(
        "post",
        f"/v1/transit/{path}",
        json={"batch_input": items, "partial_failure_response_code": 207},
        raise_exception=False,
    )
    # hvac opens an answer of status 200 by itself.
    told = answer if isinstance(answer, dict) else answer.json()
    results: list[dict[str, object]] = told["data"]["batch_results"]
    return results


@pytest.mark.parametrize(
    "wanted",
    [
        {"type": "rsa-2048", "usage": "encrypt"},
        {"type": "rsa-3072", "usage": "encrypt"},
        {"type": "rsa-4096", "usage": "encrypt"},
        {"type": "ml-kem-1024"},
    ],
    ids=lambda wanted: "-".join(map(str, wanted.values())),
)
def test_what_it_encrypts_it_decrypts_also_in_batches(vault: hvac.Client, name: str, wanted: Wanted) -> None:
    made = create(vault, name, wanted)
    assert (made["type"], made["supports_encryption"], made["supports_signing"]) == (wanted["type"], True, False)
    ciphertext = encrypt(vault, name, b"secret")
    assert decrypt(vault, name, ciphertext) == b"secret"
    items = [{"plaintext": b64(b"%d" % number)} for number in range(3)]
    encrypted = batch(vault, f"encrypt/{name}", items)
    broken = [*({"ciphertext": str(one["ciphertext"])} for one in encrypted), {"ciphertext": "vault:v1:AAAA"}]
    *opened, failed = batch(vault, f"decrypt/{name}", broken)
    assert [plain(str(one["plaintext"])) for one in opened] == [b"0", b"1", b"2"]
    assert "error" in failed
    with pytest.raises(InvalidRequest):
        vault.secrets.transit.sign_data(name=name, hash_input=b64(b"m"))


@pytest.mark.parametrize(
    "wanted",
    [
        {"type": "rsa-3072"},
        {"type": "rsa-4096"},
        {"type": "ml-dsa", "parameter_set": "65"},
        {"type": "ml-dsa", "parameter_set": "87"},
    ],
    ids=lambda wanted: "-".join(map(str, wanted.values())),
)
def test_what_it_signs_it_verifies_also_in_batches(vault: hvac.Client, name: str, wanted: Wanted) -> None:
    create(vault, name, wanted)
    key = vault.secrets.transit.read_key(name=name)["data"]
    assert (key["type"], key.get("parameter_set")) == (wanted["type"], wanted.get("parameter_set"))
    public = load_pem_public_key(key["keys"]["1"]["public_key"].encode())
    assert isinstance(public, PUBLIC[str(wanted["type"]).partition("-")[0]])
    items = [{"input": b64(b"%d" % number), "reference": f"r{number}"} for number in range(3)]
    signed = batch(vault, f"sign/{name}", [*items, {"input": "no base64!"}])
    assert [one.get("reference") for one in signed] == ["r0", "r1", "r2", None]
    assert "error" in signed[3]
    asked = [{**item, "signature": str(one["signature"])} for item, one in zip(items, signed, strict=False)]
    asked.append({"input": b64(b"other"), "signature": str(signed[0]["signature"])})
    assert [one.get("valid") for one in batch(vault, f"verify/{name}", asked)] == [True, True, True, False]


@pytest.mark.parametrize(("size", "algorithm"), [(32, "sha2-256"), (48, "sha2-384"), (64, "sha2-512")])
def test_macs_of_every_length_also_in_batches(vault: hvac.Client, name: str, size: int, algorithm: str) -> None:
    create(vault, name, {"type": "hmac", "key_size": size})
    items = [{"input": b64(b"%d" % number)} for number in range(3)]
    made = batch(vault, f"hmac/{name}/{algorithm}", [*items, {"input": "?"}])
    assert "error" in made[3]
    assert {len(plain(str(one["hmac"]).rpartition(":")[2])) for one in made[:3]} == {size}
    asked = [{**item, "hmac": str(one["hmac"])} for item, one in zip(items, made, strict=False)]
    asked.append({"input": b64(b"other"), "hmac": str(made[0]["hmac"])})
    assert [one.get("valid") for one in batch(vault, f"verify/{name}/{algorithm}", asked)] == [True, True, True, False]
    other = "sha2-512" if algorithm != "sha2-512" else "sha2-256"
    assert "error" in batch(vault, f"hmac/{name}/{other}", items)[0]


def test_a_batch_is_rewrapped_with_an_outcome_each(vault: hvac.Client, name: str) -> None:
    create(vault, name, {})
    items = [{"plaintext": b64(b"%d" % number), "context": b64(b"c")} for number in range(3)]
    old = batch(vault, f"encrypt/{name}", items)
    vault.secrets.transit.rotate_key(name=name)
    asked = [{"ciphertext": str(one["ciphertext"]), "context": b64(b"c")} for one in old]
    asked.append({"ciphertext": str(old[0]["ciphertext"]), "context": b64(b"other")})
    *new, failed = batch(vault, f"rewrap/{name}", asked)
    assert "error" in failed
    assert all(str(one["ciphertext"]).startswith("vault:v2:") for one in new)
    assert [decrypt(vault, name, str(one["ciphertext"]), context=b64(b"c")) for one in new] == [b"0", b"1", b"2"]


def test_a_key_for_agreement_is_made_and_shown_and_does_nothing_else(vault: hvac.Client, name: str) -> None:
    made = create(vault, name, {"type": "x25519"})
    assert not made["supports_encryption"]
    assert not made["supports_signing"]
    key = vault.secrets.transit.read_key(name=name)["data"]
    assert "BEGIN PUBLIC KEY" in key["keys"]["1"]["public_key"]
    for work in (
        lambda: encrypt(vault, name, b"x"),
        lambda: vault.secrets.transit.sign_data(name=name, hash_input=b64(b"m")),
        lambda: vault.secrets.transit.generate_hmac(name=name, hash_input=b64(b"m")),
    ):
        with pytest.raises(InvalidRequest):
            work()


def test_what_a_key_is_for_and_where_it_is_made_is_what_was_asked(vault: hvac.Client, name: str) -> None:
    # The mesh behind these doors has no token, and says so where one is asked for.
    with pytest.raises(InvalidRequest, match="UNSUPPORTED_IN_HSM"):
        create(vault, name, {"protection_level": "hsm"})
    for wrong in (
        {"type": "ed25519", "usage": "encrypt"},
        {"type": "rsa-2048", "usage": "nonsense"},
        {"type": "hmac", "key_size": 16},
        {"type": "ml-dsa", "parameter_set": "50"},
        {"protection_level": "paper"},
        {"type": "rsa-1024"},
    ):
        with pytest.raises(InvalidRequest):
            create(vault, f"{name}-wrong", wrong)  # type: ignore[arg-type]


def test_a_key_is_rotated_by_itself_where_it_says_so_and_encrypts_with_the_newest_alone(
    vault: hvac.Client, name: str
) -> None:
    made = create(vault, name, {"auto_rotate_period": "720h"})
    assert made["auto_rotate_period"] == 720 * 3600
    vault.secrets.transit.rotate_key(name=name)
    with pytest.raises(InvalidRequest, match="min_encryption_version"):
        vault.secrets.transit.update_key_configuration(name=name, min_encryption_version=1)
    with pytest.raises(InvalidRequest, match="primary version"):
        encrypt(vault, name, b"x", key_version="1")


def test_a_key_that_may_not_be_deleted_is_trimmed_and_protected_all_the_while(
    vault: hvac.Client, administrator: Client, name: str
) -> None:
    create(vault, name, {})
    vault.secrets.transit.rotate_key(name=name)
    vault.secrets.transit.update_key_configuration(name=name, min_decryption_version=2)
    vault.secrets.transit.trim_key(name=name, min_version=2)
    assert administrator.keys.get(name).deletion_protection
    assert set(vault.secrets.transit.read_key(name=name)["data"]["keys"]) == {"2"}
    told = list(administrator.audit.events.list(resource=administrator.keys.get(name).name))
    assert "DestroyKeyVersion" in {event.method for event in told}
    assert "SetDeletionProtection" not in {event.method for event in told}
