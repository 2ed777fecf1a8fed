"""`strongroom root …`: the root key of the mesh, for its administrators."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from strongroom.cli.command import Report, Session, command
from strongroom.cli.plain import plain

if TYPE_CHECKING:
    from rich.console import RenderableType

    from strongroom.calls.mesh.root_key import RootKeyStatus

root = typer.Typer(name="root", help="The root key of the mesh.", no_args_is_help=True)

_POLL_SECONDS = 0.5


@command(root, "status")
def root_status(session: Session) -> Report:
    """Show the root key's versions, and how far its rotation is."""
    return _report(session.client.mesh.root_key.get_status())


@command(root, "rotate")
def rotate_root(
    session: Session,
    follow: Annotated[bool, typer.Option("--follow", help="Wait until the rotation ends.")] = False,
) -> Report:
    """Make a new version of the root key, and wrap every key anew under it. Resumes what is stalled."""
    status = session.client.mesh.root_key.rotate()
    return _report(_followed(session, status) if follow else status)


def _followed(session: Session, status: RootKeyStatus) -> RootKeyStatus:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from strongroom.cli.show import console

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console(stderr=True), transient=True, disable=session.as_json) as progress:
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
    def show() -> RenderableType:
        from rich.console import Group

        from strongroom.cli.show import facts, table

        rows = [
            (version.version, version.state, version.blob_count, version.create_time, version.retire_time)
            for version in status.versions
        ]
        versions = table(("version", "state", "blobs", "created", "retired"), rows)
        rotation = {} if status.rotation is None else plain(status.rotation)
        return Group(
            versions, facts({"provider": status.provider, **{k.replace("_", " "): v for k, v in rotation.items()}})
        )

    stalled = status.rotation is not None and status.rotation.state == "STALLED"
    return Report(plain(status), show, exit_code=1 if stalled else 0)
