"""`strongroom policy`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from strongroom.bounded import read_text
from strongroom.cli.command import Report, Session, command, facts_report
from strongroom.cli.keys import Limit
from strongroom.cli.plain import plain

if TYPE_CHECKING:
    from rich.console import RenderableType

policies = typer.Typer(name="policy", help="Policies: who may do what.", no_args_is_help=True)

PolicyName = Annotated[str, typer.Argument(metavar="POLICY", help="An id or a full name.", show_default=False)]
Cedar = Annotated[Path, typer.Argument(metavar="FILE", help="Cedar policies.", show_default=False)]
Kind = Annotated[str, typer.Option(help="IDENTITY (on principals), or RESOURCE (on keys and secrets).")]
Target = Annotated[
    str,
    typer.Argument(
        metavar="TARGET",
        help="users/ID, workloads/ID, roles/ID, keys/ID, secrets/ID, or a full name such as accounts/ID.",
        show_default=False,
    ),
]


@command(policies, "create")
def create_policy(
    session: Session,
    policy: Annotated[str, typer.Argument(metavar="ID", help="Its id.", show_default=False)],
    file: Cedar,
    kind: Kind = "IDENTITY",
    attach: Annotated[list[str] | None, typer.Option(metavar="TARGET", help="May be repeated.")] = None,
    description: Annotated[str, typer.Option(help="For people.")] = "",
) -> Report:
    """Make a policy of a file, attached to as many targets as are given."""
    made = session.client.access.policies.create(
        policy, read_text(file), kind=kind, attached_to=attach or (), description=description
    )
    return facts_report(plain(made))


@command(policies, "list")
def list_policies(
    session: Session,
    filter: Annotated[  # noqa: A002
        str, typer.Option(help='Such as: kind = RESOURCE AND attached_to = "accounts/a/keys/k"')
    ] = "",
    limit: Limit = None,
) -> Report:
    """List the account's policies."""
    found = list(session.client.access.policies.list(filter, limit=limit))

    def show() -> RenderableType:
        from strongroom.cli.show import table

        relative = session.client.names.relative
        rows = [
            (
                policy.name.rpartition("/")[2],
                policy.kind,
                ", ".join(map(relative, policy.attached_to)),
                policy.update_time,
                policy.description,
            )
            for policy in found
        ]
        return table(("policy", "kind", "attached to", "updated", "description"), rows)

    return Report({"policies": found}, show)


@command(policies, "describe")
def describe_policy(session: Session, policy: PolicyName) -> Report:
    """Show all of a policy."""
    return facts_report(plain(session.client.access.policies.get(policy)))


@command(policies, "update")
def update_policy(
    session: Session,
    policy: PolicyName,
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="Cedar policies.", show_default=False)] = None,
    description: Annotated[str | None, typer.Option(help="For people.")] = None,
) -> Report:
    """Change a policy's text, or its description."""
    cedar = read_text(file) if file is not None else None
    return facts_report(plain(session.client.access.policies.update(policy, cedar=cedar, description=description)))


@command(policies, "delete")
def delete_policy(session: Session, policy: PolicyName) -> Report:
    """Delete a policy, and detach it."""
    name = session.client.names.policy(policy)
    event_id = session.client.access.policies.delete(policy)
    return Report({"name": name, "event_id": event_id}, lambda: f"deleted {session.client.names.relative(name)}")


@command(policies, "attach")
def attach_policy(session: Session, policy: PolicyName, target: Target) -> Report:
    """Attach a policy."""
    return facts_report(plain(session.client.access.policies.attach(policy, target)))


@command(policies, "detach")
def detach_policy(session: Session, policy: PolicyName, target: Target) -> Report:
    """Detach a policy."""
    return facts_report(plain(session.client.access.policies.detach(policy, target)))


@command(policies, "validate")
def validate_policy(session: Session, file: Cedar, kind: Kind = "IDENTITY") -> Report:
    """Check a policy's text, and store nothing. Exits 1 where it would not be accepted."""
    problems = session.client.access.policies.validate(read_text(file), kind=kind)
    valid = all(problem.severity != "ERROR" for problem in problems)

    def show() -> RenderableType:
        lines = [
            f"{file}:{problem.line}:{problem.column}: {problem.severity}: {problem.message}" for problem in problems
        ]
        return "\n".join(lines) or "valid"

    return Report({"valid": valid, "problems": problems}, show, exit_code=0 if valid else 1)
