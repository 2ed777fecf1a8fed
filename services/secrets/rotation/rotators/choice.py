"""The rotator of each type of secret.

What talks to servers of tenants is done in processes of their own where the service has such (`target_workers`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib import import_module

from services.secrets.kinds.declaration import Declaration
from services.secrets.kinds.known import declarations
from services.secrets.rotation.rotators.rotator import Relayed, Rotator, Supplies
from strongroom.secrets.v1.secret_pb2 import SecretType


def rotators(supplies: Supplies) -> Mapping[SecretType.ValueType, Rotator]:
    """The rotator of every type, each doing its work in this process."""
    return _MadeOnce({kind: partial(_made, declaration, supplies) for kind, declaration in declarations().items()})


def target_rotator(kind: SecretType.ValueType, relayed: Relayed | None = None) -> Rotator:
    """The rotator of a type with targets on the network, for a single step."""
    return _made(declarations()[kind], Supplies(relayed=relayed))


def load_target_rotators() -> None:
    """Loads every library that talks to targets on the network."""
    for kind, declaration in declarations().items():
        if declaration.is_outside:
            target_rotator(kind)


def _made(declaration: Declaration, supplies: Supplies) -> Rotator:
    make: Callable[[Supplies], Rotator] = import_module(declaration.rotator).rotator
    return make(supplies)


class _MadeOnce(Mapping[SecretType.ValueType, Rotator]):
    """Each is made when it is asked for first."""

    def __init__(self, makers: Mapping[SecretType.ValueType, Callable[[], Rotator]]) -> None:
        self._makers = makers
        self._made: dict[SecretType.ValueType, Rotator] = {}

    def __getitem__(self, kind: SecretType.ValueType) -> Rotator:
        made = self._made.get(kind)
        return made if made is not None else self._made.setdefault(kind, self._makers[kind]())

    def __iter__(self) -> Iterator[SecretType.ValueType]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)
