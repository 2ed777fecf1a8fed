"""The schedule in a real Redis: claimed once, fenced, and none the worse for an emptied Redis."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError

from deploy.dev.redis_server import find_redis, redis_command, wait_for_redis
from deploy.dev.topology import free_port
from services.runtime.work.schedule import Claim, Schedule
from tests.support.clients import until

PAST = 1_000_000


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    executable = find_redis()
    if executable is None:
        pytest.skip("redis-server is not installed")
    port = free_port()
    directory: Path = tmp_path_factory.mktemp("redis")
    with subprocess.Popen(redis_command(executable, port, directory), stdout=subprocess.DEVNULL) as process:
        assert wait_for_redis(port, 10)
        yield port
        process.terminate()


@pytest.fixture
def redis(port: int) -> Iterator[Redis]:
    client = Redis(port=port)
    client.flushall()
    yield client
    client.close()


def next_claim(schedule: Schedule, lease: float = 60) -> Claim:
    """The item that is due next, once one is."""
    found: list[Claim] = []

    def is_found() -> bool:
        found[:] = schedule.claim(1, lease)
        return bool(found)

    until(is_found, 10)
    return found[0]


def items(schedule: Schedule, limit: int = 10, lease: float = 60) -> list[str]:
    return [claim.item for claim in schedule.claim(limit, lease)]


def test_what_is_due_is_claimed_once_soonest_first(redis: Redis) -> None:
    schedule, replica = Schedule(redis, "test"), Schedule(redis, "test")
    future = (time.time_ns() // 1000) + 60_000_000
    schedule.fill({"b": 2 * PAST, "a": PAST, "c": 3 * PAST, "later": future})

    assert items(schedule, limit=2) == ["a", "b"]
    assert items(replica) == ["c"]
    assert items(schedule) == []


def test_a_lease_that_ends_brings_the_item_up_again_under_a_higher_token(redis: Redis) -> None:
    schedule = Schedule(redis, "test")
    schedule.fill({"a": PAST})
    (first,) = schedule.claim(1, 0.1)
    second = next_claim(schedule)

    assert second.item == "a"
    assert second.token > first.token
    assert not schedule.done(first)
    assert not schedule.later(first, 0)
    assert schedule.done(second)
    assert items(schedule) == []


def test_an_item_that_is_put_off_comes_up_then(redis: Redis) -> None:
    schedule = Schedule(redis, "test")
    schedule.fill({"a": PAST})
    (claim,) = schedule.claim(1, 60)
    assert schedule.later(claim, 0.2)
    assert items(schedule) == []
    until(lambda: items(schedule) == ["a"], 2)


def test_a_lease_that_is_renewed_goes_on(redis: Redis) -> None:
    schedule = Schedule(redis, "test")
    schedule.fill({"a": PAST, "b": PAST})
    renewed, other = schedule.claim(2, 0.1)
    schedule.renew([renewed], 60)
    until(lambda: items(schedule) == [other.item], 10)
    assert schedule.done(renewed)


def test_a_lease_that_was_lost_is_not_renewed(redis: Redis) -> None:
    schedule = Schedule(redis, "test")
    schedule.fill({"a": PAST})
    (lost,) = schedule.claim(1, 0.05)
    mine = next_claim(schedule, 0.05)
    schedule.renew([lost], 60)
    until(lambda: items(schedule) == ["a"], 2)
    assert not schedule.done(mine)


def test_an_item_is_brought_forward_but_never_put_off_or_out_of_a_lease(redis: Redis) -> None:
    schedule = Schedule(redis, "test")
    future = (time.time_ns() // 1000) + 60_000_000
    schedule.fill({"later": future, "new": 2 * PAST})
    schedule.fill({"later": PAST, "new": future})
    assert items(schedule) == ["later", "new"]
    schedule.fill({"later": PAST})
    assert items(schedule) == []


def test_an_item_that_was_put_off_comes_back_when_the_database_says_so(redis: Redis) -> None:
    """As one does that was filled in again while its rotation ended, and so waits for the rotation after."""
    schedule = Schedule(redis, "test")
    schedule.fill({"a": PAST})
    (claim,) = schedule.claim(1, 60)
    schedule.later(claim, 30 * 86_400)
    schedule.fill({"a": PAST})
    assert items(schedule) == ["a"]


def test_adding_leaves_what_was_put_off(redis: Redis) -> None:
    schedule = Schedule(redis, "test")
    schedule.add({"a": PAST})
    (claim,) = schedule.claim(1, 60)
    schedule.later(claim, 60)
    schedule.add({"a": PAST, "b": PAST})
    assert items(schedule) == ["b"]


def test_more_is_filled_in_than_one_script_takes(redis: Redis) -> None:
    schedule = Schedule(redis, "test")
    schedule.fill({f"item-{number}": PAST for number in range(2_500)})
    assert len(items(schedule, limit=5_000)) == 2_500


def test_filling_again_disturbs_no_lease(redis: Redis) -> None:
    schedule = Schedule(redis, "test")
    schedule.fill({"a": PAST})
    (claim,) = schedule.claim(1, 60)
    schedule.fill({"a": PAST})
    assert items(schedule) == []
    assert schedule.done(claim)


def test_an_emptied_redis_is_filled_again_and_forgets_old_claims(redis: Redis) -> None:
    schedule = Schedule(redis, "test")
    schedule.fill({"a": PAST, "b": PAST})
    (claim,) = schedule.claim(1, 60)

    redis.flushall()

    assert not schedule.done(claim)
    schedule.fill({"a": PAST, "b": PAST})
    again, other = schedule.claim(2, 60)
    assert (again.item, other.item) == ("a", "b")
    assert again.token > claim.token
    assert not schedule.done(claim)


def test_services_do_not_see_each_others_items(redis: Redis) -> None:
    Schedule(redis, "keystore").fill({"a": PAST})
    assert items(Schedule(redis, "secrets")) == []


def test_a_redis_that_is_away_is_told() -> None:
    with pytest.raises(RedisError):
        Schedule(Redis(port=1, socket_connect_timeout=0.2), "test").claim(1, 60)
