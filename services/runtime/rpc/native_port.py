"""A port on the extension, which takes connections and reads calls in native code and has Python answer whole ones."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextvars import Context
from dataclasses import asdict
from functools import lru_cache
from random import uniform
from typing import Any, Literal, NoReturn

import grpc
import strongroom_native
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from services.runtime.config import Listeners
from services.runtime.errors import Reason, StrongroomError
from services.runtime.mesh.tls import TlsFiles
from services.runtime.rpc import arrivals, ports, unfinished
from services.runtime.rpc.admission import Caller, Recognize, Refusal, refused_in_turn
from services.runtime.rpc.methods import Mode, Only, Room, arrival_of, broken, malformed, unknown, without_message
from services.runtime.rpc.pipeline import Handler
from services.runtime.rpc.streams import Trailers, error_trailers

log = logging.getLogger(__name__)

_OK = grpc.StatusCode.OK
_HELD_SECONDS = 0.25
_KNOWN_CERTIFICATES = 4_096
_AT_ONCE_WAITING = 4_096
_LASTING: Mapping[Mode, Literal["watch", "exchange"]] = {Mode.WATCH: "watch", Mode.EXCHANGE: "exchange"}
_ROOMS: Mapping[Room, Literal["by caller", "exchanges", "reserved"]] = {
    Room.BY_CALLER: "by caller",
    Room.EXCHANGES: "exchanges",
    Room.RESERVED: "reserved",
}

Answer = Callable[[strongroom_native.Call], None]


class NativePort:
    """One listener of the extension."""

    def __init__(
        self, name: str, settings: Listeners, recognize: Recognize, refusal: Refusal | None, *, shared_port: bool
    ) -> None:
        self._recognize = recognize
        self._refusal = refusal
        self._shared_port = shared_port
        # Whoever comes with a token needs none, and whoever has one needs no other port.
        self._unless_required: Literal["none", "optional"] = "optional" if name == "public" else "none"
        self._listener = strongroom_native.Listener(
            name,
            _settings(name, settings),
            _kinds(name, settings),
            _endings(name, settings),
            lambda call: _known(recognize(call)),
        )

    def bind(self, address: str, tls: TlsFiles | None, *, require_client_certificate: bool) -> None:
        """Listens on an address, without TLS where there is none; ends the process where that is not possible."""
        try:
            self._listener.bind(
                address,
                tls=tls.paths if tls is not None else None,
                client_certificate="required" if require_client_certificate else self._unless_required,
                shared=self._shared_port,
            )
        except OSError as error:
            raise SystemExit(f"cannot listen on {address}: is it in use? ({error})") from error

    def add(self, service: ServiceDescriptor, handlers: Mapping[str, Handler]) -> None:
        """Has the methods of a service answered by their handlers."""
        for method in service.methods:
            if method.name in handlers:
                handler = handlers[method.name]
                arrival = arrival_of(handler)
                at_once = arrival.mode in (Mode.AT_ONCE, Mode.WATCH)
                self._listener.add(
                    f"/{service.full_name}/{method.name}",
                    _Method(method, handler, self._recognize, self._refusal),
                    room="at once" if at_once else _ROOMS[arrival.room],
                    lasting=_LASTING.get(arrival.mode),
                    only=_only(arrival.only),
                )

    def start(self) -> None:
        """Begins to serve; nothing is added afterwards."""
        self._listener.start()

    def stop(self, seconds: float) -> bool:
        """Takes no new calls, waits so long for those that are in work, and ends the rest. False where it had to."""
        self._listener.drain()
        is_done = self._listener.wait(seconds)
        self._listener.end()
        return is_done


class _Method:
    """Has a handler answer the calls of a method."""

    def __init__(
        self, method: MethodDescriptor, handler: Handler, recognize: Recognize, refusal: Refusal | None
    ) -> None:
        arrival = arrival_of(handler)
        self._read = ports.request_reader(method)
        self._write = ports.response_writer(method)
        self._handler = handler
        self._begin: Callable[..., None] | None = getattr(handler, "begin", None)
        self._recognize = recognize
        self._refusal = refusal if arrival.mode is Mode.IN_TURN else None
        self._respond: Callable[[Any, NativeCall], None]
        if arrival.mode is Mode.EXCHANGE:
            self._respond = self._exchange
        elif arrival.mode is Mode.WATCH:
            self._respond = self._watch
        elif getattr(handler, "experimental_non_blocking", False):
            self._respond = self._stream
        else:
            self._respond = self._one

    def __call__(self, native: strongroom_native.Call) -> None:
        call = NativeCall(native, self._write)
        try:
            refused = self._overdrawn(native)
            if refused is not None:
                call.fail(refused, error_trailers(refused), after=_HELD_SECONDS * uniform(0.5, 1.5))  # noqa: S311  # nothing secret hangs on it
                return
            message = native.message()
            if message is None:
                return
            call.message_bytes = len(message)
            try:
                request = self._read(message)
            except Exception:  # noqa: BLE001  # whatever a parser makes of what a stranger sent
                raise malformed() from None
            # In context variables of its own, as with grpcio.
            if self._begin is not None:
                Context().run(self._begin, request, call, call)
            else:
                Context().run(self._respond, request, call)
        except _Ended:
            pass
        except StrongroomError as refusal:
            call.fail(refusal, error_trailers(refusal, final=False))
        except Exception:
            log.exception("a call broke")
            call.fail(broken(), error_trailers(broken()))

    def _overdrawn(self, native: strongroom_native.Call) -> StrongroomError | None:
        if self._refusal is None:
            return None
        return refused_in_turn(Caller(*native.caller), lambda: native, self._recognize, self._refusal)

    def _one(self, request: Any, call: NativeCall) -> None:
        call.conclude(self._handler(request, call))

    def _stream(self, request: Any, call: NativeCall) -> None:
        self._handler(request, call, call.send)

    def _watch(self, request: Any, call: NativeCall) -> None:
        self._handler(request, call, _Outlet(call))

    def _exchange(self, request: Any, call: NativeCall) -> None:
        call.send(self._handler(request))


class _Ended(Exception):  # noqa: N818  # no error: it leaves a handler whose call has ended
    """Leaves a handler that has ended its call."""


class NativeCall:
    """One call, as handlers have it from grpcio: the context, and where the answer goes."""

    __slots__ = ("_code", "_details", "_native", "_trailers", "_write", "message_bytes")

    def __init__(self, native: strongroom_native.Call, write: Callable[[Any], bytes]) -> None:
        self._native = native
        self._write = write
        self._code = _OK
        self._details = ""
        self._trailers: Trailers = ()
        self.message_bytes = 0
        """The size of the request as it came."""

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """What the caller said in headers."""
        return self._native.metadata

    def peer(self) -> str:
        """The caller's address as gRPC writes it: `ipv4:127.0.0.1:51234`."""
        return self._native.peer

    def time_remaining(self) -> float | None:
        """For how many seconds the caller still waits; None where it would for ever."""
        return self._native.seconds_left()

    def auth_context(self) -> dict[str, list[bytes]]:
        """What TLS verified, by gRPC's names."""
        certificate = self._native.certificate
        if certificate is None:
            return {}
        pem = _pem_of(certificate)
        spiffe_id = self._native.spiffe_id
        named = {"peer_spiffe_id": [spiffe_id.encode()]} if spiffe_id else {}
        return {"x509_pem_cert": [pem], **named}

    def is_active(self) -> bool:
        """Whether the caller still listens."""
        return self._native.is_active()

    def add_callback(self, tell: Callable[[], None]) -> bool:
        """Has `tell` called when the call ends; False where it has ended."""
        return self._native.on_end(tell)

    def cancel(self) -> None:
        """Ends the call at once, whatever it is in, and tells the caller nothing."""
        self._native.cut()

    def set_trailing_metadata(self, trailers: Trailers) -> None:
        """What is told at the end."""
        self._trailers = trailers

    def set_code(self, code: grpc.StatusCode) -> None:
        """How the call ends."""
        self._code = code

    def set_details(self, details: str) -> None:
        """The sentence beside the code."""
        self._details = details

    def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        """Ends the call and leaves the handler."""
        self._native.fail(code.value[0], details, self._trailers)
        raise _Ended

    def conclude(self, response: Any) -> None:
        """Ends the call with a response, or as `set_code` says."""
        if self._code is _OK:
            self._native.answer(self._write(response), self._trailers)
        else:
            self._native.fail(self._code.value[0], self._details, self._trailers)

    def send(self, response: Any) -> None:
        """Sends one response of several, or with None ends the call."""
        if response is not None:
            self._native.send(self._write(response))
        elif self._code is _OK:
            self._native.finish(self._trailers)
        else:
            self._native.fail(self._code.value[0], self._details, self._trailers)

    def offer(self, response: Any) -> None:
        """Sends a response in place of the one before, where that has not left."""
        self._native.offer(self._write(response))

    def serialize(self, response: Any) -> bytes:
        """The method's response as bytes."""
        return self._write(response)

    def answer(self, message: bytes, trailers: Trailers) -> None:
        """Ends the call with an answer, unless it has ended."""
        self._native.answer(message, trailers)

    def fail(self, error: StrongroomError, trailers: Trailers, *, after: float = 0.0) -> None:
        """Ends the call with an error, unless it has ended."""
        self._native.fail(error.code.value[0], error.message, trailers, after)

    def ready(self, message: bytes, trailers: Trailers) -> strongroom_native.Ready:
        """The answer, to be sent once the call's events are durable."""
        return self._native.ready(message, trailers)

    def ready_to_fail(self, error: StrongroomError, trailers: Trailers) -> strongroom_native.Ready:
        """The error likewise."""
        return self._native.ready_to_fail(error.code.value[0], error.message, trailers)


class _Outlet:
    """The caller's end of a stream of which only the newest message matters."""

    def __init__(self, call: NativeCall) -> None:
        self._call = call

    def offer(self, message: Any) -> None:
        """Sends the message, or keeps it until the one before is gone."""
        self._call.offer(message)


@lru_cache(maxsize=_KNOWN_CERTIFICATES)
def _pem_of(certificate: bytes) -> bytes:
    return x509.load_der_x509_certificate(certificate).public_bytes(Encoding.PEM)


def _known(caller: Caller) -> tuple[str, str] | None:
    return (caller.group, caller.member) if caller.is_known else None


def _only(only: Only | None) -> tuple[frozenset[str], tuple[int, str, Trailers]] | None:
    return None if only is None else (only.identities, _said(only.refusal, final=False))


def _settings(name: str, settings: Listeners) -> dict[str, float]:
    return {
        "message_bytes": ports.MAX_MESSAGE_BYTES[name],
        "header_bytes": ports.METADATA_BYTES,
        "unfinished": settings.max_unfinished,
        "message_seconds": float(settings.message_seconds),
        "slow": settings.max_slow,
        "streams": ports.streams_per_connection(name, settings),
        "connections": settings.max_connections,
        "address_connections": min(settings.max_address_connections, settings.max_connections),
        "handshake_seconds": float(settings.handshake_seconds),
        "idle_seconds": float(settings.idle_seconds),
        "age_seconds": float(settings.connection_seconds) * uniform(0.9, 1.1),  # noqa: S311  # not all at once
        "watches": ports.WATCHES,
        "exchanges": ports.REFLECTIONS,
    }


def _kinds(name: str, settings: Listeners) -> dict[str, dict[str, int]]:
    at_once = ports.Crew(1, 1, 1, _AT_ONCE_WAITING, ports.MAX_MESSAGE_BYTES[name])
    return {**asdict(ports.crews(name, settings)), "at_once": asdict(at_once)}


def _endings(name: str, settings: Listeners) -> dict[str, tuple[int, str, Trailers]]:
    limit = ports.MAX_MESSAGE_BYTES[name]
    errors = {
        "overloaded": unfinished.overloaded(),
        "incomplete": arrivals.incomplete(settings.message_seconds),
        "stopping": arrivals.stopping(),
        "malformed": malformed(),
        "missing": without_message(),
        "too_large": StrongroomError(
            Reason.LIMIT_EXCEEDED, f"a message is larger than {limit} bytes: send less at once"
        ),
        "unknown": unknown(),
        "compressed": StrongroomError(Reason.NOT_YET, "compressed messages are not taken: send them as they are"),
        "overdue": StrongroomError(Reason.DEADLINE_EXCEEDED, "the call was not answered before its deadline"),
        "broken": broken(),
    }
    told = {name: _said(error, final=name in ("overdue", "broken")) for name, error in errors.items()}
    return {
        **told,
        "stopped": _said(arrivals.stopping(), final=True),
    }


def _said(error: StrongroomError, *, final: bool) -> tuple[int, str, Trailers]:
    return error.code.value[0], error.message, error_trailers(error, final=final)
