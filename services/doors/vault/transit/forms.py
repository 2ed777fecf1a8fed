"""How transit writes what a key made: `vault:v{version}:{base64}`, with the version that the mesh used."""

from __future__ import annotations

import binascii
import re
from typing import Any

from services.doors.vault.errors import invalid

MAX_CHARACTERS = 1 << 20
_FORM = re.compile(r"vault:v([1-9][0-9]{0,8}):([A-Za-z0-9+/=_-]+)")


def written(data: bytes, key_version: str) -> str:
    """The text of a ciphertext, signature or MAC by a key version, `…/versions/{number}`."""
    return prefix(number_of(key_version)) + encoded(data)


def prefix(version: int) -> str:
    """What such a text begins with."""
    return f"vault:v{version}:"


def number_of(key_version: str) -> int:
    """The number of a key version by its full name."""
    return int(key_version.rpartition("/")[2])


def parts_of(text: str, what: str) -> tuple[int, str]:
    """The version and the encoded bytes of such a text. Raises HttpError."""
    if len(text) > MAX_CHARACTERS:
        raise invalid(f"invalid {what}: too large")
    found = _FORM.fullmatch(text)
    if found is None:
        raise invalid(f"invalid {what}: no prefix")
    return int(found[1]), found[2]


def read(text: str, what: str) -> tuple[int, bytes]:
    """The version and the bytes of such a text. Raises HttpError."""
    version, encoded = parts_of(text, what)
    try:
        return version, binascii.a2b_base64(encoded, strict_mode=True)
    except (binascii.Error, ValueError):
        raise invalid(f"invalid {what}: could not decode base64") from None


def encoded(data: bytes) -> str:
    """Bytes in base64."""
    return binascii.b2a_base64(data, newline=False).decode()


def context_of(parameters: dict[str, Any]) -> dict[str, str]:
    """The encryption context that a request's `context` and `associated_data` are, in base64 as they were given.
    Raises HttpError."""
    found: dict[str, str] = {}
    if "context" not in parameters and "associated_data" not in parameters:
        return found
    for name in ("associated_data", "context"):
        value = parameters.get(name)
        if value is None or value == "":
            continue
        if not isinstance(value, str):
            raise invalid(f"{name} is no text")
        try:
            # However it was padded, the bytes are what is bound.
            found[name] = encoded(binascii.a2b_base64(value, strict_mode=True))
        except (binascii.Error, ValueError):
            raise invalid(f"failed to base64-decode {name}") from None
    return found
