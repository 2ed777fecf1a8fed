"""`strongroom key` and `strongroom alias`."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from strongroom.cli.command import Report, Session, command, facts_report
from strongroom.cli.inputs import pairs_of
from strongroom.cli.plain import plain

if TYPE_CHECKING:
    from rich.console import RenderableType

    from strongroom.calls.keys.aliases import Alias
    from strongroom.calls.keys.records import Key

keys = typer.Typer(name="key", help="Keys.", no_args_is_help=True)
aliases = typer.Typer(name="alias", help="Second names of keys.", no_args_is_help=True)

KeyName = Annotated[str, typer.Argument(metavar="KEY", help="An id, alias/ALIAS, or a full name.", show_default=False)]
AliasName = Annotated[str, typer.Argument(metavar="ALIAS", help="An id, with or without alias/ before it.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Most to list; all of them where not given.")]


@command(keys, "create")
def create_key(
    session: Session,
    key_id: Annotated[str, typer.Argument(metavar="ID", help="Its id; a random one by default.")] = "",
    spec: Annotated[str, typer.Option(help="What it is made of.")] = "AES_256",
    usage: Annotated[str, typer.Option(help="What it is for, where the spec leaves a choice.")] = "",
    protection_level: Annotated[str, typer.Option(help="SOFTWARE or HSM.")] = "SOFTWARE",
    origin: Annotated[str, typer.Option(help="STRONGROOM, or EXTERNAL for material of your own.")] = "STRONGROOM",
    description: Annotated[str, typer.Option(help="For people.")] = "",
    tag: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="May be repeated.")] = None,
    rotation_days: Annotated[int, typer.Option(help="Days from one version to the next; 0 for never.")] = 0,
    deletion_protection: Annotated[bool, typer.Option(help="Refuse to delete it.")] = False,
) -> Report:
    """Make a key."""
    key = session.client.keys.create(
        key_id,
        spec=spec,
        usage=usage,
        protection_level=protection_level,
        origin=origin,
        description=description,
        tags=pairs_of(tag, "--tag"),
        deletion_protection=deletion_protection,
        rotation_period=timedelta(days=rotation_days) if rotation_days else None,
    )
    return key_report(key)


@command(keys, "list")
def list_keys(
    session: Session,
    filter: Annotated[str, typer.Option(help='Such as: state = ENABLED AND tags.team = "a"')] = "",  # noqa: A002
    limit: Limit = None,
) -> Report:
    """List the account's keys."""
    found = list(session.client.keys.list(filter, limit=limit))

    def show() -> RenderableType:
        from strongroom.cli.show import table

        headings = ("key", "spec", "level", "state", "version", "created", "description")
        return table(
            headings,
            [
                (
                    session.client.names.shorten(key.name),
                    key.spec,
                    key.protection_level,
                    key.state,
                    key.primary_version,
                    key.create_time,
                    key.description,
                )
                for key in found
            ],
        )

    return Report({"keys": [_key_document(key) for key in found]}, show)


@command(keys, "describe")
def describe_key(session: Session, key: KeyName) -> Report:
    """Show all of a key's record."""
    return key_report(session.client.keys.get(key))


@command(keys, "enable")
def enable_key(session: Session, key: KeyName) -> Report:
    """Let a disabled key be used again."""
    return key_report(session.client.keys.enable(key))


@command(keys, "disable")
def disable_key(session: Session, key: KeyName) -> Report:
    """Stop every use of a key, within one second."""
    return key_report(session.client.keys.disable(key))


@command(aliases, "create")
def create_alias(
    session: Session,
    alias: AliasName,
    key: KeyName,
    description: Annotated[str, typer.Option(help="For people.")] = "",
) -> Report:
    """Make an alias for a key."""
    return _alias_report(session.client.keys.aliases.create(alias, key, description=description))


@command(aliases, "list")
def list_aliases(session: Session, limit: Limit = None) -> Report:
    """List the account's aliases."""
    found = list(session.client.keys.aliases.list(limit=limit))

    def show() -> RenderableType:
        from strongroom.cli.show import table

        short = session.client.names.shorten
        rows = [(short(alias.name), short(alias.key), alias.create_time, alias.description) for alias in found]
        return table(("alias", "key", "created", "description"), rows)

    return Report({"aliases": found}, show)


@command(aliases, "move")
def move_alias(session: Session, alias: AliasName, key: KeyName) -> Report:
    """Make an alias stand for another key, in one step."""
    return _alias_report(session.client.keys.aliases.move(alias, key))


@command(aliases, "delete")
def delete_alias(session: Session, alias: AliasName) -> Report:
    """Delete an alias, and nothing of its key."""
    name = session.client.names.alias(alias)
    event_id = session.client.keys.aliases.delete(alias)
    return Report({"name": name, "event_id": event_id}, lambda: f"deleted {session.client.names.shorten(name)}")


def _key_document(key: Key) -> dict[str, Any]:
    return {**plain(key), "uid": key.uid.hex()}


def key_report(key: Key) -> Report:
    """A key, fact by fact."""
    return facts_report(_key_document(key))


def _alias_report(alias: Alias) -> Report:
    return facts_report(plain(alias))
