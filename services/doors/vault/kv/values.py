"""Values of secrets as KV shows them: a JSON object byte for byte as it was written, anything else as one member."""

from __future__ import annotations

import base64
import json

from services.doors.vault.answers import Raw, is_object
from services.doors.vault.errors import invalid
from services.runtime.json_texts import merge_patch
from strongroom.secrets.v1.secret_pb2 import SecretValue

_MAX_BYTES = 65_536


def shown(value: SecretValue) -> Raw:
    """The JSON that a value is shown as: itself where it is a JSON object; `{"value": text}` for other text, and
    `{"value": …, "encoding": "base64"}` for bytes."""
    try:
        text = value.value.decode()
    except UnicodeDecodeError:
        return Raw(json.dumps({"value": base64.b64encode(value.value).decode(), "encoding": "base64"}))
    return Raw(text) if is_object(text) else Raw(json.dumps({"value": text}))


def stored(text: str | None) -> bytes:
    """The bytes that are stored of a `data` member as it was written. Raises HttpError."""
    if text is None or text == "null":
        raise invalid("no data provided")
    if not text.startswith("{"):
        raise invalid("data is no JSON object")
    value = text.encode()
    if len(value) > _MAX_BYTES:
        raise invalid(f"data is larger than {_MAX_BYTES} bytes")
    return value


def merged(before: str, patch: str) -> str:
    """A JSON merge patch (RFC 7396) applied to an object. What it does not name stays as it is written. Raises
    HttpError."""
    try:
        return merge_patch(before, patch)
    except RecursionError:
        raise invalid("data is nested too deeply") from None
