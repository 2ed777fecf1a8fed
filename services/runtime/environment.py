"""Variables that are to override settings: one that overrides nothing is a mistake that nobody would hear of."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel

log = logging.getLogger(__name__)

PREFIX = "STRONGROOM_"
_SEPARATOR = "__"
_SERVICES = ("KEYSTORE", "CRYPTO", "SECRETS", "AUDIT", "DOORS")
# Kubernetes tells every container of the services beside it (service links), by names that begin with theirs.
_SERVICE_LINK = re.compile(r".*_(?:SERVICE_HOST|SERVICE_PORT(?:_.+)?|PORT(?:_\d+_(?:TCP|UDP|SCTP)(?:_.+)?)?)")
_NEAR = 0.7
# How like a setting a name has to be that is written in another way, to be meant for it.
_LIKE = 0.85
# What turns a check off is nobody's next step: whoever gives a password is not told to do without.
_LOOSENING = ("PASSWORDLESS", "BIND_ANY_SPIFFE_ID", "PLAINTEXT", "PUBLIC_TARGETS")


def unknown_variables(settings: type[BaseModel], service: str, environment: Mapping[str, str]) -> list[str]:
    """What is wrong with the names of variables that begin as settings do: each with the likeliest that there is.

    Another service's variables are its own affair, and so is what does not look like a setting at all. A setting's name
    behind one that is no service's may be another program's: it is logged and no more.
    """
    own = f"{PREFIX}{service.upper()}{_SEPARATOR}"
    known = {f"{own}{name}": open_ended for name, open_ended in _names(settings)}
    near = [one for one in known if not one.endswith(_LOOSENING)]
    problems = []
    for given in sorted(environment):
        name = given.upper()
        if not name.startswith(PREFIX) or _SERVICE_LINK.fullmatch(name):
            continue
        if name in known or any(name.startswith(f"{one}{_SEPARATOR}") for one, is_open in known.items() if is_open):
            continue
        nearest = _nearest(name, own, near)
        problem = f"{given}: there is no such setting" + (f"; {nearest} is near" if nearest else "")
        if _is_meant(name, own, near):
            problems.append(problem)
        elif _is_strange(name, own, near):
            log.warning("variable is not read: %s", problem)
    return problems


def _nearest(name: str, own: str, known: Iterable[str]) -> str:
    if alike := _alike(name, own, known):
        return alike
    if not name.startswith(own):
        return next(iter(get_close_matches(name, known, 1, _NEAR)), "")
    # What they have in common makes nothing alike.
    found = get_close_matches(name.removeprefix(own), [one.removeprefix(own) for one in known], 1, _NEAR)
    return f"{own}{found[0]}" if found else ""


def _is_meant(name: str, own: str, known: Iterable[str]) -> bool:
    """Whether a name can only be meant for one of this service's settings."""
    if name.startswith(own) or _alike(name, own, known):
        return True
    service = own.removeprefix(PREFIX).removesuffix(_SEPARATOR)
    head, separator, _ = name.removeprefix(PREFIX).partition(_SEPARATOR)
    if not separator or head in _SERVICES:
        return False
    if head in {one.removeprefix(own).partition(_SEPARATOR)[0] for one in known}:
        # The section of a setting, without its service.
        return True
    return head.startswith(f"{service}_") or get_close_matches(head, (*_SERVICES, service), 1, _NEAR) == [service]


def _is_strange(name: str, own: str, known: Iterable[str]) -> bool:
    """Whether a setting's name is behind one that is no service's, nor near to one."""
    head, _, rest = name.removeprefix(PREFIX).partition(_SEPARATOR)
    return f"{own}{rest}" in known and not get_close_matches(head, _SERVICES, 1, _NEAR)


def _alike(name: str, own: str, known: Iterable[str]) -> str:
    """The setting that a name behind the service's own is, but for single underscores, a section that is left out, and
    a letter or two.
    """
    begin = _joined(own)
    if not _joined(name).startswith(begin):
        return ""
    # A last part of one word, such as KEY, is in many names that are no settings.
    lasts = {last: one for one in known if "_" in (last := one.rpartition(_SEPARATOR)[2])}
    wholes = {_joined(one).removeprefix(begin): one for one in known}
    # What they have in common makes nothing alike.
    found = get_close_matches(_joined(name).removeprefix(begin), [*wholes, *lasts], 1, _LIKE)
    return {**lasts, **wholes}[found[0]] if found else ""


def _joined(name: str) -> str:
    return name.replace(_SEPARATOR, "_")


def _names(model: type[BaseModel]) -> Iterator[tuple[str, bool]]:
    """Every name below a model, sections included, and whether anything may stand below it."""
    for name, field in model.model_fields.items():
        upper = name.upper()
        below = list(_models(field.annotation))
        yield upper, _is_open(field.annotation)
        for one in below:
            for inner, open_ended in _names(one):
                yield f"{upper}{_SEPARATOR}{inner}", open_ended


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (Union, UnionType):
        for one in get_args(annotation):
            yield from _models(one)


def _is_open(annotation: Any) -> bool:
    """Whether a field is a mapping, whose names nobody knows beforehand."""
    origin = get_origin(annotation)
    if origin in (Union, UnionType):
        return any(map(_is_open, get_args(annotation)))
    return isinstance(origin, type) and issubclass(origin, Mapping)
