"""A pool of sessions with one token, which comes back by itself after the token went away.

One thread watches: it tries the token out twice a second and whenever a call failed. Where that fails, callers are
refused at once, and the same thread initialises the module again, looks for the token and logs in, until that works.
Nobody else logs in, ever.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pkcs11
from opentelemetry.metrics import CallbackOptions, Meter, Observation
from pkcs11 import exceptions as errors
from pkcs11.exceptions import PKCS11Error

from services.crypto.provider import SealBrokenError
from services.crypto.providers.pkcs11.connection import Connection, PooledSession, Probe, Work, unavailable
from services.crypto.providers.pkcs11.module import Module
from services.crypto.providers.pkcs11.tokens import NoSuchTokenError, TokenChoice, describe
from services.runtime.background import UNTIL_WOKEN, Background
from services.runtime.errors import StrongroomError

log = logging.getLogger(__name__)

_TRY_OUT_SECONDS = 0.5
# Failing calls have the token tried out at once, but not in a tight loop.
_BREATH_SECONDS = 0.05
_FIRST_PAUSE_SECONDS = 0.25
_LONGEST_PAUSE_SECONDS = 2.0
# Longer without an answer, and no more threads are sent into the module: those that are inside may never return.
# Some modules do one thing at a time, and making a large RSA key takes seconds.
_SILENT_SECONDS = 15.0
_CLOSE_SECONDS = 2.0

# The input is at fault, the token and the session are well.
_INPUT_ERRORS = (
    errors.EncryptedDataInvalid,
    errors.EncryptedDataLenRange,
    errors.WrappedKeyInvalid,
    errors.WrappedKeyLenRange,
)
# Another try with the same PIN could lock the token.
_PIN_REFUSED = (
    errors.PinExpired,
    errors.PinIncorrect,
    errors.PinInvalid,
    errors.PinLenRange,
    errors.PinLocked,
    errors.UserPinNotInitialized,
)


@dataclass(frozen=True)
class PoolOptions:
    """Which token, how many sessions with it, and the PIN."""

    token: TokenChoice
    pin: str = field(repr=False)
    size: int = 8


class SessionPool:
    """At most `size` sessions, opened when first needed.

    Ends the process when no token fits, or several do. A token that is there and fails, or refuses the PIN, leaves the
    pool without a connection: see `check`.
    """

    def __init__(self, module: Module, options: PoolOptions, probe: Probe, meter: Meter) -> None:
        self._module = module
        self._options = options
        self._probe = probe
        self._connection: Connection | None = None
        self._why = ""
        self._pin_refused = False
        self._pause: float | None = None
        self._answered_at = time.monotonic()
        self._calls = meter.create_counter("hsm.calls", description="uses of a session, by outcome")
        self._reconnects = meter.create_counter("hsm.reconnects", description="attempts to reconnect, by outcome")
        meter.create_observable_gauge("hsm.sessions.in_use", [self._in_use], description="sessions lent to callers")
        meter.create_observable_gauge("hsm.connected", [self._well], description="1 while the token is well")
        try:
            module.initialize()
            self.token = describe(options.token.among(module.tokens()))
        except (NoSuchTokenError, PKCS11Error) as error:
            raise SystemExit(f"provider: {error or type(error).__name__}") from error
        self._pause = self._connected()
        self._watching = Background(
            "hsm",
            self._watch,
            "the HSM could not be checked",
            every=UNTIL_WOKEN,
            first=_or_for_good(self._pause),
            again=1.0,
        )
        self._watching.start()

    @contextmanager
    def session(self, work: Work = Work.ROOT, account: str = "") -> Iterator[PooledSession]:
        """Lends a session to this thread. Raises PROVIDER_UNAVAILABLE when none is free or the token fails, and
        SealBrokenError for what the token refuses to open."""
        connection = self._current()
        with self._failures_of(connection), connection.lend(work, account) as pooled:
            try:
                yield pooled
            except _INPUT_ERRORS as error:
                raise SealBrokenError from error

    @contextmanager
    def writing(self) -> Iterator[pkcs11.Session]:
        """A read-write session, for making token objects. Raises PROVIDER_UNAVAILABLE."""
        connection = self._current()
        with self._failures_of(connection), connection.writing() as session:
            yield session

    def check(self) -> None:
        """Raises PROVIDER_UNAVAILABLE, with the reason, unless the token was found well a moment ago. Never waits."""
        self._current()

    def close(self) -> None:
        """Ends the login, and with it every session's objects."""
        self._watching.stop(_CLOSE_SECONDS)
        connection, self._connection, self._why = self._connection, None, "the service is stopping"
        # Threads that never came back are still inside: the end of the process is theirs too.
        if not self._watching.is_alive and (connection is None or connection.end(_CLOSE_SECONDS)):
            self._module.finalize()

    def _current(self) -> Connection:
        connection = self._connection
        if connection is None:
            raise unavailable(self._why)
        silent = time.monotonic() - self._answered_at
        if silent > _SILENT_SECONDS:
            raise unavailable(f"the HSM has not answered for {silent:.0f} seconds")
        return connection

    @contextmanager
    def _failures_of(self, connection: Connection) -> Iterator[None]:
        try:
            yield
        except PKCS11Error as error:
            kind = type(error).__name__
            self._calls.add(1, {"outcome": kind})
            log.warning("a call to the HSM failed", extra={"fields": {"error": kind}})
            connection.doubt()
            self._watching.wake()
            raise unavailable(f"the HSM cannot be used ({kind})") from error
        except StrongroomError as error:
            self._calls.add(1, {"outcome": error.reason})
            raise
        except (SealBrokenError, ValueError):
            self._calls.add(1, {"outcome": "REFUSED"})
            raise
        self._calls.add(1, {"outcome": "OK"})

    # --- the watching thread

    def _watch(self) -> float:
        if self._connection is not None:
            self._pause = self._tried_out(self._connection)
        elif not self._pin_refused:
            self._pause = self._reconnected()
        # Whoever fails wakes it: not more often than this.
        time.sleep(_BREATH_SECONDS)
        return _or_for_good(self._pause)

    def _tried_out(self, connection: Connection) -> float | None:
        """Tries the token out; answers after how many seconds to do the next thing."""
        try:
            connection.try_out()
        except Exception as error:  # noqa: BLE001  # whatever it is, the token is not well and this thread goes on
            self._lose(connection, f"the HSM cannot be used ({type(error).__name__})")
            return 0.0
        self._answered_at = time.monotonic()
        return _TRY_OUT_SECONDS

    def _lose(self, connection: Connection, why: str) -> None:
        self._why = why
        self._connection = None
        log.warning("the HSM cannot be used; calls are refused until it is back", extra={"fields": {"why": why}})
        # Nobody may be inside the module when it is initialised again.
        while not connection.end(_SILENT_SECONDS):
            self._why = f"{why}; {connection.in_use} calls have not returned from the PKCS#11 module"
            if self._watching.stopping:
                return
        self._why = why

    def _reconnected(self) -> float | None:
        """Initialises the module again and connects; answers after how many seconds to do the next thing."""
        try:
            self._module.initialize()
        except PKCS11Error as error:
            return self._not_connected(f"the PKCS#11 module cannot be initialised ({error})")
        pause = self._connected()
        outcome = "OK" if self._connection else "FAILED"
        self._reconnects.add(1, {"outcome": outcome})
        if self._connection:
            log.warning("the HSM can be used again")
        return pause

    def _connected(self) -> float | None:
        """Logs in and tries the token out; answers after how many seconds to do the next thing, None for never."""
        try:
            token = self._options.token.among(self._module.tokens())
            connection = Connection(self._module, token, self._options.pin, self._options.size, self._probe)
            connection.try_out()
        except _PIN_REFUSED as error:
            self._pin_refused = True
            self._why = f"the token refuses the PIN ({type(error).__name__}): it is not tried again before a restart"
            log.warning("the HSM refused the PIN", extra={"fields": {"error": type(error).__name__}})
            return None
        except NoSuchTokenError as error:
            return self._not_connected(str(error))
        except Exception as error:  # noqa: BLE001  # as above
            return self._not_connected(f"the HSM cannot be used ({type(error).__name__})")
        self._answered_at = time.monotonic()
        self._connection = connection
        return _TRY_OUT_SECONDS

    def _not_connected(self, why: str) -> float:
        if why != self._why:
            log.warning("the HSM cannot be reached yet", extra={"fields": {"why": why}})
        self._why = why
        return min(max(2 * (self._pause or 0.0), _FIRST_PAUSE_SECONDS), _LONGEST_PAUSE_SECONDS)

    # --- metrics

    def _in_use(self, _options: CallbackOptions) -> Iterable[Observation]:
        connection = self._connection
        return [Observation(connection.in_use if connection else 0)]

    def _well(self, _options: CallbackOptions) -> Iterable[Observation]:
        return [Observation(int(self._connection is not None))]


def _or_for_good(pause: float | None) -> float:
    return UNTIL_WOKEN if pause is None else pause
