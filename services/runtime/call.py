"""One call in work: who makes it, where it stands in its trace, and what the audit log will say of it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from services.runtime import clock, event_bounds, identifiers
from services.runtime.errors import StrongroomError
from strongroom.access.v1.session_service_pb2 import CREDENTIAL_KIND_UNSPECIFIED, CredentialKind
from strongroom.audit.v1.event_pb2 import Event, Outcome

T = TypeVar("T")


class Delivery(Protocol):
    """Told when events have reached the audit log."""

    def delivered(self, events: Iterable[Event]) -> None:
        """These events are in the log."""


@dataclass(frozen=True, slots=True)
class SessionScope:
    """What a session narrows or tells of its principal, for access decisions."""

    policies: tuple[str, ...] = ()
    """Cedar policies that the session stays within; all of them must permit."""
    tags: tuple[tuple[str, str], ...] = ()
    """The session's tags, sorted."""
    assumed_by: tuple[str, ...] = ()
    """Who assumed the role, by name, first to last; empty unless one is assumed."""


NO_SCOPE = SessionScope()


@dataclass(frozen=True, slots=True)
class Principal:
    """Who makes a call. `name` is `accounts/{account}/users/{id}` and the like, or `services/{service}`."""

    name: str
    account: str
    session_name: str = ""
    credential: str = ""
    """What proved it: the certificate's SPIFFE id, the client key's name, or the OIDC provider's name, `#`, subject."""
    expires: float = 0.0
    """When the session ends, in seconds since the Unix epoch; 0 without a session."""
    issued: float = 0.0
    """When the session began, likewise."""
    credential_kind: CredentialKind.ValueType = CREDENTIAL_KIND_UNSPECIFIED
    scope: SessionScope = NO_SCOPE
    session_ids: tuple[str, ...] = ()
    """The session's own id, and the ids of the sessions that it was begun from, with which it ends; empty without
    one."""
    as_of: tuple[int, ...] = ()
    """When those whom the session rests on were last changed, as they were read when each was proved, in microseconds:
    those who assumed the role, first to last, and the principal. Empty in tokens from before there was this."""

    def as_of_us(self, name: str) -> int:
        """The moment as of which the session knew one of those whom it rests on; what is later may end it."""
        if not self.as_of:
            return round(self.issued * 1e6)
        return self.as_of[-1 if name == self.name else self.scope.assumed_by.index(name)]


ANONYMOUS = Principal("", "")


@dataclass(slots=True)
class Call:
    """Handed to every handler beside its request. Handlers never see gRPC's own context."""

    service: str
    """Full name of the gRPC service."""
    method: str
    action: str
    """What authorization and audit call the method, as in `crypto:Encrypt`."""
    source_address: str = ""
    trace_id: str = ""
    traceparent: str = ""
    """Set when the call's trace is sampled."""
    principal: Principal = ANONYMOUS
    certificate_id: str = ""
    """The SPIFFE id of the connection's certificate, for methods whose request authenticates. TLS has verified it."""
    certificate_expires_us: Callable[[], int | None] = field(default=lambda: None, repr=False)
    """When the connection's certificate ends; None without one that is the caller's own."""
    session_token: str = field(default="", repr=False)
    """The token that the caller came with, to be handed on where a service calls another for it (`forwarding`)."""
    via_service: str = ""
    """The service of the mesh that acts for the principal, when it does."""
    is_from_outside: bool = False
    """Whether that service brings a credential of somebody else, from `source_address`."""
    permitted: bool = True
    """False for a call from outside until somebody has decided on it: before, nothing is changed and nothing
    answered."""
    refused_whatever: bool = False
    """Whether what was refused last would be in all circumstances, under every encryption context."""
    events: list[Event] = field(default_factory=list)
    refused_elsewhere: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Refusals by other accounts, by the ids of the events that are in those accounts' logs: what the caller wrote for
    the resource, and what its own log says decided."""
    outbox: Delivery | None = None
    """Set when the events also stand in a database, which wants to know that they were delivered."""
    unsettled: list[Event] = field(default_factory=list)
    """Events that say what a transaction does which has not committed."""
    told_elsewhere: bool = False
    """Whether an event of another call tells of this one, which was refused like it."""
    absent: dict[Hashable, StrongroomError] | None = None
    """What it asked another service for in vain: it asks once, however many of its items name it."""
    elsewhere: dict[tuple[Hashable, ...], Any] = field(default_factory=dict, repr=False)
    """What authorization has asked about other accounts' resources: it asks once."""
    last_decision: tuple[Hashable, Any] | None = field(default=None, repr=False)
    """What authorization decided with last on something that there is not, and on what."""
    permissions: tuple[Callable[[], object], ...] = field(default=(), repr=False)
    """Ask again for what it was permitted; of calls that may wait before they change what others change meanwhile."""
    kept: bool = False
    """Whether the events are durable: in the audit log, or in the database with the change that they record."""
    time_us: int = field(default_factory=clock.system_clock.now_us)
    seconds_left: Callable[[], float | None] = field(default=lambda: None, repr=False)
    """How long the caller still waits for the answer; None where it would for ever."""

    def record(
        self,
        action: str,
        resource: str,
        account: str,
        *,
        encryption_context: Mapping[str, str] | None = None,
        item_count: int = 1,
    ) -> Event:
        """Begins an event of this call. The pipeline fills in the outcome and appends it before the call answers.

        Domain code may go on to set `key_version`, `decided_by` and `item_count`.
        """
        principal = self.principal
        event = Event(
            id=identifiers.event_id(),
            time=clock.from_microseconds(self.time_us),
            account=account,
            principal=principal.name,
            session_name=principal.session_name,
            # A provider's subject is not part of its name.
            credential=principal.credential.partition("#")[0],
            assumed_by=principal.scope.assumed_by[-1] if principal.scope.assumed_by else "",
            via_service=self.via_service,
            source_address=self.source_address,
            service=self.service,
            method=self.method,
            action=action,
            resource=resource,
            encryption_context=encryption_context,
            trace_id=self.trace_id,
            item_count=item_count,
        )
        self.events.append(event)
        return event

    def tells_of(self, count: int) -> None:
        """Makes one event tell of so many calls like this one."""
        if not self.events:
            self.record(self.action, "", self.principal.account)
        del self.events[1:]
        self.events[0].item_count = count

    def require_permitted(self) -> None:
        """Fails a call that nobody was asked to permit: a fault of ours, which must not become the caller's gain."""
        if not self.permitted:
            raise RuntimeError(f"{self.method}: nobody was asked whether the caller may")

    def tell_both(self) -> None:
        """Puts before each refusal by another account the event of it for the caller's own log, which says nothing of
        what there is in the other."""
        if not self.refused_elsewhere:
            return
        events, self.events = self.events, []
        for event in events:
            if event.id in self.refused_elsewhere:
                own = Event()
                own.CopyFrom(event)
                own.id, own.account, own.key_version = identifiers.event_id(), self.principal.account, ""
                own.resource, own.decided_by = self.refused_elsewhere.pop(event.id)
                self.events.append(own)
            self.events.append(event)

    def foresee(self) -> None:
        """Concludes as allowed what a transaction is about to do. Unless `committed` is said, the next conclusion takes
        that back."""
        self._take_back()
        concluded = {event.id for event in self.events if event.outcome != Outcome.OUTCOME_UNSPECIFIED}
        self.conclude(Outcome.OUTCOME_ALLOWED)
        self.unsettled = [event for event in self.events if event.id not in concluded]

    def committed(self, outbox: Delivery) -> None:
        """Notes that what was foreseen stands, in a database beside its change."""
        self.unsettled, self.outbox = [], outbox

    def find(self, what: Hashable, look: Callable[[], T]) -> T:
        """What `look` answers; where that failed before in this call, the same failure."""
        if self.absent is not None and what in self.absent:
            raise self.absent[what].renewed()
        try:
            return look()
        except StrongroomError as error:
            if self.absent is None:
                self.absent = {}
            self.absent[what] = error.renewed()
            raise

    def conclude(self, outcome: Outcome.ValueType, reason: str = "") -> None:
        """Gives every event that has no outcome yet this one; a call that recorded none gets one now. From then on no
        event is larger, and they are no more, than the log takes."""
        self._take_back()
        if not self.events:
            self.record(self.action, "", self.principal.account)
        for event in self.events:
            if event.outcome == Outcome.OUTCOME_UNSPECIFIED:
                event.outcome = outcome
                event.reason = reason
        if self.outbox is None:
            event_bounds.fit(self.events)

    def fail(self, error: StrongroomError) -> None:
        """Gives every event that has no outcome yet that of a call which an error ends."""
        self.conclude(Outcome.OUTCOME_DENIED if error.is_refusal else Outcome.OUTCOME_FAILED, error.reason)

    def _take_back(self) -> None:
        for event in self.unsettled:
            # A COMMIT that was not answered may have happened: then the outbox tells of it, under the id of before.
            event.id, event.outcome = identifiers.event_id(), Outcome.OUTCOME_UNSPECIFIED
        self.unsettled = []
