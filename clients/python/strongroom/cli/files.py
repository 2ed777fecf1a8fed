"""`strongroom file`: files of any size, alone, in folders, or through pipes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from strongroom.cli import file_runs, file_sets
from strongroom.cli.command import Report, Session, command
from strongroom.cli.file_sets import STANDARD, SUFFIX, Work
from strongroom.cli.inputs import Context, Force, KeyName, pairs_of
from strongroom.cli.parser import Group
from strongroom.cli.plain import plain
from strongroom.cli.tables import Facts, facts

if TYPE_CHECKING:
    from strongroom.encryption.cache import DataKeyCache

app = typer.Typer(
    name="file", cls=Group, help="Files of any size, encrypted here under data keys.", no_args_is_help=True
)


def add_to(app_of_all: typer.Typer) -> None:
    """Adds the commands."""
    app_of_all.add_typer(app)


Sources = Annotated[
    list[Path],
    typer.Argument(metavar="FILE", help="Files, folders, quoted patterns such as '**/*.csv', or - for standard input."),
]
Out = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH",
        help=f"The file or folder to write, or - for standard output; beside FILE by default ({SUFFIX}).",
    ),
]
Accepted = Annotated[
    list[str] | None, typer.Option("--key", metavar="KEY", help="Accept files under this key alone; may be repeated.")
]
Jobs = Annotated[int, typer.Option(metavar="COUNT", min=1, max=64, help="How many files at a time.")]


@command(
    app,
    "encrypt",
    "strongroom file encrypt payments backup.tar",
    "strongroom file encrypt payments - --out data.tar.strongroom < data.tar",
)
def encrypt(
    session: Session,
    key: KeyName,
    sources: Sources,
    out: Out = None,
    recipient: Annotated[
        list[str] | None, typer.Option(metavar="KEY", help="Another key that opens the files too; may be repeated.")
    ] = None,
    context: Context = None,
    store_context: Annotated[
        bool, typer.Option("--store-context", help="Write the context into the files, for everybody to read.")
    ] = False,
    force: Force = False,
    jobs: Jobs = file_runs.JOBS,
) -> Report:
    """Encrypt files. Any one of the keys decrypts them, and only with the same context."""
    works, pairs = file_sets.encrypted(sources, out), pairs_of(context) if context else None
    if works[:1] and works[0].destination == STANDARD and sys.stdout.isatty():
        raise typer.BadParameter("needed, as standard output is a terminal", param_hint="--out")
    from strongroom.files import FileEncryption

    keys = [key, *(recipient or [])]
    encryption = FileEncryption(session.client, keys, cache=_cache_for(works), store_context=store_context)
    return file_runs.run(
        session,
        "encrypted",
        works,
        lambda source, sink, progress: encryption.encrypt(source, sink, pairs, progress),
        force=force,
        jobs=jobs,
    )


@command(app, "decrypt", "strongroom file decrypt backup.tar.strongroom --out restored.tar")
def decrypt(
    session: Session,
    sources: Sources,
    out: Out = None,
    key: Accepted = None,
    context: Context = None,
    force: Force = False,
    jobs: Jobs = file_runs.JOBS,
) -> Report:
    """Decrypt files. Nothing appears in a file's place until all of it has been verified.

    To standard output each part goes once it is verified; that nothing is missing, only exit status 0 says.
    """
    works, pairs = file_sets.decrypted(sources, out), pairs_of(context) if context else None
    from strongroom.encryption.keys import ANY_KEY
    from strongroom.files import FileEncryption

    encryption = FileEncryption(session.client, key or ANY_KEY, cache=_cache_for(works))
    return file_runs.run(
        session,
        "decrypted",
        works,
        lambda source, sink, progress: encryption.decrypt(source, sink, pairs, progress),
        force=force,
        jobs=jobs,
    )


@command(app, "rewrap", "strongroom file rewrap archive --recipient payments-2027")
def rewrap(
    session: Session,
    sources: Sources,
    recipient: Annotated[
        list[str], typer.Option(metavar="KEY", help="A key that opens the files from now on; may be repeated.")
    ],
    key: Accepted = None,
    context: Context = None,
    for_others: Annotated[
        bool, typer.Option("--for-others", help="Also where none of the new keys lets you open the files any more.")
    ] = False,
    jobs: Jobs = file_runs.JOBS,
) -> Report:
    """Move encrypted files to other keys, in their place. Their content is not decrypted.

    A file that none of the new keys would open for you stays as it is, unless --for-others is given. Whoever could
    decrypt a file before may have kept its data key: against them, encrypt the content anew.
    """
    works, pairs = file_sets.in_place(sources), pairs_of(context) if context else None
    from strongroom.encryption.keys import ANY_KEY
    from strongroom.files import FileEncryption

    encryption = FileEncryption(session.client, key or ANY_KEY)
    return file_runs.run(
        session,
        "rewrapped",
        works,
        lambda source, sink, progress: encryption.rewrap(
            source, sink, recipient, pairs, progress, reopen=not for_others
        ),
        force=True,
        jobs=jobs,
    )


@command(
    app,
    "inspect",
    "strongroom file inspect backup.tar.strongroom",
    "strongroom file inspect - < backup.tar.strongroom",
)
def inspect(session: Session, sources: Sources) -> Report:
    """Show what encrypted files say about themselves: keys, context and size. Nothing of it is verified."""
    del session
    paths = file_sets.required(file_sets.chosen(sources), "inspected")
    if len(paths) == 1:
        with file_runs.telling_which(paths[0]):
            one = _described(paths[0])
        return Report(one, lambda: [facts(_lines(one))])
    found, failed, status = file_runs.one_by_one(paths, _described)

    def show() -> list[Facts]:
        return [facts(_lines(document)) for document in found]

    return Report({"files": found, "failed": failed}, show, exit_code=status)


def _described(path: Path) -> dict[str, Any]:
    from strongroom.files import inspect_source

    with file_runs.opened(path) as file:
        return {"path": str(path), **plain(inspect_source(file))}


def _lines(document: dict[str, Any]) -> dict[str, object]:
    keys = [" at ".join(filter(None, (one["key"] or "(not named)", one["mesh"]))) for one in document["keys"]]
    context = document["context"]
    shown = None if context is None else ", ".join(f"{name}={value}" for name, value in context.items()) or "(empty)"
    return {
        "path": document["path"],
        "version": document["version"],
        "keys": ", ".join(keys),
        "context": shown or " ".join(("not stored", document["context_digest"])).strip(),
        "size": document["size"],
        "chunk size": document["chunk_size"],
        "header size": document["header_size"],
    }


def _cache_for(works: Sequence[Work]) -> DataKeyCache | None:
    """Many files share data keys, a thousand at most; one file has its own."""
    if len(works) < 2:
        return None
    from strongroom.encryption.cache import DataKeyCache

    return DataKeyCache(max_messages=1000)
