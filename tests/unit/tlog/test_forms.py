"""Paths, bundles, notes, checkpoints and proofs are read in their one form, and in no other."""

from __future__ import annotations

from functools import partial

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from strongroom.tlog import checkpoints, merkle, notes, proofs, tiles
from strongroom.tlog.checkpoints import Checkpoint, open_checkpoint
from strongroom.tlog.notes import COSIGNATURE, Note, Signer, VerifierKey
from strongroom.tlog.tiles import TilePath
from tests.support.clients import refusal

KEY = Signer("log.example/a", Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
WITNESS = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
WITNESS_KEY = VerifierKey("witness.example/w", COSIGNATURE, WITNESS.public_key().public_bytes_raw())
CHECKPOINT = Checkpoint("log.example/a", 3, bytes(32))


def signed(*more: notes.Signature) -> bytes:
    return bytes(Note(CHECKPOINT.text, [KEY.sign(CHECKPOINT.text), *more]))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (TilePath(0, 1_234_067), "tile/0/x001/x234/067"),
        (TilePath(3, 5, 17), "tile/3/005.p/17"),
        (TilePath(None, 999), "tile/entries/999"),
        (TilePath(None, 1000, 1), "tile/entries/x001/000.p/1"),
    ],
)
def test_paths_of_tiles(path: TilePath, text: str) -> None:
    assert str(path) == text
    assert tiles.parse_path(text) == path


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tile/0/1",
        "tile/00/001",
        "tile/64/001",
        "tile/0/x000/001",
        "tile/0/001/002",
        "tile/0/x001/x02/003",
        "tile/0/001.p/0",
        "tile/0/001.p/256",
        "tile/0/001.p/01",
        "tile/0/001/",
        "/tile/0/001",
        "tile/0/../001",
        "tile/-1/001",
        "tile/0/" + "x001/" * 6 + "001",
        "tile/0/\u0660\u0660\u0661",
    ],
)
def test_other_paths_are_refused(text: str) -> None:
    assert refusal(lambda: tiles.parse_path(text)).reason == "LOG_DATA_MALFORMED"


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_a_bundle_holds_its_entries_and_nothing_else(entries: list[bytes]) -> None:
    data = tiles.bundle(entries)
    assert tiles.entries_of(data, len(entries)) == entries
    for broken in (data + b"\0", data[:-1] if data else b"\0", data + b"\0\0"):
        assert refusal(partial(tiles.entries_of, broken, len(entries))).reason == "LOG_DATA_MALFORMED"


def test_new_tiles_of_a_log_that_grew() -> None:
    paths = [str(path) for path in tiles.tiles_between(255, 70_000)]
    assert "tile/0/000" in paths
    assert "tile/entries/273.p/112" in paths
    assert paths.count("tile/1/001.p/17") == 1
    assert "tile/2/000.p/1" in paths
    # The specification's example: 273 full and one partial, one full and one partial, one partial; and bundles.
    assert len(paths) == 2 * 274 + 2 + 1
    assert [str(path) for path in tiles.tiles_between(70_000, 70_001)] == [
        "tile/0/273.p/113",
        "tile/entries/273.p/113",
    ]
    assert list(tiles.tiles_between(300, 300)) == []


def test_a_checkpoint_is_opened_by_the_key_that_signed_it_alone() -> None:
    opened, _ = open_checkpoint(signed(), [KEY.verifier_key])
    assert opened == CHECKPOINT
    other = Signer(KEY.name, Ed25519PrivateKey.generate()).verifier_key
    assert refusal(lambda: open_checkpoint(signed(), [other])).reason == "SIGNATURE_MISSING"
    altered = signed().replace(b"\n3\n", b"\n4\n")
    assert refusal(lambda: open_checkpoint(altered, [KEY.verifier_key])).reason == "SIGNATURE_INVALID"


def test_cosignatures_of_enough_witnesses_are_demanded() -> None:
    keys, witnesses = [KEY.verifier_key], [WITNESS_KEY]
    assert refusal(lambda: open_checkpoint(signed(), keys, witnesses, 1)).reason == "QUORUM_MISSING"
    line = checkpoints.cosign(WITNESS_KEY.name, WITNESS, CHECKPOINT.text, 1_700_000_000)
    assert open_checkpoint(signed(line), keys, witnesses, 1)[0] == CHECKPOINT
    twice = signed(line, line)
    assert refusal(lambda: open_checkpoint(twice, keys, witnesses, 2)).reason == "QUORUM_MISSING"
    later = notes.Signature(line.name, line.key_id, bytes(7) + b"\1" + line.signature[8:])
    assert refusal(lambda: open_checkpoint(signed(later), keys, witnesses, 1)).reason == "SIGNATURE_INVALID"


def test_a_log_s_signature_is_no_cosignature() -> None:
    as_witness = VerifierKey(KEY.name, COSIGNATURE, KEY.verifier_key.public_key)
    assert refusal(lambda: open_checkpoint(signed(), [KEY.verifier_key], [as_witness], 1)).reason == "QUORUM_MISSING"


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"text\n",
        b"text\n\n",
        b"\n\n\xe2\x80\x94 a AAAAAAA=\n",
        b"text\n\n- a AAAAAAA=\n",
        b"text\n\n\xe2\x80\x94 a AAAAAAA=",
        b"text\n\n\xe2\x80\x94 a b AAAAAAA=\n",
        b"text\n\n\xe2\x80\x94 a+b AAAAAAA=\n",
        b"text\n\n\xe2\x80\x94 a AAAA\n",
        b"text\n\n\xe2\x80\x94 a AAAAAAA\n",
        b"te\tt\n\n\xe2\x80\x94 a AAAAAAA=\n",
        b"te\xff\n\n\xe2\x80\x94 a AAAAAAA=\n",
    ],
)
def test_what_is_no_note_is_refused(note: bytes) -> None:
    assert refusal(lambda: notes.parse(note)).reason == "LOG_DATA_MALFORMED"


def test_a_note_without_many_signatures_is_read_and_one_with_too_many_is_not() -> None:
    line = KEY.sign(CHECKPOINT.text)
    assert len(notes.parse(signed(*[line] * 15)).signatures) == 16
    assert refusal(lambda: notes.parse(signed(*[line] * 64))).reason == "LOG_DATA_MALFORMED"


@pytest.mark.parametrize(
    "text",
    [
        "a\n1\n",
        "a\n01\nAA==\n",
        "a\n1\nAA==\n",
        f"a\n-1\n{'A' * 43}=\n",
        f"\n1\n{'A' * 43}=\n",
        f"a\n1\n{'A' * 42}B=\n",
    ],
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    assert refusal(lambda: checkpoints.parse_text(text)).reason == "LOG_DATA_MALFORMED"


def test_extension_lines_are_allowed() -> None:
    assert checkpoints.parse_text(CHECKPOINT.text + "more\n") == CHECKPOINT


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a+b+c",
        str(KEY.verifier_key)[:-1],
        str(KEY.verifier_key).replace("log.example", "log.exam1le"),
        str(VerifierKey("a", 2, bytes(32))),
        str(VerifierKey("a", 1, bytes(31))),
    ],
)
def test_what_is_no_verifier_key_is_refused(text: str) -> None:
    assert refusal(lambda: notes.parse_verifier_key(text)).reason == "LOG_DATA_MALFORMED"


@pytest.mark.parametrize("key", [KEY.verifier_key, WITNESS_KEY])
def test_a_verifier_key_is_read_as_it_is_written(key: VerifierKey) -> None:
    assert notes.parse_verifier_key(str(key)) == key


def test_a_proof_is_read_as_it_is_written_and_leads_to_its_checkpoint() -> None:
    hashes = merkle.leaf_hashes([b"a", b"b", b"c"])
    root = Checkpoint(KEY.name, 3, merkle.root_of(hashes))
    note = bytes(Note(root.text, [KEY.sign(root.text)]))
    proof = proofs.Proof(2, [merkle.node_hash(hashes[0], hashes[1])], note, b"c")
    assert proofs.parse(bytes(proof)) == proof
    assert proof.verify(b"c", [KEY.verifier_key]) == root
    assert refusal(lambda: proof.verify(b"d", [KEY.verifier_key])).reason == "LOG_INCONSISTENT"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"@v1", b"@v2"),
        (b"index 2", b"index 02"),
        (b"index 2", b"indexes 2"),
        (b"extra Yw==", b"extra Yw="),
        (b"\n\n", b"\n"),
    ],
)
def test_what_is_no_proof_is_refused(old: bytes, new: bytes) -> None:
    data = bytes(proofs.Proof(2, [bytes(32)], signed(), b"c"))
    assert old in data
    assert refusal(lambda: proofs.parse(data.replace(old, new, 1))).reason == "LOG_DATA_MALFORMED"


def test_a_checkpoint_that_only_another_logs_key_signed_is_refused() -> None:
    """Somebody who watches several logs trusts all their keys, each for its own log."""
    other = Signer("log.example/b", Ed25519PrivateKey.generate())
    keys = [KEY.verifier_key, other.verifier_key]
    lent = bytes(Note(CHECKPOINT.text, [other.sign(CHECKPOINT.text)]))
    assert refusal(lambda: open_checkpoint(lent, keys)).reason == "LOG_MISMATCH"
    assert refusal(lambda: open_checkpoint(lent, [other.verifier_key])).reason == "LOG_MISMATCH"
    assert open_checkpoint(signed(other.sign(CHECKPOINT.text)), keys)[0] == CHECKPOINT
