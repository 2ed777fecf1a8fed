"""One login with a token, and the sessions under it. A session serves one thread at a time."""

from __future__ import annotations

import threading
import time
import traceback
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeVar

import pkcs11
from pkcs11 import Mechanism
from pkcs11.exceptions import DeviceError, GeneralError, PKCS11Error, UserNotLoggedIn

from services.crypto.provider import SealBrokenError
from services.crypto.providers.pkcs11 import objects
from services.crypto.providers.pkcs11.module import Module, TokenKey
from services.runtime.errors import Reason, StrongroomError

_Result = TypeVar("_Result")

_KEYS_PER_SESSION = 256
_WAIT_SECONDS = 1.5
# One of so many sessions, at most, makes keys.
_GENERATING_SHARE = 4
# A session that was idle for longer is looked at before it is lent: HSMs drop those that nobody uses.
_IDLE_SECONDS = 1.0

# RFC 5649 under each of its names, the clearest first: AES_KEY_WRAP_PAD is another thing in some modules that have
# both, and in SoftHSM2, which has no other, this one.
_WRAPPING = (Mechanism.AES_KEY_WRAP_KWP, Mechanism.AES_KEY_WRAP_PAD)


# SoftHSM2 answers the first to a wrong tag, Kryoptic the second to a ciphertext that RSA cannot decrypt.
_UNCLEAR = (GeneralError, DeviceError)


@dataclass
class PooledSession:
    """A session, the root keys as it knows them, and the keys that were unwrapped into it."""

    session: pkcs11.Session
    wrapping: Mechanism
    """How this token wraps keys as RFC 5649 says."""
    probe: Probe
    roots: dict[str, TokenKey] = field(default_factory=dict)
    keys: OrderedDict[bytes, TokenKey] = field(default_factory=OrderedDict)
    used_at: float = 0.0
    """A monotonic time."""

    def root(self, label: str) -> TokenKey:
        """A root key object by its label. Raises SealBrokenError when the token has none of that name, and PKCS11Error
        when it is not well."""
        key = self.roots.get(label)
        if key is None:
            found = self.token_keys(label)
            if len(found) != 1:
                self.probe(self)
                raise SealBrokenError(f"the token holds {len(found)} keys labelled {label}")
            key = self.roots[label] = found[0]
        return key

    def token_keys(self, label: str | None = None) -> list[TokenKey]:
        """The secret keys that are kept in the token, as it answers just now; those of one label, or all."""
        return [key for _, key in objects.kept(self.session, label)]

    def remember(self, name: bytes, key: TokenKey) -> TokenKey:
        """Keeps an unwrapped key; the one unused for longest is destroyed when there are too many."""
        self.keys[name] = key
        if len(self.keys) > _KEYS_PER_SESSION:
            self.keys.popitem(last=False)[1].destroy()
        return key

    def judged(self, work: Callable[[], _Result]) -> _Result:
        """What `work` answers. Raises SealBrokenError when its input is at fault, PKCS11Error when the token is.

        Some modules answer to bad input with the codes that any has for its own failures. So then the token is tried
        out; what fails twice beside a token that is well is bad input.
        """
        try:
            return work()
        except _UNCLEAR:
            self.probe(self)
        try:
            return work()
        except _UNCLEAR as error:
            self.probe(self)
            raise SealBrokenError from error


# Raises PKCS11Error unless the token is well, as far as one session can tell.
Probe = Callable[[PooledSession], None]


class Work(Enum):
    """What a session is wanted for, the most urgent first."""

    ROOT = 0
    """The root key: without it no key of anybody is opened, not even one in software."""
    OPERATION = 1
    """One use of a key."""
    GENERATION = 2
    """Making a key, which may take seconds."""


@dataclass(eq=False)
class _Waiter:
    """A thread that waits for a session, and whether it was given one."""

    work: Work
    account: str
    woken: threading.Event = field(default_factory=threading.Event)
    granted: bool = False


class Connection:
    """A login, at most `size` sessions that are lent, and one that is kept to hold the login and to try the token out.

    Sessions are opened when first needed. Opening the connection logs in. Raises PKCS11Error.
    """

    def __init__(self, module: Module, token: pkcs11.Token, pin: str, size: int, probe: Probe) -> None:
        self._module = module
        self._token = token
        self._size = size
        self._probe = probe
        offered = token.slot.get_mechanisms()
        # One that has neither cannot make keys; it says so itself when it is asked.
        self._wrapping = next((mechanism for mechanism in _WRAPPING if mechanism in offered), _WRAPPING[0])
        self._changed = threading.Condition()
        self._idle: list[PooledSession] = []
        self._lent = 0
        # A session is kept for the root key, however many the others want; making keys never takes more than some.
        others = max(size - 1, 1)
        self._most = {Work.ROOT: size, Work.OPERATION: others, Work.GENERATION: max(size // _GENERATING_SHARE, 1)}
        self._lent_for: Counter[Work] = Counter()
        self._lent_to: Counter[str] = Counter()
        self._waiting: list[_Waiter] = []
        self._doubted_at = 0.0
        self._ended = False
        self._kept = self._pooled(token.open(user_pin=pin))

    @property
    def in_use(self) -> int:
        """How many sessions are lent just now."""
        return self._lent

    @contextmanager
    def lend(self, work: Work = Work.ROOT, account: str = "") -> Iterator[PooledSession]:
        """Lends a session to this thread; one that comes back with a PKCS11Error is closed. Of those that wait, the
        more urgent work is first, and then the account that has the fewest. Raises PROVIDER_UNAVAILABLE when none is
        free within 1.5 seconds, and PKCS11Error when none can be opened."""
        pooled = self._take(work, account)
        well = False
        try:
            if pooled is not None and not self._lives(pooled):
                _close(pooled.session)
                pooled = None
            if pooled is None:
                pooled = self._pooled(self._token.open())
            try:
                yield pooled
            except PKCS11Error as error:
                _let_go(error)
                raise
            except BaseException:
                well = True
                raise
            well = True
        finally:
            if pooled is not None and not well:
                _close(pooled.session)
            self._put_back(pooled if well else None, work, account)

    @contextmanager
    def writing(self) -> Iterator[pkcs11.Session]:
        """A read-write session in the place of a pooled one, for making token objects. Raises as `lend`."""
        with self.lend():
            session = self._token.open(rw=True)
            try:
                yield session
            finally:
                _close(session)

    def try_out(self) -> None:
        """Raises PKCS11Error unless the token is well and the user is logged in. Not for several threads at once."""
        if not self._module.logged_in(self._kept.session):
            raise UserNotLoggedIn
        self._probe(self._kept)

    def doubt(self) -> None:
        """Has every idle session looked at before it is lent again."""
        self._doubted_at = time.monotonic()

    def end(self, seconds: float | None = None) -> bool:
        """Lends nothing any more, and waits until everything is back; answers whether it is."""
        with self._changed:
            self._ended = True
            for waiter in self._waiting:
                waiter.woken.set()
            return self._changed.wait_for(lambda: self._lent == 0, seconds)

    def _take(self, work: Work, account: str) -> PooledSession | None:
        with self._changed:
            if self._ended:
                raise unavailable("the HSM is being reconnected")
            if self._is_free_for(work):
                return self._given(work, account)
            waiter = _Waiter(work, account)
            self._waiting.append(waiter)
        waiter.woken.wait(_WAIT_SECONDS)
        with self._changed:
            if waiter.granted:
                # It was counted as lent when it was granted.
                return self._idle.pop() if self._idle else None
            if self._ended:
                raise unavailable("the HSM is being reconnected")
            self._waiting.remove(waiter)
            raise unavailable("every HSM session is busy")

    def _is_free_for(self, work: Work) -> bool:
        if self._lent >= self._size or self._lent_for[work] >= self._most[work]:
            return False
        others = self._lent_for[Work.OPERATION] + self._lent_for[Work.GENERATION]
        return work is Work.ROOT or others < self._most[Work.OPERATION]

    def _count(self, work: Work, account: str, change: int) -> None:
        self._lent += change
        self._lent_for[work] += change
        self._lent_to[account] += change
        if not self._lent_to[account]:
            del self._lent_to[account]

    def _given(self, work: Work, account: str) -> PooledSession | None:
        self._count(work, account, 1)
        return self._idle.pop() if self._idle else None

    def _put_back(self, pooled: PooledSession | None, work: Work, account: str) -> None:
        with self._changed:
            if pooled is not None:
                pooled.used_at = time.monotonic()
                self._idle.append(pooled)
            self._count(work, account, -1)
            while not self._ended and (waiter := self._next()) is not None:
                # Granted here: threads that come later would else take it away, and some never get any.
                self._waiting.remove(waiter)
                self._count(waiter.work, waiter.account, 1)
                waiter.granted = True
                waiter.woken.set()
            self._changed.notify_all()

    def _next(self) -> _Waiter | None:
        """Who is next; of equals who waits for longest."""
        fitting = [waiter for waiter in self._waiting if self._is_free_for(waiter.work)]
        return min(fitting, key=lambda waiter: (waiter.work.value, self._lent_to[waiter.account]), default=None)

    def _lives(self, pooled: PooledSession) -> bool:
        if time.monotonic() - pooled.used_at < _IDLE_SECONDS and pooled.used_at > self._doubted_at:
            return True
        return self._module.logged_in(pooled.session)

    def _pooled(self, session: pkcs11.Session) -> PooledSession:
        return PooledSession(session, self._wrapping, self._probe, used_at=time.monotonic())


def unavailable(message: str) -> StrongroomError:
    """What callers get when the token cannot be used just now."""
    return StrongroomError(Reason.PROVIDER_UNAVAILABLE, message, peer="hsm")


def _let_go(error: BaseException | None) -> None:
    """Has python-pkcs11 end the operations that the error's frames hold, now.

    It calls the module when they are collected, and an error lives as long as its caller likes: perhaps until the
    module is being initialised again, when nobody may be inside.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__


def _close(session: pkcs11.Session) -> None:
    # Its objects go with it. One that is dead already has nothing left to close.
    with suppress(PKCS11Error):
        session.close()
