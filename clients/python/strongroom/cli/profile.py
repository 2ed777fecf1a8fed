"""`strongroom profile`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from strongroom import profiles
from strongroom.cli import profile_editing
from strongroom.cli.command import Report, Session, command

if TYPE_CHECKING:
    from rich.console import RenderableType

app = typer.Typer(name="profile", help="Which mesh to call, and as whom.", no_args_is_help=True)


@command(app, "list")
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

    def show() -> RenderableType:
        from strongroom.cli.show import table

        rows = [
            ("*" if name == found.current else "", name, profile.account, profile.endpoints.get("keystore", ""))
            for name, profile in found.profiles.items()
        ]
        return table(("", "profile", "account", "keystore"), rows)

    return Report(data, show)


@command(app, "use")
def use_profile(session: Session, name: Annotated[str, typer.Argument(metavar="NAME")]) -> Report:
    """Make a profile the current one."""
    del session
    found = profiles.use(name)
    return Report({"path": found.path, "current": found.current}, lambda: f"current profile: {found.current}")


profile_editing.add_to(app)
