"""`strongroom root …`: the root key of the mesh, for its administrators."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from strongroom.cli.command import Report, Session, command, fields_of
from strongroom.cli.confirmation import Destruction
from strongroom.cli.parser import Group
from strongroom.cli.tables import Shown, facts, table

if TYPE_CHECKING:
    from strongroom.calls.mesh.root_key import RootKeyStatus

root = typer.Typer(name="root", cls=Group, help="The root key of the mesh.", no_args_is_help=True)

_POLL_SECONDS = 0.5


def add_to(app: typer.Typer) -> None:
    """Adds the commands."""
    app.add_typer(root)


@command(root, "status", "strongroom root status")
def root_status(session: Session) -> Report:
    """Show the root key's versions, and how far its rotation is."""
    return _report(session.client.mesh.root_key.get_status())


@command(
    root,
    "rotate",
    "strongroom root rotate --follow --yes",
    destroys=Destruction(
        "destroys the older versions of the root key once every key is wrapped anew: no backup of a database from "
        "before can be read any more"
    ),
)
def rotate_root(
    session: Session,
    follow: Annotated[bool, typer.Option("--follow", help="Wait until the rotation ends.")] = False,
) -> Report:
    """Make a new version of the root key, wrap every key anew under it, and destroy the older versions for good.

    It resumes what is stalled. Backups of the databases from before the rotation cannot be read afterwards.
    """
    status = session.client.mesh.root_key.rotate()
    return _report(_followed(session, status) if follow else status)


def _followed(session: Session, status: RootKeyStatus) -> RootKeyStatus:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from strongroom.cli.show import console

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console(stderr=True), transient=True, disable=session.quiet) as progress:
        task = progress.add_task("wrapping keys anew", total=None)
        while status.rotation is not None and status.rotation.state == "RUNNING":
            rotation = status.rotation
            retiring = rotation.done_count >= rotation.total_count
            progress.update(
                task,
                total=rotation.total_count,
                completed=min(rotation.done_count, rotation.total_count),
                description="retiring old versions" if retiring else "wrapping keys anew",
            )
            time.sleep(_POLL_SECONDS)
            status = session.client.mesh.root_key.get_status()
    return status


def _report(status: RootKeyStatus) -> Report:
    def show() -> list[Shown]:
        rows = [
            (version.version, version.state, version.blob_count, version.create_time, version.retire_time)
            for version in status.versions
        ]
        versions = table(("version", "state", "blobs", "created", "retired"), rows)
        rotation = {} if status.rotation is None else fields_of(status.rotation)
        told = {name.replace("_", " "): value for name, value in rotation.items()}
        return [versions, facts({"provider": status.provider, **told})]

    stalled = status.rotation is not None and status.rotation.state == "STALLED"
    return Report(fields_of(status), show, exit_code=1 if stalled else 0)
