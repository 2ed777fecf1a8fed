"""Files that somebody else made: too large, without an end, or no files at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from strongroom.bounded import read_file, read_text
from strongroom.cli.complaints import Status
from strongroom.cli.main import guarded
from strongroom.errors import StrongroomError
from tests.support.cli import run
from tests.support.clients import reason_of


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(100))
    assert read_file(path, 100) == bytes(100)
    assert reason_of(lambda: read_file(path, 99)) == "FILE_TOO_LARGE"
    path.write_bytes(b"\xff")
    assert reason_of(lambda: read_text(path)) == "FILE_NOT_TEXT"


def test_a_folder_is_named_as_what_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for read in (read_file, read_text):
        assert guarded(partial(read, tmp_path, 100), []) == Status.LOCAL
        told = capsys.readouterr().err
        assert str(tmp_path) in told
        assert "IO_ERROR" in told


def test_a_sparse_file_of_a_terabyte_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "huge"
    path.touch()
    os.truncate(path, 1 << 40)
    assert reason_of(lambda: read_file(path, 1 << 20)) == "FILE_TOO_LARGE"


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


@pytest.mark.parametrize("make", [device, sparse])
@pytest.mark.parametrize("option", ["--older", "--key", "--witness", ""])
def test_verify_ends_at_once_at_what_is_no_text(make: Callable[[Path], None], option: str, tmp_path: Path) -> None:
    make(tmp_path / "given")
    (tmp_path / "log").mkdir()
    key = "log.example+2b96b9c2+AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
    path = tmp_path / ("log" if option else "given")
    arguments = [f"{option}={tmp_path / 'given'}"] if option else []
    result = run("audit", "verify", str(path), f"--key={key}", *arguments)
    assert result.exit_code != 0
    assert isinstance(result.exception, SystemExit | StrongroomError)


@pytest.mark.parametrize("make", [pipe, device, sparse])
def test_a_tile_that_is_no_tile_is_refused(make: Callable[[Path], None], tmp_path: Path) -> None:
    from strongroom.tlog.tiles import TilePath
    from strongroom.tlog.verification import TileFolder

    folder = TileFolder(tmp_path)
    make(tmp_path / "checkpoint")
    assert reason_of(lambda: folder.checkpoint) in ("FILE_NOT_REGULAR", "FILE_TOO_LARGE")
    for tile in (TilePath(0, 0), TilePath(None, 0), TilePath(2, 0)):
        path = tmp_path / str(tile)
        path.parent.mkdir(parents=True, exist_ok=True)
        make(path)
        assert reason_of(partial(folder.read, tile)) in ("FILE_NOT_REGULAR", "FILE_TOO_LARGE")
