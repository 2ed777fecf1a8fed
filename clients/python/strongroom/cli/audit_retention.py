"""`strongroom audit`: how long events are kept, and what keeps them."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Annotated

import typer

from strongroom.cli.command import Report, Session, command, facts_report
from strongroom.cli.inputs import moment_of


def add_to(app: typer.Typer) -> None:
    """Adds the commands."""
    command(app, "retention")(retention)
    command(app, "hold")(hold)
    command(app, "shred")(shred)


def retention(
    session: Session,
    archive_days: Annotated[int, typer.Option(min=0, help="When events leave the index: 30 to 3660.")] = 0,
    shred_days: Annotated[int, typer.Option(min=0, help="When they become unreadable for good.")] = 0,
    never_shred: Annotated[bool, typer.Option("--never-shred", help="They never do.")] = False,
) -> Report:
    """Show how long the account's events are kept, or change it."""
    if not (archive_days or shred_days or never_shred):
        return facts_report(dataclasses.asdict(session.client.audit.retention.get_policy()))
    if shred_days and never_shred:
        raise typer.BadParameter("give either --shred-days or --never-shred")
    changed = session.client.audit.retention.update_policy(
        archive_after=timedelta(days=archive_days) if archive_days else None,
        shred_after=timedelta(days=shred_days) if shred_days else None,
        never_shred=never_shred,
    )
    return facts_report(dataclasses.asdict(changed))


def hold(
    session: Session,
    reason: Annotated[str, typer.Option(help="Puts a legal hold in force, for this reason.")] = "",
    lift: Annotated[bool, typer.Option("--lift", help="Lifts it.")] = False,
) -> Report:
    """Show the account's legal hold, put one in force, or lift it: while it is, no event can be made unreadable."""
    if reason and lift:
        raise typer.BadParameter("give either --reason or --lift")
    if reason or lift:
        return facts_report(dataclasses.asdict(session.client.audit.retention.update_legal_hold(not lift, reason)))
    return facts_report(dataclasses.asdict(session.client.audit.retention.get_legal_hold()))


def shred(
    session: Session,
    confirm: Annotated[str, typer.Option(metavar="ACCOUNT", help="The account's id once more.")],
    comment: Annotated[str, typer.Option(help="Why; it goes into the log.")],
    before: Annotated[str, typer.Option(metavar="TIME", help="Only days (UTC) that ended before. All without.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
) -> Report:
    """Make the account's events unreadable for good. The log still verifies."""
    done = session.client.audit.retention.shred_events(
        confirm, comment, before=moment_of(before, "--before") if before else None, validate_only=dry_run
    )
    return facts_report({**dataclasses.asdict(done), "done": not dry_run})
