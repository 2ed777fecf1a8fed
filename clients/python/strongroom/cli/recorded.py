"""What `strongroom audit` looks for, by the shortest name that some command prints: `key list` says `payments`."""

from __future__ import annotations

import typer

from strongroom.cli.command import Session
from strongroom.cli.forms import warn
from strongroom.cli.version_names import VERSIONS, version_in
from strongroom.errors import StrongroomError
from strongroom.names import Names


def resource_of(session: Session, name: str) -> str:
    """The name that events of a resource are looked for by. A name without its kind, such as `payments` or
    `payments/db`, is the key or the secret that there are events of. A usage error where there are of both.

    Raises NAME_MALFORMED where there are of neither: an empty answer would say that nobody used it.
    """
    return _found(session, name, "resource")


def version_of(session: Session, name: str) -> str:
    """The name that events of a version are looked for by: `payments/versions/2`, or with its kind in front."""
    if name and version_in(name, "--version")[1] is None:
        raise typer.BadParameter(f"{name} is no version: NAME/versions/NUMBER", param_hint="--version")
    return _found(session, name, "version")


def _found(session: Session, name: str, option: str) -> str:
    if not name or Names.has_kind(name):
        return name
    names = [f"secrets/{name}"] if "/" in name.partition(VERSIONS)[0] else [f"keys/{name}", f"secrets/{name}"]
    there = [one for one in names if _has_events(session, one, option)]
    if len(there) > 1:
        raise typer.BadParameter(f"{name} is a key and a secret: give {' or '.join(there)}", param_hint=f"--{option}")
    if not there:
        raise StrongroomError(
            "NAME_MALFORMED",
            f"there is no event of {' or '.join(names)}: of another kind, give it in front, such as users/{name}",
            field=option,
        )
    warn(f"{name} is {there[0]}")
    return there[0]


def _has_events(session: Session, name: str, option: str) -> bool:
    list_events = session.client.audit.events.list
    found = (
        list_events(resource_version=name, archive=True, limit=1)
        if option == "version"
        else list_events(resource=name, archive=True, limit=1)
    )
    return any(True for _ in found)
