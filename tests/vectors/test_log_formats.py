"""docs/formats.md, "Audit log" and "Audit index": the text's own vectors, made and read by the code and by the
independent verifier."""

from __future__ import annotations

import base64
import re
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.audit.index import postings
from services.audit.index.tokens import Tokens
from services.audit.keys.sealing import FORMAT, SealingKey, unpadded
from services.audit.keys.service_keys import ServiceKeys
from services.audit.keys.store import WrappedKey
from services.runtime.sensitive import SensitiveBytes
from strongroom.tlog import checkpoints, merkle, proofs, tiles
from strongroom.tlog.checkpoints import Checkpoint, open_checkpoint
from strongroom.tlog.notes import COSIGNATURE, Note, Signer, VerifierKey, parse_verifier_key
from strongroom.tlog.tiles import Proofs, Subtrees
from tests.support.independent_log import mth, open_proof, sha256, verify_consistency

FORMATS = Path(__file__).parents[2] / "docs/formats.md"
ENTRIES = [f"entry {number}".encode() for number in range(5)]
SIGNER = Signer("strongroom.example/audit", Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
WITNESS = Ed25519PrivateKey.from_private_bytes(bytes(range(32, 64)))
WITNESS_KEY = VerifierKey("witness.example/w", COSIGNATURE, WITNESS.public_key().public_bytes_raw())


def block(name: str) -> str:
    found = re.search(rf"^```{name}\n(.*?)^```", FORMATS.read_text(), re.DOTALL | re.MULTILINE)
    assert found, name
    return found[1]


class Hashes:
    """The log's one tile."""

    def tile(self, level: int, number: int, width: int) -> bytes:
        assert (level, number) == (0, 0)
        return b"".join(merkle.leaf_hashes(ENTRIES)[:width])


def test_the_leaf() -> None:
    aead, key_id, nonce, made = AESGCM(bytes(range(32))), bytes(range(32, 48)), bytes(range(48, 60)), b"\n\x03abc"
    leaf = bytes.fromhex(block("audit-leaf").replace("\n", ""))
    key = SealingKey(bytes([FORMAT]) + key_id, aead, WrappedKey(key_id, "acme", 0, b"", b""))
    assert key.seal(made, nonce) == leaf
    assert leaf[:29] == bytes([2]) + key_id + nonce
    assert aead.decrypt(nonce, leaf[29:], leaf[:17]) == (b"\x00\x05" + made).ljust(128, b"\x00")
    assert unpadded(aead.decrypt(nonce, leaf[29:], leaf[:17])) == made


def test_keys() -> None:
    assert block("log-keys").split() == [str(SIGNER.verifier_key), str(WITNESS_KEY)]
    assert [parse_verifier_key(line) for line in block("log-keys").split()] == [SIGNER.verifier_key, WITNESS_KEY]


def test_the_bundle() -> None:
    data = bytes.fromhex(block("log-bundle"))
    assert tiles.bundle(ENTRIES) == data
    assert tiles.entries_of(data, 5) == ENTRIES


def test_the_proof_and_its_checkpoint() -> None:
    text = Checkpoint(SIGNER.name, 5, Proofs(Subtrees(Hashes()), 5).root()).text
    cosignature = checkpoints.cosign(WITNESS_KEY.name, WITNESS, text, 1_700_000_000)
    note = bytes(Note(text, [SIGNER.sign(text), cosignature]))
    made = proofs.Proof(3, Proofs(Subtrees(Hashes()), 5).inclusion(3), note, ENTRIES[3])
    assert bytes(made) == block("log-proof").encode()
    assert made.verify(ENTRIES[3], [SIGNER.verifier_key], [WITNESS_KEY], 1).size == 5
    assert open_proof(block("log-proof").encode(), ENTRIES[3], str(SIGNER.verifier_key)) == (3, 5)
    assert open_checkpoint(note, [SIGNER.verifier_key])[0].root == mth([sha256(b"\0", one) for one in ENTRIES])


def test_the_consistency_proof() -> None:
    proof = [bytes.fromhex(line) for line in block("log-consistency").split()]
    assert Proofs(Subtrees(Hashes()), 5).consistency(3) == proof
    hashes = [sha256(b"\0", entry) for entry in ENTRIES]
    verify_consistency(3, 5, mth(hashes[:3]), mth(hashes), proof)
    root = block("log-proof").split("\n\n")[1].split("\n")[2]
    assert base64.b64decode(root) == mth(hashes)


def test_a_token_of_the_index() -> None:
    tokens = Tokens(_OneKey(), lambda: False)
    tokens.renew()
    token = tokens.token("acme", "action", "crypto:Encrypt").hex()
    assert f"`{token}`" in FORMATS.read_text()


def test_a_pair_of_the_index_and_its_blocks() -> None:
    token = bytes.fromhex("6cdd7aff1b63")
    for level, number in ((0, 27), (1, 1741)):
        first = number >> postings.BLOCK_BITS if level else 0
        blocks = postings.Blocks(level, 0, first)
        blocks.add(2, [token])
        (block,) = [one for one in blocks.made() if one.pairs]
        assert (block.number, block.pairs.hex()) == (number, "6cdd7aff1b6302")
        assert f"block {number} of" in FORMATS.read_text()


class _OneKey(ServiceKeys):
    """The key of the text."""

    def __init__(self) -> None:
        """Keeps nothing."""

    def found(self, purpose: str) -> SensitiveBytes:
        assert purpose == "audit index key"
        return SensitiveBytes(bytes(range(32)))
