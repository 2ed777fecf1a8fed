"""Proofs that an entry is in a log, to be kept and checked offline (C2SP tlog-proof)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from strongroom.tlog import merkle
from strongroom.tlog.checkpoints import Checkpoint, open_checkpoint
from strongroom.tlog.errors import malformed
from strongroom.tlog.notes import MAX_NOTE_BYTES, VerifierKey
from strongroom.tlog.text import base64_bytes, encoded, hash_bytes, number

_HEADER = "c2sp.org/tlog-proof@v1"
MAX_PROOF_BYTES = 2 * MAX_NOTE_BYTES
"""What a proof may have: the largest checkpoint, the largest entry in base64, and every hash fit into it."""

_MAX_HASHES = 63


@dataclass(frozen=True, slots=True)
class Proof:
    """An entry's place, the hashes that lead from it to the root, and the checkpoint with that root."""

    index: int
    hashes: Sequence[bytes]
    checkpoint: bytes
    """The signed note."""
    extra: bytes = b""
    """What the log adds; the proof says nothing of its truth. Ours is the entry itself."""

    def __bytes__(self) -> bytes:
        lines = [_HEADER]
        if self.extra:
            lines.append(f"extra {encoded(self.extra)}")
        lines += [f"index {self.index}", *map(encoded, self.hashes), ""]
        return "\n".join(lines).encode() + b"\n" + self.checkpoint

    def verify(
        self, entry: bytes, keys: Sequence[VerifierKey], witnesses: Sequence[VerifierKey] = (), quorum: int = 0
    ) -> Checkpoint:
        """The checkpoint of a log that one of `keys` signs and that has the entry, as this proof shows.

        Raises LOG_INCONSISTENT and what `open_checkpoint` does.
        """
        checkpoint, _ = open_checkpoint(self.checkpoint, keys, witnesses, quorum)
        merkle.check_inclusion(merkle.leaf_hash(entry), self.index, checkpoint.size, list(self.hashes), checkpoint.root)
        return checkpoint


def parse(data: bytes) -> Proof:
    """Reads a proof; verifies nothing. Raises LOG_DATA_MALFORMED."""
    head, separator, checkpoint = data.partition(b"\n\n")
    try:
        lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError:
        raise malformed("the proof", "is not text") from None
    if not separator or lines.pop(0) != _HEADER:
        raise malformed("the proof", f"does not begin with {_HEADER}")
    extra = b""
    if lines and lines[0].startswith("extra "):
        extra = base64_bytes(lines.pop(0).removeprefix("extra "), "the extra data")
    if not lines or not lines[0].startswith("index "):
        raise malformed("the proof", "has no index")
    index = number(lines.pop(0).removeprefix("index "), "the index")
    if len(lines) > _MAX_HASHES:
        raise malformed("the proof", f"has more than {_MAX_HASHES} hashes")
    return Proof(index, [hash_bytes(line, "a hash of the proof") for line in lines], checkpoint, extra)
