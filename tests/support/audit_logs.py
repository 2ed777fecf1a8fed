"""Logs of the audit service without a mesh, and events for them."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Engine, text

from services.audit.index import postings
from services.audit.keys.service_keys import ServiceKeys, Wrapped
from services.audit.log.election import election_for
from services.audit.log.endings import Endings
from services.audit.logs.logs import OpenLog, open_log
from services.audit.publication.publishing import Publication
from services.audit.publication.witnesses import WitnessSettings
from services.audit.reading.events import Period, Query
from services.audit.storage.files import Limits
from services.audit.storage.store import LogStore
from services.runtime import identifiers
from services.runtime.call import Call, Principal
from services.runtime.clock import Clock, from_microseconds, system_clock
from services.runtime.errors import Reason, StrongroomError
from services.runtime.sensitive import SensitiveBytes
from strongroom.audit.v1.event_pb2 import Event, Outcome
from strongroom.tlog import merkle
from tests.support.clients import until

ORIGIN = "strongroom.test/audit"
NO_LIMITS = Limits(0, 0)


class OwnRoot:
    """Wraps audit's keys under a key of the test's own, as crypto does under the mesh's."""

    def __init__(self) -> None:
        self._key = AESGCM(bytes(32))
        self.away = False

    def wrap(self, purpose: str, key: SensitiveBytes) -> Wrapped:
        self._require()
        nonce = os.urandom(12)
        return Wrapped(nonce + self._key.encrypt(nonce, key.reveal(), purpose.encode()), 1)

    def rewrap(self, purpose: str, wrapped: bytes) -> Wrapped:
        return self.wrap(purpose, self.unwrap(purpose, wrapped))

    def unwrap(self, purpose: str, wrapped: bytes) -> SensitiveBytes:
        self._require()
        try:
            return SensitiveBytes(self._key.decrypt(wrapped[:12], wrapped[12:], purpose.encode()))
        except (InvalidTag, ValueError) as error:
            raise StrongroomError(Reason.KEY_MATERIAL_REFUSED, "what is wrapped is damaged") from error

    def _require(self) -> None:
        if self.away:
            raise StrongroomError(Reason.CRYPTO_UNREACHABLE, "crypto is away")


def opened(
    engine: Engine,
    crypto: OwnRoot,
    *,
    clock: Clock = system_clock,
    interval_seconds: float = 0.01,
    limits: Limits = NO_LIMITS,
    quorum: int = 0,
    name: str = "main",
    witnesses: Sequence[WitnessSettings] = (),
    endings: Endings | None = None,
    prepared: ServiceKeys | None = None,
    writable: bool = True,
) -> OpenLog:
    """A log that runs, and can be written where crypto is not away or its keys are prepared, unless not `writable`."""
    publication = Publication(ORIGIN, interval_seconds, quorum)
    election = election_for(engine, lambda: None)
    log = open_log(name, engine, crypto, publication, limits, 365, clock, election, witnesses, endings, prepared)
    log.start()
    if writable and not crypto.away:
        until(lambda: is_writable(log))
    return log


def use_small_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on an index has nodes of 512 leaves, and four of them are one of the next level."""
    for name, value in {"SPANS": 8, "NODE_LEAVES": 512, "FANOUT": 4, "BLOCK_BITS": 2}.items():
        monkeypatch.setattr(postings, name, value)


def append_indexed(log: OpenLog, events: Sequence[Event], group: int) -> None:
    """Appends groups of events, each after the index has taken up those before."""
    for start in range(0, len(events), group):
        log.log.append(events[start : start + group])
        until(lambda: not log._index._full)


def put_back(engine: Engine, size: int) -> None:
    """What a promotion that lost the last commits does: the database is as it was when the log had so many leaves."""
    store = LogStore(engine)
    last = merkle.leaf_hashes(store.entries(size - 1, size))[0] if size else b""
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        connection.execute(text("DELETE FROM leaves WHERE leaf_index >= :size"), {"size": size})
        connection.execute(text("DELETE FROM checkpoints WHERE tree_size > :size"), {"size": size})
        high_us = "coalesce((SELECT high_us FROM leaves WHERE leaf_index = :size - 1), 0)"
        statement = f"UPDATE heads SET size = :size, last_hash = :last, high_us = {high_us}"  # noqa: S608  # our own words
        connection.execute(text(statement), {"size": size, "last": last})


def is_writable(log: OpenLog) -> bool:
    """Whether the log has its keys."""
    try:
        log.log.check()
    except StrongroomError:
        return False
    return bool(log.signing_keys.signers())


def own_call(method: str = "UpdateLegalHold", account: str = "acme") -> Call:
    """A call of audit's own service, permitted."""
    call = Call("strongroom.audit.v1.AuditService", method, f"audit:{method}", principal=Principal("ann", account))
    call.record(call.action, f"accounts/{account}/log", account)
    return call


def events_of(log: OpenLog, account: str) -> Sequence[Event]:
    """The newest events of an account that can be read, oldest first."""
    found, _ = log.events.page(Query(account), Period(), None, 1000, newest_first=False)
    return found


def event(
    account: str = "acme",
    principal: str = "accounts/acme/users/ann",
    at: int = 0,
    made_by: Clock = system_clock,
    **fields: object,
) -> Event:
    """An event of now, or of `at` in nanoseconds since the Unix epoch, whose id is of the time of `made_by`."""
    made = Event(
        id=identifiers.event_id(made_by),
        time=from_microseconds(at // 1_000 if at else system_clock.now_us()),
        account=account,
        principal=principal,
        outcome=Outcome.OUTCOME_ALLOWED,
        action="crypto:Encrypt",
        trace_id=os.urandom(16).hex(),
        item_count=1,
    )
    made.MergeFrom(Event(**fields))  # type: ignore[arg-type]  # fields of Event, by name
    return made
