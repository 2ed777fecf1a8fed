"""Results as YAML 1.2, which every reader of YAML 1.1 takes for the same."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from strongroom.cli.terminal import escaped

# What no reader takes for anything but a string. Digits first could be a number, a date or a time.
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"})


def yaml_text(document: Any) -> str:
    """A document of what `plain` makes: objects, lists, texts, numbers, booleans and null. Ends with a line's end."""
    return "\n".join(_lines(document)) + "\n"


def _lines(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping) and value:
        for name, item in value.items():
            yield from _below(f"{_scalar(str(name))}:", item, indented=True)
    elif isinstance(value, list) and value:
        for item in value:
            yield from _item(item)
    else:
        yield _scalar(value)


def _below(head: str, value: Any, *, indented: bool) -> Iterator[str]:
    if isinstance(value, Mapping | list) and value:
        yield head
        yield from (f"{'  ' if indented else ''}{line}" for line in _lines(value))
    else:
        yield f"{head} {_scalar(value)}"


def _item(value: Any) -> Iterator[str]:
    first, *others = _lines(value)
    yield f"- {first}"
    yield from (f"  {line}" for line in others)


def _scalar(value: Any) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    if isinstance(value, float):
        # In YAML 1.1, what has no point is no number.
        text = json.dumps(value)
        return text if "." in text else text.replace("e", ".0e")
    # A text in JSON is one in YAML, but for what ends a line in YAML 1.1, is no character, or would not be seen.
    return escaped(json.dumps(value, ensure_ascii=False), _in_yaml)


def _in_yaml(character: str) -> str:
    number = ord(character)
    return f"\\u{number:04x}" if number < 1 << 16 else f"\\U{number:08x}"
