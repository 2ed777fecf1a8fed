"""An exported log that was tampered with, in thousands of ways: `verify` finds it, and names where it begins."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from strongroom import StrongroomError
from strongroom.cli.complaints import Status
from strongroom.tlog import merkle, tiles
from strongroom.tlog.checkpoints import Checkpoint
from strongroom.tlog.notes import Note, Signer
from strongroom.tlog.tiles import WIDTH, TilePath
from strongroom.tlog.tree import Tree
from strongroom.tlog.verification import TileFolder, Trust, verify_log
from tests.support.cli import run
from tests.support.independent_log import verify_folder

SIZE = 256 * 3 + 77
OLDER = 300
KEY = Signer("log.example/a", Ed25519PrivateKey.generate())
TRUST = Trust([KEY.verifier_key])
RANDOM = random.Random(6962)
ENTRIES = [RANDOM.randbytes(RANDOM.randrange(20, 60)) for _ in range(SIZE)]


def signed(size: int, root: bytes) -> bytes:
    text = Checkpoint(KEY.name, size, root).text
    return bytes(Note(text, [KEY.sign(text)]))


@dataclass
class Exported(TileFolder):
    """A log's files in memory."""

    files: dict[str, bytes]
    note: bytes
    read_files: list[str] = field(default_factory=list)

    @property
    def checkpoint(self) -> bytes:
        return self.note

    def read(self, path: TilePath) -> tuple[str, bytes]:
        if str(path) not in self.files:
            return super().read(path)
        return str(path), self.files[str(path)]

    _directory = Path("/nonexistent")


def export(entries: list[bytes], note: bytes | None = None) -> Exported:
    hashes = merkle.leaf_hashes(entries)
    tree, changed = Tree(0, []).grown(hashes)
    above = {(tile.level, tile.number): tile.hashes for tile in changed}
    files = {}
    for path in tiles.tiles_between(0, len(entries)):
        within = slice(path.number * WIDTH, path.number * WIDTH + path.width)
        if path.level is None:
            files[str(path)] = tiles.bundle(entries[within])
        elif path.level == 0:
            files[str(path)] = b"".join(hashes[within])
        else:
            files[str(path)] = above[path.level, path.number]
    return Exported(files, note or signed(len(entries), tree.root()))


OLDER_NOTE = signed(OLDER, merkle.root_of(merkle.leaf_hashes(ENTRIES[:OLDER])))
WHOLE = export(ENTRIES)


def position_found(log: Exported, older: bytes | None = OLDER_NOTE) -> int:
    with pytest.raises(StrongroomError) as found:
        verify_log(log, TRUST, older)
    assert found.value.reason == "LOG_ALTERED", found.value
    return int(found.value.metadata["position"])


def changed(file: str, content: bytes) -> Exported:
    return Exported({**WHOLE.files, file: content}, WHOLE.note)


def covered(file: str, offset: int) -> range:
    """The entries that a byte of a file is about."""
    path = tiles.parse_path(file)
    if path.level is None:
        position = 0
        for place, entry in enumerate(ENTRIES[path.number * WIDTH :]):
            position += 2 + len(entry)
            if offset < position:
                return range(path.number * WIDTH + place, path.number * WIDTH + place + 1)
    span = WIDTH ** (path.level or 0)
    first = (path.number * WIDTH + offset // 32) * span
    return range(first, first + span)


def test_the_log_as_it_is_verifies_and_an_independent_verifier_agrees(tmp_path: Path) -> None:
    told: list[int] = []
    checkpoint = verify_log(WHOLE, TRUST, OLDER_NOTE, lambda done, _: told.append(done))
    assert (checkpoint.size, told[-1], sorted(told)) == (SIZE, SIZE, told)
    for file, content in {**WHOLE.files, "checkpoint": WHOLE.note}.items():
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    assert verify_log(TileFolder(tmp_path), TRUST, OLDER_NOTE) == checkpoint
    assert verify_folder(tmp_path, str(KEY.verifier_key)) == (SIZE, ENTRIES)


@pytest.mark.parametrize("file", sorted(WHOLE.files))
def test_any_byte_that_is_flipped_is_found_where_it_is(file: str) -> None:
    content = WHOLE.files[file]
    offsets = range(len(content)) if len(content) < 400 else RANDOM.sample(range(len(content)), 250)
    for offset in offsets:
        altered = bytearray(content)
        altered[offset] ^= 1 << RANDOM.randrange(8)
        position = position_found(changed(file, bytes(altered)))
        assert position in covered(file, offset), (file, offset, position)


@pytest.mark.parametrize("file", sorted(WHOLE.files))
def test_what_is_cut_off_or_added_to_a_file_is_found(file: str) -> None:
    content = WHOLE.files[file]
    path = tiles.parse_path(file)
    first = path.number * WIDTH ** ((path.level or 0) + 1)
    for length in RANDOM.sample(range(len(content)), min(60, len(content))):
        position = position_found(changed(file, content[:length]))
        assert position >= first
        assert position <= covered(file, max(length - 1, 0))[-1] + 1
    for more in (b"\0", b"\0\0", content):
        assert position_found(changed(file, content + more)) >= first


def dropped(entries: list[bytes], place: int) -> list[bytes]:
    return entries[:place] + entries[place + 1 :]


def inserted(entries: list[bytes], place: int) -> list[bytes]:
    return [*entries[:place], b"slipped in", *entries[place:]]


def swapped(entries: list[bytes], place: int) -> list[bytes]:
    other = (place + 1) % len(entries)
    result = list(entries)
    result[place], result[other] = result[other], result[place]
    return result


def replaced(entries: list[bytes], place: int) -> list[bytes]:
    return [*entries[:place], b"another", *entries[place + 1 :]]


CHANGES = [dropped, inserted, swapped, replaced]


def first_difference(entries: list[bytes]) -> int:
    pairs = zip(ENTRIES, entries, strict=False)
    return next((place for place, (one, other) in enumerate(pairs) if one != other), min(len(ENTRIES), len(entries)))


@pytest.mark.parametrize("change", CHANGES)
def test_entries_that_are_changed_in_the_bundles_alone_are_found_at_the_first(
    change: Callable[[list[bytes], int], list[bytes]],
) -> None:
    for _ in range(120):
        place = RANDOM.randrange(SIZE)
        entries = change(ENTRIES, place)[:SIZE]
        log = export(ENTRIES)
        for number in range(4):
            path = TilePath(None, number, min(WIDTH, SIZE - number * WIDTH))
            within = entries[number * WIDTH : number * WIDTH + path.width]
            log.files[str(path)] = tiles.bundle(within)
        assert position_found(log) == first_difference(entries)


@pytest.mark.parametrize("change", CHANGES)
def test_a_log_that_was_made_anew_under_its_old_checkpoint_is_found(
    change: Callable[[list[bytes], int], list[bytes]],
) -> None:
    for _ in range(60):
        place = RANDOM.randrange(SIZE)
        entries = change(ENTRIES, place)[:SIZE]
        log = export(entries, WHOLE.note)
        position = position_found(log)
        # Its tiles agree with each other: what is known is on which side of the older checkpoint it changed.
        assert position == (0 if first_difference(entries) < OLDER else OLDER) or len(entries) < SIZE


@pytest.mark.parametrize("change", CHANGES)
def test_a_log_that_was_rewritten_and_signed_anew_is_found_by_an_older_checkpoint(
    change: Callable[[list[bytes], int], list[bytes]],
) -> None:
    for _ in range(60):
        place = RANDOM.randrange(OLDER)
        assert position_found(export(change(ENTRIES, place))) == 0


def test_a_log_that_was_rolled_back_is_found_by_an_older_checkpoint() -> None:
    for size in (1, 255, 256, 299):
        rolled_back = export(ENTRIES[:size])
        assert verify_log(rolled_back, TRUST).size == size
        assert position_found(rolled_back) == size
        grown_anew = export([*ENTRIES[:size], *(b"other" for _ in range(SIZE - size))])
        assert position_found(grown_anew) == 0


def test_a_file_that_is_missing_is_named() -> None:
    for file in WHOLE.files:
        log = Exported({name: content for name, content in WHOLE.files.items() if name != file}, WHOLE.note)
        path = tiles.parse_path(file)
        assert position_found(log) == path.number * WIDTH ** ((path.level or 0) + 1)


def test_a_checkpoint_of_another_key_or_with_a_flipped_bit_is_not_believed() -> None:
    for offset in range(len(WHOLE.note)):
        altered = bytearray(WHOLE.note)
        altered[offset] ^= 1
        with pytest.raises(StrongroomError) as found:
            verify_log(Exported(WHOLE.files, bytes(altered)), TRUST)
        assert found.value.reason in {"SIGNATURE_INVALID", "SIGNATURE_MISSING", "LOG_DATA_MALFORMED"}


@pytest.mark.parametrize("how", ["altered", "dropped", "signed anew", "cut off", "no note"])
def test_the_command_line_answers_no_and_exits_with_1(how: str, tmp_path: Path) -> None:
    bundle, folder = str(tiles.TilePath(None, 0)), tmp_path / "log"
    files = {**WHOLE.files, "checkpoint": WHOLE.note}
    if how == "altered":
        files[bundle] = bytes([files[bundle][0], files[bundle][1], files[bundle][2] ^ 1]) + files[bundle][3:]
    elif how == "dropped":
        del files[bundle]
    elif how == "cut off":
        files[bundle] = files[bundle][:-1]
    elif how == "signed anew":
        files = {**export(ENTRIES[1:]).files, "checkpoint": export(ENTRIES[1:]).note}
    else:
        files["checkpoint"] = b"not a note"
    for file, content in files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(content)
    (tmp_path / "older").write_bytes(OLDER_NOTE)
    line = ["audit", "verify", str(folder), "--key", str(KEY.verifier_key), "--older", str(tmp_path / "older")]
    ended = run(*line, "--json")
    told = json.loads(ended.stdout)
    assert (ended.exit_code, told["verified"], ended.stderr) == (Status.NO, False, "")
    assert told["reason"] in {"LOG_ALTERED", "LOG_INCONSISTENT", "LOG_DATA_MALFORMED"}
    shown = run(*line)
    assert (shown.exit_code, told["problem"] in shown.stdout) == (Status.NO, True)
