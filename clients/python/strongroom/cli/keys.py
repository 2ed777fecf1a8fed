"""`strongroom key` and `strongroom alias`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from strongroom.cli import choices
from strongroom.cli.command import Report, Session, command, facts_report, fields_of
from strongroom.cli.confirmation import Destruction
from strongroom.cli.inputs import Description, KeyName, Limit, Tags, pairs_of, span_of
from strongroom.cli.parser import Group
from strongroom.cli.tables import Table, table

if TYPE_CHECKING:
    from strongroom.calls.keys.aliases import Alias
    from strongroom.calls.keys.records import Key

keys = typer.Typer(name="key", cls=Group, help="Keys, their versions and their material.", no_args_is_help=True)
aliases = typer.Typer(name="alias", cls=Group, help="Second names of keys.", no_args_is_help=True)

AliasName = Annotated[str, typer.Argument(metavar="ALIAS", help="An id, with or without alias/ before it.")]
KeyFilter = Annotated[
    str, typer.Option("--filter", metavar="FILTER", help='Such as: state = ENABLED AND tags.team = "a"')
]


def add_to(app: typer.Typer) -> None:
    """Adds the commands, with those of a key's life, versions and material."""
    from strongroom.cli import imports, lifecycle

    keys.add_typer(lifecycle.versions)
    keys.add_typer(imports.material)
    app.add_typer(keys)
    app.add_typer(aliases)


@command(
    keys,
    "create",
    "strongroom key create payments",
    "strongroom key create signing --spec EC_P256 --protection-level HSM --tag team=billing",
)
def create_key(
    session: Session,
    key_id: Annotated[str, typer.Argument(metavar="ID", help="Its id; a random one by default.")] = "",
    spec: Annotated[str, choices.one_of(choices.SPECS, "What it is made of", "SPEC")] = "AES_256",
    usage: Annotated[
        str, choices.one_of(choices.USAGES, "What it is for, where the spec leaves a choice", "USAGE")
    ] = "",
    protection_level: Annotated[str, choices.one_of(choices.LEVELS, "Where it is used", "LEVEL")] = "SOFTWARE",
    origin: Annotated[
        str, choices.one_of(choices.ORIGINS, "Who makes its material, EXTERNAL being you", "ORIGIN")
    ] = "STRONGROOM",
    description: Description = "",
    tag: Tags = None,
    rotate_every: Annotated[
        str,
        typer.Option(
            "--rotate-every",
            "--rotation-days",
            metavar="SPAN",
            help="From one version to the next, such as 90d; 0: never.",
        ),
    ] = "0",
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
        rotation_period=span_of(rotate_every, "--rotate-every", "d") or None,
    )
    return key_report(key)


@command(
    keys, "list", "strongroom key list", "strongroom key list --filter 'state = ENABLED AND tags.team = \"a\"' -o name"
)
def list_keys(
    session: Session,
    filter: KeyFilter = "",  # noqa: A002  # the option's name
    limit: Limit = None,
) -> Report:
    """List the account's keys."""
    found = list(session.client.keys.list(filter, limit=limit))

    def show() -> Table:
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
            prose=("description",),
        )

    return Report({"keys": [_key_document(key) for key in found]}, show)


@command(keys, "describe", "strongroom key describe payments")
def describe_key(session: Session, key: KeyName) -> Report:
    """Show all of a key's record."""
    return key_report(session.client.keys.get(key))


@command(keys, "enable", "strongroom key enable payments")
def enable_key(session: Session, key: KeyName) -> Report:
    """Let a disabled key be used again."""
    return key_report(session.client.keys.enable(key))


@command(keys, "disable", "strongroom key disable payments")
def disable_key(session: Session, key: KeyName) -> Report:
    """Stop every use of a key, within one second."""
    return key_report(session.client.keys.disable(key))


@command(aliases, "create", "strongroom alias create current payments")
def create_alias(
    session: Session,
    alias: AliasName,
    key: KeyName,
    description: Description = "",
) -> Report:
    """Make an alias for a key."""
    return _alias_report(session.client.keys.aliases.create(alias, key, description=description))


@command(aliases, "list", "strongroom alias list")
def list_aliases(session: Session, limit: Limit = None) -> Report:
    """List the account's aliases."""
    found = list(session.client.keys.aliases.list(limit=limit))

    def show() -> Table:
        short = session.client.names.shorten
        rows = [(short(alias.name), short(alias.key), alias.create_time, alias.description) for alias in found]
        return table(("alias", "key", "created", "description"), rows, prose=("description",))

    return Report({"aliases": found}, show)


@command(aliases, "move", "strongroom alias move current payments-2027")
def move_alias(session: Session, alias: AliasName, key: KeyName) -> Report:
    """Make an alias stand for another key, in one step."""
    return _alias_report(session.client.keys.aliases.move(alias, key))


@command(aliases, "delete", "strongroom alias delete current --yes", destroys=Destruction("deletes the alias {alias}"))
def delete_alias(session: Session, alias: AliasName) -> Report:
    """Delete an alias, and nothing of its key."""
    name = session.client.names.alias(alias)
    event_id = session.client.keys.aliases.delete(alias)
    return Report({"name": name, "event_id": event_id}, lambda: f"deleted {session.client.names.shorten(name)}")


def _key_document(key: Key) -> dict[str, Any]:
    return {**fields_of(key), "uid": key.uid.hex()}


def key_report(key: Key) -> Report:
    """A key, fact by fact."""
    return facts_report(_key_document(key))


def _alias_report(alias: Alias) -> Report:
    return facts_report(alias)
