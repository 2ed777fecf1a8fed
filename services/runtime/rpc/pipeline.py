"""The one path that every call takes: trace, authenticate, handle, audit durably, answer."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor

from services.runtime.access import identity
from services.runtime.access.identity import Callers, Identities
from services.runtime.access.quotas import Quotas, weigher
from services.runtime.access.strangers import Strangers
from services.runtime.addresses import plain_address
from services.runtime.audit_client import AuditClient
from services.runtime.call import ANONYMOUS, Call, Principal
from services.runtime.clock import Clock, system_clock
from services.runtime.errors import Reason, StrongroomError
from services.runtime.mesh.forwarding import (
    AUTHORIZATION,
    BEARER,
    CERTIFICATE_EXPIRES,
    CERTIFICATE_ID,
    SOURCE_ADDRESS,
    Metadata,
)
from services.runtime.requests import wire
from services.runtime.rpc.admission import address_of
from services.runtime.rpc.audited import Answered, Audited, Made
from services.runtime.rpc.stream_ends import StreamEnds
from services.runtime.rpc.streams import Stream
from services.runtime.telemetry import TRACEPARENT, Telemetry

log = logging.getLogger(__name__)

Behaviour = Callable[[Any, Call], Any]
Handler = Callable[..., Any]
"""Gets the request and gRPC's context, and where the method streams what sends."""
Authenticate = Callable[[Call, grpc.ServicerContext, Metadata], Principal]
Admit = Callable[[Made, Any, grpc.ServicerContext, Metadata], None]
"""Finds out whose a call is and whether it may go on. Raises why not."""
Left = Callable[[Made], None]
"""Is told of a call that its method has left."""

# A refused batch has been read whole, and is of no use to anybody: it counts a hundred times.
_MANY = 16
_REFUSED_ITEM = 99


class Pipeline:
    """Turns a servicer's methods, `(request, call) -> response`, into gRPC handlers."""

    def __init__(
        self,
        telemetry: Telemetry,
        identities: Identities,
        callers: Callers,
        quotas: Quotas,
        audit: AuditClient,
        strangers: Strangers,
        catch_up: Callable[[], None] | None = None,
        clock: Clock = system_clock,
    ) -> None:
        """`catch_up` applies what changed before the call to what the process remembers, where that can be asked for
        every call."""
        self._telemetry = telemetry
        self._identities = identities
        self._callers = callers
        self._quotas = quotas
        self._audit = audit
        self._strangers = strangers
        self._catch_up = catch_up
        self._clock = clock
        self._ends = StreamEnds(clock)

    def stop(self) -> None:
        """Ends what ends streams, once there are none."""
        self._ends.stop()

    def public(self, method: MethodDescriptor, behaviour: Behaviour, *, streams: bool = False) -> Handler:
        """A method for callers from outside: authenticated, and audited before it answers.

        One that `streams` has a behaviour that answers a function, which gets the Stream once the call's events are
        durable, and keeps it: a stream holds no thread. It ends with the caller's credential.
        """
        return self._offered(method, behaviour, self._authenticated, streams=streams)

    def credential_exchange(self, method: MethodDescriptor, behaviour: Behaviour) -> Handler:
        """A public method whose request is what authenticates: `behaviour` sets the call's principal itself."""
        return self._audited(method, behaviour, self._not_yet_known)

    def forwarded(self, method: MethodDescriptor, behaviour: Behaviour, *, streams: bool = False) -> Handler:
        """A public method, for services of the mesh that act for their own callers."""
        return self._offered(method, behaviour, self._forwarded, streams=streams)

    def by_service(self, method: MethodDescriptor, behaviour: Behaviour) -> Handler:
        """An audited method for the configured services of the mesh, each of which acts for itself."""
        return self._audited(method, behaviour, self._service)

    def exchange_by_service(self, method: MethodDescriptor, behaviour: Behaviour) -> Handler:
        """A `credential_exchange` by the configured services of the mesh, of credentials that they keep."""
        return self._audited(method, behaviour, self._by_service_not_yet_known)

    def _offered(
        self, method: MethodDescriptor, behaviour: Behaviour, authenticate: Authenticate, *, streams: bool
    ) -> Handler:
        if not streams:
            return self._audited(method, behaviour, authenticate)

        def begun(request: Any, call: Call) -> Callable[[Stream], None]:
            begin: Callable[[Stream], None] = behaviour(request, call)

            def until_the_credential_ends(stream: Stream) -> None:
                self._ends.follow(call, stream)
                begin(stream)

            return until_the_credential_ends

        serve = self._audited(method, begun, authenticate)

        def stream(request: Any, context: grpc.ServicerContext, send: Callable[[Any], None]) -> None:
            begin: Callable[[Stream], None] = serve(request, context)
            begin(Stream(context, send))

        stream.experimental_non_blocking = True  # type: ignore[attr-defined]
        return stream

    def _audited(self, method: MethodDescriptor, behaviour: Behaviour, authenticate: Authenticate) -> Audited:
        telemetry, audit, quotas, catch_up = self._telemetry, self._audit, self._quotas, self._catch_up
        service, name = method.containing_service.full_name, method.name
        weight = weigher(method)

        def admit(made: Made, request: Any, context: grpc.ServicerContext, metadata: Metadata) -> None:
            call = made.call
            call.permitted = False
            call.seconds_left = context.time_remaining
            audit.require_writable()
            call.source_address = address_of(context.peer())
            if catch_up is not None:
                catch_up()
            call.principal = authenticate(call, context, metadata)
            if made.trace.asked and call.principal.name:
                made.trace = telemetry.caller_known(made.trace, service, name)
            if request is not wire.UNREADABLE:
                made.cost = weight(request, _size(request, context))
            quotas.require(call, made.cost)

        def left(made: Made) -> None:
            if made.trace.sampled:
                made.call.traceparent = made.trace.traceparent
            if made.error is not None:
                made.error = self._refused(made.call, made.error, made.cost)

        making = self._making(method, behaviour, admit, left)
        return Audited(making, self._ended(method), audit, lambda made: telemetry.notes_end_of(made.trace))

    def _making(
        self, method: MethodDescriptor, behaviour: Behaviour, admit: Admit, left: Left, *, may_begin: bool = True
    ) -> Callable[[Any, grpc.ServicerContext], Made]:
        """What makes an answer or an error of each request: `admit` says whether the call may go on and whose it is,
        `left` is told how it ended. A call that `may_begin` a trace does where it belongs to none."""
        telemetry, check = self._telemetry, wire.checker(method.input_type)
        service, name, action = method.containing_service.full_name, method.name, action_of(method)

        def make(request: Any, context: grpc.ServicerContext) -> Made:
            started = time.perf_counter()
            metadata: Metadata = context.invocation_metadata()
            trace = telemetry.start_call(service, name, identity.header(metadata, TRACEPARENT), may_begin=may_begin)
            call = Call(service, name, action, trace_id=trace.trace_id)
            made = Made(call, None, None, trace, started)
            try:
                admit(made, request, context, metadata)
                check(request)
                made.response = behaviour(request, call)
                call.require_permitted()
            except StrongroomError as refusal:
                made.response, made.error = None, refusal.without_frames()
            except Exception as unexpected:  # noqa: BLE001  # the outermost edge: nothing may escape undescribed
                made.response, made.error = None, _internal(unexpected)
            left(made)
            return made

        return make

    def _ended(self, method: MethodDescriptor) -> Callable[[Made, StrongroomError | None], None]:
        telemetry, service, name = self._telemetry, method.containing_service.full_name, method.name

        def ended(made: Made, error: StrongroomError | None) -> None:
            telemetry.end_call(made.trace, service, name, error.reason if error else "OK", made.started)

        return ended

    def _refused(self, call: Call, error: StrongroomError, cost: float) -> StrongroomError:
        """What a call that failed is told, once it has paid for it."""
        if _is_stranger(call):
            error = self._strangers.refused(call, error)
        if error.reason is Reason.PERMISSION_DENIED and cost > _MANY:
            self._quotas.charge(call, _REFUSED_ITEM * cost)
        if error.reason is Reason.QUOTA_EXCEEDED:
            self._quotas.hold(error)
        return error

    def internal(self, method: MethodDescriptor, behaviour: Behaviour) -> Handler:
        """A method that only the configured services of the mesh may call; not audited by itself."""
        telemetry, callers = self._telemetry, self._callers
        service, name = method.containing_service.full_name, method.name

        def admit(made: Made, _request: Any, context: grpc.ServicerContext, _metadata: Metadata) -> None:
            spiffe_id = identity.spiffe_id_of(context)
            callers.require_allowed(spiffe_id, service)
            made.call.principal = Principal(identity.service_name_of(spiffe_id), "")
            made.trace = telemetry.caller_known(made.trace, service, name)

        make = self._making(method, behaviour, admit, lambda _: None, may_begin=False)
        return Answered(make, self._ended(method))

    def _authenticated(self, call: Call, context: grpc.ServicerContext, metadata: Metadata) -> Principal:
        if identity.header(metadata, AUTHORIZATION):
            return self._by_token(call, metadata)
        spiffe_id = identity.spiffe_id_of(context)
        if not spiffe_id:
            raise StrongroomError(Reason.UNAUTHENTICATED, "a session token or a client certificate is required")
        call.certificate_expires_us = partial(identity.certificate_expires_us, context)
        ends_us = call.certificate_expires_us()
        if ends_us is not None and ends_us <= self._clock.now_us():
            # TLS has looked at it once, when the connection began.
            raise identity.ended(call)
        return self._identities.from_certificate(spiffe_id)

    def _not_yet_known(self, call: Call, context: grpc.ServicerContext, _metadata: Metadata) -> Principal:
        call.certificate_id = identity.spiffe_id_of(context)
        call.certificate_expires_us = partial(identity.certificate_expires_us, context)
        self._strangers.require(call)
        return ANONYMOUS

    def _service(self, call: Call, context: grpc.ServicerContext, _metadata: Metadata) -> Principal:
        spiffe_id = identity.spiffe_id_of(context)
        self._callers.require_allowed(spiffe_id, call.service)
        return Principal(identity.service_name_of(spiffe_id), "", credential=spiffe_id)

    def _by_service_not_yet_known(self, call: Call, context: grpc.ServicerContext, metadata: Metadata) -> Principal:
        # The certificate is the service's, and no credential of whoever it begins a session for.
        call.via_service = self._service(call, context, metadata).name
        if address := plain_address(identity.header(metadata, SOURCE_ADDRESS)):
            call.source_address, call.is_from_outside = address, True
            self._strangers.require(call)
        if presented := identity.header(metadata, CERTIFICATE_ID):
            self._callers.require_may_present_certificates(identity.spiffe_id_of(context))
            expires = identity.header(metadata, CERTIFICATE_EXPIRES)
            call.certificate_id = presented
            call.certificate_expires_us = lambda: int(expires) if expires.isdecimal() else None
        return ANONYMOUS

    def _forwarded(self, call: Call, context: grpc.ServicerContext, metadata: Metadata) -> Principal:
        spiffe_id = identity.spiffe_id_of(context)
        brings_session = bool(identity.header(metadata, AUTHORIZATION))
        if brings_session:
            self._callers.require_may_pass_on(spiffe_id)
        else:
            self._callers.require_may_forward(spiffe_id)
        call.via_service = identity.service_name_of(spiffe_id)
        call.source_address = plain_address(identity.header(metadata, SOURCE_ADDRESS))
        if not brings_session:
            call.certificate_expires_us = partial(identity.certificate_expires_us, context)
            return identity.named_principal(metadata)
        call.is_from_outside = True
        return self._by_token(call, metadata)

    def _by_token(self, call: Call, metadata: Metadata) -> Principal:
        authorization = identity.header(metadata, AUTHORIZATION)
        token = authorization.removeprefix(BEARER)
        if token == authorization:
            raise StrongroomError(Reason.UNAUTHENTICATED, "the authorization metadata is not a bearer token")
        principal = self._identities.from_token(token)
        call.session_token = token
        return principal


def action_of(method: MethodDescriptor) -> str:
    """What authorization and audit call a method: `crypto:Encrypt`, also for `BatchEncrypt`."""
    domain = method.full_name.split(".")[1]
    return f"{domain}:{method.name.removeprefix('Batch')}"


def _internal(unexpected: Exception) -> StrongroomError:
    # The message of a foreign exception may hold anything; the caller gets none of it.
    log.error("a call failed unexpectedly and is answered INTERNAL", exc_info=unexpected)
    return StrongroomError(Reason.INTERNAL, "internal error; the event id in the trailing metadata identifies it")


def _size(request: Any, context: grpc.ServicerContext) -> int:
    """In bytes, as it came where that is known: to ask a large message takes as long as to write it."""
    size: int = getattr(context, "message_bytes", 0) or request.ByteSize()
    return size


def _is_stranger(call: Call) -> bool:
    return not call.principal.name and (call.is_from_outside or not call.via_service)
