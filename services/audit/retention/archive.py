"""Old events, out of the way: whole bundles of 256 leaves, compressed, in the place of their rows.

A bundle moves when the archive period of every account in it has passed. Its tiles stay where they are, so the log
verifies as before; lookups look into it only when they are asked to. Sealed leaves hardly shrink: what goes is the
rows, their index and what they share.
"""

from __future__ import annotations

import logging
import struct
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from uuid import UUID

from sqlalchemy import Connection, Engine, delete, func, insert, select

from services.audit.index import postings
from services.audit.index.store import IndexStore
from services.audit.keys.sealing import sealing_key_of
from services.audit.log.entries import event_key, event_time_us
from services.audit.storage.store import Leaf, LeafRow, LogStore
from services.audit.storage.tables import ON_TIME_US, archives, leaves
from services.runtime.errors import Reason, StrongroomError
from services.runtime.storage.database import reading
from strongroom.audit.v1.event_pb2 import Event
from strongroom.tlog.tiles import WIDTH

log = logging.getLogger(__name__)

# event id, time, latest time so far, length of tokens, length of leaf
_RECORD = struct.Struct(">16sqqHH")
_KEY_COUNT = struct.Struct(">16sH")
_LEVEL = 6
_MOST_BYTES = WIDTH * (_RECORD.size + 2 * 65_535)
_MILLISECOND_US = 1000
# By how much the time in an event's id may differ from the event's.
_ID_SLACK_US = 5_000_000

# event id, tokens, leaf
Archived = tuple[bytes, bytes, Leaf]


@dataclass(frozen=True, slots=True)
class Packed:
    """A bundle of the archive, as its table has it."""

    number: int
    first_us: int
    last_us: int
    high_us: int
    key_counts: bytes
    content: bytes


class Archive:
    """The archive of one log."""

    def __init__(self, engine: Engine, store: LogStore, index: IndexStore) -> None:
        self._engine = engine
        self._store = store
        self._index = index
        self._newest_us: int | None = None

    # --- reading

    def entries(self, bundle: int) -> list[bytes]:
        """The leaves of a bundle; none where it is not archived."""
        return [leaf.leaf for _, _, leaf in self._bundle(bundle)]

    def by_event(self, event_id: bytes) -> Leaf | None:
        """The leaf of one event, by the time that its id (UUIDv7) begins with."""
        time_us = (UUID(bytes=event_id).int >> 80) * _MILLISECOND_US
        query = select(archives.c.number).where(
            archives.c.first_us <= time_us + _ID_SLACK_US, archives.c.last_us >= time_us - _ID_SLACK_US
        )
        with reading(self._engine) as connection:
            numbers = [row.number for row in connection.execute(query)]
        found = (leaf for number in numbers for key, _, leaf in self._bundle(number) if key == event_id)
        return next(found, None)

    def known(self, events: Sequence[Event]) -> dict[bytes, int]:
        """Which of these events are in the archive, by their keys, and where. Raises AUDIT_STORAGE_FAILED."""
        if self._newest_us is None:
            self._newest_us = self._high_us()
        # Of what comes in none is as old but by a fault, or where somebody sends it again.
        newest = self._newest_us // 1_000_000
        old = {event_key(event): event_time_us(event) for event in events if event.time.seconds <= newest}
        if not old:
            return {}
        span = (archives.c.first_us <= max(old.values()), archives.c.last_us >= min(old.values()))
        found: dict[bytes, int] = {}
        with self._store.looking() as connection:
            spans = connection.execute(select(archives.c.number, archives.c.first_us, archives.c.last_us).where(*span))
            for number, first_us, last_us in spans.all():
                if any(first_us <= at <= last_us for at in old.values()):
                    found.update((key, leaf.leaf_index) for key, _, leaf in _sound_bundle(connection, number))
        return {key: found[key] for key in old if key in found}

    def _high_us(self) -> int:
        """The latest time of an event in the archive, or later."""
        newest = select(archives.c.high_us).order_by(archives.c.number.desc()).limit(1)
        with self._store.looking() as connection:
            return int(connection.execute(newest).scalar() or 0)

    def matching(self, ranges: Sequence[tuple[int, int]], tokens: Sequence[bytes]) -> list[Leaf]:
        """The archived leaves of some ranges that have all of the tokens, in order of the log. Those that are late are
        in the index of late leaves still."""
        found = []
        for number in sorted({start // WIDTH for start, end in ranges if start < end}):
            for _, joined, leaf in self._bundle(number):
                within = any(start <= leaf.leaf_index < end for start, end in ranges)
                if within and not leaf.is_late and (not joined or all(token in joined for token in tokens)):
                    found.append(leaf)
        return found

    def count_sealed(self, keys: Sequence[bytes]) -> int:
        """How many archived leaves are sealed under these keys."""
        wanted, count = set(keys), 0
        with reading(self._engine, patient=True) as connection:
            for row in connection.execute(select(archives.c.key_counts)):
                count += sum(number for key, number in _KEY_COUNT.iter_unpack(row.key_counts) if key in wanted)
        return count

    def whole_bundle(self, number: int) -> list[LeafRow]:
        """The leaves of a bundle that are there, wherever they are, in order of the log."""
        with reading(self._engine) as connection:
            archived = _sound_bundle(connection, number)
        found = {
            leaf.leaf_index: (leaf.leaf_index, event_id, leaf.time_us, leaf.high_us, tokens, leaf.leaf)
            for event_id, tokens, leaf in archived
        }
        # Late ones have rows still.
        found.update((row[0], row) for row in self._rows(number))
        return [found[index] for index in sorted(found)]

    def is_found(self, number: int) -> bool:
        """Whether the times that the archive has of a bundle are those of its leaves, or it is not archived."""
        of_bundle = select(archives).where(archives.c.number == number)
        with reading(self._engine) as connection:
            row = connection.execute(of_bundle).one_or_none()
        if row is None:
            return True
        try:
            leaves_of = [leaf for _, _, leaf in _unpacked(row.content, number * WIDTH)]
        except StrongroomError:
            return False
        times = [leaf.time_us for leaf in leaves_of]
        return bool(times) and (row.first_us, row.last_us, row.high_us) == (
            min(times),
            max(times),
            leaves_of[-1].high_us,
        )

    def _bundle(self, number: int) -> list[Archived]:
        with reading(self._engine) as connection:
            return _bundle(connection, number)

    # --- moving

    def candidates(self, start: int, newest_us: int) -> tuple[int, Mapping[bytes, int]] | None:
        """The first bundle from `start` on that may be archived, with the sealing keys of its leaves and the latest
        time that an event under each has; None when there is none of which every event is of before `newest_us`.

        What is not in the stored index yet, and the end of the log, stay.
        """
        with reading(self._engine) as connection:
            behind = leaves.c.leaf_index >= start * WIDTH
            # Late leaves of archived bundles have rows still.
            on_time = leaves.c.time_us >= leaves.c.high_us - ON_TIME_US
            first = connection.execute(select(func.min(leaves.c.leaf_index)).where(behind, on_time)).scalar()
        if first is None:
            return None
        number = first // WIDTH
        if (number + 1) * WIDTH > min(self._index.complete(0) * postings.NODE_LEAVES, self._store.head().size - WIDTH):
            return None
        rows = self._rows(number)
        if max(high_us for _, _, _, high_us, _, _ in rows) >= newest_us:
            return None
        latest: dict[bytes, int] = {}
        for _, _, time_us, _, _, leaf in rows:
            key = sealing_key_of(leaf)
            latest[key] = max(latest.get(key, 0), time_us)
        return number, latest

    def packed(self, number: int) -> Packed:
        """A bundle as it will be kept."""
        rows = self._rows(number)
        counts = Counter(sealing_key_of(row[5]) for row in rows if _is_leaving(row))
        content = b"".join(
            _RECORD.pack(event_id, time_us, high_us, len(tokens), len(leaf)) + tokens + leaf
            for _, event_id, time_us, high_us, tokens, leaf in rows
        )
        return Packed(
            number=number,
            first_us=min(row[2] for row in rows),
            last_us=max(row[2] for row in rows),
            high_us=rows[-1][3],
            key_counts=b"".join(_KEY_COUNT.pack(key, count) for key, count in counts.items()),
            content=zlib.compress(content, _LEVEL),
        )

    def move(self, connection: Connection, bundle: Packed) -> None:
        """Puts a bundle in the place of its leaves' rows, in a transaction of the log's writer."""
        self._newest_us = None if self._newest_us is None else max(self._newest_us, bundle.high_us)
        start = bundle.number * WIDTH
        of_bundle = (leaves.c.leaf_index >= start) & (leaves.c.leaf_index < start + WIDTH)
        connection.execute(insert(archives).values(asdict(bundle)))
        # Late ones stay in the table beside, where their own index finds them.
        connection.execute(delete(leaves).where(of_bundle, leaves.c.time_us >= leaves.c.high_us - ON_TIME_US))

    def _rows(self, number: int) -> list[LeafRow]:
        columns = leaves.c
        query = select(
            columns.leaf_index, columns.event_id, columns.time_us, columns.high_us, columns.tokens, columns.leaf
        ).where(columns.leaf_index >= number * WIDTH, columns.leaf_index < (number + 1) * WIDTH)
        with reading(self._engine) as connection:
            return [tuple(row) for row in connection.execute(query.order_by(columns.leaf_index))]


def _is_leaving(row: LeafRow) -> bool:
    """Whether a leaf has no row once its bundle is archived."""
    return row[2] >= row[3] - ON_TIME_US


def _bundle(connection: Connection, number: int) -> list[Archived]:
    content = connection.execute(select(archives.c.content).where(archives.c.number == number)).scalar()
    return _unpacked(content, number * WIDTH) if content is not None else []


def _sound_bundle(connection: Connection, number: int) -> list[Archived]:
    """A bundle; nothing of one that was changed."""
    try:
        return _bundle(connection, number)
    except StrongroomError as error:
        if error.reason is not Reason.AUDIT_RECORD_REFUSED:
            raise
        return []


def _unpacked(content: bytes, first: int) -> list[Archived]:
    """The leaves of a bundle. Raises AUDIT_RECORD_REFUSED for what is no bundle."""
    unpacking, position = zlib.decompressobj(), 0
    found: list[Archived] = []
    try:
        data = unpacking.decompress(content, _MOST_BYTES)
        while position < len(data):
            event_id, time_us, high_us, token_bytes, leaf_bytes = _RECORD.unpack_from(data, position)
            start = position + _RECORD.size
            position = start + token_bytes + leaf_bytes
            leaf = Leaf(first + len(found), time_us, high_us, data[start + token_bytes : position])
            found.append((event_id, data[start : start + token_bytes], leaf))
    except (zlib.error, struct.error) as error:
        raise _damaged() from error
    if not unpacking.eof or position != len(data):
        raise _damaged()
    return found


def _damaged() -> StrongroomError:
    return StrongroomError(Reason.AUDIT_RECORD_REFUSED, "a bundle of the audit log's archive was changed")
