"""Which cores the server under test has to itself, and which everything else shares."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_ENOUGH_FOR_TWO = 4


@dataclass(frozen=True)
class Cores:
    """`server` belongs to the server under test; `others` to the load and to what the server calls.

    `two_servers` and `beside_two` are the same for a server of two workers. Where there are not enough cores, they
    are shared, and the figures say less.
    """

    server: frozenset[int]
    others: frozenset[int]
    two_servers: frozenset[int]
    beside_two: frozenset[int]

    @classmethod
    def of_this_machine(cls) -> Cores:
        """The division of the cores that this process may use."""
        return cls.divided(os.sched_getaffinity(0))

    @classmethod
    def divided(cls, cores: set[int]) -> Cores:
        """The lowest cores for the server. Two workers get cores of their own where two are left for the rest."""
        order, everything = sorted(cores), frozenset(cores)
        one = frozenset(order[:1])
        two = frozenset(order[:2]) if len(order) >= _ENOUGH_FOR_TWO else everything
        return cls(one, everything - one or one, two, everything - two or everything)


@contextmanager
def confined(cores: frozenset[int]) -> Iterator[None]:
    """Runs on `cores` meanwhile; so does every process and thread started by this thread."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
