"""`strongroom profile`."""

from __future__ import annotations

from typing import Annotated

import typer

from strongroom import profiles
from strongroom.cli import profile_editing
from strongroom.cli.command import Report, Session, command
from strongroom.cli.parser import Group
from strongroom.cli.tables import Table, table

app = typer.Typer(name="profile", cls=Group, help="Which mesh to call, and as whom.", no_args_is_help=True)


def add_to(app_of_all: typer.Typer) -> None:
    """Adds the commands."""
    app_of_all.add_typer(app)


@command(app, "list", "strongroom profile list")
def list_profiles(session: Session) -> Report:
    """List the profiles; an asterisk marks the one in use."""
    del session
    found = profiles.load()
    data = {
        "path": found.path,
        "current": found.current,
        "profiles": {
            name: {"account": profile.account, "endpoints": profile.endpoints, "session": profile.session}
            for name, profile in found.profiles.items()
        },
    }

    def show() -> Table:
        rows = [
            ("*" if name == found.current else "", name, profile.account, profile.endpoints.get("keystore", ""))
            for name, profile in found.profiles.items()
        ]
        return table(("", "profile", "account", "keystore"), rows)

    return Report(data, show)


@command(app, "use", "strongroom profile use live")
def use_profile(session: Session, name: Annotated[str, typer.Argument(metavar="PROFILE", help="Its name.")]) -> Report:
    """Make a profile the current one."""
    del session
    found = profiles.use(name)
    return Report({"path": found.path, "current": found.current}, lambda: f"current profile: {found.current}")


profile_editing.add_to(app)
