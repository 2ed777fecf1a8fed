"""TOML written from plain values: Python's own library only reads it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def toml_text(document: Mapping[str, Any]) -> str:
    """`document` as TOML: strings, numbers, booleans, tables, and lists of these."""
    return "\n".join(_table((), document)).lstrip("\n") + "\n"


def _table(name: tuple[str, ...], content: Mapping[str, Any]) -> Iterator[str]:
    scalars = {key: value for key, value in content.items() if not isinstance(value, Mapping)}
    if name and (scalars or not content):
        yield ""
        yield f"[{'.'.join(map(_key, name))}]"
    for key, value in scalars.items():
        yield f"{_key(key)} = {_value(value)}"
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _table((*name, key), value)


def _key(key: str) -> str:
    bare = key.replace("-", "").replace("_", "")
    return key if bare.isascii() and bare.isalnum() else _value(key)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_key(key)} = {_value(inner)}' for key, inner in value.items())}}}"
    if isinstance(value, str | Path):
        # JSON's escapes are TOML's too, but for DEL, which TOML wants escaped and JSON leaves alone.
        return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
    raise TypeError(f"no TOML for {type(value).__name__}")
