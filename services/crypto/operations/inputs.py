"""What requests give to be signed or authenticated, within its limits."""

from __future__ import annotations

from services.crypto.primitives.signatures import Input
from services.runtime.errors import required, too_large
from services.runtime.requests import checksums
from strongroom.crypto.v1 import crypto_pb2 as pb

MAX_BYTES = 65_536


def sized(data: bytes, field: str, limit: int = MAX_BYTES) -> bytes:
    """`data`; raises FIELD_REQUIRED when it is empty, FIELD_TOO_LARGE beyond `limit` bytes."""
    if not data:
        raise required(field)
    if len(data) > limit:
        raise too_large(field, limit)
    return data


def to_sign(request: pb.SignRequest | pb.VerifyRequest) -> Input:
    """The message or the digest. Raises FIELD_REQUIRED without either, FIELD_TOO_LARGE, CHECKSUM_MISMATCH."""
    data = item_to_sign(request)
    checksums.verify_given(request, "input_crc32c", data.data)
    return data


def item_to_sign(item: pb.SignRequest | pb.VerifyRequest | pb.SignItem) -> Input:
    """The message or the digest of one item of a batch, which has no checksum. An empty message can be signed. Raises
    FIELD_REQUIRED without either, FIELD_TOO_LARGE."""
    given = item.WhichOneof("input")
    if given is None:
        raise required("message")
    if len(item.message) > MAX_BYTES:
        raise too_large("message", MAX_BYTES)
    return Input(item.digest, is_digest=True) if given == "digest" else Input(item.message)


def mac_message(request: pb.GenerateMacRequest | pb.VerifyMacRequest) -> bytes:
    """The message. Raises FIELD_REQUIRED, FIELD_TOO_LARGE, CHECKSUM_MISMATCH."""
    message = sized(request.message, "message")
    checksums.verify_given(request, "message_crc32c", message)
    return message
