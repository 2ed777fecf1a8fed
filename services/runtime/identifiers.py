"""Identifiers: time-ordered event ids and random resource ids."""

from __future__ import annotations

import os
import re
import secrets

from services.runtime.clock import Clock, system_clock

_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_BASE32 = "abcdefghijklmnopqrstuvwxyz234567"


def event_id(clock: Clock = system_clock) -> str:
    """A UUIDv7 (RFC 9562 §5.7) as text: ordered by time, 74 random bits, so that indexes stay local."""
    value = int.from_bytes(os.urandom(10), "big") | (clock.now_us() // 1_000) << 80
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def resource_id(prefix: str) -> str:
    """A fresh resource id such as `key-q3b7…`: the prefix and 80 random bits in base32."""
    return f"{prefix}-" + "".join(secrets.choice(_BASE32) for _ in range(16))


def is_uuid(text: str) -> bool:
    """Whether `text` is a UUID in its canonical form."""
    return _UUID.fullmatch(text) is not None
