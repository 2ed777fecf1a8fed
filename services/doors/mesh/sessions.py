"""Who a client is in the mesh: a session of its own, which came as a token or was begun by a credential."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256

from google.protobuf.duration_pb2 import Duration

from services.doors.mesh.remembering import remember
from services.runtime.clock import Clock, microseconds
from services.runtime.mesh.forwarding import AUTHORIZATION, BEARER, SOURCE_ADDRESS, passed_certificate
from strongroom.access.v1 import session_service_pb2 as pb

_REMEMBERED = 4096
_LOCKS = 64
# So that no session ends between the look at it and its use.
_MARGIN_US = 5_000_000

Exchange = Callable[[pb.CreateSessionRequest, tuple[tuple[str, str], ...]], pb.Session]
Identify = Callable[["Caller"], pb.CallerIdentity]


@dataclass(frozen=True, slots=True)
class Session:
    """A session of the mesh, as far as a door knows of it."""

    token: str = field(repr=False)
    principal: str
    account: str
    """The account's id, without `accounts/`."""
    expires_us: int
    """When it ends, in microseconds since the Unix epoch; 0 where that is not known."""
    is_begun_here: bool = False
    """Whether it stands for a static credential, which begins another when this one has ended."""


@dataclass(slots=True)
class Caller:
    """Whom a call to the mesh is made for, and where it came from."""

    session: Session
    address: str
    _begin_again: Callable[[], Session] | None = field(default=None, repr=False)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What the mesh is told of the caller: its session, which it verifies, and its address."""
        return ((AUTHORIZATION, BEARER + self.session.token), (SOURCE_ADDRESS, self.address))

    @property
    def account(self) -> str:
        """The id of the caller's account."""
        return self.session.account

    def renew(self) -> bool:
        """Whether it has another session now, in place of one that has ended."""
        if self._begin_again is None:
            return False
        self.session = self._begin_again()
        return True


class Sessions:
    """Callers by what they came with. What the mesh has confirmed is remembered by its digest: who a token stands for
    does not change, and whether it may do anything the mesh decides at every call."""

    def __init__(self, exchange: Exchange, identify: Identify, clock: Clock, seconds: int) -> None:
        self._exchange = exchange
        self._identify = identify
        self._clock = clock
        self.seconds = seconds
        """How long a session lasts that is begun here."""
        self._lock = threading.Lock()
        self._beginning = [threading.Lock() for _ in range(_LOCKS)]
        self._known: OrderedDict[bytes, Session] = OrderedDict()

    def of_token(self, token: str, address: str) -> Caller:
        """The caller of a session token. Raises StrongroomError."""
        digest = _digest(token)
        session = self._remembered(digest)
        if session is None:
            caller = Caller(Session(token, "", "", 0), address)
            who = self._identify(caller)
            expires_us = microseconds(who.expire_time) if who.HasField("expire_time") else 0
            session = Session(token, who.principal, who.account.removeprefix("accounts/"), expires_us)
            self._remember(digest, session)
        return Caller(session, address)

    def of_client_key(self, name: str, secret: str, address: str) -> Caller:
        """The caller whom a client key stands for, with a session that lasts from call to call. Raises
        StrongroomError."""
        digest = _digest(f"{name}.{secret}")

        def begin(ended: Session | None = None) -> Session:
            with self._beginning[digest[0] % _LOCKS]:
                session = self._remembered(digest)
                if session is None or session is ended:
                    credential = pb.ClientKeyCredential(client_key=name, secret=secret)
                    session = self.begin(pb.CreateSessionRequest(client_key=credential), address, stays=True)
                    self._remember(digest, session)
                return session

        caller = Caller(self._remembered(digest) or begin(), address)
        caller._begin_again = lambda: begin(caller.session)  # noqa: SLF001  # made here alone
        return caller

    def begin(
        self,
        request: pb.CreateSessionRequest,
        address: str,
        certificate: tuple[str, int] | None = None,
        *,
        stays: bool = False,
    ) -> Session:
        """A session by the credential in the request, or by the client's certificate: its SPIFFE id, and when it ends.
        Raises StrongroomError."""
        request.duration.CopyFrom(Duration(seconds=self.seconds))
        metadata: tuple[tuple[str, str], ...] = ((SOURCE_ADDRESS, address),)
        if certificate is not None:
            metadata += passed_certificate(*certificate)
        made = self._exchange(request, metadata)
        session = Session(
            made.token, made.principal, made.account.removeprefix("accounts/"), microseconds(made.expire_time), stays
        )
        if not stays:
            self._remember(_digest(made.token), session)
        return session

    def known(self, credential: str) -> Session | None:
        """The session of a token, or of a client key written `{name}.{secret}`, that the mesh has confirmed before."""
        return self._remembered(_digest(credential))

    def forget(self, token: str) -> None:
        """Knows nothing of a token any more."""
        with self._lock:
            self._known.pop(_digest(token), None)

    def _remembered(self, digest: bytes) -> Session | None:
        with self._lock:
            session = self._known.get(digest)
            if session is None:
                return None
            if session.expires_us and session.expires_us - _MARGIN_US <= self._clock.now_us():
                del self._known[digest]
                return None
            self._known.move_to_end(digest)
            return session

    def _remember(self, digest: bytes, session: Session) -> None:
        with self._lock:
            remember(self._known, digest, session, _REMEMBERED)


def _digest(text: str) -> bytes:
    return sha256(text.encode()).digest()
