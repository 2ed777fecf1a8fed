"""What a process does over and over beside its calls: each in a thread of its own, which goes on whatever fails.

Why work fails is logged when it begins to, and once a minute as long as it does. What nobody foresaw is told besides by
`check`, as a component of the status, as is a round that does not end; and everything by metrics.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from services.runtime.errors import Reason, StrongroomError

log = logging.getLogger(__name__)

NEVER = math.inf
"""What a round of work answers after which none follows."""

UNTIL_WOKEN = threading.TIMEOUT_MAX
"""A pause that `wake` alone ends."""

_LOG_AGAIN_SECONDS = 60.0
_STOP_SECONDS = 5.0
_ROUND_SECONDS = 60.0


class Background:
    """One piece of work, done in rounds until `stop`, or until a round answers NEVER."""

    def __init__(
        self,
        name: str,
        work: Callable[[], float | None],
        fails: str,
        *,
        every: float,
        first: float = 0.0,
        again: float | None = None,
        foreseen: tuple[type[Exception], ...] = (),
        quiet: bool = False,
        finishes: bool = False,
        takes: float = _ROUND_SECONDS,
    ) -> None:
        """`work` is one round, which may answer after how many seconds the next begins; `every` where it answers None,
        `again` after one that failed, `first` for the first. `fails` is what the log says of a round that failed.

        A StrongroomError is `foreseen`, as are the errors named so: they are logged without a trace, and with `quiet`
        for debugging alone, since their component of the status tells of them. `finishes`: `stop` waits for one round
        more. `takes`: a round that runs for longer hangs; NEVER for one that waits until there is something to do."""
        self.name = name
        self.failing = ""
        """The type of the error that nobody foresaw and that the last round ended with; empty otherwise."""
        self.failures: Counter[str] = Counter()
        """How many rounds have failed, by reason or type of error."""
        self._work = work
        self._fails = fails
        self._every = every
        self._first = first
        self._again = every if again is None else again
        self._foreseen: tuple[type[Exception], ...] = (StrongroomError, *foreseen)
        self._level = logging.DEBUG if quiet else logging.WARNING
        self._finishes = finishes
        self._takes = takes
        self._began: float | None = None
        self._logged = ("", 0.0)
        self._called = threading.Event()
        self._stopping = False
        self._thread = _Thread(self)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def wake(self) -> None:
        """Begins the next round now, or as soon as this one has ended."""
        self._called.set()

    def end(self) -> None:
        """Ends after the round that runs."""
        self._stopping = True
        self._called.set()

    def join(self, seconds: float) -> None:
        """Waits that long for its end."""
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout=seconds)

    def stop(self, seconds: float = _STOP_SECONDS) -> None:
        """Ends after the round that runs, waiting that long for it."""
        self.end()
        self.join(seconds)

    @property
    def stopping(self) -> bool:
        """Whether a round should come to its end."""
        return self._stopping

    @property
    def hangs(self) -> bool:
        """Whether the round that runs has run for longer than one takes."""
        began = self._began
        return began is not None and time.monotonic() - began > self._takes

    @property
    def has_begun(self) -> bool:
        """Whether it was started."""
        return self._thread.ident is not None

    @property
    def is_alive(self) -> bool:
        """Whether it has begun and not ended."""
        return self._thread.is_alive()

    def run(self) -> None:
        """The rounds, in the thread."""
        pause = self._first
        while pause != NEVER:
            if pause:
                self._called.wait(pause)
            self._called.clear()
            # Read once: who stops it meanwhile wants a whole round afterwards.
            last = self._stopping
            if last and not self._finishes:
                return
            pause = self._round()
            if last:
                return

    def _round(self) -> float:
        self._began = time.monotonic()
        try:
            return self._ended_round()
        finally:
            self._began = None

    def _ended_round(self) -> float:
        try:
            pause = self._work()
        except self._foreseen as error:
            reason = error.reason if isinstance(error, StrongroomError) else type(error).__name__
            self.failing = ""
            self._note(reason, self._level)
            return self._again
        except Exception as error:  # noqa: BLE001  # whatever it was, the next round may fare better
            self.failing = type(error).__name__
            self._note(self.failing, logging.ERROR, error)
            return self._again
        self.failing = ""
        self._logged = ("", 0.0)
        return self._every if pause is None else pause

    def _note(self, reason: str, level: int, error: Exception | None = None) -> None:
        self.failures[reason] += 1
        logged, at = self._logged
        now = time.monotonic()
        if reason != logged or now - at >= _LOG_AGAIN_SECONDS:
            self._logged = (reason, now)
            log.log(level, self._fails, exc_info=error, extra={"fields": {"work": self.name, "reason": reason}})


class _Thread(threading.Thread):
    """By which `running` finds what runs in this process."""

    def __init__(self, background: Background) -> None:
        super().__init__(target=background.run, name=background.name, daemon=True)
        self.background = background


def each(works: Iterable[Callable[[], object]]) -> None:
    """Does all of these in turn, whatever one of them raises; raises the last error, in the context of the others."""
    with ExitStack() as stack:
        for work in reversed(tuple(works)):
            stack.callback(work)


def running() -> Sequence[Background]:
    """What runs in this process."""
    return [thread.background for thread in threading.enumerate() if isinstance(thread, _Thread)]


def check() -> None:
    """Raises INTERNAL while any work fails by an error that nobody foresaw, or hangs."""
    broken = [f"{one.name} ({one.failing or 'it hangs'})" for one in running() if one.failing or one.hangs]
    if broken:
        told = ", ".join(sorted(broken))
        raise StrongroomError(Reason.INTERNAL, f"work in the background fails, see the log: {told}")


def measure(meter: Meter) -> None:
    """Adds what metrics tell of it."""
    meter.create_observable_gauge(
        "background.failing", [_failing], description="1 while work in the background hangs, or fails by its own error"
    )
    meter.create_observable_counter(
        "background.failures", [_failures], "{round}", "rounds of work in the background that failed, by error"
    )


def _failing(_: CallbackOptions) -> Iterable[Observation]:
    return [Observation(int(bool(one.failing) or one.hangs), {"work": one.name}) for one in running()]


def _failures(_: CallbackOptions) -> Iterable[Observation]:
    return [
        Observation(count, {"work": one.name, "error": error})
        for one in running()
        for error, count in tuple(one.failures.items())
    ]
