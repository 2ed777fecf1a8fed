"""A hostile tenant whose policies cost as much as any that are accepted, with eight callers at full tilt.

They ask for keys that do not exist, so that no answer is remembered and every call is a decision.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count

from bench.abuse.town import Town
from bench.report import Target
from strongroom import Client, StrongroomError

NAME = "tenant_policies"
TARGETS = {f"{NAME}_p99_vs_quiet": Target(2.0, at_most=True)}

_CALLERS = 8
_POLICIES = 40
_TEXT = "".join(
    f'permit (principal, action, resource) when {{ resource.hasTag("t") && resource.getTag("t") like "*{letters}" }};'
    for letters in ("a" * 100 + str(number) for number in range(40))
)


def measure(town: Town, *, quick: bool) -> Mapping[str, float]:
    """Figures of the victim's calls."""
    hostile = town.tenant("hostile")
    for number in range(_POLICIES):
        try:
            hostile.access.policies.create(f"dense-{number}", _TEXT, attached_to=[hostile.names.account])
        except StrongroomError as error:
            if error.reason != "LIMIT_EXCEEDED":
                raise
            break
    return town.beside(NAME, lambda: _attack(hostile), rounds=1 if quick else 5, seconds=3.0 if quick else 10.0)


@contextmanager
def _attack(hostile: Client) -> Iterator[None]:
    over, absent = threading.Event(), count()

    def call() -> None:
        while not over.is_set():
            try:
                hostile.encrypt(f"absent-{next(absent)}", b"x", {"tenant": "a"})
            except StrongroomError:
                continue

    callers = [threading.Thread(target=call) for _ in range(_CALLERS)]
    for caller in callers:
        caller.start()
    try:
        yield
    finally:
        over.set()
        for caller in callers:
            caller.join()
