"""Checkpoints: soon after an append, each consistent with every later one, valid after the key has changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, text

from services.audit.keys.signing import OVERLAP_DAYS
from services.audit.logs.logs import OpenLog
from services.audit.publication.export_folder import ExportFolder
from services.audit.publication.store import SignedCheckpoint
from services.runtime.errors import Reason, StrongroomError
from strongroom.tlog import merkle, notes, proofs, tiles
from strongroom.tlog.checkpoints import Checkpoint, open_checkpoint
from tests.support.audit_logs import ORIGIN, OwnRoot, event, opened
from tests.support.clients import until
from tests.support.clocks import StillClock

DAY_US = 86_400_000_000


def published(log: OpenLog, size: int) -> Checkpoint:
    """What the first checkpoint that covers so many leaves says."""
    until(lambda: log.publisher.published is not None and log.publisher.published.tree_size >= size)
    keys = [notes.parse_verifier_key(key.verifier_key) for key in log.signing_keys.known()]
    checkpoint, _ = open_checkpoint(log.transparency.checkpoint().note, keys)
    return checkpoint


def reason_of(work: Callable[[], object]) -> Reason:
    with pytest.raises(StrongroomError) as refused:
        work()
    return refused.value.reason


def test_an_append_is_in_a_checkpoint_soon(open_log: OpenLog) -> None:
    assert reason_of(open_log.transparency.checkpoint) is Reason.CHECKPOINT_NOT_FOUND
    open_log.log.append([event() for _ in range(300)])
    checkpoint = published(open_log, 300)
    leaves = [leaf for number, width in ((0, 256), (1, 44)) for leaf in open_log.source.entries(number, width)]
    assert checkpoint == Checkpoint(ORIGIN, 300, merkle.root_of(merkle.leaf_hashes(leaves)))


def test_an_event_s_proof_holds_with_the_public_key_alone(open_log: OpenLog) -> None:
    recorded = [event() for _ in range(70)]
    open_log.log.append(recorded)
    found = open_log.transparency.inclusion("acme", recorded[33].id, 0)
    key = notes.parse_verifier_key(open_log.signing_keys.known()[0].verifier_key)
    proof = proofs.parse(bytes(found.proof))
    assert proof.index == 33
    assert proof.verify(found.leaf, [key]).size >= 70
    assert reason_of(lambda: open_log.transparency.inclusion("other", recorded[33].id, 0)) is Reason.EVENT_NOT_FOUND


def test_a_checkpoint_whose_commit_was_not_answered_is_published(
    open_log: OpenLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    attesting, lost = open_log.log.attesting, list[SignedCheckpoint | None]()

    @contextmanager
    def unanswered() -> Iterator[Connection]:
        with attesting() as connection:
            yield connection
        if not lost:
            lost.append(open_log.publisher._store.at(1))
            raise StrongroomError(Reason.AUDIT_STORAGE_FAILED, "the answer was lost")

    monkeypatch.setattr(open_log.log, "attesting", unanswered)
    open_log.log.append([event()])
    assert published(open_log, 1).size == 1
    assert open_log.publisher.signed == lost[0]


def test_a_checkpoint_of_another_tree_is_not_taken_over(open_log: OpenLog) -> None:
    open_log.log.append([event()])
    published(open_log, 1)
    store = open_log.publisher._store
    first = store.at(1)
    assert first is not None
    with open_log.log.attesting() as connection:
        store.insert(connection, replace(first, tree_size=2, root_hash=bytes(32)))
    open_log.log.append([event()])
    assert reason_of(open_log.publisher.sign) is Reason.AUDIT_STORAGE_FAILED
    assert open_log.publisher.published == first


def test_checkpoints_only_grow(open_log: OpenLog) -> None:
    checkpoints = []
    for _ in range(5):
        open_log.log.append([event() for _ in range(150)])
        checkpoints.append(published(open_log, open_log.log.size))
    for old in checkpoints:
        for new in checkpoints:
            if old.size <= new.size:
                found = open_log.transparency.consistency(old.size, new.size)
                assert found.from_root == old.root
                merkle.check_consistency(old.size, new.size, found.hashes, old.root, new.root)
    between = checkpoints[0].size + 1
    assert reason_of(lambda: open_log.transparency.consistency(1, between)) is Reason.TREE_SIZE_INVALID
    assert reason_of(lambda: open_log.transparency.consistency(10_000, 0)) is Reason.TREE_SIZE_INVALID


def test_a_proof_can_lead_to_an_earlier_checkpoint(open_log: OpenLog) -> None:
    first, second = event(), event()
    open_log.log.append([first])
    earlier = published(open_log, 1)
    open_log.log.append([second])
    published(open_log, 2)
    assert open_log.transparency.inclusion("acme", first.id, earlier.size).checkpoint.tree_size == earlier.size
    sizes = (
        lambda: open_log.transparency.inclusion("acme", second.id, earlier.size),
        lambda: open_log.transparency.inclusion("acme", first.id, 77),
    )
    for wrong in sizes:
        assert reason_of(wrong) is Reason.TREE_SIZE_INVALID


def test_tiles_are_there_as_far_as_the_checkpoint_covers_them(open_log: OpenLog) -> None:
    open_log.log.append([event() for _ in range(600)])
    checkpoint = published(open_log, 600)
    hashes = []
    for number, width in ((0, 256), (1, 256), (2, 88)):
        suffix = "" if width == 256 else f".p/{width}"
        tile = tiles.hashes_of(open_log.transparency.tile(f"tile/0/00{number}{suffix}"), width)
        entries = tiles.entries_of(open_log.transparency.tile(f"tile/entries/00{number}{suffix}"), width)
        assert merkle.leaf_hashes(entries) == tile
        hashes += tile
    assert merkle.root_of(hashes) == checkpoint.root
    above = tiles.hashes_of(open_log.transparency.tile("tile/1/000.p/2"), 2)
    assert above == [merkle.root_of(hashes[:256]), merkle.root_of(hashes[256:512])]
    # An earlier width of a tile stays at hand.
    assert open_log.transparency.tile("tile/0/001.p/3") == b"".join(hashes[256:259])
    for path in ("tile/0/002", "tile/0/002.p/89", "tile/1/000.p/3", "tile/2/000.p/1", "tile/entries/003.p/1"):
        assert reason_of(partial(open_log.transparency.tile, path)) is Reason.TILE_NOT_FOUND
    assert reason_of(lambda: open_log.transparency.tile("../audit.db")) is Reason.FIELD_INVALID


def test_a_restart_goes_on_with_the_same_tree_and_key(open_log: OpenLog, open_again: Callable[[], OpenLog]) -> None:
    open_log.log.append([event() for _ in range(700)])
    before = published(open_log, 700)
    open_log.stop()
    again = open_again()
    again.log.append([event() for _ in range(400)])
    after = published(again, 1100)
    found = again.transparency.consistency(before.size, after.size)
    merkle.check_consistency(before.size, after.size, found.hashes, before.root, after.root)
    assert len(again.signing_keys.known()) == 1


def test_a_new_signing_key_takes_over_and_old_checkpoints_stay_valid(engine: Engine, crypto: OwnRoot) -> None:
    clock = StillClock(time.time_ns() // 1000)
    log = opened(engine, crypto, clock=clock)
    log.log.append([event()])
    old_note = (published(log, 1), log.transparency.checkpoint().note)[1]
    log.stop()

    clock.us += 366 * DAY_US
    log = opened(engine, crypto, clock=clock)
    new_key, old_key = (notes.parse_verifier_key(key.verifier_key) for key in log.signing_keys.known())
    log.log.append([event()])
    published(log, 2)
    both = log.transparency.checkpoint().note
    # For a time both sign, so that who trusts either can follow.
    for key in (old_key, new_key):
        assert open_checkpoint(both, [key])[0].size == 2
    assert open_checkpoint(old_note, [new_key, old_key])[0].size == 1

    clock.us += (OVERLAP_DAYS + 1) * DAY_US
    log.log.append([event()])
    published(log, 3)
    alone = log.transparency.checkpoint().note
    assert open_checkpoint(alone, [new_key])[0].size == 3
    with pytest.raises(Exception, match="SIGNATURE_MISSING"):
        open_checkpoint(alone, [old_key])
    log.stop()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE leaves SET leaf = x'00' WHERE leaf_index = 299",
        "UPDATE tiles SET hashes = substr(hashes, 33) WHERE level = 1",
        "DELETE FROM leaves WHERE leaf_index = 299",
        "UPDATE heads SET size = 299",
    ],
)
def test_a_log_that_is_damaged_at_its_end_does_not_start(
    open_log: OpenLog, engine: Engine, open_again: Callable[[], OpenLog], change: str
) -> None:
    open_log.log.append([event() for _ in range(300)])
    open_log.stop()
    with engine.begin() as connection:
        connection.execute(text(change))
    assert reason_of(open_again) is Reason.AUDIT_STORAGE_FAILED


def test_a_log_that_is_not_what_its_checkpoint_says_does_not_start(
    open_log: OpenLog, engine: Engine, open_again: Callable[[], OpenLog]
) -> None:
    open_log.log.append([event() for _ in range(300)])
    published(open_log, 300)
    open_log.stop()
    with engine.begin() as connection:
        hashes = connection.execute(text("SELECT hashes FROM tiles WHERE level = 1")).scalar_one()
        altered = bytes([hashes[0] ^ 1]) + hashes[1:]
        connection.execute(text("UPDATE tiles SET hashes = :altered WHERE level = 1"), {"altered": altered})
    assert reason_of(open_again) is Reason.AUDIT_STORAGE_FAILED


def test_the_export_folder_follows_the_checkpoints(open_log: OpenLog, tmp_path: Path) -> None:
    folder = ExportFolder(tmp_path / "export", open_log.source)
    open_log.publisher.listen(on_published=[folder.published])
    for count in (100, 200, 300):
        open_log.log.append([event() for _ in range(count)])
        published(open_log, open_log.log.size)
    until(lambda: b"\n600\n" in (tmp_path / "export" / "checkpoint").read_bytes())
    until(lambda: not (tmp_path / "export/tile/0/001.p/44").exists())
    for path in tiles.tiles_between(0, 600):
        assert (tmp_path / "export" / str(path)).read_bytes() == open_log.source.read(path)
    # One that begins anew goes on where the folder is.
    again = ExportFolder(tmp_path / "export", open_log.source)
    open_log.log.append([event() for _ in range(10)])
    published(open_log, 610)
    again.published(open_log.transparency.checkpoint())
    assert (tmp_path / "export" / "tile/0/002.p/98").exists()
