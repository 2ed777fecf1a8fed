"""The audit log over a real mesh: every use of a key is in it, and can be found again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from strongroom import Client
from tests.support.clients import refusal


def test_a_use_of_a_key_is_an_event_that_says_who_what_and_how(client: Client, key: str) -> None:
    sealed = client.encrypt(key, b"plaintext", {"tenant": "blue"})
    event = client.audit.events.get(sealed.event_id)

    assert event.action == "crypto:Encrypt"
    assert event.principal.endswith("/users/admin")
    assert (event.resource, event.key_version) == (key, f"{key}/versions/1")
    assert event.encryption_context == {"tenant": "blue"}
    assert event.outcome == "ALLOWED"
    assert event.decided_by
    assert event.source_address == "127.0.0.1"
    assert event.trace_id == client.last_trace_id or len(event.trace_id) == 32


def test_a_refusal_is_an_event_too(client: Client, name: str) -> None:
    error = refusal(lambda: client.encrypt(name, b"plaintext"))
    event = client.audit.events.get(error.event_id)
    assert (event.outcome, event.reason) == ("FAILED", "KEY_NOT_FOUND")


def test_a_batch_is_one_event_with_its_count(client: Client, key: str) -> None:
    client.batch_encrypt(key, [b"a", b"b", b"c"])
    (event,) = client.audit.events.list(resource=key, action="crypto:Encrypt")
    assert event.item_count == 3


def test_events_are_found_by_time_in_either_order(client: Client, key: str) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    ids = [client.encrypt(key, b"x").event_id for _ in range(5)]
    after = datetime.now(UTC) + timedelta(seconds=1)

    def found(since: datetime, until: datetime, *, oldest_first: bool = False) -> list[str]:
        events = client.audit.events.list(
            since=since, until=until, resource=key, action="crypto:Encrypt", oldest_first=oldest_first
        )
        return [event.id for event in events]

    assert found(before, after, oldest_first=True) == ids
    assert found(before, after) == ids[::-1]
    assert found(before - timedelta(hours=1), before) == []
    assert found(after, after + timedelta(hours=1)) == []


def test_an_event_that_is_not_there_is_named(client: Client) -> None:
    missing = "01890a5d-ac96-774b-bcce-b302099a8057"
    assert refusal(lambda: client.audit.events.get(missing)).reason in {
        "EVENT_NOT_FOUND",
        "FIELD_INVALID",
        "NAME_MALFORMED",
    }
