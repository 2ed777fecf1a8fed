"""`strongroom quota`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from strongroom.cli.command import Report, Session, command, fields_of
from strongroom.cli.inputs import Limit
from strongroom.cli.parser import Group
from strongroom.cli.tables import Table, facts, table

if TYPE_CHECKING:
    from strongroom.calls.access.quotas import Quota

quotas = typer.Typer(name="quota", cls=Group, help="How many requests are let through.", no_args_is_help=True)

Target = Annotated[
    str,
    typer.Argument(metavar="TARGET", help="users/ID, workloads/ID, roles/ID, or accounts/ID; your account by default."),
]


def add_to(app: typer.Typer) -> None:
    """Adds the commands."""
    app.add_typer(quotas)


@command(quotas, "get", "strongroom quota get users/ann")
def get_quota(session: Session, target: Target = "") -> Report:
    """Show the quota that holds."""
    return _report(session.client.access.quotas.get(target))


@command(quotas, "list", "strongroom quota list")
def list_quotas(session: Session, limit: Limit = None) -> Report:
    """List the quotas that were set in the account."""
    found = list(session.client.access.quotas.list(limit=limit))

    def show() -> Table:
        rows = [
            (
                session.client.names.relative(quota.name.removesuffix("/quota")),
                quota.requests_per_second,
                quota.burst or None,
                quota.default_principal_requests_per_second,
                quota.update_time,
            )
            for quota in found
        ]
        return table(("of", "requests/s", "burst", "each principal", "updated"), rows)

    return Report({"quotas": found}, show)


@command(quotas, "set", "strongroom quota set users/ann --requests-per-second 50 --burst 100")
def set_quota(
    session: Session,
    target: Target = "",
    requests_per_second: Annotated[
        float | None,
        typer.Option(metavar="RATE", min=0, max=1e9, help="In each worker; no limit where not given."),
    ] = None,
    burst: Annotated[
        int,
        typer.Option(
            metavar="COUNT",
            min=0,
            max=1_000_000_000,
            help="At once, after a pause; two seconds' worth where not given.",
        ),
    ] = 0,
    each_principal: Annotated[
        float | None,
        typer.Option(
            metavar="RATE",
            min=0,
            max=1e9,
            help="Of an account: requests a second of each principal without its own quota.",
        ),
    ] = None,
) -> Report:
    """Set a quota as a whole. An account's own is for administrators of the mesh."""
    quota = session.client.access.quotas.set(
        target,
        requests_per_second=requests_per_second,
        burst=burst,
        default_principal_requests_per_second=each_principal,
    )
    return _report(quota)


@command(quotas, "reset", "strongroom quota reset users/ann")
def reset_quota(session: Session, target: Target = "") -> Report:
    """Take back what was set; show what holds now."""
    return _report(session.client.access.quotas.reset(target))


def _report(quota: Quota) -> Report:
    """A quota, whose empty fields say something too."""
    is_limited = quota.requests_per_second is not None
    shown = {
        **{name.replace("_", " "): value for name, value in fields_of(quota).items()},
        "requests per second": quota.requests_per_second if is_limited else "no limit",
        "burst": (quota.burst or "two seconds' worth") if is_limited else "",
    }
    return Report(fields_of(quota), lambda: facts(shown))
