"""How large events are at most, and how what is larger is shortened without losing its truth.

Sender and receiver of events both take their limits from here, so that nothing can be made that the log cannot take.
What is left out is told by a count and a SHA-256 digest: whoever has the original can show that it is the one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

from services.runtime import encryption_context
from services.runtime.errors import StrongroomError
from strongroom.audit.v1.event_pb2 import Event, Outcome

MAX_EVENT_BYTES = 48 << 10
"""Of one event as a protobuf message."""
MAX_REFUSAL_BYTES = 3 << 10
"""The largest event of a call that was refused or failed: whoever may do nothing cannot fill another's log."""
MAX_CALL_EVENTS = 1_024
"""Events that one call leaves."""
MAX_CALL_BYTES = 2 << 20
MAX_CALL_REFUSALS = 8
"""Events that tell one by one what a call was refused; beyond those, one an account and action tells of the rest."""
MAX_CALL_REFUSAL_BYTES = 2_560
MAX_APPEND_EVENTS = 4_096
"""Events that one `Append` carries."""
MAX_APPEND_BYTES = 8 << 20
MAX_DECIDED_BY_BYTES = 2 << 10
SMALL_BYTES = 2 << 10
"""An event of so many bytes is within all of its bounds."""

_AROUND_BYTES = 8
"""More than what stands around an event in its request."""
_REST_BYTES = 100
"""What tells of names that were left out."""
_TEXTS = [
    field.name
    for field in Event.DESCRIPTOR.fields
    if field.type == field.TYPE_STRING and field.name not in ("id", "decided_by")
]
_TELLS_OF_LEFT_OUT = {
    "attributes_left_out",
    "encryption_context_pairs",
    "encryption_context_sha256",
    "encryption_contexts",
    "encryption_contexts_sha256",
    "resources",
    "resources_sha256",
}
_ALLOWED = Outcome.OUTCOME_ALLOWED
_NO_OUTCOME = Outcome.OUTCOME_UNSPECIFIED


@dataclass(frozen=True, slots=True)
class _Bounds:
    """What the parts of an event may come to, in bytes; together they are less than `total`."""

    total: int
    text: int
    decided_by: int
    context: int
    attribute: int
    attributes: int


# What an encryption context of 8,192 canonical bytes is counted as at most, where each pair adds 9 bytes.
_OF_ALLOWED = _Bounds(MAX_EVENT_BYTES, 1_024, MAX_DECIDED_BY_BYTES, 15 << 10, 1_024, 8 << 10)
_OF_REFUSED = (
    _Bounds(MAX_REFUSAL_BYTES, 256, 512, 1_024, 256, 512),
    _Bounds(MAX_REFUSAL_BYTES, 112, 112, 0, 112, 256),
)


def bound(event: Event) -> int:
    """Shortens what is too long in an event; one that is within its bounds stays as it is. Answers how many bytes it
    has."""
    size = event.ByteSize()
    if size <= SMALL_BYTES:
        return size
    if event.outcome in (_ALLOWED, _NO_OUTCOME):
        _shorten(event, _OF_ALLOWED)
        return event.ByteSize()
    for bounds in _OF_REFUSED:
        if event.ByteSize() > bounds.total:
            _shorten(event, bounds)
    return event.ByteSize()


def fit(events: list[Event]) -> None:
    """Bounds the events of one call, and sums up those that are too many: the first stays the first."""
    if len(events) == 1:
        bound(events[0])
        return
    for event in events:
        bound(event)
    refused = [event for event in events if event.outcome not in (_ALLOWED, _NO_OUTCOME)]
    if len(refused) > 1:
        _sum_up(events, refused, MAX_CALL_REFUSALS, MAX_CALL_REFUSAL_BYTES)
    _sum_up(events, list(events), MAX_CALL_EVENTS, MAX_CALL_BYTES)


def decided_by(names: str) -> str:
    """The names that decided, joined by `, `; beyond what an event may hold the first of them, how many more there
    are, and the digest of those."""
    return _joined(names, MAX_DECIDED_BY_BYTES) if len(names) > MAX_DECIDED_BY_BYTES // 4 else names


def parts(events: Sequence[Event]) -> Sequence[tuple[list[Event], int]]:
    """The events in pieces that one append can carry besides others, each with its size in bytes."""
    if len(events) == 1 and (size := events[0].ByteSize()) <= MAX_EVENT_BYTES:
        # Most often, and worth a microsecond.
        return (([events[0]], size + _AROUND_BYTES),)
    return list(_cut_in_parts(events))


def _cut_in_parts(events: Sequence[Event]) -> Iterable[tuple[list[Event], int]]:
    part: list[Event] = []
    total = 0
    for event in events:
        size = event.ByteSize()
        if size > MAX_EVENT_BYTES:
            bound(event)
            size = event.ByteSize()
        size += _AROUND_BYTES
        if part and (len(part) >= MAX_CALL_EVENTS or total + size > MAX_CALL_BYTES):
            yield part, total
            part, total = [], 0
        part.append(event)
        total += size
    if part:
        yield part, total


def merge_refusals(events: list[Event], refused: Sequence[Sequence[Event]], contexts: Sequence[bytes]) -> None:
    """Makes one event of each refusal's first, second, … tell of all of them, and of others like them, of which only
    the digests of their encryption contexts are given; the rest leave `events`."""
    _fold(events, zip(*refused, strict=False), contexts)


def context_digest(pairs: Mapping[str, str]) -> bytes:
    """The SHA-256 digest of an encryption context's canonical bytes (docs/formats.md)."""
    try:
        return sha256(encryption_context.canonical(pairs)).digest()
    except StrongroomError:
        # One that no call is permitted with.
        return sha256("\n".join(sorted(f"{key}={value}" for key, value in pairs.items())).encode()).digest()


def _shorten(event: Event, bounds: _Bounds) -> None:
    event.decided_by = _joined(event.decided_by, bounds.decided_by)
    for name in _TEXTS:
        text = getattr(event, name)
        if len(text) > bounds.text // 4:
            setattr(event, name, _cut(text, bounds.text))
    # Of a copy: a map that is assigned to while it is iterated over may skip an entry.
    for name, value in list(event.attributes.items()):
        event.attributes[name] = _cut(value, bounds.attribute)
    _drop_attributes(event, bounds.attributes)
    context = event.encryption_context
    if sum(len(key.encode()) + len(value.encode()) + 9 for key, value in context.items()) > bounds.context:
        event.attributes["encryption_context_sha256"] = context_digest(context).hex()
        event.attributes["encryption_context_pairs"] = str(len(context))
        context.clear()


def _drop_attributes(event: Event, limit: int) -> None:
    """Keeps as many attributes as come to so many bytes, by name, and how many there were besides. What tells of
    something left out stays: an event may be shortened again."""
    attributes, total, dropped = event.attributes, 0, 0
    for name in sorted(attributes.keys() - _TELLS_OF_LEFT_OUT):
        total += len(name.encode()) + len(attributes[name].encode()) + 9
        if total > limit:
            del attributes[name]
            dropped += 1
    if dropped:
        attributes["attributes_left_out"] = str(dropped + int(attributes.get("attributes_left_out", "0")))


def _sum_up(events: list[Event], some: list[Event], most: int, most_bytes: int) -> None:
    """Where some of a call's events are too many or too large together, sums up those alike in all but the encryption
    context, and where that does not do, those of one account, action and reason."""
    for alike, first in ((_same_use, 0), (_same_refusal, most)):
        sizes = [event.ByteSize() for event in some]
        if len(some) <= most and sum(sizes) <= most_bytes:
            return
        some = _merged(events, some, alike, _kept(sizes, first, most_bytes))


def _kept(sizes: Sequence[int], most: int, most_bytes: int) -> int:
    """How many of the first ones stay by themselves."""
    total = 0
    for number, size in enumerate(sizes[:most]):
        total += size
        if total > most_bytes:
            return number
    return min(most, len(sizes))


def _merged(events: list[Event], some: list[Event], alike: Callable[[Event], Hashable], kept: int) -> list[Event]:
    """One event for each group of those behind the first `kept`; the others leave `events`."""
    groups: defaultdict[Hashable, list[Event]] = defaultdict(list)
    for event in some[kept:]:
        groups[alike(event)].append(event)
    gone = _fold(events, groups.values())
    return [event for event in some if event.id not in gone]


def _fold(events: list[Event], groups: Iterable[Sequence[Event]], contexts: Sequence[bytes] = ()) -> set[str]:
    """Makes the first event of each group tell of all, and of further contexts; answers the ids of those that leave."""
    gone: set[str] = set()
    for first, *others in groups:
        if others:
            _merge(first, others, contexts)
            gone.update(event.id for event in others)
    events[:] = [event for event in events if event.id not in gone]
    return gone


def _merge(first: Event, others: Sequence[Event], more: Sequence[bytes] = ()) -> None:
    """Makes one event tell of all, in numbers and digests; `more` are those of contexts of no event."""
    group = (first, *others)
    first.item_count = sum(event.item_count for event in group)
    first.failed_item_count = sum(event.failed_item_count for event in group)
    contexts = sorted((*map(_context_digest, group), *more))
    if more or any(event.encryption_context != first.encryption_context or event.attributes for event in group):
        first.encryption_context.clear()
        first.attributes["encryption_contexts"] = str(len(contexts))
        first.attributes["encryption_contexts_sha256"] = sha256(b"".join(contexts)).hexdigest()
    resources = sorted({event.resource for event in group})
    if len(resources) > 1:
        first.attributes["resources"] = str(len(resources))
        first.attributes["resources_sha256"] = sha256("\n".join(resources).encode()).hexdigest()
        first.resource = first.key_version = first.secret_version = ""
        first.decided_by = ""


def _context_digest(event: Event) -> bytes:
    known = event.attributes.get("encryption_context_sha256")
    return bytes.fromhex(known) if known else context_digest(event.encryption_context)


def _same_use(event: Event) -> Hashable:
    return (
        event.account,
        event.action,
        event.resource,
        event.key_version,
        event.secret_version,
        event.outcome,
        event.reason,
        event.decided_by,
    )


def _same_refusal(event: Event) -> Hashable:
    return event.account, event.action, event.outcome, event.reason


def _cut(text: str, limit: int) -> str:
    """A text of up to so many bytes: its beginning and the digest of the whole, where it is longer."""
    data = text.encode()
    if len(data) <= limit:
        return text
    end = f"… sha256:{sha256(data).hexdigest()}"
    return data[: limit - len(end.encode())].decode(errors="ignore") + end


def _joined(names: str, limit: int) -> str:
    """Names joined by `, ` in up to so many bytes."""
    if len(names.encode()) <= limit:
        return names
    left = names.split(", ")
    kept: list[str] = []
    room = limit - _REST_BYTES
    while left and len(left[0].encode()) + 2 <= room:
        room -= len(left[0].encode()) + 2
        kept.append(left.pop(0))
    rest = sha256(", ".join(left).encode()).hexdigest()
    return ", ".join([*kept, f"… {len(left)} more (sha256:{rest})"])
