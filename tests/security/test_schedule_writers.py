"""Somebody else writes to Redis: whatever stands there, work is late by seconds at most, and that is told."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError
from sqlalchemy import insert, select, update

from deploy.dev.redis_server import USER, find_redis, redis_command, redis_password, wait_for_redis
from deploy.dev.topology import free_port
from services.runtime.requests.names import ResourceName
from services.runtime.storage import database
from services.runtime.work.due_work import FORWARD_AT_ONCE, DueWork
from services.runtime.work.schedule import Claim, Schedule, judged
from services.secrets.core.tables import secrets
from services.secrets.rotation import store
from services.secrets.work.due import rotation_item
from strongroom.secrets.v1 import rotation_pb2 as r
from strongroom.secrets.v1.secret_pb2 import SECRET_TYPE_GENERIC, SECRET_TYPE_GRPC
from strongroom.secrets.v1.target_pb2 import GrpcTarget, RotationTarget
from tests.support.rotation.fixtures import schedule_port
from tests.support.rotation.lab import ACCOUNT, Lab, Place

__all__ = ["schedule_port"]

NAME = ResourceName(ACCOUNT, "secrets", "s")
ITEM = rotation_item(NAME)
SECOND_US = 1_000_000
NOW_US = 1_700_000_000 * SECOND_US


@pytest.fixture
def lab(schedule_port: int, tmp_path: Path) -> Iterator[Lab]:
    """With a secret that is to be rotated."""
    lab = Lab.new(Place(f"sqlite:///{tmp_path / 'secrets.db'}", schedule_port, tmp_path.name))
    policy = r.RotationPolicy()
    policy.period.FromSeconds(86_400)
    lab.create("s", SECRET_TYPE_GENERIC, b"first", policy=policy)
    yield lab
    lab.close()


def fall_due(lab: Lab, seconds_ago: float) -> None:
    with database.transaction(lab.engine) as connection:
        at_us = time.time_ns() // 1000 - int(seconds_ago * SECOND_US)
        connection.execute(update(secrets).values(next_rotate_us=at_us))


def keys(lab: Lab) -> tuple[str, str, str]:
    due, tokens, token = lab.schedule._keys
    return due, tokens, token


def rotated(lab: Lab) -> bool:
    return lab.secret("s").rotation_count > 0 and lab.value("s") != b"first"


@pytest.mark.parametrize("score", [9e15, 1e300, float("inf"), 4e9])
def test_an_entry_far_ahead_that_says_it_is_leased_is_brought_back(lab: Lab, score: float) -> None:
    due, tokens, _ = keys(lab)
    lab.redis.zadd(due, {ITEM: score})
    lab.redis.hset(tokens, ITEM, "7")
    fall_due(lab, 1)
    lab.work_until_idle()
    assert rotated(lab)


@pytest.mark.parametrize("token", ["9000000000000000", "1e300", "inf", "nan", "-1e300", "", "x", "9" * 400])
def test_a_token_far_from_now_puts_nothing_off(lab: Lab, token: str) -> None:
    lab.redis.set(keys(lab)[2], token)
    fall_due(lab, 1)
    lab.work_until_idle()
    assert rotated(lab)
    assert abs(lab.rotation("s").fencing_token - time.time_ns() // 1000) < 90 * SECOND_US
    # And its traces are gone with the next claim.
    assert abs(float(lab.redis.get(keys(lab)[2]) or 0) - time.time() * SECOND_US) < 90 * SECOND_US


@pytest.mark.parametrize("token", [9 * 10**15, 10**18, 2**63 - 1, 0, -(10**18)])
def test_a_claim_of_a_token_far_from_now_is_judged_by_the_database(lab: Lab, token: int) -> None:
    lab.rotate("s")
    lab.work.work(NAME, token)
    lab.rotate("s")
    assert lab.due.handle(Claim(ITEM, time.time_ns() // 1000)) is None
    assert lab.secret("s").latest_version == 3


@pytest.mark.parametrize(
    ("token", "known", "judgement"),
    [
        (NOW_US, 0, NOW_US),
        (NOW_US, NOW_US - 1, NOW_US),
        (NOW_US, NOW_US, None),
        (NOW_US - 5 * SECOND_US, NOW_US, None),
        (NOW_US - 3600 * SECOND_US, NOW_US, NOW_US + 1),
        (9 * 10**15, NOW_US, NOW_US + 1),
        (NOW_US, 9 * 10**15, 9 * 10**15 + 1),
        (10**300, 0, 1),
        (0, 0, 1),
    ],
)
def test_tokens_are_bounded(token: int, known: int, judgement: int | None) -> None:
    assert judged(token, known, NOW_US) == judgement


@pytest.mark.parametrize("place_", [0, 1, 2])
def test_keys_of_another_type_are_put_right(lab: Lab, place_: int) -> None:
    key = keys(lab)[place_]
    lab.redis.delete(key)
    lab.redis.rpush(key, "not what it was")
    fall_due(lab, 1)

    def tried() -> bool:
        for work in (lab.due_work.fill, lab.due_work.work_once):
            with suppress(RedisError):
                lab.due_work._mending(work)
        return rotated(lab)

    assert tried() or tried() or tried()


@pytest.mark.parametrize(
    "item",
    [
        b"",
        b":",
        b"rotate:",
        b"rotate:nobody/nothing",
        b"rotate:../../x/\0",
        b"\xff\xfe",
        b"delete:lab",
        b"steal:lab/s",
        b"rotate:lab/" + b"x" * 100_000,
        "rotate:läb/ß".encode(),
    ],
)
def test_an_item_that_stands_for_nothing_is_taken_out_and_holds_nobody_up(lab: Lab, item: bytes) -> None:
    due = keys(lab)[0]
    lab.redis.zadd(due, {item: 0})
    fall_due(lab, 1)
    lab.work_until_idle()
    assert rotated(lab)
    assert lab.redis.zscore(due, item) is None


def test_what_redis_keeps_back_the_database_brings_forward_and_it_is_told(lab: Lab) -> None:
    """Whoever writes to Redis does so all the time: nothing in it is ever right."""
    fall_due(lab, 60)

    def kept_back(*_: object) -> list[Claim]:
        return []

    lab.schedule.claim = kept_back  # type: ignore[method-assign,assignment]
    lab.due_work.bring_forward()
    while lab.due_work.work_once():
        pass
    assert rotated(lab)
    assert "SCHEDULE_OVERDUE" in {event.reason for event in lab.events() if event.resource == str(NAME)}


def test_what_is_not_late_or_in_work_elsewhere_is_left_to_redis(lab: Lab) -> None:
    fall_due(lab, 5)
    now_us = time.time_ns() // 1000
    assert lab.due.overdue(now_us - 30 * SECOND_US) == []
    fall_due(lab, 60)
    (claim,) = lab.due.overdue(now_us - 30 * SECOND_US)
    assert (claim.item, claim.seen) == (ITEM, 0)
    assert lab.due.handle(Claim(ITEM, now_us)) is None
    # Another replica saw it, too, before it was done.
    lab.rotate("s")
    assert lab.work.work(NAME, now_us + 5, seen=7) is None
    assert lab.secret("s").active_rotation == 2


@pytest.mark.parametrize(
    ("minutes", "timeout", "is_left"),
    [(1, 30, True), (4, 30, False), (4, 300, True), (14, 300, True), (20, 300, False), (90, 300, False)],
)
def test_a_step_of_a_rotator_that_takes_minutes_is_not_taken_over(
    lab: Lab, minutes: int, timeout: int, *, is_left: bool
) -> None:
    target = GrpcTarget(address="127.0.0.1:1")
    target.timeout.FromSeconds(timeout)
    lab.create("slow", SECRET_TYPE_GRPC, b"first", RotationTarget(grpc=target), check_target=False)
    now_us = time.time_ns() // 1000
    taken_us = now_us - minutes * 60 * SECOND_US
    lab.rotate("slow")
    with database.transaction(lab.engine) as connection:
        name = ResourceName(ACCOUNT, "secrets", "slow")
        rotation = store.rotation(connection, name, 1)
        assert rotation is not None
        in_work = replace(rotation, state=r.ROTATION_STATE_RUNNING, next_attempt_us=taken_us, fencing_token=taken_us)
        store.update_rotation(connection, in_work)
    assert (lab.due.overdue(now_us - 30 * SECOND_US) == []) is is_left


def test_what_one_account_leaves_undone_hides_nobody_elses(lab: Lab) -> None:
    """Rotations that wait for a target that never answers stay overdue, and are older than everybody's."""
    fall_due(lab, 60)
    now_us = time.time_ns() // 1000
    with database.transaction(lab.engine) as connection:
        row = dict(connection.execute(select(secrets).filter_by(secret_id="s")).one()._mapping)
        late = {"account": "greedy", "next_rotate_us": now_us - 3600 * SECOND_US}
        rows = [{**row, **late, "secret_id": f"s-{number}"} for number in range(700)]
        connection.execute(insert(secrets), rows)
    for _ in range(5):
        found = {claim.item for claim in lab.due.overdue(now_us - 30 * SECOND_US)}
        assert ITEM in found
        assert len(found) <= FORWARD_AT_ONCE


def test_thousands_that_are_overdue_are_taken_up_as_soon_as_others_are_done(lab: Lab) -> None:
    """Not a few every five seconds: Redis delays none of them for longer than work takes."""
    items = [f"rotate:{account}/s-{number}" for account in ("greedy", "lab") for number in range(600)]
    handled: list[str] = []

    def overdue(_before_us: int, limit: int, in_hand: Collection[str]) -> list[Claim]:
        fresh = [item for item in items if item not in in_hand and item not in handled]
        return [Claim(item, 1) for item in fresh[:limit]]

    def handle(claim: Claim) -> None:
        handled.append(claim.item)

    work = DueWork(Schedule(lab.redis, "kept-back"), lambda _: {}, handle, lab.clock, overdue=overdue)
    looks, pauses = 0, []
    while len(handled) < len(items):
        pauses.append(work.bring_forward())
        looks += 1
        while work.work_once():
            pass
    assert sorted(handled) == sorted(items)
    # Looks follow each other at once, but for the last.
    assert looks == -(-len(items) // FORWARD_AT_ONCE)
    assert all(pause is not None and pause < 1 for pause in pauses[:-1])
    assert work.bring_forward() is None


def test_nothing_is_looked_for_while_what_was_found_is_not_begun(lab: Lab) -> None:
    def overdue(*_: object) -> list[Claim]:
        return [Claim(f"rotate:lab/s-{next(numbers)}", 1) for _ in range(FORWARD_AT_ONCE)]

    numbers = count()
    work = DueWork(Schedule(lab.redis, "kept-back"), lambda _: {}, lambda _: None, lab.clock, overdue=overdue)
    for _ in range(5):
        assert work.bring_forward() is not None
    assert next(numbers) == FORWARD_AT_ONCE


def test_what_is_in_hand_is_not_taken_up_twice_and_others_of_the_account_are(lab: Lab) -> None:
    fall_due(lab, 60)
    now_us = time.time_ns() // 1000
    with database.transaction(lab.engine) as connection:
        row = dict(connection.execute(select(secrets).filter_by(secret_id="s")).one()._mapping)
        connection.execute(insert(secrets), [{**row, "secret_id": f"s-{number}"} for number in range(200)])
    in_hand: set[str] = set()
    for _ in range(10):
        in_hand |= {claim.item for claim in lab.due.overdue(now_us - 30 * SECOND_US, 64, in_hand)}
    assert len(in_hand) == 201


def test_without_redis_what_is_overdue_is_done(lab: Lab) -> None:
    fall_due(lab, 60)

    def away(*_: object) -> list[Claim]:
        raise RedisError("away")

    lab.schedule.claim = away  # type: ignore[method-assign,assignment]
    lab.schedule.done = away  # type: ignore[method-assign,assignment]
    lab.due_work.bring_forward()
    with suppress(RedisError):
        lab.due_work.work_once()
    assert rotated(lab)


def test_make_runs_redis_serves_nobody_without_its_password(tmp_path: Path) -> None:
    executable = find_redis()
    if executable is None:
        pytest.skip("redis-server is not installed")
    port, password = free_port(), redis_password(tmp_path / "redis")
    command = redis_command(executable, port, tmp_path / "redis", password)
    assert not any(password in part for part in command)
    assert {path.stat().st_mode & 0o077 for path in (tmp_path / "redis").iterdir()} == {0}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            assert wait_for_redis(port, 30)
            for username, guess in ((None, None), (None, "guess"), (USER, "guess")):
                with (
                    Redis(port=port, username=username, password=guess) as stranger,
                    pytest.raises(AuthenticationError),
                ):
                    stranger.get("strongroom:{secrets}:token")
            with Redis(port=port, username=USER, password=password) as client:
                schedule = Schedule(client, "secrets")
                schedule.fill({"a": 1})
                (claim,) = schedule.claim(1, 60)
                assert schedule.later(claim, 0)
                schedule.renew([claim], 5)
                schedule.add({"b": 1})
                schedule.reset()
                with pytest.raises(NoPermissionError):
                    client.get("anything else")
                with pytest.raises(NoPermissionError):
                    client.flushall()
        finally:
            process.terminate()
