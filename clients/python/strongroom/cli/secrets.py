"""`strongroom secret`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from strongroom.cli import choices
from strongroom.cli.command import Report, Session, command, facts_report, fields_of
from strongroom.cli.confirmation import Destruction
from strongroom.cli.inputs import AllTags, Comment, Description, Limit, NoTags, Tags, all_tags_of, pairs_of, span_of
from strongroom.cli.parser import Group
from strongroom.cli.password_rules import PasswordRuleText, password_rule_of, words_of
from strongroom.cli.secret_inputs import (
    Destinations,
    KeepNewline,
    KeyOfValues,
    Lifetime,
    OfPrincipal,
    SkipTargetCheck,
    Text,
    ValueFile,
    value_of,
)
from strongroom.cli.secret_targets import (
    Database,
    Host,
    HostKeys,
    Master,
    Place,
    Port,
    TargetFile,
    Tls,
    User,
    changed_target,
    target_of,
)
from strongroom.cli.tables import Table, facts, table
from strongroom.cli.targets import once_checked
from strongroom.cli.version_names import number_of

if TYPE_CHECKING:
    from pathlib import Path

    from google.protobuf.message import Message

    from strongroom.calls.secrets.records import Secret
    from strongroom.secrets.v1.target_pb2 import RotationTarget

app = typer.Typer(name="secret", cls=Group, help="Secrets and their values.", no_args_is_help=True)


def add_to(app_of_all: typer.Typer) -> None:
    """Adds the commands, with those that read secrets and those that rotate them."""
    from strongroom.cli import rotations, secret_reading

    for subject in (secret_reading, rotations):
        assert subject.app is app  # noqa: S101  # importing them is what adds their commands
    app_of_all.add_typer(app)


SecretName = Annotated[str, typer.Argument(metavar="SECRET", help="An id or a full name.")]
VersionName = Annotated[str, typer.Argument(metavar="VERSION", help="SECRET/versions/NUMBER, or a full name.")]


@command(
    app,
    "create",
    "strongroom secret create database-password < password.txt",
    "strongroom secret create db --type POSTGRESQL --host db.example --user app --tls ca.pem < login.json",
)
def create(
    session: Session,
    secret: Annotated[str, typer.Argument(metavar="ID", help="Its id.")],
    key: KeyOfValues = "",
    text: Text = None,
    value_file: ValueFile = None,
    keep_newline: KeepNewline = False,
    no_value: Annotated[bool, typer.Option("--no-value", help="Create it without a value.")] = False,
    description: Description = "",
    tag: Tags = None,
    secret_type: Annotated[str, choices.one_of(choices.SECRET_TYPES, "What it is", "TYPE", "--type")] = "",
    host: Host = "",
    port: Port = None,
    user: User = "",
    tls: Tls = "",
    database: Database = "",
    host_keys: HostKeys = None,
    master: Master = "",
    target: TargetFile = None,
    principal: OfPrincipal = "",
    lifetime: Lifetime = "90d",
    rotate_every: Annotated[str, typer.Option(metavar="SPAN", help="Such as 30d; 6h to 365d.")] = "",
    grace: Annotated[str, typer.Option(metavar="SPAN", help="How long what was replaced works on.")] = "",
    password_rule: PasswordRuleText = "",
    allow_destination: Destinations = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, log in, and store nothing.")] = False,
    skip_target_check: SkipTargetCheck = False,
) -> Report:
    """Make a secret. Its value is read from standard input, and asked for without echo on a terminal."""
    given = _kept(key, description, tag, rotate_every, grace)
    place = Place(host, port, user, tls, database, host_keys, master)
    if principal:
        of_targets = target or place.given() or skip_target_check or password_rule or allow_destination
        _require_fit_for_principal(
            bool(of_targets or text is not None or value_file or no_value or dry_run), secret_type
        )
        return _holding_client_key(session, secret, principal, lifetime, given)
    create = partial(
        session.client.secrets.create,
        secret,
        b"" if no_value else value_of(text, value_file, keep_newline=keep_newline),
        type=secret_type,
        target=target_of(secret_type, target, place, session.client.names.secret),
        password_rule=password_rule_of(password_rule) if password_rule else None,
        allowed_destinations=allow_destination or (),
        dry_run=dry_run,
        check_target=not skip_target_check,
        **given,
    )
    return secret_report(once_checked(create))


def _kept(key: str, description: str, tag: list[str] | None, rotate_every: str, grace: str) -> dict[str, Any]:
    """What is said of every secret, whoever makes its value."""
    from strongroom.calls.secrets.records import RotationPolicy

    return {
        "key": key,
        "description": description,
        "tags": pairs_of(tag, "--tag"),
        "rotation_policy": RotationPolicy(span_of(rotate_every, "--rotate-every", "d")) if rotate_every else None,
        "grace_period": span_of(grace, "--grace") if grace else None,
    }


def _require_fit_for_principal(more_is_given: bool, secret_type: str) -> None:
    if more_is_given:
        raise typer.BadParameter("goes with neither a value nor a target nor a dry run", param_hint="--principal")
    if secret_type.upper().replace("-", "_") not in ("", "CLIENT_KEY"):
        raise typer.BadParameter("is for the type CLIENT_KEY", param_hint="--principal")


def _holding_client_key(
    session: Session, secret: str, principal: str, lifetime: str, given: Mapping[str, Any]
) -> Report:
    held = session.client.secrets.client_keys.create(
        secret, principal, lifetime=span_of(lifetime, "--lifetime"), **given
    )
    return secret_report(held)


@command(app, "list", "strongroom secret list --filter 'tags.team = \"a\"'")
def list_secrets(
    session: Session,
    filter: Annotated[  # noqa: A002  # the option's name
        str, typer.Option("--filter", metavar="FILTER", help='Such as: type = MYSQL AND tags.team = "a"')
    ] = "",
    limit: Limit = None,
) -> Report:
    """List secrets by name."""
    found = list(session.client.secrets.list(filter, limit=limit))

    def show() -> Table:
        rows = [
            (
                session.client.names.shorten(secret.name),
                secret.type,
                secret.active_rotation_state or secret.state,
                secret.stages.get("Current"),
                secret.next_rotate_time,
                secret.tags,
            )
            for secret in found
        ]
        return table(("secret", "type", "state", "current", "rotates", "tags"), rows)

    return Report({"secrets": [secret_document(secret) for secret in found]}, show)


@command(app, "describe", "strongroom secret describe database-password")
def describe(session: Session, secret: SecretName) -> Report:
    """Show a secret without its value."""
    return secret_report(session.client.secrets.get(secret))


@command(app, "versions", "strongroom secret versions database-password")
def versions(session: Session, secret: SecretName, limit: Limit = None) -> Report:
    """List a secret's versions, newest first."""
    found = list(session.client.secrets.versions.list(secret, limit=limit))

    def show() -> Table:
        rows = [
            (
                session.client.names.shorten(version.name),
                version.state,
                ", ".join(version.stages),
                version.origin,
                version.value_size,
                version.create_time,
            )
            for version in found
        ]
        return table(("version", "state", "stages", "origin", "bytes", "made"), rows)

    return Report({"versions": found}, show)


@command(
    app,
    "update",
    "strongroom secret update database-password --tag team=billing",
    "strongroom secret update db --host db-2.example --user app --tls ca.pem",
    "strongroom secret update database-password --retained-versions 5 --yes",
    destroys=(
        Destruction(
            "destroys the oldest values of {secret} at once and for good, so that {retained_versions} are left",
            lambda options: options["retained_versions"] is not None,
        ),
        Destruction("takes every tag of {secret} away", lambda options: bool(options["no_tags"])),
    ),
)
def update(
    session: Session,
    secret: SecretName,
    description: Annotated[str | None, typer.Option(metavar="TEXT", help="For people.")] = None,
    tag: AllTags = None,
    no_tags: NoTags = False,
    key: Annotated[str | None, typer.Option(metavar="KEY", help="For new versions.")] = None,
    retained_versions: Annotated[
        int | None,
        typer.Option(
            metavar="COUNT", min=2, max=100, help="How many keep their value: the oldest lose it at once and for good."
        ),
    ] = None,
    host: Host = "",
    port: Port = None,
    user: User = "",
    tls: Tls = "",
    database: Database = "",
    host_keys: HostKeys = None,
    master: Master = "",
    target: TargetFile = None,
    grace: Annotated[str, typer.Option(metavar="SPAN", help="How long what was replaced works on.")] = "",
    password_rule: PasswordRuleText = "",
    allow_destination: Destinations = None,
    skip_target_check: SkipTargetCheck = False,
    allow_any_destination: Annotated[
        bool, typer.Option("--allow-any-destination", help="Its values may be sent anywhere again.")
    ] = False,
) -> Report:
    """Change what is given of a secret."""
    if allow_destination and allow_any_destination:
        raise typer.BadParameter("goes without --allow-any-destination", param_hint="--allow-destination")
    update = partial(
        session.client.secrets.update,
        secret,
        description=description,
        tags=all_tags_of(tag, none=no_tags),
        key=key,
        retained_versions=retained_versions,
        target=_new_target(session, secret, target, Place(host, port, user, tls, database, host_keys, master)),
        check_target=not skip_target_check,
        password_rule=password_rule_of(password_rule) if password_rule else None,
        grace_period=span_of(grace, "--grace") if grace else None,
        allowed_destinations=[] if allow_any_destination else allow_destination,
    )
    return secret_report(once_checked(update))


def _new_target(session: Session, secret: str, path: Path | None, place: Place) -> RotationTarget | None:
    """The target that a file or the options say; what options do not say stays as it is."""
    full_name = session.client.names.secret
    if path is not None or not place.given():
        return target_of("", path, place, full_name)
    before = session.client.secrets.get(secret)
    return changed_target(before.type, before.target, place, full_name)


@command(app, "stage", "strongroom secret stage db Current --to db/versions/1 --from db/versions/2")
def stage_secret(
    session: Session,
    secret: SecretName,
    stage: Annotated[str, typer.Argument(metavar="STAGE", help="Current, or a stage of your own.")],
    to: Annotated[
        str,
        typer.Option("--to", metavar="VERSION", help="SECRET/versions/NUMBER, to which it moves; else it is removed."),
    ] = "",
    from_: Annotated[
        str, typer.Option("--from", metavar="VERSION", help="SECRET/versions/NUMBER, where it is now; else nowhere.")
    ] = "",
) -> Report:
    """Move, add or remove a stage."""
    names = session.client.names
    moved = session.client.secrets.move_stage(
        secret,
        stage,
        to_version=number_of(names, secret, to, "--to"),
        from_version=number_of(names, secret, from_, "--from"),
    )
    return secret_report(moved)


@command(app, "disable-version", "strongroom secret disable-version database-password/versions/1 --comment leaked")
def disable_version(
    session: Session,
    version: VersionName,
    comment: Comment = "",
) -> Report:
    """Stop serving a version's value at once: for one that leaked. Rotate the secret, too."""
    return facts_report(session.client.secrets.versions.disable(version, comment=comment))


@command(app, "enable-version", "strongroom secret enable-version database-password/versions/1")
def enable_version(session: Session, version: VersionName) -> Report:
    """Serve a disabled version's value again."""
    return facts_report(session.client.secrets.versions.enable(version))


@command(
    app,
    "delete",
    "strongroom secret delete database-password --after 7d",
    "strongroom secret delete database-password --force --yes",
    destroys=Destruction(
        "destroys every value of {secret} at once and for good", lambda options: bool(options["force"])
    ),
)
def delete(
    session: Session,
    secret: SecretName,
    after: Annotated[str, typer.Option("--after", "--days", metavar="SPAN", help="From now on: 7d to 30d.")] = "30d",
    force: Annotated[bool, typer.Option("--force", help="Destroy the values at once and for good.")] = False,
) -> Report:
    """Stop every reading of a secret now, and destroy its values later."""
    window = None if force else span_of(after, "--after", "d")
    return secret_report(session.client.secrets.delete(secret, recovery_window=window, force=force))


@command(app, "restore", "strongroom secret restore database-password")
def restore(session: Session, secret: SecretName) -> Report:
    """Take a planned deletion back."""
    return secret_report(session.client.secrets.restore(secret))


@command(app, "put", "strongroom secret put database-password < password.txt")
def put(
    session: Session,
    secret: SecretName,
    text: Text = None,
    value_file: ValueFile = None,
    keep_newline: KeepNewline = False,
    stage: Annotated[
        list[str] | None, typer.Option(metavar="STAGE", help="Current by default; may be repeated.")
    ] = None,
) -> Report:
    """Store a new value. It is read from standard input, and asked for without echo on a terminal."""
    version = session.client.secrets.put_value(
        secret, value_of(text, value_file, keep_newline=keep_newline), stages=stage or ()
    )
    return facts_report(version)


def secret_document(secret: Secret) -> dict[str, object]:
    """A secret as JSON has it."""
    from google.protobuf.json_format import MessageToDict

    def document(message: Message | None) -> dict[str, Any] | None:
        return MessageToDict(message, preserving_proto_field_name=True) if message is not None else None

    return {
        **fields_of(secret),
        "target": document(secret.target),
        "password_rule": document(secret.password_rule),
    }


def secret_report(secret: Secret) -> Report:
    """A secret's fields; the rule of its passwords as `--password-rule` takes it."""
    shown = {name.replace("_", " "): value for name, value in secret_document(secret).items()}
    if secret.password_rule is not None:
        shown["password rule"] = words_of(secret.password_rule)
    return Report(secret_document(secret), lambda: facts(shown))
