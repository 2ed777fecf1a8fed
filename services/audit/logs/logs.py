"""The logs of the mesh: one, or several that accounts are spread over, each with a database of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256

from sqlalchemy import Engine

from services.audit.index.inspection import IndexInspection
from services.audit.index.store import IndexStore
from services.audit.index.tokens import Tokens
from services.audit.index.tree import Index
from services.audit.keys.key_inspection import KeyInspection
from services.audit.keys.sealing import Sealer
from services.audit.keys.service_keys import Renewal, RootWrapping, ServiceKeys
from services.audit.keys.signing import SigningKeys
from services.audit.keys.store import WrappedKeys
from services.audit.log.changes import Append, Changes
from services.audit.log.election import Election
from services.audit.log.endings import Endings
from services.audit.log.sequencer import Log
from services.audit.log.write_ahead import WriteAheadLog
from services.audit.publication.publishing import Publication, Publisher
from services.audit.publication.store import PublicationStore
from services.audit.publication.tile_source import TileSource
from services.audit.publication.witnesses import Witnesses, WitnessSettings
from services.audit.reading.events import Events
from services.audit.reading.leaf_inspection import LeafInspection
from services.audit.reading.strays import Strays
from services.audit.reading.transparency import Transparency
from services.audit.retention.archive import Archive
from services.audit.retention.retention import Retention
from services.audit.retention.sealed_sets import SealedSets
from services.audit.retention.store import RetentionStore
from services.audit.storage.destroyed_items import DestroyedItems
from services.audit.storage.files import Limits, Storage
from services.audit.storage.store import LogStore
from services.runtime.clock import Clock
from services.runtime.errors import Reason, StrongroomError, required
from strongroom.audit.v1.event_pb2 import Event

PREFIX = "logs/"
_RENEWED_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class OpenLog:
    """One log with everything that works on it."""

    name: str
    """`logs/{log}`."""
    origin: str
    log: Log
    events: Events
    transparency: Transparency
    publisher: Publisher
    signing_keys: SigningKeys
    service_keys: ServiceKeys
    destroyed: DestroyedItems
    source: TileSource
    storage: Storage
    retention: Retention
    key_inspection: KeyInspection
    leaf_inspection: LeafInspection
    sets: SealedSets
    tokens: Tokens
    witnesses: Witnesses
    election: Election
    changes: Changes
    _renewal: Renewal
    _index: Index
    _write_ahead: WriteAheadLog
    _engine: Engine

    def start(self) -> None:
        """Gets keys from crypto as soon as it answers, and begins to publish. Raises AUDIT_STORAGE_FAILED for a log
        that is not what its newest checkpoint says."""
        self._write_ahead.start()
        self.publisher.start(self.source)
        self.witnesses.start()
        self.changes.outbox.start()
        # One that stood by has them open: whoever was waiting for a writer need not wait for its keys as well.
        self._renewal.start(_RENEWED_SECONDS if self.service_keys.prepared else 0.0)

    def own_events_go_to(self, append: Append) -> None:
        """Where this is one log of several: an event of what changes here may be of an account with another log."""
        self.changes.events_go_to(append)

    def stop(self) -> None:
        """Publishes what is left, and closes everything."""
        self.publisher.stop()
        self.witnesses.stop()
        self.changes.outbox.stop()
        self._renewal.stop()
        self._index.stop()
        self._write_ahead.stop()
        self.log.close()
        self._engine.dispose()


def open_log(
    name: str,
    engine: Engine,
    wrapping: RootWrapping,
    publication: Publication,
    limits: Limits,
    signing_key_days: int,
    clock: Clock,
    election: Election,
    witnesses: Sequence[WitnessSettings] = (),
    endings: Endings | None = None,
    prepared: ServiceKeys | None = None,
) -> OpenLog:
    """Puts together what works on one log, which only the winner of its election does; one that stood by has its keys
    `prepared`. Raises AUDIT_STORAGE_FAILED for a damaged one."""
    made = prepared or ServiceKeys(WrappedKeys(engine), wrapping, clock)
    opening = _Keys(engine, made, publication.origin, signing_key_days, clock)
    store, postings = opening.store, IndexStore(engine)
    index, storage, archive = Index(postings, store), Storage.of(engine, limits), Archive(engine, store, postings)
    log = Log(store, opening.stored, opening.sealer, opening.tokens, index, storage, endings, archive.known)
    changes = Changes(engine, log, clock)
    inspection, leaves = _inspections(opening, archive, index, postings, log)
    checkpoints, source = PublicationStore(engine, store), TileSource(store, archive)
    publisher = Publisher(publication, log, changes, checkpoints, opening.signing, clock)
    events = Events(store, opening.sealer, opening.tokens, index, archive, leaves.strays)
    return OpenLog(
        name=PREFIX + name,
        origin=publication.origin,
        log=log,
        events=events,
        transparency=Transparency(publisher, checkpoints, source, events),
        publisher=publisher,
        signing_keys=opening.signing,
        service_keys=made,
        destroyed=DestroyedItems(engine),
        source=source,
        storage=storage,
        witnesses=Witnesses(witnesses, publisher, checkpoints, source, clock),
        retention=Retention(RetentionStore(opening.sets), archive, opening.stored, log, changes, opening.sealer, clock),
        key_inspection=inspection,
        leaf_inspection=leaves,
        sets=opening.sets,
        tokens=opening.tokens,
        election=election,
        changes=changes,
        _renewal=Renewal([opening.renew, opening.signing.renew, inspection.look, leaves.look]),
        _index=index,
        _write_ahead=WriteAheadLog(engine, log),
        _engine=engine,
    )


def _inspections(
    opening: _Keys, archive: Archive, index: Index, postings: IndexStore, log: Log
) -> tuple[KeyInspection, LeafInspection]:
    of_index = IndexInspection(index, postings, opening.store, log.exclusively)
    of_keys = KeyInspection(opening.stored, opening.sealer, lambda: log.size)
    of_leaves = LeafInspection(archive, opening.sealer, opening.tokens, Strays(), of_index, lambda: log.size)
    return of_keys, of_leaves


class _Keys:
    """What has keys of one log, and the database that it seals."""

    def __init__(self, engine: Engine, service_keys: ServiceKeys, origin: str, signing_days: int, clock: Clock) -> None:
        self.stored = WrappedKeys(engine)
        self.signing = SigningKeys(origin, signing_days, self.stored, service_keys, clock)
        self.sets = SealedSets(engine, service_keys, lambda: not self.store.has_events())
        self.store = LogStore(self.sets.engine)
        self.sealer = Sealer(self.stored, service_keys, clock)
        self.tokens = Tokens(service_keys, lambda: not self.store.has_tokens())

    def renew(self) -> None:
        """Gets what there is. In this order: there are no events before there is everything that they need."""
        self.tokens.renew()
        self.sets.renew()
        self.sealer.renew()


class Logs:
    """All of them, by name. Which one an account's events are in depends on its id and their number alone."""

    def __init__(self, logs: Sequence[OpenLog]) -> None:
        self._logs: Mapping[str, OpenLog] = {log.name: log for log in sorted(logs, key=lambda log: log.name)}
        self._ordered = list(self._logs.values())
        for log in self._ordered:
            log.own_events_go_to(partial(self.append, resent=True))

    def __iter__(self) -> Iterator[OpenLog]:
        return iter(self._ordered)

    def of_account(self, account: str) -> OpenLog:
        """The log of an account's events; those of no account are under the empty id."""
        if len(self._ordered) == 1:
            return self._ordered[0]
        return self._ordered[int.from_bytes(sha256(account.encode()).digest()[:8]) % len(self._ordered)]

    def named(self, name: str, field: str = "log") -> OpenLog:
        """A log by name, the only one by none. Raises FIELD_REQUIRED, LOG_NOT_FOUND."""
        if not name and len(self._ordered) == 1:
            return self._ordered[0]
        if not name:
            raise required(field)
        log = self._logs.get(name)
        if log is None:
            raise StrongroomError(Reason.LOG_NOT_FOUND, f"there is no {name}", field=field)
        return log

    def append(self, events: Sequence[Event], *, resent: bool = False) -> list[int]:
        """Returns the events' places, each in its account's log, once they are durable. Raises as `Log.append`; where
        several logs are concerned some of the events may be in theirs then."""
        if len(self._ordered) == 1:
            return self._ordered[0].log.append(events, resent=resent)
        positions: dict[str, list[int]] = {}
        for position, event in enumerate(events):
            positions.setdefault(self.of_account(event.account).name, []).append(position)
        indexes = [0] * len(events)
        for name, of_log in positions.items():
            places = self._logs[name].log.append([events[position] for position in of_log], resent=resent)
            for position, place in zip(of_log, places, strict=True):
                indexes[position] = place
        return indexes

    def check(self) -> None:
        """Raises as `append` would when one of the logs cannot be written just now."""
        for log in self._ordered:
            log.election.check()
            log.log.check()

    def check_keys(self) -> None:
        """Raises AUDIT_RECORD_REFUSED while events of one of the logs cannot be read or found though nobody made them
        so, or what decides how long they can is not what the service wrote."""
        for log in self._ordered:
            log.key_inspection.check()
            log.leaf_inspection.check()
            log.signing_keys.check()
            log.tokens.require_key()
            log.sets.check()

    def check_outboxes(self) -> None:
        """Raises EVENT_REFUSED while events of what audit itself changed are not in the log, which refuses them."""
        for log in self._ordered:
            log.changes.outbox.check()

    def start(self) -> None:
        """Starts every one."""
        for log in self._ordered:
            log.start()

    def stop(self) -> None:
        """Stops every one."""
        for log in self._ordered:
            log.stop()
