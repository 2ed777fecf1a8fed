"""A verifier of exported logs that shares nothing with the service or the client: written from RFC 6962 and the C2SP
specifications, with the recursive definitions as they stand there, on the standard library and an Ed25519 alone."""

import base64
import hashlib
import struct
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


class NotVerifiedError(Exception):
    """Something is not as it should be."""


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def mth(hashes: list[bytes]) -> bytes:
    """RFC 6962, section 2.1: MTH, over leaf hashes."""
    n = len(hashes)
    if n == 0:
        return sha256()
    if n == 1:
        return hashes[0]
    k = 1
    while k * 2 < n:
        k *= 2
    return sha256(b"\x01", mth(hashes[:k]), mth(hashes[k:]))


def root_from_inclusion(leaf_hash: bytes, index: int, size: int, path: list[bytes]) -> bytes:
    """RFC 9162, section 2.1.3.2."""
    if index >= size:
        raise NotVerifiedError("index")
    fn, sn, r = index, size - 1, leaf_hash
    for p in path:
        if sn == 0:
            raise NotVerifiedError("path too long")
        if fn & 1 or fn == sn:
            r = sha256(b"\x01", p, r)
            while not fn & 1 and fn != 0:
                fn >>= 1
                sn >>= 1
        else:
            r = sha256(b"\x01", r, p)
        fn >>= 1
        sn >>= 1
    if sn != 0:
        raise NotVerifiedError("path too short")
    return r


def verify_consistency(first: int, second: int, first_hash: bytes, second_hash: bytes, path: list[bytes]) -> None:
    """RFC 9162, section 2.1.4.2."""
    if first == second:
        if path or first_hash != second_hash:
            raise NotVerifiedError("same size")
        return
    if not path:
        raise NotVerifiedError("no path")
    if first & (first - 1) == 0:
        path = [first_hash, *path]
    fn, sn = first - 1, second - 1
    while fn & 1:
        fn >>= 1
        sn >>= 1
    fr = sr = path[0]
    for c in path[1:]:
        if sn == 0:
            raise NotVerifiedError("path too long")
        if fn & 1 or fn == sn:
            fr = sha256(b"\x01", c, fr)
            sr = sha256(b"\x01", c, sr)
            while not fn & 1 and fn != 0:
                fn >>= 1
                sn >>= 1
        else:
            sr = sha256(b"\x01", sr, c)
        fn >>= 1
        sn >>= 1
    if fr != first_hash or sr != second_hash or sn != 0:
        raise NotVerifiedError("consistency")


def open_note(note: bytes, vkey: str) -> tuple[str, int, bytes]:
    """The origin, size and root of a checkpoint that the key signed."""
    name, key_hash, encoded = vkey.split("+", 2)
    key = base64.b64decode(encoded)
    if key[0] != 1 or sha256(name.encode(), b"\n", key)[:4].hex() != key_hash:
        raise NotVerifiedError("verifier key")
    text, _, signatures = note.decode().rpartition("\n\n")
    text += "\n"
    for line in signatures.splitlines():
        dash, signer, value = line.split(" ")
        raw = base64.b64decode(value)
        if dash == "\u2014" and signer == name and raw[:4].hex() == key_hash:
            Ed25519PublicKey.from_public_bytes(key[1:]).verify(raw[4:], text.encode())
            origin, size, root = text.splitlines()[:3]
            return origin, int(size), base64.b64decode(root)
    raise NotVerifiedError("signature")


def open_proof(proof: bytes, leaf: bytes, vkey: str) -> tuple[int, int]:
    """The place of a leaf, and the size of the log, by a C2SP tlog-proof."""
    head, _, note = proof.partition(b"\n\n")
    lines = head.decode().split("\n")
    if lines.pop(0) != "c2sp.org/tlog-proof@v1":
        raise NotVerifiedError("header")
    if lines[0].startswith("extra "):
        lines.pop(0)
    index = int(lines.pop(0).removeprefix("index "))
    _, size, root = open_note(note, vkey)
    path = [base64.b64decode(line) for line in lines]
    if root_from_inclusion(sha256(b"\x00", leaf), index, size, path) != root:
        raise NotVerifiedError("inclusion")
    return index, size


def verify_folder(folder: Path, vkey: str) -> tuple[int, list[bytes]]:
    """The size of an exported log, and its entries, once everything is verified."""
    _, size, root = open_note((folder / "checkpoint").read_bytes(), vkey)
    entries: list[bytes] = []
    for number in range(-(-size // 256)):
        width = min(256, size - number * 256)
        data = read(folder, "entries", number, width)
        bundle = []
        while data:
            (length,) = struct.unpack_from(">H", data)
            bundle.append(data[2 : 2 + length])
            data = data[2 + length :]
        entries += bundle[:width]
    if len(entries) != size:
        raise NotVerifiedError("entries")
    hashes = [sha256(b"\x00", entry) for entry in entries]
    if mth(hashes) != root:
        raise NotVerifiedError("root")
    level = 0
    while hashes:
        for number in range(-(-len(hashes) // 256)):
            expected = hashes[number * 256 : number * 256 + 256]
            if read(folder, str(level), number, len(expected))[: 32 * len(expected)] != b"".join(expected):
                raise NotVerifiedError(f"tile {level}/{number}")
        hashes = [mth(hashes[start : start + 256]) for start in range(0, len(hashes) - 255, 256)]
        level += 1
    return size, entries


def read(folder: Path, level: str, number: int, width: int) -> bytes:
    digits = f"{number:03}"
    while len(digits) % 3:
        digits = "0" + digits
    groups = [digits[start : start + 3] for start in range(0, len(digits), 3)]
    path = folder / "tile" / level / "/".join([*(f"x{group}" for group in groups[:-1]), groups[-1]])
    partial = path.with_name(f"{path.name}.p") / str(width)
    return (partial if width < 256 and partial.exists() else path).read_bytes()
