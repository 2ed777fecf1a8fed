"""Which processes hold locks on a file, as Linux tells: without opening it, since closing a file gives up every lock
that the process itself has on it."""

from __future__ import annotations

from pathlib import Path

_LOCKS = Path("/proc/locks")


def holders(path: Path) -> set[int]:
    """The processes that hold a lock for writing, of any part and either kind; none where that cannot be told, as of
    those in other containers."""
    try:
        inode, lines = path.stat().st_ino, _LOCKS.read_text().splitlines()
    except OSError:
        return set()
    # 1: POSIX ADVISORY WRITE 4711 fe:01:4711 120 120; those who wait are marked by an arrow.
    locks = [line.split() for line in lines if "->" not in line]
    return {
        int(process)
        for _, _, _, access, process, file, *_ in locks
        if access == "WRITE" and file.rpartition(":")[2] == str(inode) and int(process) > 0
    }
