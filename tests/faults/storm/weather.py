"""What befalls the mesh: kinds of failure, in an order that a seed decides, and how long each was felt."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from deploy.dev.topology import SERVICES
from tests.faults.storm.databases import Databases
from tests.faults.storm.load import Outcome
from tests.faults.storm.replicated import ReplicatedMesh

_HANGING_SECONDS = 4.0
_LOST_ANSWERS = 5
_LOSING_SECONDS = 2.0
_ENDING = ("rolling", "kill -9 of audit", "kill -9 of a service")


@dataclass(frozen=True)
class Event:
    """One failure, from when on, and until when its effects are counted."""

    kind: str
    what: str
    began: float
    ended: float


class Weather:
    """Lets one failure after another happen, each when the mesh is whole again."""

    def __init__(
        self,
        replicated: ReplicatedMesh,
        databases: Databases,
        seed: int,
        over_limits_seconds: float,
        only: tuple[str, ...] = (),
    ) -> None:
        """What hangs `over_limits_seconds` does so for longer than anybody waits for it. Of `only` some kinds, those
        whose names begin so."""
        self._replicated = replicated
        self._databases = databases
        self._random = random.Random(seed)
        self._over_limits_seconds = over_limits_seconds
        self.events: list[Event] = []
        kinds: dict[str, Callable[[], str]] = {
            **{f"rolling SIGTERM of {service}": partial(self._roll, service) for service in SERVICES},
            "kill -9 of a service": self._kill,
            "kill -9 of audit": partial(self._kill, "audit"),
            "SIGSTOP": partial(self._hang, _HANGING_SECONDS),
            "SIGSTOP of audit": partial(self._hang, _HANGING_SECONDS, "audit"),
            **{
                f"SIGSTOP over the limits of {service}": partial(self._hang, over_limits_seconds, service)
                for service in SERVICES
            },
            "PostgreSQL hangs": self._hang_database,
            "connections cut": self._cut,
            "sessions terminated": self._terminate,
            "answers to COMMIT lost": self._lose,
            "promotion": partial(self._promote, killed=False),
            "kill -9 of PostgreSQL": partial(self._promote, killed=True),
            "Redis emptied": self._empty_redis,
            "Redis killed": self._kill_redis,
            "certificates replaced": self._replace_certificates,
        }
        self.kinds = {kind: happen for kind, happen in kinds.items() if not only or kind.startswith(only)}

    def rage_once(self, settle_seconds: float, until: float = math.inf, *, lasting: bool = False) -> bool:
        """Every kind once, in an order of its own; False where `until`, by the monotonic clock, came before. With
        `lasting` only the kinds that no process of the mesh ends by: what it leaks is still there afterwards."""
        kinds = [kind for kind in self.kinds if not (lasting and kind.startswith(_ENDING))]
        self._random.shuffle(kinds)
        for kind in kinds:
            if time.monotonic() >= until:
                return False
            began = time.monotonic()
            what = self.kinds[kind]()
            for service in SERVICES:
                self._replicated.wait_until_serving(service)
            time.sleep(settle_seconds)
            self.events.append(Event(kind, what, began, time.monotonic()))
        return True

    def _one(self, service: str = "") -> tuple[str, int]:
        return service or self._random.choice(SERVICES[:3]), self._random.randrange(2)

    def _roll(self, service: str) -> str:
        self._replicated.roll(service)
        return service

    def _kill(self, service: str = "") -> str:
        service, number = self._one(service)
        process = self._replicated.replicas[service][number]
        self._replicated.kill(process)
        return process.name

    def _hang(self, seconds: float, service: str = "") -> str:
        service, number = self._one(service)
        process = self._replicated.replicas[service][number]
        process.suspend()
        try:
            time.sleep(seconds)
        finally:
            process.resume()
        return process.name

    def _cut(self) -> str:
        self._databases.cut()
        return "all"

    def _terminate(self) -> str:
        self._databases.terminate_sessions()
        return "all"

    def _lose(self) -> str:
        before = self._databases.lost_answers
        self._databases.lose_answers(_LOST_ANSWERS)
        time.sleep(_LOSING_SECONDS)
        self._databases.lose_answers(0)
        return f"{self._databases.lost_answers - before}"

    def _promote(self, *, killed: bool) -> str:
        began = time.monotonic()
        self._databases.promote(killed=killed)
        promoted = time.monotonic() - began
        time.sleep(_LOSING_SECONDS)
        self._databases.replace_standby()
        why = "the primary was killed" if killed else "the primary took no more writes"
        return f"{why}, the standby had taken over after {promoted:.1f} s"

    def _hang_database(self) -> str:
        began = time.monotonic()
        self._databases.promote_from_hung()
        promoted = time.monotonic() - began
        time.sleep(self._over_limits_seconds)
        self._databases.replace_standby()
        return f"the primary hung, the standby had taken over after {promoted:.1f} s"

    def _empty_redis(self) -> str:
        self._replicated.empty_redis()
        return "Redis"

    def _kill_redis(self) -> str:
        self._replicated.kill_redis()
        return "Redis"

    def _replace_certificates(self) -> str:
        self._replicated.replace_certificates()
        return "all"


@dataclass(frozen=True)
class Refusal:
    """How long callers of one operation were refused at a stretch: from when the first refused one called until one was
    answered again."""

    operation: str = ""
    seconds: float = 0.0
    calls: tuple[Outcome, ...] = ()
    """Those refused, and the one answered after them."""


def longest_refusal(outcomes: list[Outcome]) -> Refusal:
    """The longest of any operation."""
    longest = Refusal()
    for operation in sorted({one.operation for one in outcomes}):
        refused: list[Outcome] = []
        for one in (one for one in outcomes if one.operation == operation):
            if not one.reason and not refused:
                continue
            refused.append(one)
            seconds = one.ended - min(call.began for call in refused)
            if seconds > longest.seconds:
                longest = Refusal(operation, seconds, tuple(refused))
            if not one.reason:
                refused = []
    return longest
