"""What events may come to: whatever a call records, the log can take it, and what was left out is told."""

from __future__ import annotations

from hashlib import sha256

from hypothesis import given, settings
from hypothesis import strategies as st

from services.audit.keys.sealing import SEALING_BYTES, padded
from services.runtime import audit_queue, encryption_context, event_bounds
from services.runtime.call import Call, Principal
from services.runtime.config import AuditClientSettings
from services.runtime.event_bounds import (
    MAX_APPEND_BYTES,
    MAX_APPEND_EVENTS,
    MAX_CALL_BYTES,
    MAX_CALL_EVENTS,
    MAX_CALL_REFUSAL_BYTES,
    MAX_EVENT_BYTES,
    MAX_REFUSAL_BYTES,
)
from services.runtime.mesh import channels
from services.runtime.rpc import ports
from strongroom.audit.v1.event_log_service_pb2 import AppendRequest
from strongroom.audit.v1.event_pb2 import Event, Outcome
from strongroom.tlog.tiles import MAX_ENTRY_BYTES

ANN = Principal("accounts/mallory/users/ann", "mallory")
DENIED = Outcome.OUTCOME_DENIED

sizes = st.one_of(st.integers(0, 40), st.sampled_from([200, 1_100, 20_000, 70_000]))
texts = st.builds(lambda letter, size: letter * size, st.sampled_from(["a", "é", "🔑", ", ", "\0"]), sizes)
pairs = st.dictionaries(st.text(max_size=8), texts, max_size=4)


@st.composite
def calls(draw: st.DrawFn) -> tuple[Call, Outcome.ValueType]:
    """A call with events of any size, some with an outcome of their own."""
    call = Call(draw(texts), draw(texts), draw(texts), draw(texts), draw(texts), principal=Principal(draw(texts), "a"))
    for _ in range(draw(st.integers(0, 3))):
        many, context = draw(st.sampled_from([1, 2, 1_100])), draw(pairs)
        resource, decided_by, attributes = draw(texts), draw(texts), draw(pairs)
        outcome = draw(st.sampled_from([Outcome.OUTCOME_UNSPECIFIED, DENIED, Outcome.OUTCOME_ALLOWED]))
        for number in range(many if len(resource) + len(decided_by) < 2_000 else 1):
            event = call.record(call.action, f"{resource}{number % 7}", "acme", encryption_context=context)
            event.decided_by, event.outcome = decided_by, outcome
            event.attributes.update(attributes)
    return call, draw(st.sampled_from([Outcome.OUTCOME_ALLOWED, DENIED]))


@given(calls())
@settings(max_examples=20)
def test_whatever_a_call_records_the_log_can_take(made: tuple[Call, Outcome.ValueType]) -> None:
    call, outcome = made
    items = sum(event.item_count for event in call.events) or 1
    first = call.events[0].id if call.events else ""
    call.conclude(outcome, "PERMISSION_DENIED")
    sizes = [event.ByteSize() for event in call.events]
    assert max(sizes) <= MAX_EVENT_BYTES
    assert len(sizes) <= MAX_CALL_EVENTS
    assert sum(sizes) <= MAX_CALL_BYTES
    assert first in ("", call.events[0].id)
    assert sum(event.item_count for event in call.events) == items
    refused = [event for event in call.events if event.outcome == DENIED]
    refusals = [event.ByteSize() for event in refused]
    assert all(size <= MAX_REFUSAL_BYTES for size in refusals)
    # What tells of the rest is one event an account, action and reason.
    kinds = {(event.account, event.action, event.reason) for event in refused}
    assert sum(refusals) <= MAX_CALL_REFUSAL_BYTES + MAX_REFUSAL_BYTES * len(kinds)
    for part, size in event_bounds.parts(call.events):
        assert AppendRequest(events=part).ByteSize() <= size <= MAX_APPEND_BYTES
    before = [Event.FromString(event.SerializeToString()) for event in call.events]
    call.conclude(outcome)
    assert before == call.events


def test_both_sides_of_every_boundary_agree() -> None:
    assert MAX_EVENT_BYTES + SEALING_BYTES <= MAX_ENTRY_BYTES
    assert len(padded(bytes(MAX_REFUSAL_BYTES))) + SEALING_BYTES <= 4_096
    assert MAX_CALL_BYTES <= MAX_APPEND_BYTES
    assert MAX_CALL_EVENTS <= MAX_APPEND_EVENTS
    assert MAX_EVENT_BYTES <= MAX_CALL_BYTES <= audit_queue.MAX_WAITING_BYTES
    # A group is one call's, or several that together are within these.
    assert max(MAX_CALL_EVENTS, AuditClientSettings(group_limit=4_096).group_limit) <= MAX_APPEND_EVENTS
    # Traceparents are 57 bytes each, one a call, and a call has an event.
    append = MAX_APPEND_BYTES + 57 * MAX_APPEND_EVENTS
    options = dict(channels._OPTIONS)
    assert append <= options["grpc.max_send_message_length"]
    assert append <= ports.MAX_MESSAGE_BYTES["internal"]
    assert options["grpc.max_send_message_length"] <= ports.MAX_MESSAGE_BYTES["internal"]


def test_an_accepted_encryption_context_is_kept_whole_where_the_call_was_allowed() -> None:
    for context in (
        {f"{number:03x}": "" for number in range(1_150)} | {"k": ""},
        {"k": "v" * (encryption_context.MAX_BYTES - 7)},
    ):
        encryption_context.canonical(context)
        call = Call("s", "m", "crypto:Encrypt", principal=ANN)
        call.record(call.action, "accounts/acme/keys/k", "acme", encryption_context=context)
        call.conclude(Outcome.OUTCOME_ALLOWED)
        assert dict(call.events[0].encryption_context) == context


def test_many_names_that_decided_are_told_by_the_first_a_count_and_a_digest() -> None:
    names = [f"accounts/acme/policies/policy-{number}" for number in range(1_400)]
    told = event_bounds.decided_by(", ".join(names))
    assert len(told.encode()) <= event_bounds.MAX_DECIDED_BY_BYTES
    *kept, more = told.split(", ")
    count, digest = more.removeprefix("… ").removesuffix(")").split(" more (sha256:")
    assert names[: len(kept)] == kept
    assert len(kept) + int(count) == len(names)
    assert sha256(", ".join(names[len(kept) :]).encode()).hexdigest() == digest
    assert event_bounds.decided_by(told) == told


def test_a_refused_batch_of_many_contexts_is_one_event_with_their_number_and_digest() -> None:
    call = Call("strongroom.crypto.v1.CryptoService", "BatchEncrypt", "crypto:Encrypt", principal=ANN)
    contexts = [{"n": str(number), "filling": "x" * 8_000} for number in range(1_000)]
    for context in contexts:
        event = call.record(call.action, "accounts/acme/keys/k", "acme", encryption_context=context)
        event.outcome, event.reason, event.decided_by = DENIED, "PERMISSION_DENIED", "default-deny"
    call.conclude(DENIED, "PERMISSION_DENIED")
    (told,) = call.events
    assert told.ByteSize() <= MAX_REFUSAL_BYTES
    assert (told.item_count, told.resource, told.decided_by) == (1_000, "accounts/acme/keys/k", "default-deny")
    digests = sorted(event_bounds.context_digest(context) for context in contexts)
    assert told.attributes["encryption_contexts"] == "1000"
    assert told.attributes["encryption_contexts_sha256"] == sha256(b"".join(digests)).hexdigest()


def test_refusals_of_many_resources_are_the_first_ones_and_one_for_the_rest_of_each_account() -> None:
    call = Call("strongroom.crypto.v1.CryptoService", "BatchDecrypt", "crypto:Decrypt", principal=ANN)
    for number in range(1_000):
        account = ("acme", "other")[number % 2]
        event = call.record(call.action, f"accounts/{account}/keys/key-{number}", account)
        event.outcome, event.reason = DENIED, "PERMISSION_DENIED"
    call.conclude(DENIED)
    assert sum(event.ByteSize() for event in call.events) <= 4_096
    assert sum(event.item_count for event in call.events) == 1_000
    rest = [event for event in call.events if not event.resource]
    assert {event.account for event in rest} == {"acme", "other"}
    assert sum(int(event.attributes["resources"]) for event in rest) + len(call.events) - len(rest) == 1_000


def test_few_and_small_refusals_stay_as_they_are() -> None:
    call = Call("s", "BatchEncrypt", "crypto:Encrypt", principal=ANN)
    made = [
        call.record(call.action, "accounts/acme/keys/k", "acme", encryption_context={"n": str(n)}) for n in range(4)
    ]
    for event in made:
        event.outcome = DENIED
    call.conclude(DENIED)
    assert call.events == made
    assert [dict(event.encryption_context) for event in call.events] == [{"n": str(n)} for n in range(4)]
