"""One call on its way in, over what grpcio keeps of it.

grpcio gives a call a thread as soon as its headers are there, and the thread waits for the message, for ever if need
be. Here gRPC's own thread, which waits for nothing, asks for the message, and the call is handed over when that has
come. The state of a call is no public API: `require_known_grpcio` refuses to start over one that differs, and tests
hold it to what is relied on.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Protocol

import grpc
from grpc import _server
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # the stubs know the public API alone

from services.runtime.errors import StrongroomError
from services.runtime.mesh.forwarding import Metadata
from services.runtime.rpc.admission import Caller
from services.runtime.rpc.methods import BEGIN, Mode, arrival_of, broken, malformed, without_message
from services.runtime.rpc.streams import Trailers, error_trailers

log = logging.getLogger(__name__)

_NOBODY = Caller("", "", is_known=False)
_NO_FLAGS = 0
_RESPOND = {
    "_unary_response_in_pool": ("rpc_event", "state", "behavior", "argument_thunk"),
    "_stream_response_in_pool": ("rpc_event", "state", "behavior", "argument_thunk"),
    "_abort": ("state", "call", "code", "details"),
    "_status": ("rpc_event", "state", "serialized_response"),
    "_Context": ("rpc_event", "state", "request_deserializer"),
    "_possibly_finish_call": ("state", "token"),
    "_is_rpc_state_active": ("state",),
    "_get_initial_metadata_operation": ("state", "metadata"),
}


class Headers:
    """What a call says before its message."""

    def __init__(self, event: Any) -> None:
        self._call = event.call
        self.metadata: Metadata = event.invocation_metadata

    @cached_property
    def peer(self) -> str:
        """The caller's address as gRPC writes it: `ipv4:127.0.0.1:51234`."""
        peer: bytes | str = self._call.peer()
        return peer if isinstance(peer, str) else peer.decode()

    @cached_property
    def spiffe_id(self) -> str:
        """That of the connection's certificate, which TLS has verified; empty without one."""
        values: Mapping[bytes | str, list[bytes]] = cygrpc.auth_context(self._call) or {}
        found = values.get("peer_spiffe_id") or values.get(b"peer_spiffe_id") or [b""]
        return found[0].decode()


class _Ended:
    """Stands for a call that has ended, where a method still runs that asks about it: it has no time, no peer and no
    certificate."""

    invocation_metadata: Metadata = ()
    deadline = 0.0

    @property
    def call(self) -> _Ended:
        return self

    @property
    def call_details(self) -> _Ended:
        return self

    def peer(self) -> bytes:
        return b""


_ENDED = _Ended()


class Context(_server._Context):
    """gRPC's context, which can let go of its call."""

    message_bytes = 0
    """The size of the request as it came."""

    def let_go(self) -> None:
        """Knows nothing of the call any more."""
        self._rpc_event = _ENDED

    def auth_context(self) -> Mapping[str, Any]:
        """What TLS verified; empty once the call has ended."""
        event = self._rpc_event
        found: Mapping[bytes, Any] = ({} if event is _ENDED else cygrpc.auth_context(event.call)) or {}
        return {key.decode(): values for key, values in found.items()}


class Awaiting(Protocol):
    """Told how far a call is, in gRPC's own thread."""

    def message_came(self, call: ArrivingCall) -> None:
        """The call is whole, or its end came first."""

    def may_run(self, call: ArrivingCall) -> bool:
        """Whether the call is to be answered now that its turn has come: if not, nothing of its message is parsed."""

    def wants_next(self, call: ArrivingCall) -> None:
        """A stream's message was answered, and the next is awaited. The call's condition is held."""


class ArrivingCall:
    """One call, from its headers to its answer."""

    __slots__ = (
        "_awaiting",
        "_behaviour",
        "_context",
        "_deserialize",
        "_event",
        "_respond",
        "_serialize",
        "_state",
        "arrival",
        "begun",
        "caller",
        "message",
        "refusal",
        "since",
        "size",
    )

    def __init__(
        self,
        awaiting: Awaiting,
        respond: Any,
        event: Any,
        state: Any,
        behaviour: Any,
        deserialize: Any,
        serialize: Any,
    ) -> None:
        self._awaiting = awaiting
        self._respond = respond
        self._event = event
        self._state = state
        self._behaviour = behaviour
        self._deserialize = deserialize
        self._serialize = serialize
        self._context: Context | None = None
        self.arrival = arrival_of(behaviour)
        self.begun = False
        self.caller = _NOBODY
        self.message: bytes | None = None
        self.size = 0
        self.since = 0.0
        self.refusal: StrongroomError | None = None
        """What it is refused with when its time has come, and nothing of its message is read."""

    def headers(self) -> Headers | None:
        """What the call said before its message; None once it has ended."""
        event = self._event
        return Headers(event) if event is not None else None

    def on_end(self, tell: Callable[[], None]) -> None:
        """Has `tell` called, in gRPC's own thread, when the call has ended, however that may be."""
        self._state.callbacks.append(tell)

    def let_go(self) -> None:
        """Forgets gRPC's call, which has ended. gRPC counts it as open on its connection for as long as something
        refers to it, and an error that is kept refers to every frame that it came through."""
        self._event = None
        if self._context is not None:
            self._context.let_go()

    def receive(self) -> None:
        """Asks for the next message. The caller holds the call's condition, as for everything that begins work."""
        self._event.call.start_server_batch((cygrpc.ReceiveMessageOperation(_NO_FLAGS),), self._received)
        self._state.due.add(_server._RECEIVE_MESSAGE_TOKEN)

    def receive_now(self) -> bool:
        """Asks for the next message where nobody holds the call's condition yet; False when the call has ended."""
        with self._state.condition:
            if self._event is None or not _server._is_rpc_state_active(self._state):
                return False
            self.receive()
            return True

    def run(self) -> None:
        """Has the method answer the message."""
        if not self._awaiting.may_run(self):
            return
        self.begun = True
        if self.arrival.mode is Mode.EXCHANGE:
            self._answer_one()
            return
        begin = getattr(self._behaviour, BEGIN, None)
        if begin is not None:
            self._state.context.run(self._begin, begin)
            return
        # In the call's own context variables, as grpcio does.
        self._state.context.run(
            self._respond,
            self._event,
            self._state,
            self._behaviour if self.arrival.mode is not Mode.WATCH else self._watch,
            self._request,
            self._deserialize,
            self._serialize,
        )

    def refuse(self, error: StrongroomError, *, final: bool = False) -> None:
        """Ends the call with an error, whatever it is in. `final` where a method may have begun: gRPC does not repeat
        the call by itself, and what the method answers goes nowhere."""
        self.fail(error, error_trailers(error, final=final), final=final)

    def serialize(self, response: Any) -> bytes:
        """The method's answer as bytes."""
        message: bytes = self._serialize(response)
        return message

    def answer(self, message: bytes, trailers: Trailers) -> None:
        """Ends the call with its answer, unless it has ended."""
        state = self._state
        with state.condition:
            if _server._is_rpc_state_active(state):
                state.trailing_metadata = trailers
                _server._status(self._event, state, message)

    def fail(self, error: StrongroomError, trailers: Trailers, *, final: bool = False) -> None:
        """Ends the call with an error, unless it has ended; with `final`, what the method answers goes nowhere."""
        state = self._state
        with state.condition:
            if not _server._is_rpc_state_active(state):
                return
            state.trailing_metadata = trailers
            state.code = error.code
            state.details = error.message.encode()
            _server._abort(state, self._event.call, cygrpc.StatusCode.unknown, b"")
            if final:
                # Else a method that ends later would send a second status, which gRPC takes for a fault.
                state.client = _server._CANCELLED
            state.condition.notify_all()

    def _received(self, event: Any) -> Any:
        message: bytes | None = event.batch_operations[0].message()
        state = self._state
        with state.condition:
            if message is None:
                self._without_message()
            elif _server._is_rpc_state_active(state):
                self.message = message
                self.size = len(message)
            finished = _server._possibly_finish_call(state, _server._RECEIVE_MESSAGE_TOKEN)
        try:
            self._awaiting.message_came(self)
        except Exception:
            log.exception("a call whose message has arrived could not be given to a thread")
            self.refuse(broken())
        return finished

    def _without_message(self) -> None:
        state = self._state
        if state.client is _server._OPEN:
            state.client = _server._CLOSED
        if self.arrival.mode is Mode.EXCHANGE:
            if _server._is_rpc_state_active(state):
                # The caller has said all that it had to.
                _server._abort(state, self._event.call, cygrpc.StatusCode.ok, b"")
        else:
            self.refuse(without_message())

    def _begin(self, begin: Callable[..., None]) -> None:
        request = self._request()
        if request is None:
            return
        context = Context(self._event, self._state, self._deserialize)
        context.message_bytes = self.size
        with self._state.condition:
            if not _server._is_rpc_state_active(self._state):
                return
            self._context = context
        try:
            begin(request, context, self)
        except Exception:
            log.exception("a call failed outside its handler")
            self.refuse(broken(), final=True)

    def _request(self) -> Any:
        """The request, where grpcio would wait for it; None where there is nothing to answer any more."""
        message, self.message = self.message, None
        if message is None or not _server._is_rpc_state_active(self._state):
            return None
        try:
            return self._deserialize(message)
        except Exception:  # noqa: BLE001  # whatever a parser makes of what a stranger sent
            self.refuse(malformed())
            return None

    def _watch(self, request: Any, context: grpc.ServicerContext, _send: Any) -> None:
        self._behaviour(request, context, Outlet(self._event, self._state, self._serialize))

    # So that grpcio hands it what sends and waits for no iterator.
    _watch.experimental_non_blocking = True  # type: ignore[attr-defined]

    def _answer_one(self) -> None:
        request = self._request()
        if request is None:
            return
        message = self._serialize(self._behaviour(request))
        with self._state.condition:
            if _server._is_rpc_state_active(self._state):
                _send(self._event, self._state, message, self._answered)

    def _answered(self, _event: Any) -> Any:
        state = self._state
        with state.condition:
            if _server._is_rpc_state_active(state):
                self._awaiting.wants_next(self)
            return _server._possibly_finish_call(state, _server._SEND_MESSAGE_TOKEN)


class Outlet:
    """The caller's end of a stream of which only the newest message matters. Nobody waits for a caller who takes
    nothing: what it has not taken is replaced."""

    def __init__(self, event: Any, state: Any, serialize: Callable[[Any], bytes]) -> None:
        self._event = event
        self._state = state
        self._serialize = serialize
        self._next: Any = None
        self._sending = False

    def offer(self, message: Any) -> None:
        """Sends the message, or keeps it until the one before is gone."""
        with self._state.condition:
            self._next = message
            self._send()

    def _send(self) -> None:
        if self._sending or self._next is None or not _server._is_rpc_state_active(self._state):
            return
        message, self._next = self._next, None
        self._sending = True
        _send(self._event, self._state, self._serialize(message), self._sent)

    def _sent(self, _event: Any) -> Any:
        with self._state.condition:
            self._sending = False
            finished = _server._possibly_finish_call(self._state, _server._SEND_MESSAGE_TOKEN)
            self._send()
            return finished


def require_known_grpcio() -> None:
    """Ends the process unless this grpcio is built as this module takes it to be."""
    for name, parameters in _RESPOND.items():
        function = getattr(_server, name, None)
        found = tuple(inspect.signature(function).parameters) if function is not None else ()
        if found[: len(parameters)] != parameters:
            raise SystemExit(
                f"grpcio {grpc.__version__} is not one that this version of Strongroom serves with ({name})"
            )


def _send(event: Any, state: Any, message: bytes, sent: Callable[[Any], Any]) -> None:
    operations = [cygrpc.SendMessageOperation(message, _NO_FLAGS)]
    if state.initial_metadata_allowed:
        operations.insert(0, _server._get_initial_metadata_operation(state, None))
        state.initial_metadata_allowed = False
    event.call.start_server_batch(tuple(operations), sent)
    state.due.add(_server._SEND_MESSAGE_TOKEN)
