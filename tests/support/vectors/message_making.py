"""What messages of the vectors are made of."""

from __future__ import annotations

from hashlib import sha256, shake_128
from typing import Any

from tests.support.vectors import messages
from tests.support.vectors.documented import canonical_context, derived_key

PAYMENTS, ESCROW, STRANGER = (
    f"accounts/{name}" for name in ("main/keys/payments", "escrow/keys/vault", "mallory/keys/own")
)
ALIAS = "accounts/main/aliases/current"
TENANT = {"tenant": "a", "table": "cards"}

Json = dict[str, Any]


def drawn(name: str, size: int) -> bytes:
    """Bytes that are always the same for a name."""
    return shake_128(f"strongroom message vectors: {name}".encode()).digest(size)


def encrypted(name: str, size: int = 94) -> str:
    """An encrypted data key; it has the first bytes of a ciphertext of the mesh, and nobody looks further."""
    return (b"\x01\x01" + drawn(f"encrypted data key {name}", size - 2)).hex()


def answer(key: str, wrapped: Json, data_key: bytes, **changes: Any) -> Json:
    """What a mesh answers for a wrapped key."""
    whole = {
        "mesh": wrapped["mesh"],
        "encrypted_data_key": wrapped["encrypted_data_key"],
        "key": key,
        "alias": "",
        "context": TENANT,
        "data_key": data_key.hex(),
    }
    return {**whole, **changes}


def refusal(wrapped: Json, reason: str, code: str) -> Json:
    """A mesh that refuses a wrapped key."""
    return {
        "mesh": wrapped["mesh"],
        "encrypted_data_key": wrapped["encrypted_data_key"],
        "refused_with": reason,
        "code": code,
    }


def wrapped(key: str, name: str = "", mesh: str = "", size: int = 94) -> Json:
    """A wrapped key with its hints."""
    return {"key": key, "mesh": mesh, "encrypted_data_key": encrypted(name or key, size)}


def message(name: str, content: bytes = b"4111 1111 1111 1111", **changes: Any) -> Json:
    """A valid vector; what is not given is usual."""
    data_key = drawn("data key", 32)
    context = changes.get("written_context", TENANT)
    keys = changes.get("wrapped_keys", [wrapped(PAYMENTS)])
    vector: Json = {
        "name": name,
        "accepted": [{"key": PAYMENTS, "mesh": ""}],
        "context": context,
        "answers": [answer(one["key"] or PAYMENTS, one, data_key, context=context) for one in keys],
        "opened_under": PAYMENTS,
        "data_key": data_key.hex(),
        "written_context": context,
        "context_form": "digest",
        "chunk_size_log2": 6,
        "wrapped_keys": keys,
        "nonce_prefix": drawn(f"nonce prefix {name}", 19).hex(),
        "content": content.hex(),
        **changes,
    }
    return sealed(vector)


def sealed(vector: Json) -> Json:
    """The vector with everything that follows from the rest of it."""
    power, prefix = vector["chunk_size_log2"], bytes.fromhex(vector["nonce_prefix"])
    header = messages.header_of(vector)
    digest = sha256(canonical_context(vector["written_context"])).digest()
    body_key, header_key = messages.derived_keys(bytes.fromhex(vector["data_key"]), power, digest)
    tag = messages.header_tag(header_key, header)
    chunks = messages.sealed_chunks(body_key, prefix, power, bytes.fromhex(vector["content"]))
    return {
        **vector,
        "header": header.hex(),
        "body_key": body_key.hex(),
        "header_key": header_key.hex(),
        "header_tag": tag.hex(),
        "message_key": derived_key(body_key, prefix + bytes(5)).hex(),
        "message": (header + tag + prefix + b"".join(chunks)).hex(),
    }
