"""`strongroom quota`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from strongroom.cli.command import Report, Session, command, facts_report
from strongroom.cli.keys import Limit
from strongroom.cli.plain import plain

if TYPE_CHECKING:
    from rich.console import RenderableType

quotas = typer.Typer(name="quota", help="How many requests are let through.", no_args_is_help=True)

Target = Annotated[
    str,
    typer.Argument(
        metavar="[TARGET]", help="users/ID, workloads/ID, roles/ID, or accounts/ID; your account by default."
    ),
]


@command(quotas, "get")
def get_quota(session: Session, target: Target = "") -> Report:
    """Show the quota that holds."""
    return facts_report(plain(session.client.access.quotas.get(target)))


@command(quotas, "list")
def list_quotas(session: Session, limit: Limit = None) -> Report:
    """List the quotas that were set in the account."""
    found = list(session.client.access.quotas.list(limit=limit))

    def show() -> RenderableType:
        from strongroom.cli.show import table

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


@command(quotas, "set")
def set_quota(
    session: Session,
    target: Target = "",
    requests_per_second: Annotated[float | None, typer.Option(help="In each worker; no limit where not given.")] = None,
    burst: Annotated[int, typer.Option(help="At once, after a pause; two seconds' worth where not given.")] = 0,
    each_principal: Annotated[
        float | None, typer.Option(help="Of an account: requests a second of each principal without its own quota.")
    ] = None,
) -> Report:
    """Set a quota as a whole. An account's own is for administrators of the mesh."""
    quota = session.client.access.quotas.set(
        target,
        requests_per_second=requests_per_second,
        burst=burst,
        default_principal_requests_per_second=each_principal,
    )
    return facts_report(plain(quota))


@command(quotas, "reset")
def reset_quota(session: Session, target: Target = "") -> Report:
    """Take back what was set; show what holds now."""
    return facts_report(plain(session.client.access.quotas.reset(target)))
