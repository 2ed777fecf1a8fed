"""CRC32C of what crosses the network: verified when the caller gives one, answered when it did."""

from __future__ import annotations

import google_crc32c
from google.protobuf.message import Message

from services.runtime.errors import Reason, StrongroomError


def verify(data: bytes, given: int, field: str) -> None:
    """Raises CHECKSUM_MISMATCH unless `given` is the CRC32C (RFC 3720 appendix B.4) of `data`."""
    if crc32c(data) != given:
        raise StrongroomError(Reason.CHECKSUM_MISMATCH, f"{field} is not the CRC32C of what arrived", field=field)


def verify_given(request: Message, field: str, data: bytes) -> None:
    """Compares the checksum in an optional field of a request, when it is set. Raises CHECKSUM_MISMATCH."""
    if request.HasField(field):
        verify(data, getattr(request, field), field)


def crc32c(data: bytes) -> int:
    """The CRC32C of `data`."""
    return int(google_crc32c.value(data))
