"""Hostile requests to every method: none is answered INTERNAL or UNKNOWN, and no process ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from bench.abuse.hostile import Found, Target, seeds, send, targets
from bench.abuse.town import Town
from bench.report import Target as Figure

TARGETS: Mapping[str, Figure] = {"internal_errors": Figure(0.0, at_most=True)}

_REQUESTS = 100_000
_QUICK_REQUESTS = 10_000
_SENDERS = 8


def measure(town: Town, *, quick: bool) -> dict[str, float]:
    """Sends 100,000 requests, 10,000 when it is to be `quick`."""
    count = _QUICK_REQUESTS if quick else _REQUESTS
    sent = list(islice(seeds(1_000_000, targets()), count))
    parts: Sequence[list[tuple[Target, int]]] = [sent[start::_SENDERS] for start in range(_SENDERS)]
    found = [Found() for _ in parts]
    with ThreadPoolExecutor(_SENDERS) as senders:
        list(senders.map(lambda part, into: send(town.mesh, part, into), parts, found))
    failure = town.mesh.failure()
    if failure is not None:
        raise failure
    return {
        "hostile_requests": float(sum(one.calls for one in found)),
        "internal_errors": float(sum(len(one.faults) for one in found)),
    }
