"""`strongroom secret get`, `watch`, `readers` and `random-password`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from strongroom.cli.command import Report, Session, command, fields_of
from strongroom.cli.inputs import STANDARD, Force, OutputFile, moment_of, write_bytes
from strongroom.cli.outputs import bytes_report
from strongroom.cli.secrets import SecretName, app
from strongroom.cli.tables import Table, table, time_text
from strongroom.cli.version_names import version_in
from strongroom.errors import StrongroomError

if TYPE_CHECKING:
    from strongroom.calls.audit.events import Event
    from strongroom.calls.secrets.watch import SecretChange

__all__ = ["app"]


@command(
    app, "random-password", "strongroom secret random-password --length 24 | strongroom secret create database-password"
)
def random_password(
    session: Session,
    length: Annotated[int, typer.Option(metavar="COUNT", min=8, max=4096, help="In characters.")] = 40,
    no_punctuation: Annotated[bool, typer.Option("--no-punctuation", help="Letters and digits alone.")] = False,
    exclude: Annotated[str, typer.Option(metavar="TEXT", help="Characters to leave out.")] = "",
    all_punctuation: Annotated[bool, typer.Option("--all-punctuation", help="Not just -, _ and .")] = False,
    output_file: OutputFile = None,
    force: Force = False,
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
    if output_file is None:
        return Report({"password": password}, raw=password.encode() + b"\n")
    return bytes_report({}, "password", password.encode(), output_file, force=force, encoded=False)


@command(app, "watch", "strongroom secret watch database-password payments/db")
def watch(
    session: Session, secret: Annotated[list[str], typer.Argument(metavar="SECRET", help="Ids or full names.")]
) -> Report:
    """Print the changes of secrets as they come, a line each, until Ctrl-C."""
    try:
        with session.client.secrets.watch(secret) as changes:
            for change in changes:
                if change.change:
                    _print_change(session, change)
    except KeyboardInterrupt:
        pass
    return Report({}, silent=True)


@command(app, "readers", "strongroom secret readers database-password --since 7d")
def readers(
    session: Session,
    secret: Annotated[str, typer.Argument(metavar="SECRET", help="A secret, or SECRET/versions/NUMBER.")],
    since: Annotated[str, typer.Option(metavar="TIME", help="A time, or an age such as 15m, 2h, 7d.")] = "7d",
) -> Report:
    """Report who read a secret, or one version of it, since a time: from the audit log."""
    asked, version = version_in(secret, "SECRET")
    name = session.client.names.secret(asked)
    read: dict[tuple[str, str], list[Event]] = {}
    for event in session.client.audit.events.list(
        resource=name,
        action="secrets:GetSecretValue",
        outcome="ALLOWED",
        since=moment_of(since, "--since"),
        archive=True,
    ):
        number = event.encryption_context.get("strongroom:version", "")
        if version is None or number == str(version):
            read.setdefault((event.principal, number), []).append(event)
    if not read:
        _require_known(session, name, version)
    rows: list[tuple[object, ...]] = [
        (session.client.names.relative(who), number, len(events), events[-1].time, events[0].time)
        for (who, number), events in read.items()
    ]
    fields = ("principal", "version", "count", "first_time", "last_time")

    def show() -> Table:
        return table(("principal", "version", "reads", "first", "last"), rows)

    return Report({"readers": [dict(zip(fields, row, strict=True)) for row in rows]}, show)


@command(app, "get", "strongroom secret get database-password", "strongroom secret get db/versions/2 --field password")
def get(
    session: Session,
    secret: SecretName,
    stage: Annotated[
        str, typer.Option(metavar="STAGE", help="Current by default; Previous, Pending or your own.")
    ] = "",
    version: Annotated[
        int | None,
        # As it was said before.
        typer.Option(metavar="NUMBER", min=1, max=2**31 - 1, help="A version by its number.", hidden=True),
    ] = None,
    field: Annotated[str, typer.Option(metavar="NAME", help="One member of a JSON value.")] = "",
    output_file: OutputFile = None,
    force: Force = False,
) -> Report:
    """Print a secret's value as it is. SECRET may be a version of it: SECRET/versions/NUMBER."""
    secret, number = version_in(secret, "SECRET")
    if number and (version or stage):
        raise typer.BadParameter("a version goes without --version and --stage", param_hint="SECRET")
    version = number or version
    value = session.client.secrets.get_value(secret, stage=stage, version=version or 0, field=field)
    document = {**fields_of(value), "text": _as_text(value.value)}
    if output_file == STANDARD:
        return Report(document, raw=value.value)
    if output_file is not None:
        write_bytes(output_file, value.value, force=force)
        document.update(value=None, text=None, value_file=output_file)
        return Report(document, note=f"wrote {len(value.value)} bytes to {output_file}")
    # A terminal's prompt begins a line of its own; a pipe gets the value and nothing else.
    ending = b"\n" if sys.stdout.isatty() else b""
    return Report(document, raw=value.value + ending)


def _require_known(session: Session, secret: str, version: int | None) -> None:
    """Returns where there is, or was, this secret and this version of it: of what never was, that nobody read it would
    say nothing. Raises SECRET_NOT_FOUND, SECRET_VERSION_NOT_FOUND, or PERMISSION_DENIED where the log knows none.
    """
    # What was refused of a name says nothing of whether it stands for something.
    allowed = session.client.audit.events.list(resource=secret, outcome="ALLOWED", archive=True, limit=1)
    was_there = any(True for _ in allowed)
    if was_there and version is None:
        return
    try:
        newest = [found.name for found in session.client.secrets.versions.list(secret, limit=1)]
    except StrongroomError as error:
        if was_there and error.code_name in ("NOT_FOUND", "PERMISSION_DENIED"):
            return
        raise
    if version is not None and not any(version <= (version_in(name, "SECRET")[1] or 0) for name in newest):
        name = session.client.names.shorten(secret)
        raise StrongroomError("SECRET_VERSION_NOT_FOUND", f"{name} has no version {version}", code="NOT_FOUND")


def _print_change(session: Session, change: SecretChange) -> None:
    stages = ", ".join(f"{stage}={version}" for stage, version in sorted(change.stages.items()))
    time = time_text(change.time, local=sys.stdout.isatty()) if change.time else ""
    session.say(change, f"{time} {session.client.names.shorten(change.name)} {change.change} {stages}")


def _as_text(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None
