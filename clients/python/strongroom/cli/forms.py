"""The forms in which an answer is written, and which of them this run of the command line was asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal, get_args

from strongroom.cli.terminal import visible, write_beside

Form = Literal["table", "json", "yaml", "name"]
FORMS: tuple[str, ...] = get_args(Form)

# What the thing is called that an answer is about, the likeliest first.
_NAMES = ("name", "id", "secret", "key_version", "client_key", "principal", "service", "policy", "credential")
_AT_LEAST = ("current", "event_id", "trace")

_asked: ContextVar[str] = ContextVar("strongroom_cli_form", default="table")


def form_in(arguments: Sequence[str]) -> str:
    """Which form the words of a command ask for, whatever else is wrong with them."""
    asked = "table"
    for place, word in enumerate(arguments):
        if word == "--":
            break
        if word == "--json":
            asked = "json"
        elif word in ("-o", "--output") and place + 1 < len(arguments):
            asked = arguments[place + 1]
        elif word.startswith("--output="):
            asked = word.partition("=")[2]
        elif word.startswith("-o") and not word.startswith("--"):
            asked = word[2:]
    return asked


@contextmanager
def asked_for(form: str) -> Iterator[None]:
    """Within the block, this is what the command line was asked for."""
    token = _asked.set(form)
    try:
        yield
    finally:
        _asked.reset(token)


def errors_are_documents() -> bool:
    """Whether a program reads standard error too: what stands there is JSON then."""
    return _asked.get() == "json"


def warn(text: str) -> None:
    """Says something about how a command was typed, on standard error, where people read that."""
    if not errors_are_documents():
        write_beside(f"note: {text}")


def document_text(document: Mapping[str, Any], form: str) -> str:
    """An answer, made of what JSON has, in one of the forms for programs."""
    if form == "yaml":
        from strongroom.cli.yaml import yaml_text

        return yaml_text(document)
    if form == "name":
        return "".join(f"{visible(name)}\n" for name in names_of(document))
    return json.dumps(document, indent=2) + "\n"


def names_of(document: Mapping[str, Any]) -> list[str]:
    """The names of what an answer is about: of the one thing, or of each in its list."""
    for field in _NAMES:
        if isinstance(document.get(field), str) and document[field]:
            return [document[field]]
    for value in document.values():
        if isinstance(value, list) and value and isinstance(value[0], Mapping):
            return [name for item in value for name in names_of(item)[:1]]
        if isinstance(value, Mapping) and value and all(isinstance(item, Mapping) for item in value.values()):
            return list(value)
    return [document[field] for field in _AT_LEAST if isinstance(document.get(field), str)][:1]
