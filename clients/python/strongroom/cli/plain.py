"""Results as JSON has them."""

from __future__ import annotations

import dataclasses
from base64 import b64encode
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any


def plain(value: Any) -> Any:
    """Dataclasses become objects, bytes base64, times RFC 3339 in UTC, spans whole seconds like `86400s`."""
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        return b64encode(value).decode()
    if isinstance(value, datetime):
        return time_text(value)
    if isinstance(value, timedelta):
        return f"{int(value.total_seconds())}s"
    return str(value) if isinstance(value, Path) else value


def time_text(time: datetime) -> str:
    """`2026-11-24T02:25:00.123456Z`, the fraction only where there is one."""
    return time.isoformat().replace("+00:00", "Z")
