"""Every key of the services' configuration files, from the classes that read them."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from services.audit.settings import AuditServiceSettings
from services.crypto.settings import CryptoSettings
from services.doors.settings import DoorsSettings
from services.keystore.settings import KeystoreSettings
from services.runtime.config import ServiceSettings
from services.secrets.settings import SecretsSettings
from tools.reference.markdown import code, document, table

_LEAD = """\
Each service reads one TOML file. An environment variable `STRONGROOM_<SERVICE>__SECTION__KEY` wins over the file:
`STRONGROOM_CRYPTO__LISTENERS__THREADS=128`. A file that has a key which is not listed here is refused, and so is a
value out of range; every error is named at once. [Operations](../operations.md) says what the keys are for.
"""
SERVICES: dict[str, type[BaseSettings]] = {
    "keystore": KeystoreSettings,
    "crypto": CryptoSettings,
    "secrets": SecretsSettings,
    "audit": AuditServiceSettings,
    "doors": DoorsSettings,
}


def page() -> str:
    """The page."""
    return document("Configuration", _lines())


def _lines() -> Iterator[str]:
    yield _LEAD
    yield "## Every service"
    yield ""
    yield from _sections("", ServiceSettings)
    for name, settings in SERVICES.items():
        yield f"## {name}"
        yield ""
        yield from _sections("", settings, without=_common(settings))


def _common(settings: type[BaseSettings]) -> frozenset[str]:
    """What a service's settings have of those of every service."""
    shared = ServiceSettings.model_fields
    return frozenset(
        name
        for name, field in settings.model_fields.items()
        if name in shared and field.annotation == shared[name].annotation
    )


def _sections(path: str, model: type[BaseModel], without: frozenset[str] = frozenset()) -> Iterator[str]:
    """A section's keys, and then the sections below it."""
    fields = {name: field for name, field in model.model_fields.items() if name not in without}
    keys = {name: field for name, field in fields.items() if not _models(field.annotation)}
    if path:
        yield f"### `[{path}]`"
        yield ""
        yield _sentence(model.__doc__)
        yield ""
    if keys:
        yield from table(
            ("key", "value", "default", "what"),
            ((code(name), _type(field), _default(field), field.description or "") for name, field in keys.items()),
        )
    for name, field in fields.items():
        for below in _models(field.annotation):
            repeated = get_origin(field.annotation) is list
            yield from _sections(".".join(filter(None, (path, f"[{name}]" if repeated else name))), below)


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The sections that a key can hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models(argument)]


def _type(field: FieldInfo) -> str:
    limits = [
        text
        for constraint in field.metadata
        for name, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"))
        if (bound := getattr(constraint, name, None)) is not None
        for text in (f"{sign} {bound:,}" if isinstance(bound, int | float) else f"{sign} {bound}",)
    ]
    return ", ".join([_name(field.annotation), *limits])


def _name(annotation: Any) -> str:
    arguments = [argument for argument in get_args(annotation) if argument is not type(None)]
    origin = get_origin(annotation)
    if origin is not None and str(origin).endswith("Literal"):
        return " or ".join(f"`{argument}`" for argument in arguments)
    if origin in (list, tuple):
        return f"list of {_name(arguments[0])}"
    if origin is dict:
        return f"table of {_name(arguments[1])}"
    if isinstance(annotation, type) and not arguments:
        plain = {str: "text", int: "number", float: "number", bool: "true or false"}
        if annotation in plain:
            return plain[annotation]
        return "text" if issubclass(annotation, Enum) else annotation.__name__.replace("IPvAnyNetwork", "CIDR").lower()
    return _name(arguments[0]) if arguments else "text"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    value = field.get_default(call_default_factory=True)
    if value is None or value in ("", [], (), {}):
        return "none"
    if isinstance(value, bool):
        return code(str(value).lower())
    return code(f"{value:g}" if isinstance(value, float) else str(value))


def _sentence(text: str | None) -> str:
    return " ".join((text or "").split())
