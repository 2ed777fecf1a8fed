"""A working set that is larger than a worker's cache: calls to keystore in place of errors, and nothing stale."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from deploy.dev.mesh import Mesh
from strongroom import Client
from tests.conftest import VARIANTS, PrivateMeshes
from tests.support.clients import client_of, reason_of, until

CACHED = 4
KEYS = 40
CALLS = 160
CALLERS = 8


@pytest.fixture(params=VARIANTS)
def small(private_mesh: PrivateMeshes, request: pytest.FixtureRequest) -> Mesh:
    """A mesh whose crypto keeps four keys."""
    return private_mesh(request.param, settings={"crypto": {"cached_keys": CACHED}})


@pytest.fixture
def client(small: Mesh) -> Iterator[Client]:
    with client_of(small) as client:
        yield client


@pytest.fixture
def names(client: Client) -> list[str]:
    """Forty keys: symmetric ones, every other with an alias, and signing ones."""
    made = []
    for number in range(KEYS):
        spec, usage = ("EC_P256", "SIGN_VERIFY") if number % 4 == 3 else ("AES_256", "")
        made.append(client.keys.create(f"key-{number}", spec=spec, usage=usage).name)
        if number % 2 == 0:
            client.keys.aliases.create(f"alias-{number}", made[-1])
    return made


def used(client: Client, names: list[str], number: int) -> str:
    """Uses a key in the ways that find it: by name, by alias, by the uid in a ciphertext. Answers its name."""
    message = f"for {number}".encode()
    if number % 4 == 3:
        made = client.sign(names[number], message)
        assert client.verify(names[number], made.signature, message)
        assert not client.verify(names[(number + 4) % KEYS], made.signature, message)
        return made.key_version.rpartition("/versions/")[0]
    sealed = client.encrypt(f"alias/alias-{number}" if number % 2 == 0 else names[number], message, {"n": str(number)})
    opened = client.decrypt(sealed.ciphertext, {"n": str(number)})
    assert opened.plaintext == message
    assert opened.key == sealed.key
    return opened.key


def test_every_answer_is_right_while_keys_push_each_other_out(client: Client, names: list[str]) -> None:
    chosen = random.Random(7)
    numbers = [chosen.randrange(KEYS) for _ in range(CALLS)]
    with ThreadPoolExecutor(CALLERS) as pool:
        answered = list(pool.map(lambda number: used(client, names, number), numbers))
    assert answered == [names[number] for number in numbers]
    sealed = [client.encrypt(name, name.encode()).ciphertext for name in names[::4]]
    batch = client.batch_decrypt(sealed * 3).results()
    assert [one.plaintext for one in batch] == [name.encode() for name in names[::4]] * 3


def test_changes_are_seen_within_a_second_while_keys_push_each_other_out(client: Client, names: list[str]) -> None:
    victim, other = names[0], names[4]
    uses: list[Callable[[], object]] = [
        lambda: client.encrypt(victim, b"x"),
        lambda: client.encrypt("alias/alias-0", b"x"),
    ]
    with ThreadPoolExecutor(CALLERS) as pool:
        churn = [pool.submit(used, client, names, number % (KEYS - 8) + 8) for number in range(CALLS)]

        client.keys.disable(victim)
        until(lambda: [reason_of(use) for use in uses] == ["KEY_DISABLED"] * 2, 1.5)
        client.keys.aliases.move("alias-0", other)
        # Until the alias is seen to have moved, it names a key that is disabled.
        until(lambda: not reason_of(uses[1]) and client.encrypt("alias/alias-0", b"x").key == other, 1.5)
        client.keys.enable(victim)
        until(lambda: not reason_of(uses[0]), 1.5)
        client.keys.rotate(victim)
        until(lambda: client.encrypt(victim, b"x").key_version == f"{victim}/versions/2", 1.5)

        assert all(one.result() for one in churn)
