"""A log as files, laid out as C2SP tlog-tiles has it, for any web server, backup or offline verification.

Written behind each published checkpoint: first what is new of tiles and bundles, the checkpoint last, so that whoever
reads a checkpoint finds its tiles.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from services.audit.publication.store import SignedCheckpoint
from services.audit.publication.tile_source import TileSource
from services.runtime.errors import StrongroomError
from strongroom.tlog import checkpoints, notes, tiles
from strongroom.tlog.tiles import TilePath

log = logging.getLogger(__name__)


class ExportFolder:
    """One log's folder."""

    def __init__(self, directory: Path, source: TileSource) -> None:
        self._directory = directory
        self._source = source
        directory.mkdir(parents=True, exist_ok=True)
        self._size = self._exported_size()

    def published(self, checkpoint: SignedCheckpoint) -> None:
        """Brings the folder up to a checkpoint. A failure is logged, and made up for with the next checkpoint."""
        try:
            for path in tiles.tiles_between(self._size, checkpoint.tree_size):
                self._write(str(path), self._source.read(path))
            self._write("checkpoint", checkpoint.note)
        except (StrongroomError, OSError):
            log.exception("the audit log could not be exported to its directory")
            return
        old_size, self._size = self._size, checkpoint.tree_size
        self._remove_partial(old_size)

    def _exported_size(self) -> int:
        try:
            note = notes.parse((self._directory / "checkpoint").read_bytes())
        except FileNotFoundError:
            return 0
        return checkpoints.parse_text(note.text).size

    def _remove_partial(self, old_size: int) -> None:
        """Partial tiles of the checkpoint before that are full now."""
        for path in tiles.partial_tiles(old_size):
            if TilePath(path.level, path.number).end <= tiles.count_at(path.level or 0, self._size):
                (self._directory / str(path)).unlink(missing_ok=True)

    def _write(self, name: str, content: bytes) -> None:
        path = self._directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.new")
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
