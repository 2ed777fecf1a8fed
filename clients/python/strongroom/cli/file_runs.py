"""Files one by one or several at a time: progress over all, an outcome for each, and nothing half done is left."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from strongroom.cli.command import Report, Session
from strongroom.cli.complaints import Status, one_failed, status_of, status_of_all
from strongroom.cli.file_sets import STANDARD, Work
from strongroom.cli.plain import plain
from strongroom.cli.side_by_side import side_by_side
from strongroom.cli.standard_input import taken_by
from strongroom.errors import StrongroomError

if TYPE_CHECKING:
    from strongroom.file_format import Progress, Sink, Source
    from strongroom.files import FileResult, Written

    Handle = Callable[[Source, Sink, Progress], Written]

Found = TypeVar("Found")

JOBS = min(4, os.cpu_count() or 1)


def run(session: Session, verb: str, works: Sequence[Work], handle: Handle, *, force: bool, jobs: int) -> Report:
    """Handles every file, and says what became of it. One that fails stops no other."""
    with _removed_when_terminated(), _progress_bar(session, verb, works) as progress:
        if len(works) == 1:
            with telling_which(works[0].source):
                result = _through(works[0], handle, progress, force=force)
            # What went to standard output is no place for a report.
            return Report(plain(result), note=_note(verb, [result]), silent=works[0].destination == STANDARD)
        return _all(verb, works, handle, progress, force=force, jobs=jobs)


def _all(verb: str, works: Sequence[Work], handle: Handle, progress: Progress, *, force: bool, jobs: int) -> Report:
    done: list[FileResult] = []
    failed: list[dict[str, str]] = []
    statuses: set[Status] = set()

    def through(work: Work, stopped: threading.Event) -> FileResult:
        def seen(count: int) -> None:
            if stopped.is_set():
                raise SystemExit
            progress(count)

        return _through(work, handle, seen, force=force)

    def ended(work: Work, future: Future[FileResult]) -> None:
        try:
            done.append(future.result())
        except (StrongroomError, OSError) as error:
            failed.append(_told(work.source, error))
            statuses.add(status_of(error))

    side_by_side(works, through, ended, jobs)
    done.sort(key=lambda result: result.path)
    document = {"files": plain(done), "failed": failed}
    return Report(document, note=_note(verb, done), exit_code=status_of_all(statuses, some_done=bool(done)))


def one_by_one(
    paths: Sequence[Path], look: Callable[[Path], Found]
) -> tuple[list[Found], list[dict[str, str]], Status]:
    """What is found in each file, which failed, and what the process exits with. One that fails stops no other."""
    found: list[Found] = []
    failed: list[dict[str, str]] = []
    statuses: set[Status] = set()
    for path in paths:
        try:
            found.append(look(path))
        except (StrongroomError, OSError) as error:
            failed.append(_told(path, error))
            statuses.add(status_of(error))
    return found, failed, status_of_all(statuses, some_done=bool(found))


def _through(work: Work, handle: Handle, progress: Progress, *, force: bool) -> FileResult:
    from strongroom.atomic import check_destination, replacing

    if work.destination == STANDARD:
        with opened(work.source) as source, FileIO(1, "w", closefd=False) as standard:
            return handle(source, standard, progress).at(STANDARD)
    check_destination(work.destination, overwrite=force)
    with opened(work.source) as source:
        work.destination.parent.mkdir(parents=True, exist_ok=True)
        with replacing(work.destination, overwrite=force) as destination:
            return handle(source, destination, progress).at(work.destination)


def opened(path: Path) -> FileIO:
    """A file to read, or standard input for `-`."""
    if path == STANDARD:
        taken_by("file")
    return FileIO(0, "r", closefd=False) if path == STANDARD else FileIO(path, "r")


@contextmanager
def telling_which(path: Path) -> Iterator[None]:
    """Has what is wrong with a file name the file."""
    try:
        yield
    except StrongroomError as error:
        is_named = re.search(rf"(?:^|\s){re.escape(str(path))}(?![^\s:;,])", error.message)
        if not error.reason.startswith("FILE_") or is_named:
            raise
        raise error.about("standard input" if path == STANDARD else str(path)) from None


def _told(source: Path, error: StrongroomError | OSError) -> dict[str, str]:
    reason, message = one_failed(str(source), error)
    return {"path": str(source), "reason": reason, "message": message}


def _note(verb: str, results: Sequence[FileResult]) -> str:
    from strongroom.cli.tables import size_text

    size = size_text(sum(result.size for result in results))
    return f"{verb} {size} to {results[0].path}" if len(results) == 1 else f"{verb} {len(results)} files, {size}"


def _unwatched(count: int) -> None:
    del count


@contextmanager
def _removed_when_terminated() -> Iterator[None]:
    """Lets SIGTERM and SIGHUP unwind as Ctrl-C does, so that no partial file stays behind."""

    def stop(number: int, frame: object) -> None:
        del frame
        sys.exit(128 + number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _progress_bar(session: Session, verb: str, works: Sequence[Work]) -> Iterator[Progress]:
    """A bar over all files on standard error, where that is a terminal."""
    if session.quiet:
        yield _unwatched
        return
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    from strongroom.cli.show import console

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    sizes = [work.source.stat().st_size if work.source.is_file() else None for work in works]
    total = None if None in sizes else sum(size for size in sizes if size is not None)
    with Progress(*columns, console=console(stderr=True), transient=True) as progress:
        task = progress.add_task(verb, total=total)
        yield lambda count: progress.advance(task, count)
