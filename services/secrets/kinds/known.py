"""The types of secrets that there are, found in `services.secrets.kinds.declared`."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from types import MappingProxyType

from services.secrets.core.destinations import Place
from services.secrets.core.model import Secret
from services.secrets.kinds import declared
from services.secrets.kinds.declaration import Declaration
from strongroom.secrets.v1.secret_pb2 import SecretType


@cache
def declarations() -> Mapping[SecretType.ValueType, Declaration]:
    """Every type's declaration. Raises ValueError where two modules declare one type."""
    found: dict[SecretType.ValueType, Declaration] = {}
    for module in pkgutil.iter_modules(declared.__path__):
        declaration: Declaration = import_module(f"{declared.__name__}.{module.name}").DECLARATION
        if declaration.type in found:
            raise ValueError(f"{type_name(declaration.type)} is declared twice")
        found[declaration.type] = declaration
    return MappingProxyType(found)


def declaration_of(secret: Secret) -> Declaration:
    """The declaration of a secret's type."""
    return declarations()[secret.type]


def is_outside(kind: SecretType.ValueType | None) -> bool:
    """Whether secrets of this type have targets on the network, which may be a hostile tenant's."""
    return kind is not None and kind in declarations() and declarations()[kind].is_outside


def place_of(secret: Secret) -> Place | None:
    """Where a secret's target is; None for those that are in the mesh itself, and for none."""
    target = declaration_of(secret).target
    if target is None or target.place is None or secret.target is None:
        return None
    return target.place(getattr(secret.target, target.member))


def type_name(kind: SecretType.ValueType) -> str:
    """A type as callers write it, such as REDIS_ACL."""
    found = SecretType.DESCRIPTOR.values_by_number.get(kind)
    return found.name.removeprefix("SECRET_TYPE_") if found is not None else str(kind)
