"""Which object answers which method of a service."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from google.protobuf.descriptor import ServiceDescriptor

from services.runtime.rpc.pipeline import Behaviour

Behaviours = Mapping[str, Behaviour]
"""What answers each method of a service, by the method's name."""


def by_method(service: ServiceDescriptor, handlers: Iterable[object]) -> Behaviours:
    """What answers each method of `service`: the one of `handlers` that has a method of its name.

    Raises TypeError when a method is offered by none of them or by several, or when one of them offers none: a service
    must not start with a method that nobody answers, or that one handler hides from another.
    """
    names = [method.name for method in service.methods]
    found: dict[str, list[object]] = {name: [] for name in names}
    for handler in handlers:
        offered = [name for name in names if callable(getattr(handler, name, None))]
        if not offered:
            raise TypeError(f"{service.full_name}: {_kind(handler)} offers none of its methods")
        for name in offered:
            found[name].append(handler)
    missing = [name for name in names if not found[name]]
    if missing:
        raise TypeError(f"{service.full_name}: no handler offers {', '.join(missing)}")
    for name, offering in found.items():
        if len(offering) > 1:
            raise TypeError(f"{service.full_name}: {name} is offered by {' and '.join(map(_kind, offering))}")
    return {name: getattr(handler, name) for name, (handler,) in found.items()}


def _kind(handler: object) -> str:
    return type(handler).__name__
