"""A storm from calm to calm, and its figures."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from deploy.dev.doors import Doors
from deploy.dev.topology import SERVICES
from strongroom import Client
from tests.faults.storm.databases import Databases
from tests.faults.storm.door import DoorCaller, behind_doors
from tests.faults.storm.load import KEY, Caller, Load, Outcome, Steady
from tests.faults.storm.replicated import ReplicatedMesh, Resources
from tests.faults.storm.verdict import Verdict, judge
from tests.faults.storm.weather import Event, Refusal, Weather, longest_refusal
from tests.support.clients import reason_of, until

BUSY = "storm-busy"
_CALLERS = 8
# Of the Vault door.
_CALLERS_AT_DOORS = 2
_TIMEOUT_SECONDS = 4.0
_HEALED_SECONDS = 60.0
_WORTH_TELLING_SECONDS = 1.0
_TOLD_CALLS, _TOLD_CHARACTERS = 12, 120
LARGEST_GROWTH = 1.1
# Of a service's two processes: an idle thread of gRPC's own, a connection that is being replaced.
_SLACK = {"memory": 0, "descriptors": 4, "threads": 4}
_SESSIONS_SLACK = 2
# As many calls at once as bring pools of threads and connections to what they may hold.
_BUSY_CALLERS = 48
# The rest of a storm ends no process.
_ENDING_SHARE = 0.6
_BROKEN = {"INTERNAL", "UNKNOWN", "DATA_LOSS", "CANCELLED"}
LONGEST_REFUSAL_SECONDS = 5.0


@dataclass(frozen=True)
class Pace:
    """How long a storm lasts, and how much of it there is at a time."""

    seconds: float
    """In all; 0 for every kind once."""
    calls_per_second: float
    settle_seconds: float
    """After each event."""
    over_limits_seconds: float
    """How long something hangs that is to hang for longer than anybody waits for it."""
    busy_seconds: float
    calm_seconds: float
    """Before what processes hold is looked at."""
    kinds: tuple[str, ...] = ()
    """Those of events, by how their names begin; all of them where none is named."""


@dataclass
class Report:
    """What happened."""

    seed: int
    before: dict[str, Resources] = field(default_factory=dict)
    after: dict[str, Resources] = field(default_factory=dict)
    sessions: tuple[int, int] = (0, 0)
    outcomes: list[Outcome] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    verdict: Verdict = field(default_factory=Verdict)
    restarts: int = 0
    lost_answers: int = 0

    def during(self, event: Event) -> list[Outcome]:
        """The calls that ended while an event was felt."""
        return [one for one in self.outcomes if event.began <= one.ended < event.ended]

    def failed_in_rolls(self) -> list[Outcome]:
        """The calls that failed while a service was restarted process by process."""
        rolls = [event for event in self.events if event.kind.startswith("rolling")]
        return [one for event in rolls for one in self.during(event) if one.reason]

    def broken(self) -> list[Outcome]:
        """The calls that met what no caller should."""
        return [one for one in self.outcomes if one.code in _BROKEN]

    def refusals(self) -> dict[str, float]:
        """The longest refusal after each kind of event, in seconds."""
        longest: dict[str, float] = {}
        for event in self.events:
            longest[event.kind] = max(longest.get(event.kind, 0.0), longest_refusal(self.during(event)).seconds)
        return longest

    def slow(self, longest_seconds: float) -> dict[str, float]:
        """The kinds after which callers were refused for longer."""
        return {kind: seconds for kind, seconds in self.refusals().items() if seconds > longest_seconds}

    def grown(self, growth: float = LARGEST_GROWTH) -> list[str]:
        """What takes more than so many times of what it took before."""
        found = []
        for service, then in self.before.items():
            now = self.after[service]
            for name, slack in _SLACK.items():
                old, new = getattr(then, name), getattr(now, name)
                if new > max(old * growth, old + slack):
                    found.append(f"{service}: {name} {old} → {new}")
        old, new = self.sessions
        if new > max(old * growth, old + _SESSIONS_SLACK):
            found.append(f"database sessions {old} → {new}")
        return found

    def lines(self) -> list[str]:
        """For a person."""
        failed = [one for one in self.outcomes if one.reason]
        verdict = self.verdict
        lines = [
            f"seed {self.seed}: {len(self.events)} events, {self.restarts} processes started again",
            f"{len(self.outcomes)} calls, {len(failed)} of them failed; {self.lost_answers} answers to COMMIT lost",
            f"acknowledged: {verdict.writes} writes, {verdict.events} events",
            f"lost {len(verdict.lost)}, duplicated {len(verdict.duplicated)}, wrong answers {len(verdict.wrong)}",
            f"INTERNAL and the like {len(self.broken())}, failed in rolling restarts {len(self.failed_in_rolls())}",
            "longest refusal by kind, and calls failed:",
        ]
        for kind, seconds in sorted(self.refusals().items(), key=lambda one: -one[1]):
            during = [one for event in self.events if event.kind == kind for one in self.during(event) if one.reason]
            reasons: dict[str, int] = {}
            for one in during:
                key = f"{one.operation} {one.reason}"
                reasons[key] = reasons.get(key, 0) + 1
            lines.append(f"  {seconds:5.2f} s  {kind}: {len(during)} {json.dumps(reasons) if reasons else ''}")
        for event in self.events:
            refusal = longest_refusal(self.during(event))
            if refusal.seconds > _WORTH_TELLING_SECONDS:
                lasted = event.ended - event.began
                lines.append(f"  {refusal.seconds:.2f} s in {lasted:.1f} s of {event.kind}: {event.what}")
                lines += [f"    {line}" for line in _timeline(event, refusal)]
        lines += [f"{service}: {self.before[service]} → {self.after[service]}" for service in self.after]
        lines.append(f"database sessions: {self.sessions[0]} → {self.sessions[1]}")
        lines += [*verdict.lost[:10], *verdict.duplicated[:10], *verdict.wrong[:10]]
        lines += [str(one) for one in (*self.broken()[:10], *self.failed_in_rolls()[:10])]
        return lines


def storm(databases: Databases, directory: Path, seed: int, pace: Pace) -> Report:
    """Calm, every kind once, and on for so many seconds in all, calm; then what is left is judged.

    What processes hold is compared from after two rounds, both times after a busy moment: pools that hold more because
    more was called at once have not leaked. In the last part no process is ended, so that what leaks adds up. Where
    every kind happens once alone, it is compared from before the first.
    """
    report = Report(seed)
    with ExitStack() as stack:
        replicated = stack.enter_context(ReplicatedMesh(directory / "mesh", databases.urls))
        clients = [stack.enter_context(replicated.client(_TIMEOUT_SECONDS)) for _ in range(_CALLERS)]
        until(lambda: not reason_of(lambda: clients[0].keys.create(KEY)), _HEALED_SECONDS)
        clients[0].secrets.create(BUSY, b"busy")
        weather = Weather(replicated, databases, seed, pace.over_limits_seconds, pace.kinds)

        def held() -> tuple[dict[str, Resources], int]:
            for service in SERVICES:
                replicated.wait_until_serving(service)
            replicated.let_both_write()
            for first in range(2):
                _be_busy(replicated, first, pace.busy_seconds)
            time.sleep(pace.calm_seconds)
            return replicated.resources(), databases.sessions()

        def rage(seconds: float) -> None:
            began = time.monotonic()
            ending, end = began + seconds * _ENDING_SHARE, began + seconds
            weather.rage_once(pace.settle_seconds)
            weather.rage_once(pace.settle_seconds, lasting=True)
            report.before, before = held()
            while weather.rage_once(pace.settle_seconds, ending):
                pass
            while weather.rage_once(pace.settle_seconds, end, lasting=True):
                pass
            report.after, after = held()
            report.sessions = before, after

        doors = stack.enter_context(Doors(replicated.mesh, settings=behind_doors(replicated)))
        token, share = doors.token(), pace.calls_per_second / (_CALLERS + _CALLERS_AT_DOORS)
        callers: list[Steady] = [Caller(client, number, seed, share) for number, client in enumerate(clients)]
        callers += [DoorCaller(doors, token, number, seed, share) for number in range(_CALLERS_AT_DOORS)]
        with Load(callers) as load:
            if pace.seconds:
                rage(pace.seconds)
            else:
                report.before, before = held()
                weather.rage_once(pace.settle_seconds)
                report.after, after = held()
                report.sessions = before, after
            for service in SERVICES:
                replicated.wait_until_serving(service)
        report.outcomes, report.events = load.outcomes, weather.events
        report.restarts, report.lost_answers = replicated.restarts, databases.lost_answers
        until(lambda: not reason_of(lambda: clients[0].encrypt(KEY, b"calm")), _HEALED_SECONDS)
        report.verdict = judge(clients[0], load.callers, directory / "log")
    return report


def _timeline(event: Event, refusal: Refusal) -> list[str]:
    """When the calls of a refusal were made and ended, from when the event began."""
    calls = (
        refusal.calls if len(refusal.calls) <= _TOLD_CALLS else (*refusal.calls[: _TOLD_CALLS - 1], refusal.calls[-1])
    )
    return [
        f"{one.began - event.began:6.2f} to {one.ended - event.began:6.2f} s {one.operation}:"
        f" {f'{one.reason} {one.message}'[:_TOLD_CHARACTERS] if one.reason else 'answered'}"
        for one in calls
    ]


def _be_busy(replicated: ReplicatedMesh, first: int, seconds: float) -> None:
    """Many calls at once to the replicas of this number."""
    until = time.monotonic() + seconds

    def call(client: Client) -> None:
        while time.monotonic() < until and not reason_of(lambda: once(client)):
            pass

    def once(client: Client) -> None:
        client.decrypt(client.encrypt(KEY, b"busy").ciphertext)
        client.secrets.get_value(BUSY)
        # What is in no cache: a pool that was not full before would be taken for one that leaks.
        next(iter(client.keys.list()))
        next(iter(client.secrets.list()))
        next(iter(client.audit.events.list(limit=1)))

    with ExitStack() as stack, ThreadPoolExecutor(_BUSY_CALLERS) as pool:
        clients = [stack.enter_context(replicated.client(_TIMEOUT_SECONDS, first)) for _ in range(_BUSY_CALLERS)]
        for one in [pool.submit(call, client) for client in clients]:
            one.result()
