"""`strongroom file`: files of any size, each under a data key of its own."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from strongroom.cli.command import Report, Session, command
from strongroom.cli.inputs import Context, Force, pairs_of
from strongroom.cli.keys import KeyName
from strongroom.cli.plain import plain

if TYPE_CHECKING:
    from strongroom.files import FileResult

SUFFIX = ".strongroom"

app = typer.Typer(name="file", help="Files of any size, encrypted here under data keys.", no_args_is_help=True)

Source = Annotated[Path, typer.Argument(metavar="FILE", help="The file to read.")]


@command(app, "encrypt")
def encrypt(
    session: Session,
    key: KeyName,
    source: Source,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help=f"The file to write; FILE{SUFFIX} by default.")
    ] = None,
    context: Context = None,
    force: Force = False,
) -> Report:
    """Encrypt a file under a fresh data key. Only with KEY can it be decrypted, and only with the same
    context.
    """
    from strongroom.files import encrypt_file

    destination = out or source.with_name(source.name + SUFFIX)
    with _removed_when_terminated(), _progress_bar(session, "encrypting", source) as progress:
        result = encrypt_file(
            session.client,
            key,
            source,
            destination,
            context=pairs_of(context),
            overwrite=force,
            progress=progress,
        )
    return _report("encrypted", result)


@command(app, "decrypt")
def decrypt(
    session: Session,
    source: Source,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help=f"The file to write; FILE without {SUFFIX} by default.")
    ] = None,
    key: Annotated[str, typer.Option(metavar="KEY", help="Accept a file under this key alone.")] = "",
    context: Context = None,
    force: Force = False,
) -> Report:
    """Decrypt a file. Nothing appears in its place until all of it has been verified."""
    from strongroom.files import decrypt_file

    if out is None and source.suffix != SUFFIX:
        raise typer.BadParameter(f"needed, as {source.name} does not end in {SUFFIX}", param_hint="--out")
    destination = out or source.with_suffix("")
    with _removed_when_terminated(), _progress_bar(session, "decrypting", source) as progress:
        result = decrypt_file(
            session.client,
            source,
            destination,
            key=key,
            context=pairs_of(context),
            overwrite=force,
            progress=progress,
        )
    return _report("decrypted", result)


def _report(verb: str, result: FileResult) -> Report:
    from strongroom.cli.show import size_text

    return Report(plain(result), note=f"{verb} {size_text(result.size)} to {result.path}")


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
def _progress_bar(session: Session, verb: str, source: Path) -> Iterator[Callable[[int], None] | None]:
    """A bar on standard error, where that is a terminal."""
    if session.as_json or not sys.stderr.isatty():
        yield None
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
    size = source.stat().st_size if source.is_file() else None
    with Progress(*columns, console=console(stderr=True), transient=True) as progress:
        task = progress.add_task(verb, total=size)
        yield lambda count: progress.advance(task, count)
