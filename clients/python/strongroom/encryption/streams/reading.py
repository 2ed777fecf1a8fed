"""Sources that give less than they are asked for, read as those that do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO

Piece = bytes | bytearray | memoryview


def whole_reads(file: BinaryIO) -> Callable[[int], bytes]:
    """Reads of a file that answer as many bytes as were asked for, and fewer only at its end."""

    def read(size: int) -> bytes:
        parts: list[bytes] = []
        left = size
        while left and (part := file.read(left)):
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    return read


def fill(file: BinaryIO, buffer: memoryview) -> int:
    """Fills a buffer unless the file ends first; answers how many bytes were read."""
    filled = 0
    readinto = getattr(file, "readinto", None)
    while filled < len(buffer):
        if readinto is not None:
            count = readinto(buffer[filled:])
        else:
            part = file.read(len(buffer) - filled)
            count = len(part)
            buffer[filled : filled + count] = part
        if not count:
            break
        filled += count
    return filled
