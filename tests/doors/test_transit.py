"""Transit by hvac, unchanged."""

from __future__ import annotations

import base64
import os

import hvac
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.keywrap import aes_key_wrap_with_padding
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_public_key,
)
from hvac.exceptions import InvalidPath, InvalidRequest

from strongroom import Client
from tests.support.clients import until


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def plain(text: str) -> bytes:
    return base64.b64decode(text)


def create(vault: hvac.Client, name: str, kind: str) -> None:
    """A key of any type: hvac knows some of Vault's alone."""
    vault.write_data(f"transit/keys/{name}", data={"type": kind})


def encrypt(vault: hvac.Client, name: str, data: bytes, **more: str) -> str:
    ciphertext: str = vault.secrets.transit.encrypt_data(name=name, plaintext=b64(data), **more)["data"]["ciphertext"]
    return ciphertext


def decrypt(vault: hvac.Client, name: str, ciphertext: str, **more: str) -> bytes:
    answer = vault.secrets.transit.decrypt_data(name=name, ciphertext=ciphertext, **more)
    return plain(answer["data"]["plaintext"])


@pytest.mark.parametrize("kind", ["aes256-gcm96", "aes128-gcm96", "sm4-gcm96", "ml-kem-768", "x-wing"])
def test_what_a_key_of_each_type_encrypts_it_decrypts(vault: hvac.Client, name: str, kind: str) -> None:
    create(vault, name, kind)
    for data in (b"a", os.urandom(1000)):
        ciphertext = encrypt(vault, name, data)
        assert ciphertext.startswith("vault:v1:")
        assert decrypt(vault, name, ciphertext) == data


def test_a_ciphertext_names_the_true_version_and_is_rewrapped_to_the_newest(vault: hvac.Client, name: str) -> None:
    transit = vault.secrets.transit
    transit.create_key(name=name)
    first = encrypt(vault, name, b"old")
    transit.rotate_key(name=name)
    second = encrypt(vault, name, b"new")
    assert second.startswith("vault:v2:")
    rewrapped = transit.rewrap_data(name=name, ciphertext=first)["data"]
    assert rewrapped["ciphertext"].startswith("vault:v2:")
    assert rewrapped["key_version"] == 2
    assert [decrypt(vault, name, text) for text in (first, second, rewrapped["ciphertext"])] == [b"old", b"new", b"old"]
    with pytest.raises(InvalidRequest, match="another version"):
        decrypt(vault, name, first.replace("vault:v1:", "vault:v2:"))


def test_a_ciphertext_is_bound_to_its_key_context_and_associated_data(vault: hvac.Client, name: str) -> None:
    transit = vault.secrets.transit
    transit.create_key(name=name)
    transit.create_key(name=f"{name}-other")
    bound = encrypt(vault, name, b"x", context=b64(b"tenant 1"), associated_data=b64(b"row 7"))
    assert decrypt(vault, name, bound, context=b64(b"tenant 1"), associated_data=b64(b"row 7")) == b"x"
    for other in (
        {},
        {"context": b64(b"tenant 1")},
        {"context": b64(b"tenant 2"), "associated_data": b64(b"row 7")},
        {"context": b64(b"row 7"), "associated_data": b64(b"tenant 1")},
    ):
        with pytest.raises(InvalidRequest, match="CIPHERTEXT_INVALID"):
            decrypt(vault, name, bound, **other)
    with pytest.raises(InvalidRequest, match="KEY_MISMATCH"):
        decrypt(vault, f"{name}-other", bound, context=b64(b"tenant 1"), associated_data=b64(b"row 7"))


def test_a_batch_has_an_outcome_for_each_item(vault: hvac.Client, name: str) -> None:
    transit = vault.secrets.transit
    transit.create_key(name=name)
    items = [{"plaintext": b64(b"%d" % number), "reference": f"r{number}"} for number in range(50)]
    made = transit.encrypt_data(name=name, batch_input=items)["data"]["batch_results"]
    assert [one["reference"] for one in made] == [item["reference"] for item in items]
    opened = transit.decrypt_data(name=name, batch_input=[{"ciphertext": one["ciphertext"]} for one in made])
    assert [plain(one["plaintext"]) for one in opened["data"]["batch_results"]] == [b"%d" % n for n in range(50)]
    broken = [{"ciphertext": made[0]["ciphertext"]}, {"ciphertext": "vault:v1:AAAA"}, {"ciphertext": "no"}]
    answer = vault.adapter.request(
        "post",
        f"/v1/transit/decrypt/{name}",
        json={"batch_input": broken, "partial_failure_response_code": 207},
        raise_exception=False,
    )
    outcomes = answer.json()["data"]["batch_results"]
    assert answer.status_code == 207
    assert plain(outcomes[0]["plaintext"]) == b"0"
    assert "CIPHERTEXT_INVALID" in outcomes[1]["error"]
    assert "no prefix" in outcomes[2]["error"]
    with pytest.raises(InvalidRequest):
        transit.decrypt_data(name=name, batch_input=broken)


def test_a_derived_key_needs_a_context_with_everything(vault: hvac.Client, name: str) -> None:
    transit, first, second = vault.secrets.transit, b64(b"first"), b64(b"second")
    transit.create_key(name=name, derived=True)
    read = transit.read_key(name=name)["data"]
    assert (read["derived"], read["supports_derivation"]) == (True, True)
    made = encrypt(vault, name, b"x", context=first)
    assert decrypt(vault, name, made, context=first) == b"x"
    again = transit.rewrap_data(name=name, ciphertext=made, context=first)["data"]["ciphertext"]
    assert decrypt(vault, name, again, context=first) == b"x"
    with pytest.raises(InvalidRequest, match="CIPHERTEXT_INVALID"):
        decrypt(vault, name, made, context=second)
    for work in (
        lambda: encrypt(vault, name, b"x"),
        lambda: decrypt(vault, name, made),
        lambda: transit.rewrap_data(name=name, ciphertext=made),
        lambda: transit.generate_data_key(name=name, key_type="plaintext"),
    ):
        with pytest.raises(InvalidRequest, match="missing 'context'"):
            work()
    data_key = transit.generate_data_key(name=name, key_type="plaintext", context=first)["data"]
    assert decrypt(vault, name, data_key["ciphertext"], context=first) == plain(data_key["plaintext"])
    with pytest.raises(InvalidRequest, match="not supported by this door"):
        transit.create_key(name=f"{name}-signs", key_type="ed25519", derived=True)


def test_a_data_key_is_its_ciphertext_s_plaintext(vault: hvac.Client, name: str) -> None:
    transit = vault.secrets.transit
    transit.create_key(name=name)
    for bits in (128, 256, 512):
        made = transit.generate_data_key(name=name, key_type="plaintext", bits=bits)["data"]
        assert len(plain(made["plaintext"])) == bits // 8
        assert decrypt(vault, name, made["ciphertext"]) == plain(made["plaintext"])
    assert "plaintext" not in transit.generate_data_key(name=name, key_type="wrapped")["data"]


@pytest.mark.parametrize(
    "kind", ["ed25519", "ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "ecdsa-secp256k1", "rsa-2048", "ml-dsa"]
)
def test_what_a_key_of_each_type_signs_it_verifies(vault: hvac.Client, name: str, kind: str) -> None:
    transit = vault.secrets.transit
    create(vault, name, kind)
    made = transit.sign_data(name=name, hash_input=b64(b"message"))["data"]
    assert made["signature"].startswith("vault:v1:")

    def valid(message: bytes, signature: str) -> bool:
        answer = transit.verify_signed_data(name=name, hash_input=b64(message), signature=signature)
        return bool(answer["data"]["valid"])

    assert valid(b"message", made["signature"])
    assert not valid(b"massage", made["signature"])


def test_signatures_are_what_others_verify_with_the_public_key(vault: hvac.Client, name: str) -> None:
    transit = vault.secrets.transit
    transit.create_key(name=name, key_type="rsa-2048")
    transit.create_key(name=f"{name}-ec", key_type="ecdsa-p256")

    def public(key: str) -> object:
        return load_pem_public_key(transit.read_key(name=key)["data"]["keys"]["1"]["public_key"].encode())

    def signed(key: str, **more: str | bool) -> bytes:
        text = transit.sign_data(name=key, hash_input=b64(b"m"), **more)["data"]["signature"]
        return plain(text.rpartition(":")[2])

    rsa_key, ec_key = public(name), public(f"{name}-ec")
    assert isinstance(rsa_key, rsa.RSAPublicKey)
    assert isinstance(ec_key, ec.EllipticCurvePublicKey)
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.AUTO)
    rsa_key.verify(signed(name, hash_algorithm="sha2-256"), b"m", pss, hashes.SHA256())
    old = signed(name, hash_algorithm="sha2-512", signature_algorithm="pkcs1v15")
    rsa_key.verify(old, b"m", padding.PKCS1v15(), hashes.SHA512())
    ec_key.verify(signed(f"{name}-ec", hash_algorithm="sha2-256"), b"m", ec.ECDSA(hashes.SHA256()))
    jws = transit.sign_data(name=f"{name}-ec", hash_input=b64(b"m"), marshaling_algorithm="jws")["data"]["signature"]
    assert len(jws.rpartition(":")[2]) == 86
    answer = transit.verify_signed_data(
        name=f"{name}-ec", hash_input=b64(b"m"), signature=jws, marshaling_algorithm="jws"
    )
    assert answer["data"]["valid"]
    with pytest.raises(InvalidRequest, match="hash"):
        transit.sign_data(name=f"{name}-ec", hash_input=b64(b"m"), hash_algorithm="sha2-512")


def test_macs_are_made_and_verified(vault: hvac.Client, name: str) -> None:
    transit = vault.secrets.transit
    vault.write_data(f"transit/keys/{name}", data={"type": "hmac", "key_size": 32})
    made = transit.generate_hmac(name=name, hash_input=b64(b"m"))["data"]["hmac"]
    for message, valid in ((b"m", True), (b"n", False)):
        answer = transit.verify_signed_data(name=name, hash_input=b64(message), hmac=made)
        assert answer["data"]["valid"] is valid


def test_random_bytes_and_hashes(vault: hvac.Client) -> None:
    transit = vault.secrets.transit
    for size in (1, 32, 5000):
        made = transit.generate_random_bytes(n_bytes=size)["data"]["random_bytes"]
        assert len(plain(made)) == size
    digest = transit.hash_data(hash_input=b64(b"abc"), algorithm="sha2-256")["data"]["sum"]
    assert digest == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_key_is_listed_read_configured_trimmed_and_deleted(vault: hvac.Client, name: str) -> None:
    transit = vault.secrets.transit
    transit.create_key(name=name)
    transit.create_key(name=name)
    for _ in range(2):
        transit.rotate_key(name=name)
    assert name in transit.list_keys()["data"]["keys"]
    read = transit.read_key(name=name)["data"]
    assert (read["type"], read["latest_version"], read["min_decryption_version"]) == ("aes256-gcm96", 3, 1)
    assert set(read["keys"]) == {"1", "2", "3"}
    assert not read["deletion_allowed"]
    transit.update_key_configuration(name=name, min_decryption_version=3)
    assert transit.read_key(name=name)["data"]["min_decryption_version"] == 3
    transit.update_key_configuration(name=name, min_decryption_version=2)
    transit.trim_key(name=name, min_version=2)
    assert set(transit.read_key(name=name)["data"]["keys"]) == {"2", "3"}
    with pytest.raises(InvalidRequest, match="DELETION_PROTECTED"):
        transit.delete_key(name=name)
    transit.update_key_configuration(name=name, deletion_allowed=True)
    transit.delete_key(name=name)
    with pytest.raises(InvalidPath):
        transit.read_key(name=name)
    assert name not in transit.list_keys()["data"]["keys"]
    with pytest.raises(InvalidRequest):
        encrypt(vault, name, b"x")


@pytest.mark.parametrize(
    "wanted", [{"exportable": True}, {"allow_plaintext_backup": True}, {"convergent_encryption": True, "derived": True}]
)
def test_what_would_let_keys_or_equal_plaintexts_out_is_refused(
    vault: hvac.Client, name: str, wanted: dict[str, bool]
) -> None:
    with pytest.raises(InvalidRequest, match="not supported by this door"):
        vault.secrets.transit.create_key(name=name, **wanted)
    for path in (f"export/encryption-key/{name}", f"backup/{name}"):
        with pytest.raises(InvalidRequest, match="not supported by this door"):
            vault.read(f"transit/{path}")


def test_keys_are_imported_through_the_wrapping_key(vault: hvac.Client, name: str) -> None:
    wrapping_key = load_pem_public_key(vault.read("transit/wrapping_key")["data"]["public_key"].encode())
    assert isinstance(wrapping_key, rsa.RSAPublicKey)
    oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)

    def wrapped(material: bytes) -> str:
        ephemeral = os.urandom(32)
        return b64(wrapping_key.encrypt(ephemeral, oaep) + aes_key_wrap_with_padding(ephemeral, material))

    signing = ed25519.Ed25519PrivateKey.generate()
    pkcs8 = signing.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    vault.write_data(f"transit/keys/{name}/import", data={"ciphertext": wrapped(pkcs8), "type": "ed25519"})
    made = vault.secrets.transit.sign_data(name=name, hash_input=b64(b"m"))["data"]["signature"]
    signing.public_key().verify(plain(made.rpartition(":")[2]), b"m")
    vault.write_data(f"transit/keys/{name}-aes/import", data={"ciphertext": wrapped(os.urandom(32))})
    first = encrypt(vault, f"{name}-aes", b"x")
    vault.write_data(f"transit/keys/{name}-aes/import_version", data={"ciphertext": wrapped(os.urandom(32))})
    assert encrypt(vault, f"{name}-aes", b"x").startswith("vault:v2:")
    assert decrypt(vault, f"{name}-aes", first) == b"x"
    assert vault.secrets.transit.read_key(name=name)["data"]["imported_key"]
    for nonsense in ("", b64(os.urandom(700)), "no base64!"):
        with pytest.raises(InvalidRequest):
            vault.write_data(f"transit/keys/{name}-no/import", data={"ciphertext": nonsense})


def test_what_is_not_there_is_not_there(vault: hvac.Client, name: str) -> None:
    with pytest.raises(InvalidPath):
        vault.secrets.transit.read_key(name=name)
    with pytest.raises(InvalidRequest, match="encryption key not found"):
        encrypt(vault, name, b"x")
    with pytest.raises(InvalidRequest, match="must match"):
        encrypt(vault, "Upper_Case", b"x")
    assert vault.adapter.request("get", "/v1/transit/nothing", raise_exception=False).status_code == 404


def test_a_key_disabled_in_the_mesh_refuses_the_door_s_next_use(
    vault: hvac.Client, administrator: Client, name: str
) -> None:
    vault.secrets.transit.create_key(name=name)
    ciphertext = encrypt(vault, name, b"x")
    administrator.keys.disable(name)

    def refused() -> str:
        try:
            decrypt(vault, name, ciphertext)
        except InvalidRequest as error:
            return str(error)
        return ""

    until(lambda: "KEY_DISABLED" in refused(), 1.5)
