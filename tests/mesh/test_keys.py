"""Keys and aliases over a real mesh."""

from __future__ import annotations

import pytest

from strongroom import Client
from tests.support.clients import refusal


def test_a_key_is_created_read_and_listed(client: Client, name: str) -> None:
    created = client.keys.create(name, description="payments", tags={"team": "red"})

    assert created.name == f"accounts/default/keys/{name}"
    assert (created.spec, created.state, created.primary_version) == ("AES_256", "ENABLED", 1)
    read = client.keys.get(name)
    assert (read.uid, read.description, dict(read.tags)) == (created.uid, "payments", {"team": "red"})
    assert created.name in [key.name for key in client.keys.list()]


def test_a_name_is_used_once(client: Client, name: str) -> None:
    client.keys.create(name)
    assert refusal(lambda: client.keys.create(name)).reason == "ALREADY_EXISTS"


def test_a_disabled_key_can_be_enabled_again(client: Client, key: str) -> None:
    assert client.keys.disable(key).state == "DISABLED"
    assert client.keys.get(key).state == "DISABLED"
    assert client.keys.enable(key).state == "ENABLED"


def test_an_alias_stands_for_a_key_until_it_moves(client: Client, name: str) -> None:
    first, second = client.keys.create(f"{name}-1"), client.keys.create(f"{name}-2")
    alias = client.keys.aliases.create(name, first.name)
    before = client.encrypt(alias.name, b"1").key_version

    moved = client.keys.aliases.move(alias.name, second.name)

    assert before.startswith(first.name)
    assert moved.key == second.name
    assert client.keys.get(alias.name).uid == second.uid
    client.keys.aliases.delete(alias.name)
    assert refusal(lambda: client.keys.aliases.get(alias.name)).reason == "ALIAS_NOT_FOUND"


def test_lists_come_in_pages_without_gaps(client: Client, name: str) -> None:
    made = {client.keys.create(f"{name}-{number}").name for number in range(5)}

    listed = [key.name for key in client.keys.list()]

    assert made <= set(listed)
    assert listed == sorted(listed)
    assert len(listed) == len(set(listed))


@pytest.mark.parametrize(
    ("key_id", "reason"), [("Has-Capitals", "FIELD_INVALID"), ("x" * 64, "FIELD_INVALID"), ("a/b", "FIELD_INVALID")]
)
def test_a_malformed_id_is_refused(client: Client, key_id: str, reason: str) -> None:
    error = refusal(lambda: client.keys.create(key_id))
    assert (error.reason, error.field) == (reason, "key_id")
