"""`strongroom secret`."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from strongroom.cli.command import Report, Session, command, facts_report
from strongroom.cli.inputs import Force, OutputFile, moment_of, pairs_of, span_of, write_bytes
from strongroom.cli.keys import Limit
from strongroom.cli.plain import plain
from strongroom.cli.secret_inputs import (
    Destinations,
    KeyOfValues,
    Lifetime,
    OfPrincipal,
    PasswordRuleText,
    SkipTargetCheck,
    TargetFile,
    Text,
    ValueFile,
    password_rule_of,
    target_of,
    value_of,
)
from strongroom.cli.targets import once_checked
from strongroom.cli.terminal import write_line
from strongroom.names import last_part

if TYPE_CHECKING:
    from rich.console import RenderableType

    from strongroom.calls.audit.events import Event
    from strongroom.calls.secrets.records import Secret
    from strongroom.calls.secrets.watch import SecretChange

app = typer.Typer(name="secret", help="Secrets and their values.", no_args_is_help=True)

SecretName = Annotated[str, typer.Argument(metavar="SECRET", help="An id or a full name.")]
VersionName = Annotated[str, typer.Argument(metavar="VERSION", help="SECRET/versions/NUMBER, or a full name.")]


@command(app, "create")
def create(
    session: Session,
    secret: Annotated[str, typer.Argument(metavar="ID", help="Its id.")],
    key: KeyOfValues = "",
    text: Text = None,
    value_file: ValueFile = None,
    no_value: Annotated[bool, typer.Option("--no-value", help="Create it without a value.")] = False,
    description: Annotated[str, typer.Option(help="For people.")] = "",
    tag: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="May be repeated.")] = None,
    secret_type: Annotated[str, typer.Option("--type", help="GENERIC, POSTGRESQL, MYSQL, REDIS_ACL, …")] = "",
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
    from strongroom.calls.secrets.records import RotationPolicy

    given: dict[str, Any] = {
        "key": key,
        "description": description,
        "tags": pairs_of(tag, "--tag"),
        "rotation_policy": RotationPolicy(span_of(rotate_every, "--rotate-every")) if rotate_every else None,
        "grace_period": span_of(grace, "--grace") if grace else None,
    }
    if principal:
        of_targets = target or skip_target_check or password_rule or allow_destination
        _require_fit_for_principal(
            bool(of_targets or text is not None or value_file or no_value or dry_run), secret_type
        )
        return _holding_client_key(session, secret, principal, lifetime, given)
    create = partial(
        session.client.secrets.create,
        secret,
        b"" if no_value else value_of(text, value_file),
        type=secret_type,
        target=target_of(target) if target else None,
        password_rule=password_rule_of(password_rule) if password_rule else None,
        allowed_destinations=allow_destination or (),
        dry_run=dry_run,
        check_target=not skip_target_check,
        **given,
    )
    return secret_report(once_checked(create))


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


@command(app, "list")
def list_secrets(
    session: Session,
    filter: Annotated[str, typer.Option(help='Such as: type = MYSQL AND tags.team = "a"')] = "",  # noqa: A002
    limit: Limit = None,
) -> Report:
    """List secrets by name."""
    found = list(session.client.secrets.list(filter, limit=limit))

    def show() -> RenderableType:
        from strongroom.cli.show import table

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


@command(app, "describe")
def describe(session: Session, secret: SecretName) -> Report:
    """Show a secret without its value."""
    return secret_report(session.client.secrets.get(secret))


@command(app, "versions")
def versions(session: Session, secret: SecretName, limit: Limit = None) -> Report:
    """List a secret's versions, newest first."""
    found = list(session.client.secrets.versions.list(secret, limit=limit))

    def show() -> RenderableType:
        from strongroom.cli.show import table

        rows = [
            (
                last_part(version.name),
                version.state,
                ", ".join(version.stages),
                version.origin,
                version.value_size,
                version.create_time,
            )
            for version in found
        ]
        return table(("version", "state", "stages", "origin", "bytes", "made"), rows)

    return Report({"versions": plain(found)}, show)


@command(app, "update")
def update(
    session: Session,
    secret: SecretName,
    description: Annotated[str | None, typer.Option(help="For people.")] = None,
    tag: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="All tags; may be repeated.")] = None,
    key: Annotated[str | None, typer.Option(metavar="KEY", help="For new versions.")] = None,
    retained_versions: Annotated[int | None, typer.Option(help="How many keep their value: 2 to 100.")] = None,
    target: Annotated[Path | None, typer.Option(metavar="FILE", help="A RotationTarget in JSON.")] = None,
    grace: Annotated[str, typer.Option(metavar="SPAN", help="How long what was replaced works on.")] = "",
    password_rule: PasswordRuleText = "",
    allow_destination: Destinations = None,
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
        tags=pairs_of(tag, "--tag") if tag else None,
        key=key,
        retained_versions=retained_versions,
        target=target_of(target) if target else None,
        password_rule=password_rule_of(password_rule) if password_rule else None,
        grace_period=span_of(grace, "--grace") if grace else None,
        allowed_destinations=[] if allow_any_destination else allow_destination,
    )
    return secret_report(once_checked(update))


@command(app, "stage")
def stage_secret(
    session: Session,
    secret: SecretName,
    stage: Annotated[str, typer.Argument(metavar="STAGE")],
    to_version: Annotated[int, typer.Option("--to", help="The version it moves to; 0 removes it.")] = 0,
    from_version: Annotated[int, typer.Option("--from", help="The version it is at now; 0 for none.")] = 0,
) -> Report:
    """Move, add or remove a stage."""
    moved = session.client.secrets.move_stage(secret, stage, to_version=to_version, from_version=from_version)
    return secret_report(moved)


@command(app, "disable-version")
def disable_version(
    session: Session,
    version: VersionName,
    comment: Annotated[str, typer.Option(help="Why, for the audit log.")] = "",
) -> Report:
    """Stop serving a version's value at once: for one that leaked. Rotate the secret, too."""
    return facts_report(plain(session.client.secrets.versions.disable(version, comment=comment)))


@command(app, "enable-version")
def enable_version(session: Session, version: VersionName) -> Report:
    """Serve a disabled version's value again."""
    return facts_report(plain(session.client.secrets.versions.enable(version)))


@command(app, "delete")
def delete(
    session: Session,
    secret: SecretName,
    days: Annotated[int, typer.Option(help="From now to the destruction: 7 to 30.")] = 30,
    force: Annotated[bool, typer.Option("--force", help="Destroy the values at once and for good.")] = False,
) -> Report:
    """Stop every reading of a secret now, and destroy its values later."""
    window = None if force else timedelta(days=days)
    return secret_report(session.client.secrets.delete(secret, recovery_window=window, force=force))


@command(app, "restore")
def restore(session: Session, secret: SecretName) -> Report:
    """Take a planned deletion back."""
    return secret_report(session.client.secrets.restore(secret))


@command(app, "random-password")
def random_password(
    session: Session,
    length: Annotated[int, typer.Option(help="In characters: 8 to 4,096.")] = 40,
    no_punctuation: Annotated[bool, typer.Option("--no-punctuation", help="Letters and digits alone.")] = False,
    exclude: Annotated[str, typer.Option(help="Characters to leave out.")] = "",
    all_punctuation: Annotated[bool, typer.Option("--all-punctuation", help="Not just -, _ and .")] = False,
) -> Report:
    """Print a random password, and store it nowhere."""
    from strongroom.secrets.v1.password_rule_pb2 import PasswordRule

    rule = PasswordRule(
        length=length,
        exclude_punctuation=no_punctuation,
        exclude_characters=exclude,
        all_punctuation=all_punctuation,
    )
    password = session.client.secrets.generate_password(rule)
    return Report({"password": password}, raw=password.encode() + b"\n")


@command(app, "watch")
def watch(session: Session, secret: Annotated[list[str], typer.Argument(metavar="SECRET...")]) -> Report:
    """Print the changes of secrets as they come, a line each, until Ctrl-C."""
    try:
        with session.client.secrets.watch(secret) as changes:
            for change in changes:
                if change.change:
                    _print_change(session, change)
    except KeyboardInterrupt:
        pass
    return Report({})


@command(app, "readers")
def readers(
    session: Session,
    secret: Annotated[str, typer.Argument(metavar="SECRET", help="A secret, or SECRET/versions/NUMBER.")],
    since: Annotated[str, typer.Option(metavar="TIME", help="A time, or an age such as 15m, 2h, 7d.")] = "7d",
) -> Report:
    """Report who read a secret, or one version of it, since a time: from the audit log."""
    asked, _, version = secret.partition("/versions/")
    name = session.client.names.secret(asked)
    read: dict[tuple[str, str], list[Event]] = {}
    for event in session.client.audit.events.list(
        resource=name, action="secrets:GetSecretValue", outcome="ALLOWED", since=moment_of(since, "--since")
    ):
        number = event.encryption_context.get("strongroom:version", "")
        if not version or version == number:
            read.setdefault((event.principal, number), []).append(event)
    rows = [
        (session.client.names.relative(who), number, len(events), events[-1].time, events[0].time)
        for (who, number), events in read.items()
    ]
    fields = ("principal", "version", "count", "first_time", "last_time")

    def show() -> RenderableType:
        from strongroom.cli.show import table

        return table(("principal", "version", "reads", "first", "last"), rows)

    return Report({"readers": [plain(dict(zip(fields, row, strict=True))) for row in rows]}, show)


@command(app, "get")
def get(
    session: Session,
    secret: SecretName,
    stage: Annotated[str, typer.Option(help="Current by default.")] = "",
    version: Annotated[int | None, typer.Option(min=1, help="A version by its number.")] = None,
    field: Annotated[str, typer.Option(help="One member of a JSON value.")] = "",
    output_file: OutputFile = None,
    force: Force = False,
) -> Report:
    """Print a secret's value as it is."""
    value = session.client.secrets.get_value(secret, stage=stage, version=version or 0, field=field)
    document = {**plain(value), "text": _as_text(value.value)}
    if output_file is not None:
        write_bytes(output_file, value.value, force=force)
        document.update(value=None, text=None, value_file=str(output_file))
        return Report(document, note=f"wrote {len(value.value)} bytes to {output_file}")
    # A terminal's prompt begins a line of its own; a pipe gets the value and nothing else.
    ending = b"\n" if sys.stdout.isatty() else b""
    return Report(document, raw=value.value + ending)


@command(app, "put")
def put(
    session: Session,
    secret: SecretName,
    text: Text = None,
    value_file: ValueFile = None,
    stage: Annotated[list[str] | None, typer.Option(help="Current by default; may be repeated.")] = None,
) -> Report:
    """Store a new value. It is read from standard input, and asked for without echo on a terminal."""
    version = session.client.secrets.put_value(secret, value_of(text, value_file), stages=stage or ())
    return facts_report(plain(version))


def secret_document(secret: Secret) -> dict[str, object]:
    """A secret as JSON has it."""
    from google.protobuf.json_format import MessageToDict

    target = MessageToDict(secret.target, preserving_proto_field_name=True) if secret.target is not None else None
    fields = {field.name: getattr(secret, field.name) for field in dataclasses.fields(secret)}
    document: dict[str, object] = plain({**fields, "target": target})
    return document


def secret_report(secret: Secret) -> Report:
    """A secret's fields."""
    return facts_report(secret_document(secret))


def _print_change(session: Session, change: SecretChange) -> None:
    if session.as_json:
        line = json.dumps(plain(change))
    else:
        stages = ", ".join(f"{stage}={version}" for stage, version in sorted(change.stages.items()))
        time = change.time.strftime("%H:%M:%S") if change.time else ""
        line = f"{time} {session.client.names.shorten(change.name)} {change.change} {stages}"
    write_line(line)


def _as_text(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None
