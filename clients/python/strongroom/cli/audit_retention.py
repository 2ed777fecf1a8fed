"""`strongroom audit`: how long events are kept, and what keeps them."""

from __future__ import annotations

from typing import Annotated

import typer

from strongroom.cli.command import Report, Session, command, facts_report, fields_of
from strongroom.cli.confirmation import Destruction
from strongroom.cli.inputs import Comment, moment_of, span_of


def add_to(app: typer.Typer) -> None:
    """Adds the commands."""
    command(
        app,
        "retention",
        "strongroom audit retention",
        "strongroom audit retention --archive-after 90d --shred-after 730d --yes",
        destroys=Destruction(
            "makes every event that is older than {shred_after} unreadable for good, from now on",
            lambda options: bool(options["shred_after"]),
        ),
    )(retention)
    command(
        app,
        "hold",
        "strongroom audit hold --reason 'case 4711'",
        "strongroom audit hold --lift --yes",
        destroys=Destruction(
            "lifts the legal hold: what is older than the retention allows is unreadable for good soon after",
            lambda options: bool(options["lift"]),
        ),
    )(hold)
    command(app, "shred", "strongroom audit shred --confirm main --before 2025-01-01 --comment 'retention' --dry-run")(
        shred
    )


def retention(
    session: Session,
    archive_after: Annotated[
        str, typer.Option("--archive-after", "--archive-days", metavar="SPAN", help="In the index: 30d to 3660d.")
    ] = "",
    shred_after: Annotated[
        str,
        typer.Option(
            "--shred-after",
            "--shred-days",
            metavar="SPAN",
            help="How long events can be read at all; older ones are unreadable for good.",
        ),
    ] = "",
    never_shred: Annotated[bool, typer.Option("--never-shred", help="They never do.")] = False,
) -> Report:
    """Show how long the account's events are kept, or change it."""
    if not (archive_after or shred_after or never_shred):
        return facts_report(session.client.audit.retention.get_policy())
    if shred_after and never_shred:
        raise typer.BadParameter("give either --shred-after or --never-shred", param_hint="--shred-after")
    changed = session.client.audit.retention.update_policy(
        archive_after=span_of(archive_after, "--archive-after", "d") if archive_after else None,
        shred_after=span_of(shred_after, "--shred-after", "d") if shred_after else None,
        never_shred=never_shred,
    )
    return facts_report(changed)


def hold(
    session: Session,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Puts a legal hold in force, for this reason.")] = "",
    lift: Annotated[bool, typer.Option("--lift", help="Lifts it.")] = False,
) -> Report:
    """Show the account's legal hold, put one in force, or lift it: while it is, no event can be made unreadable."""
    if reason and lift:
        raise typer.BadParameter("give either --reason or --lift", param_hint="--reason")
    if reason or lift:
        return facts_report(session.client.audit.retention.update_legal_hold(not lift, reason))
    return facts_report(session.client.audit.retention.get_legal_hold())


def shred(
    session: Session,
    confirm: Annotated[str, typer.Option(metavar="ACCOUNT", help="The account's id once more.")],
    comment: Comment,
    before: Annotated[str, typer.Option(metavar="TIME", help="Only days (UTC) that ended before. All without.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
) -> Report:
    """Make the account's events unreadable for good. The log still verifies."""
    done = session.client.audit.retention.shred_events(
        confirm, comment, before=moment_of(before, "--before") if before else None, validate_only=dry_run
    )
    return facts_report({**fields_of(done), "done": not dry_run})
