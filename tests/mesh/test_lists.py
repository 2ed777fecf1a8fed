"""Lists over a real mesh: filters, and pages that stay exact while keys are being created."""

from __future__ import annotations

import threading

import pytest

from strongroom import Client
from strongroom.keystore.v1 import key_service_pb2 as pb
from tests.support.clients import refusal


@pytest.fixture
def made(client: Client, name: str) -> list[str]:
    """Keys `a`, `b` and `c` of a prefix of the test's own."""
    for letter, spec, tags in (
        ("a", "AES_256", {"team": "blue", "cost center": "7"}),
        ("b", "AES_128", {"team": "blue"}),
        ("c", "AES_256", {"team": "green"}),
    ):
        client.keys.create(f"{name}-{letter}", spec=spec, tags=tags)
    client.keys.disable(f"{name}-c")
    return [f"{name}-{letter}" for letter in "abc"]


@pytest.mark.parametrize(
    ("condition", "letters"),
    [
        ("", "abc"),
        ("spec = AES_256", "ac"),
        ("state = DISABLED", "c"),
        ("tags.team = blue", "ab"),
        ('tags."cost center" = "7"', "a"),
        ("tags.team = blue AND spec = AES_128", "b"),
        ("tags.absent = blue", ""),
        ("usage = SIGN_VERIFY", ""),
        ("protection_level = SOFTWARE AND origin = STRONGROOM", "abc"),
    ],
)
def test_keys_are_filtered(client: Client, name: str, made: list[str], condition: str, letters: str) -> None:
    terms = " AND ".join(term for term in (f"id_prefix = {name}-", condition) if term)
    found = [key.name.rpartition("/")[2] for key in client.keys.list(terms)]
    assert found == [key for key in made if key[-1] in letters]


@pytest.mark.parametrize("condition", ["spec = ROT_13", "colour = red", "state"])
def test_a_filter_that_means_nothing_is_refused(client: Client, condition: str) -> None:
    error = refusal(lambda: list(client.keys.list(condition)))
    assert (error.reason, error.field) == ("FIELD_INVALID", "filter")


def test_every_key_is_listed_once_while_others_are_being_created(client: Client, name: str) -> None:
    there = [f"{name}-{number:03}" for number in range(0, 60, 2)]
    for key in there:
        client.keys.create(key)
    stopping = threading.Event()

    def create() -> None:
        for number in range(1, 60, 2):
            if stopping.is_set():
                return
            client.keys.create(f"{name}-{number:03}")

    thread = threading.Thread(target=create)
    thread.start()
    try:
        # Small pages, so that much is created between them.
        found = _by_pages(client, f"id_prefix = {name}-", 4)
    finally:
        stopping.set()
        thread.join()

    assert len(found) == len(set(found))
    assert set(there) <= set(found)
    assert found == sorted(found)


def _by_pages(client: Client, condition: str, size: int) -> list[str]:
    found: list[str] = []
    token = ""
    while True:
        request = pb.ListKeysRequest(parent=client.names.account, page_size=size, page_token=token, filter=condition)
        page = client.keys._service.call(client.keys._service.stub.ListKeys, request, None).response
        found += [key.name.rpartition("/")[2] for key in page.keys]
        token = page.next_page_token
        if not token:
            return found


def test_a_page_token_is_for_its_own_filter(client: Client, name: str, made: list[str]) -> None:
    del made
    parent = client.names.account
    request = pb.ListKeysRequest(parent=parent, page_size=1, filter=f"id_prefix = {name}-")
    token = client.keys._service.call(client.keys._service.stub.ListKeys, request, None).response.next_page_token
    other = pb.ListKeysRequest(parent=parent, page_size=1, page_token=token)
    error = refusal(lambda: client.keys._service.call(client.keys._service.stub.ListKeys, other, None))
    assert error.reason == "PAGE_TOKEN_INVALID"
