"""Somebody else writes to every store under a running mesh: columns flipped, swapped between rows and put back, rows
taken away, keys of Redis. No value, plaintext or event reaches whom it was not for, and what is refused says so.

`make tamper` does it to every column, in an order of its own each time; the suite to some of them.
"""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from deploy.dev.errors import MeshError
from deploy.dev.mesh import Mesh
from deploy.dev.topology import spiffe_id
from services.runtime import identifiers
from strongroom import Client, StrongroomError
from strongroom.audit.v1.event_pb2 import Event
from tests.conftest import SQLITE_LOCAL, PrivateMeshes
from tests.support import access
from tests.support.access import EVERYTHING
from tests.support.clients import client_of, reason_of, until

SERVICES = ("keystore", "secrets", "audit")
# Where the log ends: writing there stops the log for good, which tests/unit/audit shows.
LEFT_ALONE = {"alembic_version", "heads", "tiles", "checkpoints", "probes"}
# Every so many tamperings a service is started with what it finds; in the suite, each service once.
RESTART_EVERY = 25 if "STRONGROOM_TAMPER_SECONDS" in os.environ else 1 << 30
# What a service that starts anew cannot know to be older than what another one saw is no part of this.
RESTARTED = ("flip", "swap", "remove")
SECONDS = float(os.environ.get("STRONGROOM_TAMPER_SECONDS", "15"))
OURS, OLD, THEIRS, PLAINTEXT = b"ours-current", b"ours-old", b"theirs", b"for us alone"


@dataclass(frozen=True)
class Tampering:
    """One change of one column, or of a row."""

    service: str
    table: str
    column: str
    kind: str

    def __str__(self) -> str:
        return f"{self.kind} {self.service}.{self.table}.{self.column}"


class Tenants:
    """Two tenants and what each of them has."""

    def __init__(self, mesh: Mesh, ours: Client, theirs: Client) -> None:
        self.mesh = mesh
        self.ours = ours
        self.theirs = theirs
        for client, value in ((ours, OLD), (theirs, THEIRS)):
            client.keys.create("k")
            client.secrets.create("s", value, key=client.keys.get("k").name)
        # What they may for now, and no longer once it is taken back: no row of then may bring it back.
        ours.keys.create("ended")
        self.ended = ours.encrypt("ended", PLAINTEXT).ciphertext
        self.theirs_here = ours.access.principals.create("users/theirs").name
        ours.access.policies.create("for-theirs", EVERYTHING, attached_to=[self.theirs_here])
        self.credential = access.client_key(ours, self.theirs_here)
        self.ciphertext = ours.encrypt("k", PLAINTEXT).ciphertext
        ours.keys.create("flips")
        self.flips = ours.encrypt("flips", PLAINTEXT).ciphertext
        self.snapshot = {service: rows_of(mesh, service) for service in SERVICES}
        ours.access.client_keys.delete(self.credential.name)
        ours.keys.disable("ended")
        ours.secrets.put_value("s", OURS)
        ours.secrets.versions.disable("s/versions/1")
        ours.secrets.create("s2", b"rotated", key="k")
        ours.secrets.rotate("s2")
        self.event = next(ours.audit.events.list(resource=ours.keys.get("k").name, limit=1))
        self.secret, self.key = ours.secrets.get("s").name, ours.keys.get("k").name

    def reached(self) -> None:
        """Asks for everything, as everybody. Fails when something reaches whom it is not for, or is INTERNAL."""
        theirs, ours = self.theirs, self.ours
        event_id = self.event.id
        for forbidden in (
            lambda: theirs.secrets.get_value(self.secret).value,
            lambda: theirs.secrets.get_value(self.secret, version=1).value,
            lambda: theirs.decrypt(self.ciphertext).plaintext,
            lambda: theirs.audit.events.get(event_id),
            lambda: theirs.secrets.get(self.secret),
            lambda: ours.secrets.get_value("s", version=1).value,
            lambda: ours.decrypt(self.ended).plaintext,
            lambda: ours.access.sessions.create(self.credential),
        ):
            self.refused(forbidden)
        self.answers(lambda: theirs.secrets.get_value("s").value, {THEIRS})
        self.answers(lambda: ours.secrets.get_value("s").value, {OURS})
        self.answers(lambda: ours.decrypt(self.ciphertext).plaintext, {PLAINTEXT})
        self.answers(lambda: {event.account for event in theirs.audit.events.list(limit=20)} - {"theirs", ""}, [set()])
        for told in (
            lambda: ours.audit.events.get(event_id),
            lambda: list(ours.secrets.list()),
            lambda: list(ours.secrets.versions.list("s")),
            lambda: list(ours.secrets.rotations.list("s")),
            lambda: list(ours.keys.list()),
            lambda: list(ours.keys.versions.list("k")),
            lambda: ours.keys.get("k"),
        ):
            assert reason_of(told) != "INTERNAL"

    def takes_back(self) -> None:
        """Takes a key back that is in use. Fails where it stays in use."""
        if reason_of(lambda: self.ours.keys.enable("flips")) or reason_of(lambda: self.ours.decrypt(self.flips)):
            return
        if not reason_of(lambda: self.ours.keys.disable("flips")):
            until(lambda: reason_of(lambda: self.ours.decrypt(self.flips)) != "", 20)

    @staticmethod
    def refused(work: Callable[[], Any]) -> None:
        reason = reason_of(work)
        assert reason not in ("", "INTERNAL"), reason

    @staticmethod
    def answers(work: Callable[[], Any], allowed: Any) -> None:
        try:
            answer = work()
        except StrongroomError as error:
            assert error.reason != "INTERNAL"
        else:
            assert answer in allowed


def database(mesh: Mesh, service: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        mesh.database_url(service).removeprefix("sqlite:///"), timeout=20, isolation_level=None
    )
    connection.row_factory = sqlite3.Row
    return connection


def tables_of(connection: sqlite3.Connection) -> list[str]:
    found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    return sorted(row["name"] for row in found if row["name"] not in LEFT_ALONE)


def rows_of(mesh: Mesh, service: str) -> dict[str, list[dict[str, Any]]]:
    with closing(database(mesh, service)) as connection:
        return {
            table: [dict(row) for row in connection.execute(f"SELECT rowid AS _row, * FROM {table} LIMIT 200")]  # noqa: S608
            for table in tables_of(connection)
        }


def flipped(value: Any, chance: random.Random) -> Any:
    if isinstance(value, bytes) and value:
        at = chance.randrange(len(value))
        return value[:at] + bytes([value[at] ^ 1 << chance.randrange(8)]) + value[at + 1 :]
    if isinstance(value, str):
        return chance.choice(["", value + "x", "{", "accounts/theirs/keys/k", "theirs"])
    if isinstance(value, int):
        return chance.choice([value + 1, 0, 1, -value - 1, 1 << 40])
    return chance.choice([1, 0])


def every(tenants: Tenants) -> list[Tampering]:
    found = []
    for service in SERVICES:
        for table, rows in tenants.snapshot[service].items():
            columns = [column for column in (rows[0] if rows else {}) if column != "_row"]
            kinds = ("flip", "swap", "roll back")
            found += [Tampering(service, table, column, kind) for column in columns for kind in kinds]
            if rows:
                found.append(Tampering(service, table, "*", "remove"))
            if service == "keystore":
                found.append(Tampering(service, table, "*", "put back"))
    return found


@contextmanager
def tampered(tenants: Tenants, wanted: Tampering, chance: random.Random) -> Iterator[None]:
    """The store as it is after somebody else wrote to it, and afterwards as it was."""
    table, column = wanted.table, wanted.column
    with closing(database(tenants.mesh, wanted.service)) as connection:
        connection.execute("PRAGMA foreign_keys=OFF")
        rows = [dict(row) for row in connection.execute(f"SELECT rowid AS _row, * FROM {table} LIMIT 200")]  # noqa: S608
        rows = rows or [{}]
        mine, other = chance.choice(rows), chance.choice(rows)
        changes: list[tuple[dict[str, Any], Any]] = []
        if wanted.kind == "flip" and mine:
            changes = [(mine, flipped(mine[column], chance))]
        elif wanted.kind == "swap" and mine is not other:
            changes = [(mine, other[column]), (other, mine[column])]
        elif wanted.kind == "roll back" and mine:
            before = {row["_row"]: row for row in tenants.snapshot[wanted.service][table]}
            changes = [(row, before[row["_row"]][column]) for row in rows if row.get("_row") in before]
        written: list[tuple[str, tuple[Any, ...]]] = []
        if wanted.kind == "remove" and mine:
            connection.execute(*without(table, mine))
            written = [with_row(table, mine)]
        if wanted.kind == "put back":
            # All rows as they were, those that are gone by now among them; those of later stay.
            now = {row.get("_row"): row for row in rows}
            for row in tenants.snapshot[wanted.service][table]:
                connection.execute(*with_row(table, row))
                was = now.get(row["_row"])
                written.append(without(table, row) if was is None else with_row(table, was))
        for row, value in changes:
            statement = f'UPDATE {table} SET "{column}" = ? WHERE rowid = ?'  # noqa: S608
            try:
                connection.execute(statement, (value, row["_row"]))
            except (sqlite3.IntegrityError, OverflowError):
                continue
            written.append((statement, (row[column], row["_row"])))
        try:
            yield
        finally:
            for statement, values in reversed(written):
                with suppress(sqlite3.IntegrityError):
                    connection.execute(statement, values)


def without(table: str, row: dict[str, Any]) -> tuple[str, tuple[Any, ...]]:
    return f"DELETE FROM {table} WHERE rowid = ?", (row["_row"],)  # noqa: S608


def with_row(table: str, row: dict[str, Any]) -> tuple[str, tuple[Any, ...]]:
    names = ", ".join(f'"{name}"' for name in row if name != "_row")
    places = ", ".join("?" for _ in row)
    return f"INSERT OR REPLACE INTO {table} (rowid, {names}) VALUES ({places})", tuple(row.values())  # noqa: S608


def tamper_with_redis(mesh: Mesh, chance: random.Random) -> None:
    """Whatever, in every key, and in keys that should not be."""
    with closing(Redis(port=mesh.topology.redis_port)) as redis:
        for service in ("keystore", "secrets"):
            due, tokens, token = (f"strongroom:{{{service}}}:{name}" for name in ("due", "tokens", "token"))
            if {redis.type(due), redis.type(tokens)} & {b"list"}:
                # Not yet put right since the last time.
                continue
            for item in [*redis.zrange(due, 0, -1), b"rotate:theirs/s", b"\xff", b"delete:default/s", os.urandom(40)]:
                redis.zadd(due, {item: chance.choice([0, 9e15, float("inf"), float("-inf")])})
                redis.hset(tokens, item, chance.choice(["1", "9" * 400, "x"]))
            redis.set(token, chance.choice(["1e300", "nan", "x", "9000000000000000"]))
            if chance.random() < 0.3:
                key = chance.choice([due, tokens, token])
                redis.delete(key)
                redis.rpush(key, "x")


@pytest.fixture
def tenants(private_mesh: PrivateMeshes, tmp_path: Path) -> Iterator[Tenants]:
    del tmp_path
    mesh = private_mesh(SQLITE_LOCAL)
    identity = "user/theirs"
    with client_of(mesh) as ours:
        ours.access.accounts.create("theirs", administrator_spiffe_ids=[spiffe_id(identity)])
        with client_of(mesh, identity, "theirs") as theirs:
            yield Tenants(mesh, ours, theirs)


def test_nothing_in_any_store_lets_anything_reach_whom_it_is_not_for(tenants: Tenants) -> None:
    seed = int(os.environ.get("STRONGROOM_TAMPER_SEED", "7")) or random.SystemRandom().randrange(1 << 32)
    chance = random.Random(seed)
    found = every(tenants)
    chance.shuffle(found)
    # Of each database, and those that were reported first.
    wanted = [
        *(Tampering("secrets", "secrets", column, "flip") for column in ("type", "target", "state", "account")),
        Tampering("secrets", "stages", "version", "roll back"),
        Tampering("secrets", "versions", "state", "roll back"),
        Tampering("audit", "sealing_keys", "account", "swap"),
        Tampering("audit", "sealing_keys", "wrapped", "swap"),
        Tampering("keystore", "key_versions", "wrapped", "swap"),
        *(Tampering("keystore", table, "*", "put back") for table in ("keys", "client_keys", "accounts")),
        *(Tampering("keystore", "identities", "principal", kind) for kind in ("flip", "swap")),
        *(Tampering("keystore", "revision", "revision", kind) for kind in ("flip", "roll back")),
        *(Tampering("keystore", "changes", column, "flip") for column in ("revision", "resource")),
        Tampering("keystore", "keys", "state", "roll back"),
        Tampering("keystore", "token_keys", "public_key", "flip"),
        *found,
    ]
    wrong: list[str] = []
    ends = time.monotonic() + SECONDS
    for number, tampering in enumerate(wanted):
        if time.monotonic() > ends:
            break
        if number % 10 == 0:
            tamper_with_redis(tenants.mesh, chance)
        restarts = number % RESTART_EVERY == RESTART_EVERY - 1 and tampering.kind in RESTARTED
        wrong += tried(tenants, tampering, chance, restarts=restarts)
    for service in SERVICES:
        of_service = [one for one in found if one.service == service and one.kind in RESTARTED]
        wrong += tried(tenants, chance.choice(of_service), chance, restarts=True)
        wrong += tried_events(tenants, service)
    assert not wrong, f"seed {seed}:\n" + "\n".join(wrong)
    # The mesh is well again as soon as its stores are as they were.
    until(lambda: reason_of(lambda: tenants.ours.secrets.get_value("s")) == "", 20)
    tenants.reached()
    assert tenants.ours.secrets.get_value("s").value == OURS


def tried(tenants: Tenants, tampering: Tampering, chance: random.Random, *, restarts: bool) -> list[str]:
    """What is wrong while a store is tampered with, and its service perhaps started with it."""
    mesh, service = tenants.mesh, tampering.service
    found = []
    with tampered(tenants, tampering, chance):
        try:
            if restarts:
                mesh.terminate(service)
                mesh.launch(service, wait=False)
                # It may be well with what it finds, or not, or end.
                with suppress(MeshError):
                    mesh.wait_until_serving(service, 5)
            if tampering.table in ("changes", "revision"):
                tenants.takes_back()
            tenants.reached()
        except AssertionError as error:
            found.append(f"{tampering}{' at start' if restarts else ''}: {str(error)[:200]}")
    if restarts and not mesh.process(service).running:
        mesh.launch(service)
    if restarts:
        mesh.wait_until_serving(service, 30)
    return found


def tried_events(tenants: Tenants, service: str) -> list[str]:
    """What is wrong once somebody else has put events into a service's outbox, of which one is no event at all."""
    forged = Event(id=identifiers.event_id(), account="theirs", principal=tenants.theirs_here, action="crypto:Decrypt")
    garbage = (b"\xff\xff", "text", 1 << 40)
    rows = [(identifiers.event_id(), data, 0) for data in garbage]
    if service != "audit":
        # Whoever writes to audit's database may add events of its own.
        rows.append((forged.id, forged.SerializeToString(), 0))
    with closing(database(tenants.mesh, service)) as connection:
        connection.executemany("INSERT INTO outbox (event_id, event, created_us) VALUES (?, ?, ?)", rows)

        def set_aside() -> bool:
            left = connection.execute("SELECT count(*) FROM outbox WHERE created_us = 0 AND refused_us IS NULL")
            return int(left.fetchone()[0]) == 0

        until(set_aside, 60)
        connection.execute("DELETE FROM outbox WHERE created_us = 0")
    for client in (tenants.ours, tenants.theirs):
        if not reason_of(lambda client=client: client.audit.events.get(forged.id)):  # type: ignore[misc]
            return [f"{service}: an event that somebody else wrote is shown"]
    return []


def test_a_destroyed_version_put_back_with_all_its_rows_is_dead(private_mesh: PrivateMeshes) -> None:
    """Whoever kept a copy of the rows, seals and all, has nothing of it, also of a keystore that was restarted."""
    mesh = private_mesh(SQLITE_LOCAL)
    with client_of(mesh) as client:
        client.keys.create("k")
        old = client.encrypt("k", PLAINTEXT).ciphertext
        client.keys.rotate("k")
        client.keys.versions.disable("k/versions/1")
        client.keys.versions.enable("k/versions/1")
        kept = {table: rows_of(mesh, "keystore")[table] for table in ("keys", "key_versions")}
        client.keys.versions.disable("k/versions/1")
        client.keys.versions.destroy("k/versions/1")
        mesh.terminate("keystore")
        with closing(database(mesh, "keystore")) as connection:
            connection.execute("PRAGMA foreign_keys=OFF")
            for table, rows in kept.items():
                for row in rows:
                    connection.execute(*with_row(table, row))
        mesh.launch("keystore")
        until(lambda: reason_of(lambda: client.keys.get("k")) == "", 20)
        # Enough has passed for crypto to have dropped what it knew.
        mesh.restart("crypto")
        until(lambda: reason_of(lambda: client.encrypt("k", b"x")) == "", 20)
        assert client.keys.versions.get("k/versions/1").state == "ENABLED"
        assert reason_of(lambda: client.decrypt(old)) == "KEY_STATE_INVALID"
