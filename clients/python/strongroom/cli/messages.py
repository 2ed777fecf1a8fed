"""Messages of the contracts, as people write them in JSON; what is wrong with one is told field by field."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar, cast

import typer

from strongroom.causes import cause_of

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor, FieldDescriptor
    from google.protobuf.message import Message

    Read = TypeVar("Read", bound=Message)

# Messages of Google's own that JSON writes as a text.
_SPANS_AND_TIMES = {
    "google.protobuf.Duration": "a span such as 3600s",
    "google.protobuf.Timestamp": "a time (RFC 3339)",
}


def message_of(text: str, empty: Read, option: str) -> Read:
    """The message that a text in JSON describes. A usage error that names the field and what it may be."""
    from google.protobuf.json_format import Parse, ParseError

    kind = empty.DESCRIPTOR.name
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(f"this is to be a {kind} in JSON, but {cause_of(error)}", param_hint=option) from None
    for problem in _problems(document, cast("Descriptor", empty.DESCRIPTOR), ""):
        raise typer.BadParameter(f"of a {kind} in JSON, {problem}", param_hint=option)
    try:
        return Parse(text, empty)
    except ParseError:
        raise typer.BadParameter(f"this is no {kind} in JSON: docs/secrets.md shows some", param_hint=option) from None


def _problems(value: Any, kind: Descriptor, path: str) -> Iterable[str]:
    if not isinstance(value, dict):
        yield f"{path or 'the whole'} is to be an object with {_listed(one.json_name for one in kind.fields)}"
        return
    known = {name: field for field in kind.fields for name in (field.json_name, field.name)}
    for name, item in value.items():
        inner = f"{path}.{name}" if path else name
        if name not in known:
            yield f"there is no field {inner}: there are {_listed(field.json_name for field in kind.fields)}"
        elif item is not None:
            yield from _problems_of_field(item, known[name], inner)
    for group in kind.oneofs:
        given = [field.json_name for field in group.fields if not {field.name, field.json_name}.isdisjoint(value)]
        if len(given) > 1:
            yield f"{_listed(given)} do not go together"


def _problems_of_field(item: Any, field: FieldDescriptor, path: str) -> Iterable[str]:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        if not isinstance(item, dict) or not all(isinstance(one, str) for one in item.values()):
            yield f"{path} is to be an object of texts"
    elif not field.is_repeated:
        yield from _problems_of_one(item, field, path)
    elif not isinstance(item, list):
        yield f"{path} is to be a list"
    else:
        for number, one in enumerate(item):
            yield from _problems_of_one(one, field, f"{path}[{number}]")


def _problems_of_one(item: Any, field: FieldDescriptor, path: str) -> Iterable[str]:
    if field.message_type is not None:
        wanted = _SPANS_AND_TIMES.get(field.message_type.full_name)
        if wanted is None:
            yield from _problems(item, field.message_type, path)
        elif not isinstance(item, str):
            yield f"{path} is to be {wanted}"
    elif field.enum_type is not None:
        names = [one.name for one in field.enum_type.values]
        if item not in names and item not in field.enum_type.values_by_number:
            yield f"{path} is none of {_listed(names)}"
    elif field.cpp_type == field.CPPTYPE_BOOL:
        if not isinstance(item, bool):
            yield f"{path} is to be true or false"
    elif field.cpp_type == field.CPPTYPE_STRING:
        if not isinstance(item, str):
            yield f"{path} is to be a text"
    elif not _is_number(item):
        yield f"{path} is to be a whole number of 32 bits"


def _is_number(item: Any) -> bool:
    if isinstance(item, str):
        item = int(item) if item.isdecimal() and item.isascii() and len(item) < 12 else None
    return isinstance(item, int) and not isinstance(item, bool) and 0 <= item < 1 << 31


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
