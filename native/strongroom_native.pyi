"""The listener of Strongroom's services: connections, TLS, HTTP/2, gRPC's framing, and all their limits."""

from collections.abc import Callable, Iterable, Mapping, Set
from pathlib import Path
from typing import Any, Literal, final

VERSION: str

Trailers = Iterable[tuple[str, str | bytes]]

@final
class Call:
    """One call, whose message is whole. It is answered once, from any thread; what comes later goes nowhere."""

    @property
    def metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """Names and values, which are bytes where the name ends in `-bin`."""
    @property
    def peer(self) -> str:
        """As gRPC writes it: `ipv4:127.0.0.1:51234`."""
    @property
    def spiffe_id(self) -> str:
        """That of the connection's certificate, which TLS has verified; empty without one."""
    @property
    def certificate(self) -> bytes | None:
        """The connection's verified certificate, DER."""
    @property
    def caller(self) -> tuple[str, str, bool]:
        """Whose it is, as far as its headers tell: a group, a member of it, and whether they are known."""
    def message(self) -> bytes | None:
        """Takes the message: None where it was taken, or the call has ended."""
    def seconds_left(self) -> float | None:
        """How long the caller still waits; None where it would for ever."""
    def is_active(self) -> bool:
        """Whether the caller still listens."""
    def ready(self, message: bytes, trailers: Trailers) -> Ready:
        """An answer for `Appends` to send."""
    def ready_to_fail(self, code: int, message: str, trailers: Trailers) -> Ready:
        """An error likewise."""
    def answer(self, message: bytes, trailers: Trailers) -> None:
        """Ends the call with an answer."""
    def fail(self, code: int, message: str, trailers: Trailers, after: float = 0.0) -> None:
        """Ends the call with an error, `after` so many seconds."""
    def send(self, message: bytes) -> bool:
        """Sends one message of several; waits while the caller takes nothing. False where the call has ended."""
    def offer(self, message: bytes) -> None:
        """Sends a message of which only the newest matters, in place of the one before where that has not left."""
    def finish(self, trailers: Trailers) -> None:
        """Ends a call of several messages."""
    def cut(self) -> None:
        """Ends a call of several messages at once, and tells the caller nothing."""
    def on_end(self, tell: Callable[[], Any]) -> bool:
        """Has `tell` called when the call ends, however that may be. False where it has ended."""

@final
class Ready:
    """An answer that waits until its call's events are durable."""

@final
class Appends:
    """The way into the audit log past Python's own threads, while that is open."""

    def __init__(
        self,
        path: str,
        tls: tuple[Path, Path, Path],
        settings: Mapping[str, int],
        settled: Callable[[list[Any]], None],
        given_back: Callable[[list[Any], tuple[int, str, Trailers] | None], None],
    ) -> None:
        """`path` is the method's that appends. `settled` gets what stands for events that are durable, `given_back` for
        those that are not: with a status code, a message and trailing metadata where they were sent. Raises OSError."""
    @property
    def is_open(self) -> bool:
        """Whether it takes events."""
    def open(self, address: str) -> None:
        """Connects to an address, unless it is or does so already, by the files as they are now."""
    def append(
        self,
        entry: Any,
        payer: str,
        request: bytes,
        events: int,
        seconds: float,
        held: int = 0,
        ready: Ready | None = None,
    ) -> bool:
        """Has events sent: a serialized request to append them, which `entry` stands for and which has to be durable in
        so many seconds; `held` bytes more are held until then. Then `ready` leaves, or without one `settled` is told.
        False where it takes none now."""
    def close(self) -> list[list[Any]]:
        """Takes no more events until it is opened again. Answers what stands for those that were not sent, in groups
        that one append can carry."""
    def stop(self, seconds: float) -> list[list[Any]]:
        """The same for good; waits so many seconds at most for what was sent."""

@final
class Channel:
    """One connection at a time to a service of the mesh, over mTLS."""

    def __init__(self, address: str, certificate: bytes, key: bytes, trust: bytes) -> None:
        """To `host:port`, by a certificate chain, its key and whom to trust, all PEM. Connects when it is called."""
    def call(
        self, path: str, message: bytes, seconds: float, headers: Trailers
    ) -> bytes | tuple[int, str, tuple[tuple[str, str | bytes], ...]]:
        """Calls the method at a path, and waits so many seconds at most. Answers the message that comes back; or with a
        status code, a sentence and trailing metadata. Raises ValueError where it was closed."""
    def close(self) -> None:
        """Ends the connection; calls on it end as cancelled."""

@final
class Listener:
    """Addresses on which connections are taken, and what answers their calls."""

    def __init__(
        self,
        name: str,
        settings: Mapping[str, float],
        kinds: Mapping[str, Mapping[str, int]],
        endings: Mapping[str, tuple[int, str, Trailers]],
        recognize: Callable[[Call], tuple[str, str] | None],
    ) -> None:
        """`kinds` are of threads, `endings` are told where no method answers, and `recognize` says whose a call's
        credential is: a group and a member of it."""
    def add(
        self,
        path: str,
        answer: Callable[[Call], None],
        *,
        room: Literal["by caller", "exchanges", "reserved", "at once"],
        lasting: Literal["watch", "exchange"] | None = None,
        only: tuple[Set[str], tuple[int, str, Trailers]] | None = None,
    ) -> None:
        """Has `answer` called with each call of a method. Where that is for `only` some SPIFFE ids, others are refused
        by their headers, so."""
    def bind(
        self,
        address: str,
        *,
        tls: tuple[Path, Path, Path] | None = None,
        client_certificate: Literal["none", "optional", "required"] = "none",
        shared: bool = False,
    ) -> None:
        """Listens on an address, with TLS from the PEM files of a certificate, its key and whom to trust: they are read
        again when they change. Raises OSError."""
    def start(self) -> None:
        """Begins to serve."""
    def drain(self) -> None:
        """Takes no more connections and calls, and ends what would last."""
    def wait(self, seconds: float) -> bool:
        """Waits until no call is open any more, for so many seconds at most. Whether none is."""
    def end(self) -> None:
        """Ends what is not answered yet, cuts connections and ends the threads."""
