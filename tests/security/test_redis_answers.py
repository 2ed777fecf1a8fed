"""Whoever writes to Redis, or answers in its place, makes services read what they like: never more than one of our own
answers has."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest
from redis import Redis
from redis.exceptions import RedisError

from deploy.dev.redis_server import find_redis, redis_command, wait_for_redis
from deploy.dev.topology import free_port
from services.keystore.work import due as keystore_due
from services.runtime.config import Redis as RedisSettings
from services.runtime.requests.names import ResourceName
from services.runtime.work.bounded_redis import MAX_ANSWER_BYTES, redis_client
from services.runtime.work.schedule import LONGEST_ITEM_BYTES, Schedule
from services.secrets.work.due import rotation_item

MIB = 1 << 20
HUGE = b"x" * (100 * MIB)
OURS = "rotate:acme/s"


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    executable = find_redis()
    if executable is None:
        pytest.skip("redis-server is not installed")
    port = free_port()
    command = redis_command(executable, port, tmp_path_factory.mktemp("redis"))
    # Nothing of a hundred megabytes needs to be on a disk.
    command[command.index("--appendonly") + 1] = "no"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        assert wait_for_redis(port, 30)
        yield port
        process.terminate()


@pytest.fixture
def writer(port: int) -> Iterator[Redis]:
    """Somebody else."""
    with Redis(port=port) as redis:
        redis.flushall()
        yield redis
        redis.flushall()


@pytest.fixture
def schedule(port: int) -> Iterator[Schedule]:
    """Settings that the services have, but with patience for Redis."""
    with closing(
        redis_client(RedisSettings(url=f"redis://127.0.0.1:{port}?socket_timeout=20", passwordless=True))
    ) as client:
        yield Schedule(client, "secrets")


def sent(redis: Redis) -> int:
    """How many bytes Redis has sent to anybody."""
    return int(redis.info("stats")["total_net_output_bytes"])


@pytest.mark.parametrize("items", [[HUGE], [b"x" * (LONGEST_ITEM_BYTES + 1)], [b"%0300d" % n for n in range(70)]])
def test_an_item_longer_than_any_of_ours_is_taken_out_unread(
    writer: Redis, schedule: Schedule, items: list[bytes]
) -> None:
    due, tokens, _ = schedule._keys
    for item in items:
        writer.zadd(due, {item: float("-inf")})
        writer.hset(tokens, item, "1")
    schedule.fill({OURS: 1})
    before = sent(writer)
    assert [claim.item for claim in schedule.claim(1, 60)] == [OURS]
    assert sent(writer) - before < MAX_ANSWER_BYTES
    assert writer.zcard(due) == writer.hlen(tokens) == 1


def test_nothing_else_of_any_size_is_read(writer: Redis, schedule: Schedule) -> None:
    """Tokens of a hundred megabytes: the last one, and those of items."""
    due, tokens, token = schedule._keys
    writer.set(token, HUGE)
    schedule.fill({OURS: 1})
    before = sent(writer)
    (claim,) = schedule.claim(1, 60)
    assert abs(claim.token - time.time() * 1e6) < 60e6
    writer.hset(tokens, OURS, HUGE)
    assert not schedule.done(claim)
    assert not schedule.later(claim, 0)
    schedule.renew([claim], 60)
    schedule.fill({OURS: 1})
    schedule.add({OURS: 1})
    for key in (due, tokens, token):
        writer.delete(key)
        writer.set(key, HUGE)
        for work in (lambda: schedule.claim(1, 60), lambda: schedule.fill({OURS: 1}), lambda: schedule.done(claim)):
            with suppress(RedisError):
                work()
    schedule.reset()
    assert writer.keys() == []
    assert sent(writer) - before < MAX_ANSWER_BYTES


def test_every_item_of_ours_is_short_enough() -> None:
    longest = ResourceName("a" * 63, "secrets", "s" * 63)
    assert len(rotation_item(longest)) <= LONGEST_ITEM_BYTES
    assert len(f"{max(keystore_due._METHODS, key=len)}:{'f' * 32}") <= LONGEST_ITEM_BYTES


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (b"$104857600\r\n", b"x" * 65_536),
        (b"+", b"x" * 65_536),
        (b"-ERR ", b"x" * 65_536),
        (b"-WRONGTYPE ", b"\xff" * 65_536),
        (b":", b"9" * 65_536),
        (b"*1000000000\r\n", b":1\r\n" * 16_384),
        (b"", b"*1\r\n" * 16_384),
        (b"$nonsense\r\n", b"x"),
        (b":" + b"9" * 5_000 + b"\r\n", b"x"),
        (b"%1000000\r\n", b"+x\r\n" * 16_384),
        (b">2\r\n+invalidate\r\n", b"*100000000\r\n"),
    ],
)
def test_who_answers_in_redis_s_place_has_no_memory_of_ours(begin: bytes, more: bytes) -> None:
    taken: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection, suppress(OSError):
                # Whatever was asked.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
                connection.settimeout(5)
                connection.recv(65_536)
                connection.sendall(begin)
                taken.append(0)
                while taken[0] < 100 * MIB:
                    taken[0] += connection.send(more)

        answering = threading.Thread(target=answer, daemon=True)
        answering.start()
        url = f"redis://127.0.0.1:{server.getsockname()[1]}?protocol=3"
        with closing(redis_client(RedisSettings(url=url, passwordless=True))) as client, pytest.raises(RedisError):
            client.ping()
        answering.join(20)
    # What stands in the sockets between has not been read.
    assert taken
    assert taken[0] < 16 * MIB
