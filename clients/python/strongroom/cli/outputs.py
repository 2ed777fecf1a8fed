"""Bytes that a command answers."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Any

from strongroom.cli.command import Report
from strongroom.cli.inputs import write_bytes


def bytes_report(
    document: dict[str, Any], name: str, content: bytes, path: Path | None, *, force: bool, encoded: bool
) -> Report:
    """Bytes for a new file, or for standard output: as they are, or `encoded` in a line of base64."""
    if path is not None:
        write_bytes(path, content, force=force)
        return Report({**document, name: None, f"{name}_file": path}, note=f"wrote {len(content)} bytes to {path}")
    return Report(document, raw=b64encode(content) + b"\n" if encoded else content)
