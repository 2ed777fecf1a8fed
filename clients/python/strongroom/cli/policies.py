"""`strongroom policy`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from strongroom.cli import choices
from strongroom.cli.command import Report, Session, command, facts_report, fields_of
from strongroom.cli.confirmation import Destruction
from strongroom.cli.inputs import Description, Force, Limit, OutputFile, read_text
from strongroom.cli.outputs import bytes_report
from strongroom.cli.parser import Group
from strongroom.cli.tables import Table, table

policies = typer.Typer(name="policy", cls=Group, help="Policies: who may do what.", no_args_is_help=True)

PolicyName = Annotated[str, typer.Argument(metavar="POLICY", help="An id or a full name.", show_default=False)]
Cedar = Annotated[Path, typer.Argument(metavar="FILE", help="Cedar policies.", show_default=False)]
Kind = Annotated[str, choices.one_of(choices.POLICY_KINDS, "What it is for, principals, or keys and secrets", "KIND")]
Target = Annotated[
    str,
    typer.Argument(
        metavar="TARGET",
        help="users/ID, workloads/ID, roles/ID, keys/ID, secrets/ID, or a full name such as accounts/ID.",
        show_default=False,
    ),
]


def add_to(app: typer.Typer) -> None:
    """Adds the commands."""
    app.add_typer(policies)


@command(policies, "create", "strongroom policy create use payments.cedar --attach users/ann")
def create_policy(
    session: Session,
    policy: Annotated[str, typer.Argument(metavar="ID", help="Its id.", show_default=False)],
    file: Cedar,
    kind: Kind = "IDENTITY",
    attach: Annotated[list[str] | None, typer.Option(metavar="TARGET", help="May be repeated.")] = None,
    description: Description = "",
) -> Report:
    """Make a policy of a file, attached to as many targets as are given."""
    made = session.client.access.policies.create(
        policy, read_text(file, field="cedar"), kind=kind, attached_to=attach or (), description=description
    )
    return facts_report(made)


@command(policies, "list", "strongroom policy list --filter 'kind = RESOURCE'")
def list_policies(
    session: Session,
    filter: Annotated[  # noqa: A002  # the option's name
        str,
        typer.Option("--filter", metavar="FILTER", help='Such as: kind = RESOURCE AND attached_to = "keys/payments"'),
    ] = "",
    limit: Limit = None,
) -> Report:
    """List the account's policies."""
    found = list(session.client.access.policies.list(filter, limit=limit))

    def show() -> Table:
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
        return table(("policy", "kind", "attached to", "updated", "description"), rows, prose=("description",))

    return Report({"policies": found}, show)


@command(policies, "describe", "strongroom policy describe use", "strongroom policy describe use --out use.cedar")
def describe_policy(
    session: Session, policy: PolicyName, output_file: OutputFile = None, force: Force = False
) -> Report:
    """Show all of a policy; with --out, write its Cedar text to a file that `policy update` takes."""
    found = session.client.access.policies.get(policy)
    if output_file is None:
        return facts_report(found)
    return bytes_report(fields_of(found), "cedar", found.cedar.encode(), output_file, force=force, encoded=False)


@command(policies, "update", "strongroom policy update use payments.cedar")
def update_policy(
    session: Session,
    policy: PolicyName,
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="Cedar policies.", show_default=False)] = None,
    description: Annotated[str | None, typer.Option(metavar="TEXT", help="For people.")] = None,
) -> Report:
    """Change a policy's text, or its description."""
    cedar = read_text(file, field="cedar") if file is not None else None
    return facts_report(session.client.access.policies.update(policy, cedar=cedar, description=description))


@command(
    policies,
    "delete",
    "strongroom policy delete use --yes",
    destroys=Destruction("deletes the policy {policy}, and detaches it"),
)
def delete_policy(session: Session, policy: PolicyName) -> Report:
    """Delete a policy, and detach it."""
    name = session.client.names.policy(policy)
    event_id = session.client.access.policies.delete(policy)
    return Report({"name": name, "event_id": event_id}, lambda: f"deleted {session.client.names.relative(name)}")


@command(policies, "attach", "strongroom policy attach use users/ann")
def attach_policy(session: Session, policy: PolicyName, target: Target) -> Report:
    """Attach a policy."""
    return facts_report(session.client.access.policies.attach(policy, target))


@command(policies, "detach", "strongroom policy detach use users/ann")
def detach_policy(session: Session, policy: PolicyName, target: Target) -> Report:
    """Detach a policy."""
    return facts_report(session.client.access.policies.detach(policy, target))


@command(policies, "validate", "strongroom policy validate payments.cedar --kind IDENTITY")
def validate_policy(session: Session, file: Cedar, kind: Kind = "IDENTITY") -> Report:
    """Check a policy's text, and store nothing. Exits 1 where it would not be accepted."""
    problems = session.client.access.policies.validate(read_text(file, field="cedar"), kind=kind)
    valid = all(problem.severity != "ERROR" for problem in problems)

    def show() -> str:
        lines = [
            f"{file}:{problem.line}:{problem.column}: {problem.severity}: {problem.message}" for problem in problems
        ]
        return "\n".join(lines) or "valid"

    return Report({"valid": valid, "problems": problems}, show, exit_code=0 if valid else 1)
