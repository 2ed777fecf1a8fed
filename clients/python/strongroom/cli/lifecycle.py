"""`strongroom key …` for the steps of a key's life, and for its versions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from strongroom.cli.command import Report, Session, command, facts_report, fields_of
from strongroom.cli.confirmation import Destruction
from strongroom.cli.inputs import Comment, KeyName, Limit, pairs_of, span_of
from strongroom.cli.keys import key_report, keys
from strongroom.cli.parser import Group
from strongroom.cli.tables import Table, table

if TYPE_CHECKING:
    from strongroom.calls.keys.records import KeyVersion

versions = typer.Typer(name="version", cls=Group, help="Versions of keys.", no_args_is_help=True)

VersionName = Annotated[
    str, typer.Argument(metavar="VERSION", help="KEY/versions/NUMBER, or a full name.", show_default=False)
]


@command(keys, "update", "strongroom key update payments --description 'Card numbers'")
def update_key(
    session: Session, key: KeyName, description: Annotated[str, typer.Option(metavar="TEXT", help="For people.")]
) -> Report:
    """Give a key another description."""
    return key_report(session.client.keys.update(key, description))


@command(keys, "tag", "strongroom key tag payments team=billing stage=live")
def tag_key(
    session: Session,
    key: KeyName,
    tag: Annotated[list[str], typer.Argument(metavar="NAME=VALUE", help="The tags to add.")],
) -> Report:
    """Add tags, or replace those of the same names."""
    return key_report(session.client.keys.tag(key, pairs_of(tag, "NAME=VALUE")))


@command(keys, "untag", "strongroom key untag payments stage")
def untag_key(
    session: Session,
    key: KeyName,
    name: Annotated[list[str], typer.Argument(metavar="NAME", help="The tags to remove, by their names.")],
) -> Report:
    """Remove tags."""
    return key_report(session.client.keys.untag(key, name))


@command(keys, "protect", "strongroom key protect payments --comment 'audit 2026'")
def protect_key(session: Session, key: KeyName, comment: Comment = "") -> Report:
    """Refuse deletion of a key and of its versions from now on."""
    return key_report(session.client.keys.set_deletion_protection(key, protected=True, comment=comment))


@command(keys, "unprotect", "strongroom key unprotect payments")
def unprotect_key(session: Session, key: KeyName, comment: Comment = "") -> Report:
    """Allow deletion again."""
    return key_report(session.client.keys.set_deletion_protection(key, protected=False, comment=comment))


@command(keys, "schedule-deletion", "strongroom key schedule-deletion payments --after 30d")
def schedule_deletion(
    session: Session,
    key: KeyName,
    after: Annotated[str, typer.Option("--after", "--days", metavar="SPAN", help="From now on: 7d to 366d.")] = "30d",
) -> Report:
    """Stop every use of a key now, and destroy its material later."""
    return key_report(session.client.keys.schedule_deletion(key, span_of(after, "--after", "d")))


@command(keys, "cancel-deletion", "strongroom key cancel-deletion payments")
def cancel_deletion(session: Session, key: KeyName) -> Report:
    """Take a planned deletion back; the key stays disabled."""
    return key_report(session.client.keys.cancel_deletion(key))


@command(keys, "rotate", "strongroom key rotate payments")
def rotate_key(session: Session, key: KeyName) -> Report:
    """Make a new version, which becomes primary; old ones still decrypt and verify."""
    return version_report(session.client.keys.rotate(key))


@command(keys, "rotation-policy", "strongroom key rotation-policy payments --every 90d")
def rotation_policy(
    session: Session,
    key: KeyName,
    every: Annotated[
        str,
        typer.Option("--every", "--days", metavar="SPAN", help="From one version to the next: 7d to 730d; 0: never."),
    ],
) -> Report:
    """Have new versions made by themselves."""
    return key_report(session.client.keys.update_rotation_policy(key, span_of(every, "--every", "d") or None))


@command(versions, "list", "strongroom key version list payments")
def list_versions(session: Session, key: KeyName, limit: Limit = None) -> Report:
    """List a key's versions, newest first."""
    found = list(session.client.keys.versions.list(key, limit=limit))

    def show() -> Table:
        rows = [
            (
                session.client.names.shorten(version.name),
                version.state,
                version.primary,
                version.origin,
                version.create_time,
            )
            for version in found
        ]
        return table(("version", "state", "primary", "origin", "created"), rows)

    return Report({"versions": [_document(version) for version in found]}, show)


@command(versions, "enable", "strongroom key version enable payments/versions/1")
def enable_version(session: Session, version: VersionName) -> Report:
    """Let a disabled version be used again."""
    return version_report(session.client.keys.versions.enable(version))


@command(versions, "disable", "strongroom key version disable payments/versions/1")
def disable_version(session: Session, version: VersionName) -> Report:
    """Stop every use of a version, within one second."""
    return version_report(session.client.keys.versions.disable(version))


@command(
    versions,
    "destroy",
    "strongroom key version destroy payments/versions/1 --yes",
    "strongroom key version destroy payments/versions/1 --now --yes",
    destroys=Destruction("destroys {version} for good: what it encrypted is lost"),
)
def destroy_version(
    session: Session,
    version: VersionName,
    after: Annotated[str, typer.Option(metavar="SPAN", help="From now on: 7d to 366d.")] = "30d",
    now: Annotated[bool, typer.Option("--now", help="At once, in place of a waiting time.")] = False,
) -> Report:
    """Destroy a disabled version's material for good, after a waiting time: what it encrypted is lost."""
    waiting = None if now else span_of(after, "--after", "d")
    return version_report(session.client.keys.versions.destroy(version, waiting_period=waiting))


@command(versions, "cancel-destruction", "strongroom key version cancel-destruction payments/versions/1")
def cancel_destruction(session: Session, version: VersionName) -> Report:
    """Take a planned destruction back; the version stays disabled."""
    return version_report(session.client.keys.versions.cancel_destruction(version))


@command(versions, "set-primary", "strongroom key version set-primary payments/versions/1")
def set_primary(session: Session, version: VersionName) -> Report:
    """Choose the version that encrypts, signs and makes MACs."""
    return key_report(session.client.keys.versions.set_primary(version))


def _document(version: KeyVersion) -> dict[str, object]:
    return {**fields_of(version), "public_key_sha256": version.public_key_sha256.hex()}


def version_report(version: KeyVersion) -> Report:
    """One version, as a list of facts."""
    return facts_report(_document(version))
