"""Credentials taken out of what targets say."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterable, Iterator
from urllib.parse import quote

from services.runtime.sensitive import SensitiveBytes
from services.secrets.values.json_fields import json_object

MAX_DETAIL = 1024

_REDACTED = "[redacted]"
# What is shorter stands in ordinary words too.
_SHORTEST = 4
# What a login's JSON says openly.
_PUBLIC = frozenset({"engine", "host", "port", "database", "username", "public_key", "client_key"})


def redacted(detail: str, values: Iterable[SensitiveBytes]) -> str:
    """What a target said, up to 1,024 characters, without any of these values or secret members of them."""
    parts = {part for value in values for part in _secret_parts(value) if len(part) >= _SHORTEST}
    forms = {form for part in parts for form in _forms(part)}
    # The longest first, so that no part of one is left.
    for form in sorted(forms, key=len, reverse=True):
        detail = detail.replace(form, _REDACTED)
    return detail[:MAX_DETAIL]


def _secret_parts(value: SensitiveBytes) -> Iterator[str]:
    text = value.reveal().decode(errors="replace")
    yield text
    fields = json_object(value)
    if fields is None:
        return
    for name, field in fields.items():
        if name not in _PUBLIC and isinstance(field, str):
            yield field
            # A message may quote one line of a key.
            yield from field.splitlines()


def _forms(part: str) -> Iterator[str]:
    yield part
    yield repr(part)[1:-1]
    yield json.dumps(part)[1:-1]
    yield quote(part, safe="", errors="replace")
    encoded = part.encode(errors="replace")
    yield b64encode(encoded).decode()
    yield encoded.hex()
